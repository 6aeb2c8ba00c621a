"""What a gradient check found: a table, a picture, and the error that carries them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import Array

MOST_ROWS = 8  # arrays shown; those with errors come first
MOST_RINGS = 50  # wrong elements ringed, which a large map would hide
RIGHT, WRONG, UNKNOWN = "#4c72b0", "#c44e52", "#bbbbbb"
RANGE = 6  # the map's colours end at a million times the tolerance


class GradientError(AssertionError):
    """A backward pass is wrong, or could not be checked; ``report`` says all that was found."""

    def __init__(self, report: GradientReport) -> None:
        super().__init__(str(report))
        self.report = report


@dataclass
class ArrayCheck:
    """The gradient of one array: what the backward pass gave, and what it should have given.

    name          the array's name: "x", "weight", "main.0.gamma"
    got, wanted   the array's shape; wanted is the numerical estimate, NaN where not checked
    tolerance     the same shape; the largest |got - wanted| that is accepted
    undecidable   the same shape, bool; True where no slope can be found (kinks, ties)
    checked       the same shape, bool; False where a sample left an element out
    exact         the same shape, bool; True where wanted is exact to rounding: a complex step
    """

    name: str
    got: Array
    wanted: Array
    tolerance: Array
    undecidable: Array
    checked: Array
    exact: Array

    def of(self, got: Array) -> ArrayCheck:
        """The same slopes, for another gradient."""
        return replace(self, got=got)

    @property
    def error(self) -> Array:
        """|got - wanted|, element by element."""
        return np.asarray(abs(self.got - self.wanted))

    @property
    def decided(self) -> Array:
        """True where the gradient was compared with a slope that can be trusted."""
        return np.asarray(self.checked & ~self.undecidable)

    @property
    def wrong(self) -> Array:
        """True where the gradient is wrong; a NaN is wrong."""
        return np.asarray(~(self.error <= self.tolerance) & self.decided)

    @property
    def worst(self) -> tuple[int, ...]:
        """Index of the decided element whose error is the largest part of its tolerance."""
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(self.error == 0, 0.0, self.error / self.tolerance)
        part = np.where(self.decided, np.where(np.isnan(part), np.inf, part), -1.0)
        return tuple(int(i) for i in np.unravel_index(np.argmax(part), part.shape))

    @property
    def method(self) -> str:
        """How the slopes were found: by the complex step, by differences, or by both."""
        decided, exact = int(self.decided.sum()), int((self.exact & self.decided).sum())
        if not decided:
            return ""
        if exact == decided:
            return "complex step"
        return f"complex step, {decided - exact} differences" if exact else "differences"

    def row(self) -> tuple[str, ...]:
        """The cells of this array's line in the report's table."""
        wrong, undecidable = int(self.wrong.sum()), int(self.undecidable.sum())
        decided, checked = bool(self.decided.any()), int(self.checked.sum())
        verdict = f"{wrong} wrong" if wrong else "right" if decided or not self.got.size else ""
        if undecidable:
            verdict = f"{verdict}, {undecidable} undecidable" if verdict else "undecidable"
        size = str(checked) if checked == self.got.size else f"{checked} of {self.got.size}"
        error = f"{self.error[self.worst]:.1e}" if decided else ""
        tolerance = f"{self.tolerance[self.worst]:.1e}" if decided else ""
        verdict = verdict or "not in the sample"
        return self.name, str(self.got.shape), size, error, tolerance, self.method, verdict


@dataclass(frozen=True)
class Sample:
    """``checked`` elements, drawn without replacement, of ``total``."""

    total: int
    checked: int

    def detects(self, wrong: int) -> float:
        """The probability that at least one of ``wrong`` elements is among those drawn.

            P = 1 − C(total − wrong, checked) / C(total, checked)      (hypergeometric)

        Raises ValueError unless 0 ≤ wrong ≤ total.
        """
        if not 0 <= wrong <= self.total:
            raise ValueError(f"wrong is {wrong}, want 0 to {self.total}, the number of elements")
        right = self.total - wrong
        if self.checked > right:
            return 1.0
        all_choices = _log_binomial(self.total, self.checked)
        return -math.expm1(_log_binomial(right, self.checked) - all_choices)

    def __str__(self) -> str:
        hundredth = math.ceil(self.total / 100)
        return (
            f"checked {self.checked:,} of {self.total:,} elements: an error in 1% of them is found "
            f"with probability {_digits(self.detects(hundredth))}, "
            f"in a single one with {_digits(self.detects(1))}"
        )


def draw_sample(
    sizes: Mapping[str, int],
    elements: int | None,
    fraction: float | None,
    rng: np.random.Generator,
) -> dict[str, np.ndarray] | None:
    """For each array the flat indices to check, in order; None where every element is.

    sizes      array's name -> number of elements
    elements   how many to draw from all arrays together, or
    fraction   which part of them, at least one
    Raises ValueError if both are given, or one is out of range.
    """
    if elements is None and fraction is None:
        return None
    if elements is not None and fraction is not None:
        raise ValueError("got elements and fraction, want one of them")
    if fraction is not None and not 0 < fraction <= 1:
        raise ValueError(f"fraction is {fraction}, want a part: above 0, at most 1")
    if elements is not None and elements < 1:
        raise ValueError(f"elements is {elements}, want a number from 1")
    total = sum(sizes.values())
    count = elements if elements is not None else math.ceil((fraction or 0) * total)
    if count >= total:
        return None
    drawn = np.sort(rng.choice(total, count, replace=False))
    ends = np.cumsum(list(sizes.values()))
    starts = ends - list(sizes.values())
    return {
        name: drawn[(drawn >= start) & (drawn < end)] - start
        for name, start, end in zip(sizes, starts, ends, strict=True)
    }


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _digits(probability: float) -> str:
    """Three digits, or as many nines as there are."""
    missing = 1 - probability
    if missing < 1e-9:
        return "over 0.999999999"
    digits = math.ceil(-math.log10(missing))
    return f"{probability:.{digits}f}" if missing < 1e-3 else f"{probability:.3g}"


@dataclass
class GradientReport:
    """What a check found; prints as a table, and ``picture`` draws it.

    subject     the layer, or the names of the functions
    arrays      one ArrayCheck for each array whose gradient was compared
    faults      sentences; empty if nothing is wrong
    unchecked   float arrays for which the backward pass returns no gradient
    between     of a network, one ArrayCheck for each gradient that one layer hands to another
    sample      how many elements were drawn, of how many; None: every one was checked
    notes       what else a reader should know: inputs that were moved off kinks
    """

    subject: str
    arrays: list[ArrayCheck] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    between: list[ArrayCheck] = field(default_factory=list)
    sample: Sample | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.faults

    @property
    def undecidable(self) -> int:
        """Number of elements that were left undecided."""
        return sum(int(check.undecidable.sum()) for check in [*self.arrays, *self.between])

    def picture(self, path: str | Path) -> None:
        """Draw each array's gradient, got against wanted, and its error over the array's axes.

        path   the picture's file; its ending, such as .png or .svg, says the format
        Raises ImportError, with the command that installs it, where matplotlib is missing.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError("a picture needs matplotlib: pip install matplotlib") from error

        checks = [check for check in [*self.arrays, *self.between] if check.got.size]
        checks = sorted(checks, key=lambda check: not check.wrong.any())[:MOST_ROWS]
        rows = max(len(checks), 1)
        figure = Figure(figsize=(10, 3.4 * rows + 0.6), layout="constrained")
        verdict = "right" if self.ok else "WRONG"
        figure.suptitle(_short(f"{verdict}: the backward pass of {self.subject}", 90))
        grid = figure.subplots(rows, 2, squeeze=False, width_ratios=(1, 2))[: len(checks)]
        for (left, right), check in zip(grid, checks, strict=True):
            _scatter(left, check)
            image = _map(right, check)
            figure.colorbar(image, ax=right, label="error / tolerance, a power of 10")
        figure.savefig(path, dpi=110)

    def __str__(self) -> str:
        lines = [f"{'right' if self.ok else 'WRONG'}: the backward pass of {self.subject}"]
        lines += [f"  {fault}" for fault in self.faults]
        rows: list[tuple[str, ...]] = [check.row() for check in self.arrays]
        rows += [(name, *[""] * 5, "no gradient returned") for name in self.unchecked]
        if rows:
            head = ("gradient of", "shape", "elements", "worst error", "tolerance", "by", "verdict")
            rows.insert(0, head)
            widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
            for row in rows:
                cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
                lines.append("  " + "  ".join(cells).rstrip())
        notes = [] if self.sample is None else [str(self.sample)]
        lines += [f"  {note}" for note in [*self._between(), *notes, *self.notes]]
        return "\n".join(lines)

    def _between(self) -> list[str]:
        if not self.between:
            return []
        size, wrong, undecidable = (
            sum(c.got.size for c in self.between),
            sum(int(c.wrong.sum()) for c in self.between),
            sum(int(c.undecidable.sum()) for c in self.between),
        )
        verdict = f"{wrong} wrong" if wrong else "right"
        verdict += f", {undecidable} undecidable" if undecidable else ""
        return [f"between the layers {size:,} more elements were checked: {verdict}"]


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
