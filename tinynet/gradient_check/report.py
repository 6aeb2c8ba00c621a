"""What a gradient check found: a table, a picture, and the error that carries them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tinynet.backend import Array
from tinynet.gradient_check.sample import Sample


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
        from tinynet.gradient_check.picture import draw  # matplotlib is needed for nothing else

        draw(self, path)

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
        lines += [f"  {note}" for note in [*self._between(), *self._sampled(), *self.notes]]
        return "\n".join(lines)

    def _between(self) -> list[str]:
        if not self.between:
            return []
        wrong, undecidable, size = (
            sum(int(np.sum(part)) for part in parts)
            for parts in zip(
                *((c.wrong, c.undecidable, c.got.size) for c in self.between), strict=True
            )
        )
        verdict = f"{wrong} wrong" if wrong else "right"
        verdict += f", {undecidable} undecidable" if undecidable else ""
        return [f"between the layers {size:,} more elements were checked: {verdict}"]

    def _sampled(self) -> list[str]:
        return [] if self.sample is None else [str(self.sample)]
