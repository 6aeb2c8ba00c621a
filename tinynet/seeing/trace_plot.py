"""Backward traces as pictures: one of them by layer, many over the epochs of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinynet.seeing.pictures import BLUE, GREEN, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from tinynet.seeing.trace import Trace

MOST_LABELS = 70  # names along an axis; of more layers only some are named
INCH = 0.16  # of width for each layer
QUANTITIES = {  # column of a trace -> what an axis says of it, whether on a logarithmic scale
    "gradient_rms": ("rms of ∂L/∂y", True),
    "activation_rms": ("rms of activations y", True),
    "update_ratio": ("‖update‖ / ‖weights‖", True),
    "weight_gradient": ("‖∂L/∂w‖", True),
    "zeros": ("share of zeros", False),
    "dead": ("share of dead units", False),
}


def plot_trace(trace: Trace, file: str | Path) -> None:
    """Sizes, updates and zeros of each layer, from the input on the left to the loss."""
    rows = trace.rows
    n = len(rows)
    x = np.arange(n)
    updates = any(row.update_ratio is not None for row in rows)
    dead = [(i, row.dead) for i, row in enumerate(rows) if row.dead is not None]
    shares = bool(dead) or any(row.zeros for row in rows)
    heights = [3.0, *([1.8] if updates else []), *([1.6] if shares else [])]
    width = min(max(7.0, INCH * n + 1.5), 24.0)
    figure = new_figure(width, sum(heights) + 1.8)
    grid = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)
    panels = list(grid[:, 0])
    top = panels[0]

    _line(top, x, [r.activation_rms for r in rows], BLUE, "o", "activations y", n)
    _line(top, x, [r.gradient_rms for r in rows], ORANGE, "s", "gradients ∂L/∂y", n)
    top.set_ylabel("root mean square")
    top.set_title(f"Backward trace, loss {trace.loss:.3g}", loc="left", fontweight="bold")
    if updates:
        middle = panels[1]
        middle.axhspan(1e-4, 1e-2, color=GREY, alpha=0.15, linewidth=0, label="usual")
        _line(middle, x, [r.update_ratio for r in rows], GREEN, "D", "one update", n, line=False)
        middle.set_ylabel("update / weight")
    for panel in panels[: 1 + updates]:
        panel.set_yscale("log")
    if shares:
        bottom = panels[-1]
        bottom.bar(x, [r.zeros for r in rows], color=GREY, alpha=0.45, label="zeros in y")
        if dead:
            bottom.plot(*zip(*dead, strict=True), "x", color=ORANGE, label="dead units of ReLUs")
        bottom.set(ylabel="share", ylim=(0, 1.04))
    for panel in panels:
        panel.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        panel.grid(axis="y", alpha=0.25)
        panel.set_xlim(-0.7, n - 0.3)
        panel.spines[["top", "right"]].set_visible(False)
    shown = labelled(n, width)
    panels[-1].set_xticks(shown, [rows[i].name for i in shown], rotation=90, fontsize=7)
    figure.savefig(file, dpi=110)


def plot_run(
    epochs: Sequence[int], traces: Sequence[Trace], file: str | Path, quantity: str
) -> None:
    """A column of each trace as a heat map: layers from the input down, epochs to the right."""
    label, logarithmic = QUANTITIES[quantity]
    names = [row.name for row in traces[0].rows]
    values = np.array([[getattr(row, quantity) for row in t.rows] for t in traces], float).T
    kept = np.flatnonzero(np.isfinite(values).any(axis=1))
    if not len(kept):
        raise ValueError(f"no trace has {quantity}: give TraceCallback an optimizer")
    names, values = [names[i] for i in kept], values[kept]
    if logarithmic:
        values[~(np.isfinite(values) & (values > 0))] = np.nan
    n = len(names)
    height = min(max(3.0, 0.17 * n + 1.2), 18.0)
    figure = new_figure(min(max(5.5, 0.32 * len(epochs) + 3.6), 16.0), height)
    axes = figure.subplots()
    limits: Any = {"norm": "log"} if logarithmic else {"vmin": 0, "vmax": 1}
    image = axes.imshow(values, aspect="auto", cmap="viridis", interpolation="nearest", **limits)
    axes.set_facecolor("white")
    figure.colorbar(image, ax=axes, label=label)
    shown = labelled(n, height)
    axes.set_yticks(shown, [names[i] for i in shown], fontsize=7)
    ticks = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), 12)).round().astype(int))
    axes.set_xticks(ticks, [str(epochs[i]) for i in ticks])
    axes.set_xlabel("epoch")
    axes.set_title(f"{label[0].upper()}{label[1:]}, by layer", loc="left", fontweight="bold")
    figure.savefig(file, dpi=110)


def _line(
    axes: Any,
    x: np.ndarray,
    values: Sequence[float | None],
    colour: str,
    marker: str,
    label: str,
    n: int,
    line: bool = True,
) -> None:
    """Positive values only, which a logarithmic axis can show."""
    fine = [(i, v) for i, v in zip(x, values, strict=True) if v and math.isfinite(v)]
    if fine:
        axes.plot(
            *zip(*fine, strict=True),
            color=colour,
            marker=marker,
            markersize=4 if n <= 60 else 2.5,
            linewidth=1.2 if line else 0,
            label=label,
        )


def labelled(n: int, inches: float) -> list[int]:
    """Which of n layers are named along an axis: all that have room, otherwise every k-th."""
    room = max(1, min(MOST_LABELS, int(inches / 0.14)))
    return list(range(0, n, -(-n // room)))
