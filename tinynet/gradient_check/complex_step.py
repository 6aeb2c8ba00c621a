"""Slopes by a step in the imaginary direction, exact to rounding where f is analytic.

    f(xᵢ + i h) = f(xᵢ) + i h ∂f/∂xᵢ − O(h²),      ∂L/∂xᵢ = Im L(xᵢ + i h) / h

Nothing is subtracted, so nothing cancels, and h can be so small that the O(h²) is below rounding.
It is valid only if the forward pass computes an analytic function of complex numbers: abs, conj
and real make it false, a maximum is analytic only away from ties. Hence three guards: the forward
pass must take complex numbers, with no warning that an imaginary part was dropped; on real ones it
must give its usual result; and each slope must agree with the difference quotient's. If one does
not, the whole array is left to the difference quotients (``estimate``).
Source: Squire & Trapp 1998, "Using complex variables to estimate derivatives of real functions".
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tinynet.backend import Array

STEP = 2.0**-100


class ComplexStep:
    """The complex step for one array.

    forward   () -> (y, cache), of complex numbers; it reads ``flat``
    flat      a flat view of the complex array to perturb
    dy        the upstream gradient
    """

    def __init__(self, forward: Callable[[], tuple[Array, Any]], array: Array, dy: Array) -> None:
        self.forward, self.flat, self.dy = forward, array.reshape(-1), dy

    def slopes(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """∂L/∂xᵢ for the flat indices, and Σ |dy ⊙ ∂y/∂xᵢ|, the size of what adds up to them.

        None if the forward pass refuses one of them.
        """
        found = np.empty((2, len(index)))
        with _strict(), np.errstate(all="ignore"):
            for k, i in enumerate(index.tolist()):
                try:
                    terms = self.dy * self._imaginary(i)
                except Exception:  # it refuses this one: the differences serve
                    return None
                found[:, k] = float(terms.sum()), float(abs(terms).sum())
        slopes, sizes = found / STEP
        return slopes, sizes

    def _imaginary(self, i: int) -> Array:
        kept = self.flat[i].copy()
        self.flat[i] += 1j * STEP
        try:
            return self.forward()[0].imag
        finally:
            self.flat[i] = kept


def complex_steps(
    forward: Callable[[], tuple[Array, Any]], arrays: Mapping[str, Array], y: Array, dy: Array
) -> dict[str, ComplexStep]:
    """Array's name -> its complex step; empty if the forward pass takes no complex numbers.

    forward, arrays   a twin that computes with complex numbers, and the arrays that it reads
    y, dy             of the function in real numbers: output and upstream gradient
    """
    if not takes_complex(forward, y):
        return {}
    return {name: ComplexStep(forward, a, dy) for name, a in arrays.items()}


def takes_complex(forward: Callable[[], tuple[Array, Any]], y: Array) -> bool:
    """True if ``forward``, now of complex arrays with no imaginary part, gives y as it should."""
    try:
        with _strict(), np.errstate(all="ignore"):
            z, _ = forward()
    except Exception:  # whatever it raises: it takes no complex numbers
        return False
    if getattr(z, "shape", None) != y.shape or z.dtype.kind != "c":
        return False
    near = abs(z.real - y) <= 1e-10 * (abs(y) + (float(abs(y).max()) if y.size else 0.0))
    return bool(near.all()) and not bool(z.imag.any())


class _strict(warnings.catch_warnings):
    """Within the block, a warning that an imaginary part is dropped is an error."""

    def __enter__(self) -> Any:
        entered = super().__enter__()
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", np.exceptions.ComplexWarning)
        return entered
