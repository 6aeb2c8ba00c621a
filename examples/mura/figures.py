"""The figures of a run, as PNG files.  Report §2.6, §4.3.

Drawn with matplotlib's objects and not its global state: no display is needed. The colours
are those of Okabe & Ito 2008, which colour-blind readers can tell apart; line styles and
markers repeat the distinction.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import MaxNLocator

from examples.mura.printed import counted, number, percent, threshold
from examples.mura.radiographs import Radiographs, picture
from examples.mura.studies import Cases, image_cases
from tinynet.backend import Array
from tinynet.train.checkpoint import write_whole
from tinynet.train.data import generator

BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#6B6B6B", "#222222"
STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 180,
}
OPTIONAL = {"roc", "roc_by_part", "explained"}  # figures that not every evaluation has
ACROSS = 6  # images of each kind on the sheet of examples
GROUPS = (  # heading, label, call
    ("True positives: abnormal, called abnormal", 1, True),
    ("True negatives: normal, called normal", 0, False),
    ("False positives: normal, called abnormal", 0, True),
    ("False negatives: abnormal, called normal", 1, False),
)
BASELINES = {
    "logistic_regression": ("logistic regression", ORANGE, "s"),
    "majority": ("majority class", GREY, "x"),
}


def write_figures(
    folder: Path,
    history: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    probability: Array,
    data: Radiographs,
    root: Path | None = None,
) -> list[Path]:
    """Draw every figure of a run into ``folder/figures``; returns the files.

    history       rows of history.jsonl; [] leaves the curves out
    metrics       content of metrics.json
    probability   (n,) of each evaluated image being abnormal
    data          the evaluated images
    root          MURA-v1.1, whose radiographs are shown; without them, the network's input
    """
    cases = image_cases(probability, data.images, metrics["threshold"])
    with rc_context(STYLE):
        figures = {f"curves_{name}": curves(history, name) for name in measures(history)}
        figures["kappa_by_part"] = kappa_by_part(metrics)
        for level in ("image", "study"):
            figures[f"confusion_{level}"] = confusion(metrics[level], level)
        if metrics["study"]["roc"]:
            figures["roc"] = roc(metrics)
            if len(metrics["parts"]) > 1:
                figures["roc_by_part"] = roc_by_part(metrics)
        figures["reliability"] = reliability(metrics)
        figures["examples"] = examples_sheet(cases, data, root=root)
        for name in OPTIONAL - figures.keys():  # an earlier evaluation's
            (folder / "figures" / f"{name}.png").unlink(missing_ok=True)
        return [
            save(figure, folder / "figures" / f"{name}.png", metrics["synthetic"])
            for name, figure in figures.items()
        ]


def save(figure: Figure, path: Path, synthetic: bool) -> Path:
    """Write the figure, with its notice below; returns its path."""
    sign(figure, synthetic)
    data = io.BytesIO()
    figure.savefig(data, format="png")
    write_whole(path, data.getvalue())
    return path


def sign(figure: Figure, synthetic: bool, **place: float) -> None:
    notice = "synthetic radiographs · not for clinical use" if synthetic else "not for clinical use"
    figure.supxlabel(notice, x=0.99, ha="right", fontsize=8, color=GREY, **place)


def measures(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names such as "loss" that the rows have as train_loss, validation_loss, or both."""
    keys = [key.partition("_") for row in history for key in row]
    return list(dict.fromkeys(name for part, _, name in keys if part in ("train", "validation")))


def curves(history: Sequence[Mapping[str, Any]], measure: str) -> Figure:
    figure, ax = chart(measure.replace("_", " ").capitalize(), (4.8, 3.4))
    lines = (("train", BLUE, "-", "o"), ("validation", ORANGE, "--", "s"))
    for split, colour, style, marker in lines:
        points = [
            (row["epoch"], row[f"{split}_{measure}"])
            for row in history
            if row.get(f"{split}_{measure}") is not None
        ]
        if points:
            x, y = zip(*points, strict=True)
            look: Any = {"marker": marker if len(points) < 25 else None, "markersize": 4}
            ax.plot(x, y, color=colour, linestyle=style, label=split, **look)
    losses = [(row.get("validation_loss"), row["epoch"]) for row in history]
    if losses := [pair for pair in losses if pair[0] is not None]:
        best = min(losses)[1]
        ax.axvline(best, color=GREY, linewidth=1, linestyle=":", label=f"lowest loss, epoch {best}")
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_above(ax)
    return figure


