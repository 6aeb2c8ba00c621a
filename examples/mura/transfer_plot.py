"""The plot and the table of ``transfer``: each method's AUC and kappa by number of images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from examples.mura.figures import BLUE, GREEN, GREY, INK, ORANGE, STYLE, save
from examples.mura.printed import plain
from examples.mura.transfer import METHODS, names

SKY = "#56B4E9"  # from the same palette as the colours of ``figures``
LOOKS = {  # colour, line, marker
    "scratch": (ORANGE, "--", "s"),
    "random": (GREY, ":", "x"),
    "probe": (SKY, "-.", "v"),
    "frozen": (BLUE, "-.", "^"),
    "fine_tuned": (GREEN, "-", "o"),
}
AS_IT_IS = "carried base and its old head, not trained"
MEASURES = {"auc": ("AUC", 0.5), "kappa": ("kappa", 0.0)}  # label, and the value of guessing


def summary(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Mean, lowest and highest of each measure, per size and method."""
    rows = []
    for size in results["plan"]["sizes"]:
        for method in METHODS:
            points = values(results, method, size)
            row: dict[str, Any] = {"size": size, "method": method, "repeats": len(points["auc"])}
            for measure in MEASURES:
                x = points[measure]
                row[measure] = {
                    "mean": round(float(np.mean(x)), 4),
                    "lowest": round(min(x), 4),
                    "highest": round(max(x), 4),
                }
            row["seconds"] = round(float(np.mean(points["seconds"])), 1)
            rows.append(row)
    return rows


def values(results: dict[str, Any], method: str, size: int) -> dict[str, list[float]]:
    """The measurements of a method at a size, in the order of the seeds."""
    points = [p for p in results["points"] if (p["method"], p["size"]) == (method, size)]
    points.sort(key=lambda p: p["seed"])
    return {key: [p[key] for p in points] for key in (*MEASURES, "seconds")}


def as_table(results: dict[str, Any]) -> str:
    lines = [f"{'images':>7}  {'':46}  {'AUC':>20}  {'kappa':>21}  {'seconds':>7}"]
    rows = summary(results)
    as_it_is = results["as_it_is"]
    lines.append(f"{0:7}  {AS_IT_IS:46}  {plain(as_it_is['auc']):<20}  {plain(as_it_is['kappa'])}")
    for row in rows:
        cells = [
            f"{plain(row[m]['mean'])} ({plain(row[m]['lowest'])} to {plain(row[m]['highest'])})"
            for m in MEASURES
        ]
        name = METHODS[row["method"]]
        lines.append(
            f"{row['size']:7,}  {name:46}  {cells[0]:>20}  {cells[1]:>21}  {row['seconds']:7.1f}"
        )
    return "\n".join(lines)


def plot(results: dict[str, Any], path: Path) -> Path:
    plan = results["plan"]
    with rc_context(STYLE):
        figure = Figure(figsize=(9.6, 4.6), layout="constrained")
        axes: Sequence[Axes] = figure.subplots(1, 2)
        figure.suptitle(
            f"Base of {names(plan['base_parts'])}, carried to {names(plan['target_parts'])}",
            x=0.01, ha="left", fontsize=11, fontweight="bold",
        )  # fmt: skip
        for ax, (measure, (name, guess)) in zip(axes, MEASURES.items(), strict=True):
            panel(ax, results, measure)
            ax.set_ylabel(f"{name} on unseen patients' images")
            ax.axhline(guess, color=GREY, linewidth=0.8)
            ax.annotate("guessing", (1, guess), xycoords=("axes fraction", "data"), xytext=(0, 3),
                        textcoords="offset points", ha="right", fontsize=8, color=GREY)  # fmt: skip
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=2, fontsize=9)
        return save(figure, path, results["synthetic"])


def panel(ax: Axes, results: dict[str, Any], measure: str) -> None:
    """Draw one measure; the methods stand side by side, so that no mark hides another."""
    sizes = np.array(results["plan"]["sizes"], dtype=float)
    for i, method in enumerate(METHODS):
        colour, line, marker = LOOKS[method]
        x = sizes * 1.05 ** (i - (len(METHODS) - 1) / 2)
        repeats = [values(results, method, int(size))[measure] for size in sizes]
        ax.plot(x, [np.mean(y) for y in repeats], color=colour, linestyle=line, marker=marker,
                markersize=6, label=METHODS[method])  # fmt: skip
        for place, y in zip(x, repeats, strict=True):
            ax.plot([place] * len(y), y, color=colour, linestyle="", marker=marker,
                    markersize=3.5, alpha=0.55)  # fmt: skip
    ax.axhline(results["as_it_is"][measure], color=INK, linestyle=(0, (1, 3)), linewidth=1.2,
               label=AS_IT_IS)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{int(size):,}" for size in sizes])
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("training images of the target parts")
    ax.grid(axis="y", color=GREY, alpha=0.2)
