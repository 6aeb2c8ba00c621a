"""A report as a picture: each gradient got against wanted, and its error over the array's axes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.gradient_check.report import ArrayCheck, GradientReport

MOST_ROWS = 8  # arrays shown; those with errors come first
MOST_RINGS = 50  # wrong elements ringed, which a large map would hide
RIGHT, WRONG, UNKNOWN = "#4c72b0", "#c44e52", "#bbbbbb"
RANGE = 6  # the map's colours end at a million times the tolerance


def draw(report: GradientReport, path: str | Path) -> None:
    """Write the picture: a row for each array, its scatter on the left, its error map on the right.

    report   from a check, right or wrong (``GradientError.report``)
    path     the file; its ending says the format
    Raises ImportError, with the command that installs it, where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install matplotlib") from error

    checks = [check for check in [*report.arrays, *report.between] if check.got.size]
    checks = sorted(checks, key=lambda check: not check.wrong.any())[:MOST_ROWS]
    rows = max(len(checks), 1)
    figure = Figure(figsize=(10, 3.4 * rows + 0.6), layout="constrained")
    verdict = "right" if report.ok else "WRONG"
    figure.suptitle(_short(f"{verdict}: the backward pass of {report.subject}", 90))
    grid = figure.subplots(rows, 2, squeeze=False, width_ratios=(1, 2))[: len(checks)]
    for (left, right), check in zip(grid, checks, strict=True):
        _scatter(left, check)
        image = _map(right, check)
        figure.colorbar(image, ax=right, label="error / tolerance, a power of 10")
    figure.savefig(path, dpi=110)


def _scatter(axes: Any, check: ArrayCheck) -> None:
    """Got against wanted; what is right lies on the line."""
    ends = [float(a[check.decided].min(initial=0)) for a in (check.got, check.wanted)]
    ends += [float(a[check.decided].max(initial=0)) for a in (check.got, check.wanted)]
    finite = [end for end in ends if math.isfinite(end)]
    axes.plot([min(finite), max(finite)], [min(finite), max(finite)], color=UNKNOWN, linewidth=1)
    parts = ((check.decided & ~check.wrong, RIGHT, "right"), (check.wrong, WRONG, "wrong"))
    for chosen, colour, label in parts:
        if chosen.any():
            shown = f"{int(chosen.sum())} {label}"
            axes.plot(check.wanted[chosen], check.got[chosen], ".", color=colour, label=shown)
    if check.undecidable.any():
        axes.plot([], [], ".", color=UNKNOWN, label=f"{check.undecidable.sum()} undecidable")
    axes.set(title=_short(f"gradient of {check.name}", 40), xlabel="wanted", ylabel="got")
    axes.legend(loc="best", fontsize="small")


def _map(axes: Any, check: ArrayCheck) -> Any:
    """How far the error is beyond its tolerance, on a plane: white is right, grey not decided."""
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.log10(check.error / check.tolerance)
    power = np.where(check.wrong, np.clip(np.nan_to_num(power, nan=RANGE), 1, RANGE), 0)
    plane = lay_out(np.where(check.decided, power, np.nan))
    image = axes.imshow(
        plane, cmap="Reds", vmin=0, vmax=RANGE, aspect="auto", interpolation="nearest"
    )
    axes.set_facecolor(UNKNOWN)
    rows, columns = np.nonzero(lay_out(check.wrong))
    if 0 < len(rows) <= MOST_RINGS:
        axes.plot(columns, rows, "o", markersize=11, fillstyle="none", color="black")
    down, across = axes_of(check.got.ndim)
    for tiles, line in ((down, axes.axhline), (across, axes.axvline)):
        if len(tiles) > 1 and check.got.shape[tiles[0]] <= 40:
            size = math.prod(check.got.shape[axis] for axis in tiles[1:])
            for k in range(1, check.got.shape[tiles[0]]):
                line(k * size - 0.5, color="black", linewidth=0.5)
    for side in (axes.xaxis, axes.yaxis):
        side.get_major_locator().set_params(integer=True)  # they count elements
    axes.set(
        title=f"error, shape {check.got.shape}",
        ylabel=" × ".join(f"axis {axis}" for axis in down),
        xlabel=" × ".join(f"axis {axis}" for axis in across),
    )
    if not down:
        axes.set_yticks([])
    return image


def lay_out(a: np.ndarray) -> np.ndarray:
    """Any array as a plane: (N, H, W, C) as a tile H × W for each example and channel."""
    down, across = axes_of(a.ndim)
    height = math.prod(a.shape[axis] for axis in down)
    return a.transpose(*down, *across).reshape(height, -1)


def axes_of(ndim: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The axes that go down the plane and across it, the slowest first."""
    half = ndim // 2
    across = tuple(range(half, ndim))
    return tuple(range(half)), across[-1:] + across[:-1]


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