def roc(metrics: Mapping[str, Any]) -> Figure:
    figure, ax = chart("ROC curve", (4.8, 5.4))
    for level, colour, style in (("study", BLUE, "-"), ("image", ORANGE, "--")):
        scores = metrics[level]
        draw_roc(ax, scores, colour, style, f"{level}, AUC {number(scores['auc'])}")
        fpr, tpr = (scores["rates"][f"{which}_positive_rate"] for which in ("false", "true"))
        ax.plot(fpr, tpr, "o", color=colour, zorder=3)
    ax.plot([], [], "o", color=GREY, label=f"threshold {threshold(metrics['threshold'])}")
    chance(ax)
    ax.set(xlabel="false positive rate", ylabel="true positive rate")
    legend_above(ax)
    return figure


def roc_by_part(metrics: Mapping[str, Any]) -> Figure:
    parts = metrics["parts"]
    across = min(4, len(parts))
    down = -(-len(parts) // across)
    figure = Figure(figsize=(2.4 * across, 0.4 + 2.8 * down), layout="constrained")
    axes = figure.subplots(down, across, squeeze=False).ravel()
    for ax in axes[len(parts) :]:
        ax.set_visible(False)
    handles: Any = ([], [])
    for k, (ax, (part, levels)) in enumerate(zip(axes, parts.items(), strict=False)):
        ax.set_title(part.capitalize(), fontweight="bold")
        chance(ax, label=None)
        areas = "false positive rate"
        if levels["study"]["auc"] is None:
            ax.text(0.5, 0.5, "one class only", ha="center", va="center", color=GREY)
        else:
            for level, colour, style in (("study", BLUE, "-"), ("image", ORANGE, "--")):
                draw_roc(ax, levels[level], colour, style, level)
            areas += f"\nAUC: study {number(levels['study']['auc'])}, "
            areas += f"image {number(levels['image']['auc'])}"
            handles = ax.get_legend_handles_labels()
        ax.set_xlabel(areas)
        ax.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        ax.set_yticks([0, 0.5, 1], ["0", "½", "1"])
        if k % across == 0:
            ax.set_ylabel("true positive rate")
    figure.legend(*handles, loc="outside upper left", ncols=2)
    return figure


def draw_roc(ax: Axes, scores: Mapping[str, Any], colour: str, style: str, label: str) -> None:
    x, y = (scores["roc"][f"{which}_positive_rate"] for which in ("false", "true"))
    ax.plot(x, y, color=colour, linestyle=style, label=label)
    ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))


def chance(ax: Axes, label: str | None = "chance, AUC 0.50") -> None:
    ax.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label=label)


def confusion(scores: Mapping[str, Any], level: str) -> Figure:
    counts = np.array(scores["confusion_matrix"])
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    plural = {"image": "images", "study": "studies"}[level]
    figure, ax = chart(counted(scores["n"], level, plural), (3.8, 3.9))
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for (i, j), n in np.ndenumerate(counts):
        colour = "white" if share[i, j] > 0.55 else INK
        text: Any = {"ha": "center", "va": "center", "fontsize": 13, "linespacing": 1.5}
        ax.text(j, i, f"{n:,}\n{percent(share[i, j])}", color=colour, **text)
    names = ["normal", "abnormal"]
    ax.set_xticks([0, 1], names)
    ax.set_yticks([0, 1], names, rotation=90, va="center")
    ax.set(xlabel="network's call", ylabel="label")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return figure


def kappa_by_part(metrics: Mapping[str, Any]) -> Figure:
    """Study kappa with its 95% interval: a row per body part, all of them at the bottom."""
    rows = [(part.capitalize(), part, scores["study"]) for part, scores in metrics["parts"].items()]
    if several := len(rows) > 1:
        rows.append(("All", None, metrics["study"]))
    figure = Figure(figsize=(5.4, 1.9 + 0.52 * len(rows)), layout="constrained")
    headed(figure, "Study kappa, with 95% intervals")
    ax = figure.subplots()
    height = np.arange(len(rows))[::-1].astype(float)
    series = [("network", BLUE, "o", [scores for *_, scores in rows])]
    for name, (label, colour, marker) in BASELINES.items():
        if baseline := metrics["baselines"].get(name):
            found = [baseline["parts"][part] if part else baseline for _, part, _ in rows]
            series.append((label, colour, marker, [levels["study"] for levels in found]))
    for k, (label, colour, marker, scores) in enumerate(series):
        y = height + 0.2 * ((len(series) - 1) / 2 - k)
        draw_intervals(ax, y, scores, colour, marker, label)
    ax.axvline(0, color=GREY, linewidth=1, linestyle=":")
    if several:
        ax.axhspan(-0.5, 0.5, color=BLUE, alpha=0.07, linewidth=0)
    names = [f"{name}\n{counted(s['n'], 'study', 'studies')}" for name, _, s in rows]
    ax.set_yticks(height, names)
    ax.set(ylim=(-0.5, len(rows) - 0.5), xlabel="kappa (0 chance, 1 perfect agreement)")
    ax.set_xlim(right=1.02)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", alpha=0.25)
    ax.spines["left"].set_visible(False)
    legend_above(ax)
    return figure


