"""A network from end to end, in case its layers are not all that it is.

The walk through the layers (``chain_rule``) takes it that a container does with its layers what its
kind says, and that a layer depends on nothing but what it is given. So every array a (n elements)
is also moved through the whole network, all of it at once, with signs v drawn at random:

    d/dt L(a + t v / √n)  at t = 0      is to be      Σ ∂L/∂a ⊙ v / √n

with the ∂L/∂a that the walk found. This slope is of the size of one element's, and costs as much,
and every element is in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.gradient_check.contract import Subject
from tinynet.gradient_check.finite_differences import Function
from tinynet.gradient_check.report import ArrayCheck

SEED = 243_000_003
NEAR = 1e-3  # of the slope and of a typical element: what is looked for is a path too many
FLOOR = 1e-7  # of the largest: a shift that batch norm takes out again has no slope but rounding
SAFETY = 8  # the bound is an estimate itself


def more_than_its_layers(
    checks: Sequence[ArrayCheck], function: Function, subject: Subject
) -> Iterator[str]:
    """A fault for each array whose slope through the whole network is not what its layers say.

    checks     the arrays' gradients, with the slopes that the walk found
    function   the network's; subject: the same network, whose arrays are moved, and put back
    Undecidable elements are not moved.
    """
    rng = np.random.default_rng(SEED)
    known = [np.where(check.undecidable, 0.0, check.wanted) for check in checks]
    typical = [float(np.linalg.norm(slopes)) / math.sqrt(max(slopes.size, 1)) for slopes in known]
    floor = FLOOR * max(typical, default=0.0)
    for check, slopes, size in zip(checks, known, typical, strict=True):
        signs = rng.choice([-1.0, 1.0], slopes.shape) / math.sqrt(max(slopes.size, 1))
        direction = np.where(check.undecidable, 0.0, signs)
        wanted = float((slopes * direction).sum())
        near = NEAR * (abs(wanted) + size) + floor
        slope, bound = _slope_along(direction, subject.arrays[check.name], function, wanted, near)
        if math.isfinite(bound) and not abs(slope - wanted) <= near + SAFETY * bound:
            yield (
                f"end to end, the gradient of {check.name} times random signs is {slope:.6g}, "
                f"layer by layer {wanted:.6g}: does a layer depend on more than it is given?"
            )


def _slope_along(
    direction: np.ndarray, a: Array, function: Function, wanted: float, near: float
) -> tuple[float, float]:
    """The slope and a bound on its error: a quick one, where that is as wanted."""
    kept, t = a.copy(), np.zeros(1)
    v: Any = array_module(a).asarray(direction)

    def forward() -> tuple[Array, Any]:
        a[...] = kept + t[0] * v
        return function.forward()

    along = Function(forward, function.y, function.dy)
    try:
        with np.errstate(all="ignore"):  # a step too far gives NaN
            slope, _ = along.central(t, 0)
            if abs(slope - wanted) <= near:
                return slope, 0.0
            return along.careful(t, 0, near / SAFETY)
    finally:
        a[...] = kept
