"""A random subset of the elements, and the probability that it finds an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


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
        return -math.expm1(_log_binomial(right, self.checked) - self._log_choices)

    @property
    def _log_choices(self) -> float:
        return _log_binomial(self.total, self.checked)

    def __str__(self) -> str:
        hundredth = math.ceil(self.total / 100)
        return (
            f"checked {self.checked:,} of {self.total:,} elements: an error in 1% of them is found "
            f"with probability {_short(self.detects(hundredth))}, "
            f"in a single one with {_short(self.detects(1))}"
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


def _short(probability: float) -> str:
    """Three digits, or as many nines as there are."""
    missing = 1 - probability
    if missing < 1e-9:
        return "over 0.999999999"
    return (
        f"{probability:.{math.ceil(-math.log10(missing))}f}"
        if missing < 1e-3
        else (f"{probability:.3g}")
    )