def draw_intervals(
    ax: Axes, y: Array, scores: Sequence[Mapping[str, Any]], colour: str, marker: str, label: str
) -> None:
    kappa = np.array([s["kappa"] for s in scores])
    intervals = [s["kappa_interval"] or (s["kappa"], s["kappa"]) for s in scores]
    low, high = np.array(intervals).T
    ax.hlines(y, low, high, color=colour, linewidth=1.6)
    ax.plot(kappa, y, marker, color=colour, markersize=6, label=label)


def reliability(metrics: Mapping[str, Any]) -> Figure:
    """Share of abnormal cases among those of about the same probability, and how many there are."""
    figure = Figure(figsize=(4.8, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1, label="perfect calibration")
    levels = (("study", BLUE, "-", "o", -0.2), ("image", ORANGE, "--", "s", 0.2))
    for level, colour, style, marker, shift in levels:
        table = metrics[level]["calibration"]
        x = [b["mean_probability"] for b in table["bins"]]
        y = [b["share_abnormal"] for b in table["bins"]]
        label = f"{level}, ECE {number(table['ece'])}"
        top.plot(x, y, color=colour, linestyle=style, marker=marker, markersize=5, label=label)
        middle = [b["from"] + 0.05 + 0.1 * shift for b in table["bins"]]
        bottom.bar(middle, [b["n"] for b in table["bins"]], width=0.036, color=colour)
    top.set(ylabel="share abnormal", xlim=(0, 1), ylim=(-0.02, 1.02))
    headed(figure, "Reliability")
    legend_above(top)
    bottom.set(xlabel="probability of abnormal", ylabel="cases")
    return figure


def examples_sheet(
    cases: Cases, data: Radiographs, seed: int = 0, root: Path | None = None
) -> Figure:
    """Six images of each of the four kinds, drawn at random and from different studies."""
    kinds = [(cases.label == label) & (cases.abnormal == call) for _, label, call in GROUPS]
    heights = [2.4 if kind.any() else 0.4 for kind in kinds]
    figure = Figure(figsize=(9.6, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(GROUPS), 1, squeeze=False, height_ratios=heights)[:, 0]
    for part, kind, (heading, label, call) in zip(parts, kinds, GROUPS, strict=True):
        members = np.flatnonzero(kind)
        colour = GREEN if label == call else ORANGE
        heading += f" ({len(members):,} of {np.sum(cases.label == label):,})"
        chosen = different_studies(cases, members, seed)
        for ax, i in zip(
            row_of_images(part, heading, len(chosen), ACROSS, colour), chosen, strict=True
        ):
            ax.imshow(
                picture(data, i, root), cmap="gray", vmin=0, vmax=255, interpolation="bicubic"
            )
            ax.spines[:].set(visible=True, color=colour, linewidth=1.5)
            about = f"{cases.part[i].capitalize()}, p = {number(cases.probability[i])}"
            ax.set_title(about, fontsize=9)
            ax.set_xlabel(f"{cases.patient[i]} {cases.study[i]}", fontsize=7.5)
    return figure


def row_of_images(
    part: SubFigure, heading: str, count: int, across: int, colour: str = INK
) -> list[Axes]:
    """Write a heading, and make room below it for ``count`` images of at most ``across``."""
    part.suptitle(heading, x=0.01, ha="left", fontsize=11, fontweight="bold", color=colour)
    axes = list(part.subplots(1, across)) if count else []
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
    for ax in axes[count:]:
        ax.set_visible(False)
    return axes[:count]


def different_studies(cases: Cases, members: Array, seed: int) -> list[int]:
    """Up to ``ACROSS`` of the members, in random order, each of a different study."""
    chosen: dict[tuple[str, str, str], int] = {}
    for i in generator(seed, "examples").permutation(members).tolist():
        chosen.setdefault((cases.part[i], cases.patient[i], cases.study[i]), i)
    return list(chosen.values())[:ACROSS]


def legend_above(ax: Axes) -> None:
    """Write the legend between the figure's title and the axes, where it covers nothing."""
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, fontsize=9, borderaxespad=0.2)


def headed(figure: Figure, title: str) -> None:
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")


def chart(title: str, size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained")
    headed(figure, title)
    return figure, figure.subplots()
