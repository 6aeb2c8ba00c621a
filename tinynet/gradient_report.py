"""What a gradient check found: a table, and a guess at the cause of an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tinynet.backend import Array


class GradientError(AssertionError):
    """A backward pass is wrong, or could not be checked; ``report`` says all that was found."""

    def __init__(self, report: GradientReport) -> None:
        super().__init__(str(report))
        self.report = report


@dataclass
class ArrayCheck:
    """The gradient of one array: what the backward pass gave, and what it should have given.

    name          the array's name: "x", "weight", "main.0.gamma"
    got, wanted   the array's shape; wanted is the estimate by difference quotients
    tolerance     the same shape; the largest |got - wanted| that is accepted
    undecidable   the same shape, bool; True where the quotients do not settle (kinks, ties)
    """

    name: str
    got: Array
    wanted: Array
    tolerance: Array
    undecidable: Array

    @property
    def error(self) -> Array:
        """|got - wanted|, element by element."""
        return np.asarray(abs(self.got - self.wanted))

    @property
    def wrong(self) -> Array:
        """True where the gradient is wrong; a NaN is wrong."""
        return np.asarray(~(self.error <= self.tolerance) & ~self.undecidable)

    @property
    def worst(self) -> tuple[int, ...]:
        """Index of the decided element whose error is the largest part of its tolerance."""
        with np.errstate(divide="ignore", invalid="ignore"):
            part = np.where(self.error == 0, 0.0, self.error / self.tolerance)
        part = np.where(self.undecidable, -1.0, np.where(np.isnan(part), np.inf, part))
        return tuple(int(i) for i in np.unravel_index(np.argmax(part), part.shape))

    def row(self) -> tuple[str, ...]:
        """The cells of this array's line in the report's table."""
        wrong, undecidable = int(self.wrong.sum()), int(self.undecidable.sum())
        decided = self.got.size > undecidable
        verdict = f"{wrong} wrong" if wrong else "right" if decided or not undecidable else ""
        if undecidable:
            verdict = f"{verdict}, {undecidable} undecidable" if verdict else "undecidable"
        error = f"{self.error[self.worst]:.1e}" if decided else ""
        tolerance = f"{self.tolerance[self.worst]:.1e}" if decided else ""
        return self.name, str(self.got.shape), str(self.got.size), error, tolerance, verdict


@dataclass
class GradientReport:
    """What a check found; prints as a table.

    subject     the layer, or the names of the functions
    arrays      one ArrayCheck for each array whose gradient was compared
    faults      sentences; empty if nothing is wrong
    unchecked   float arrays for which the backward pass returns no gradient
    """

    subject: str
    arrays: list[ArrayCheck] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True if nothing is wrong."""
        return not self.faults

    @property
    def undecidable(self) -> int:
        """Number of elements that were left undecided."""
        return sum(int(check.undecidable.sum()) for check in self.arrays)

    def __str__(self) -> str:
        lines = [f"{'right' if self.ok else 'WRONG'}: the backward pass of {self.subject}"]
        lines += [f"  {fault}" for fault in self.faults]
        rows: list[tuple[str, ...]] = [check.row() for check in self.arrays]
        rows += [(name, "", "", "", "", "no gradient returned") for name in self.unchecked]
        if rows:
            head = ("gradient of", "shape", "elements", "worst error", "tolerance", "verdict")
            rows.insert(0, head)
            widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
            for row in rows:
                cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
                lines.append("  " + "  ".join(cells).rstrip())
        return "\n".join(lines)


def explain_wrong(
    check: ArrayCheck, others: Sequence[ArrayCheck], output_shape: tuple[int, ...]
) -> str:
    """Which array, which index, got, wanted, and what the pattern of the error suggests."""
    i = check.worst
    text = (
        f"the gradient of {check.name} is wrong in {int(check.wrong.sum())} of {check.got.size} "
        f"elements; at {i} got {check.got[i]:.6g}, want {check.wanted[i]:.6g}"
    )
    pattern = _pattern(check, others, output_shape)
    return f"{text}: {pattern}" if pattern else text


def explain_undecidable(check: ArrayCheck) -> str:
    """Where, and why, an element was left undecided."""
    first = tuple(int(i) for i in np.argwhere(check.undecidable)[0])
    return (
        f"{int(check.undecidable.sum())} of {check.got.size} elements of {check.name} cannot be "
        f"decided, the first at {first}: they lie at a kink or a tie (ReLU at its threshold, equal "
        "values under one max-pool window); check at an input without"
    )


def _pattern(check: ArrayCheck, others: Sequence[ArrayCheck], output_shape: tuple[int, ...]) -> str:
    """What could have gone wrong, in words; empty if the error shows no plain pattern."""
    known = ~check.undecidable
    got, wanted = np.where(known, check.got, 0.0), np.where(known, check.wanted, 0.0)
    if not np.isfinite(got).all():
        return "it holds NaN or infinity"
    if not got.any():
        return "it is zero everywhere: is it computed, and added to the gradient?"
    if got.ndim == 2 and got.shape[0] == got.shape[1] and _alike(got.T, wanted):
        return "it is transposed"
    if got.ndim == 4 and _alike(got[::-1, ::-1], wanted):
        return "it is flipped in height and width: convolution against correlation"
    ratio = float((got * wanted).sum() / (wanted**2).sum()) if wanted.any() else 0.0
    if ratio and _alike(got, ratio * wanted):
        return _scale(ratio, output_shape)
    for other in others:
        if other is not check and other.wanted.shape == got.shape and _alike(got, other.wanted):
            return f"this is the gradient of {other.name}: are two results in the wrong order?"
    wrong = np.argwhere(check.wrong)
    for axis, size in enumerate(got.shape):
        if size > 1 and len(wrong) > 1 and (wrong[:, axis] == wrong[0, axis]).all():
            return f"all wrong elements have index {wrong[0, axis]} on axis {axis}"
    return ""


def _scale(ratio: float, output_shape: tuple[int, ...]) -> str:
    """A gradient that is wrong by one factor throughout."""
    batch = output_shape[0] if output_shape else 1
    if abs(ratio + 1) < 1e-3:
        return "the sign is wrong"
    if batch > 1 and abs(ratio / batch - 1) < 1e-3:
        return f"it is N = {batch} times too large: a mean over the batch taken for a sum"
    if batch > 1 and abs(ratio * batch - 1) < 1e-3:
        return f"it is N = {batch} times too small: a sum over the batch taken for a mean"
    return f"all elements are {ratio:.6g} times what they should be: a factor is missing or extra"


def _alike(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(abs(a - b).max() <= 1e-4 * abs(b).max())
