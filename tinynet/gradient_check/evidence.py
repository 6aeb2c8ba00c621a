"""What a hypothesis on the cause of an error may look at."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tinynet.backend import Array, to_device
from tinynet.gradient_check.finite_differences import Function
from tinynet.gradient_check.report import ArrayCheck

LOOKED_AT = 24  # elements for which a hypothesis may run the forward pass again


@dataclass(frozen=True)
class Evidence:
    """All that a hypothesis may look at.

    check      the gradient that is wrong
    others     the checks of the same backward pass, this one among them
    arrays     the arguments, by name; they are perturbed in place, and put back
    function   the forward pass, with y and dy
    got, wanted, wrong   those of the check, undecidable elements set to 0 and False
    """

    check: ArrayCheck
    others: Sequence[ArrayCheck]
    arrays: Mapping[str, Array]
    function: Function
    got: np.ndarray
    wanted: np.ndarray
    wrong: np.ndarray

    @classmethod
    def of(
        cls,
        check: ArrayCheck,
        others: Sequence[ArrayCheck],
        arrays: Mapping[str, Array],
        function: Function,
    ) -> Evidence:
        """The evidence for one check."""
        got, wanted = (np.where(check.decided, a, 0.0) for a in (check.got, check.wanted))
        return cls(check, others, arrays, function, got, wanted, check.wrong)

    @property
    def error(self) -> np.ndarray:
        """got − wanted, 0 where that is within the tolerance."""
        return np.where(self.wrong, self.got - self.wanted, 0.0)

    @property
    def dy(self) -> np.ndarray:
        """The upstream gradient, on the host."""
        return to_device(self.function.dy, "numpy")

    @property
    def y(self) -> np.ndarray:
        """The output, on the host."""
        return to_device(self.function.y, "numpy")

    def values(self) -> dict[str, np.ndarray]:
        """The arguments on the host."""
        return {name: to_device(a, "numpy") for name, a in self.arrays.items()}

    def some_wrong(self) -> list[int]:
        """Flat indices of up to LOOKED_AT wrong elements, spread evenly."""
        flat = np.flatnonzero(self.wrong)
        picked = np.linspace(0, len(flat) - 1, min(len(flat), LOOKED_AT)).round().astype(int)
        return flat[picked].tolist()

    def contributions(self, i: int) -> np.ndarray:
        """dy ⊙ ∂y/∂aᵢ (the shape of y): what the true gradient of element i is a sum of."""
        flat = self.arrays[self.check.name].reshape(-1)
        return self.dy * self.function.influence(flat, i)


def alike(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for 1e-4 of the largest: gradients of several patterns are told apart."""
    return a.shape == b.shape and a.size > 0 and bool(abs(a - b).max() <= 1e-4 * abs(b).max())


def axes_named(axes: Sequence[int]) -> str:
    """ "axis 1", "axes 0, 2"."""
    return f"axis {axes[0]}" if len(axes) == 1 else "axes " + ", ".join(map(str, axes))


def sets_of_axes(ndim: int) -> Iterator[tuple[int, ...]]:
    """All axes but one, then fewer: the largest mean that explains the error is named."""
    for count in range(ndim - 1 if ndim > 1 else 1, 0, -1):
        yield from itertools.combinations(range(ndim), count)
