"""Backward traces as pictures: one of them by layer, many over the epochs of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinynet.visualize.figures import BLUE, GREEN, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from tinynet.visualize.trace import Trace

MOST_LABELS = 70  # names along an axis; of more layers only some are named
QUANTITIES = {  # column of a trace -> what an axis says of it, whether on a logarithmic scale
    "gradient_rms": ("rms of ∂L/∂y", True),
    "activation_rms": ("rms of activations y", True),
    "update_ratio": ("‖update‖ / ‖weights‖", True),
    "weight_gradient": ("‖∂L/∂w‖", True),
    "zeros": ("share of zeros", False),
    "dead": ("share of dead units", False),
}


def plot_trace(trace: Trace, file: str | Path) -> None:
    """Draw sizes, updates and zeros of each layer, from the input on the left to the loss."""
    rows = trace.rows
    n = len(rows)
    dead = [(i, row.dead) for i, row in enumerate(rows) if row.dead is not None]
    updates = any(row.update_ratio is not None for row in rows)
    shares = bool(dead) or any(row.zeros for row in rows)
    heights = [3.0, *[1.8] * updates, *[1.6] * shares]
    width = min(max(7.0, 0.16 * n + 1.5), 24.0)
    figure = new_figure(width, sum(heights) + 1.8)
    grid = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)
    panels = list(grid[:, 0])

    def draw(panel: Any, column: str, style: str, colour: str, label: str) -> None:
        panel.set_yscale("log")
        values = [(i, getattr(row, column)) for i, row in enumerate(rows)]
        shown = [(i, v) for i, v in values if v and math.isfinite(v)]  # a logarithm has no 0
        if shown:
            panel.plot(
                *zip(*shown, strict=True), style, color=colour, label=label, linewidth=1.2,
                markersize=4 if n <= 60 else 2.5,
            )  # fmt: skip

    draw(panels[0], "activation_rms", "o-", BLUE, "activations y")
    draw(panels[0], "gradient_rms", "s-", ORANGE, "gradients ∂L/∂y")
    panels[0].set_ylabel("root mean square")
    panels[0].set_title(f"Backward trace, loss {trace.loss:.3g}", loc="left", fontweight="bold")
    if updates:
        panels[1].axhspan(1e-4, 1e-2, color=GREY, alpha=0.15, linewidth=0, label="usual")
        draw(panels[1], "update_ratio", "D", GREEN, "one update")
        panels[1].set_ylabel("update / weight")
    if shares:
        zeros = [row.zeros for row in rows]
        panels[-1].bar(range(n), zeros, color=GREY, alpha=0.45, label="zeros in y")
        if dead:
            panels[-1].plot(
                *zip(*dead, strict=True), "x", color=ORANGE, label="dead units of ReLUs"
            )
        panels[-1].set(ylabel="share", ylim=(0, 1.04))
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
    """Draw traces as columns of a heat map: layers from the input down, epochs to the right."""
    label, logarithmic = QUANTITIES[quantity]
    values = np.array([[getattr(row, quantity) for row in t.rows] for t in traces], float).T
    kept = np.flatnonzero(np.isfinite(values).any(axis=1))
    if not len(kept):
        raise ValueError(f"no trace has {quantity}: give TraceCallback an optimizer")
    names, values = [traces[0].rows[i].name for i in kept], values[kept]
    if logarithmic:
        values[~(np.isfinite(values) & (values > 0))] = np.nan
    height = min(max(3.0, 0.17 * len(names) + 1.2), 18.0)
    figure = new_figure(min(max(5.5, 0.32 * len(epochs) + 3.6), 16.0), height)
    axes = figure.subplots()
    limits: Any = {"norm": "log"} if logarithmic else {"vmin": 0, "vmax": 1}
    image = axes.imshow(values, aspect="auto", cmap="viridis", interpolation="nearest", **limits)
    figure.colorbar(image, ax=axes, label=label)
    shown = labelled(len(names), height)
    axes.set_yticks(shown, [names[i] for i in shown], fontsize=7)
    ticks = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), 12)).round().astype(int))
    axes.set_xticks(ticks, [str(epochs[i]) for i in ticks])
    axes.set_xlabel("epoch")
    axes.set_title(f"{label[0].upper()}{label[1:]}, by layer", loc="left", fontweight="bold")
    figure.savefig(file, dpi=110)


def labelled(n: int, inches: float) -> list[int]:
    """Return which of n layers are named along an axis: all that have room, else every k-th."""
    room = max(1, min(MOST_LABELS, int(inches / 0.14)))
    return list(range(0, n, -(-n // room)))
