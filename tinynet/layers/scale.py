"""Multiplication by a fixed number, as of the branches of a residual network.  Report §3.4."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinynet.backend import Array, Output, backward_of, output_like, swappable
from tinynet.layer import Stateless

__all__ = ["Scale", "scale_backward", "scale_forward"]


class ScaleCache(NamedTuple):
    """Cache for ``scale_backward``."""

    factor: float
    output: Output  # what dy must be like


@swappable
def scale_forward(x: Array, factor: float) -> tuple[Array, ScaleCache]:
    """Multiply every number by one that is not learned.  Report §2.2.2, §3.4.

        y = factor · x

    x (any shape).  Returns y (the shape of x); cache: the factor.
    Source: Szegedy et al. 2016, "Inception-v4, Inception-ResNet": residual branches of more than
    1,000 filters train stably if they are scaled by 0.1 to 0.3 before they are added.
    """
    y = x * factor
    return y, ScaleCache(factor, output_like(y))


@backward_of()
def scale_backward(dy: Array, cache: ScaleCache) -> Array:
    """The slope is the factor everywhere.  Report §2.2.2, §2.3.2.

        ∂L/∂x = factor · ∂L/∂y

    dy (the shape of y) ∂L/∂y.  Returns dx (the shape of dy).
    """
    return dy * cache.factor


class Scale(Stateless):
    """y = factor · x, the factor fixed.  Szegedy et al. 2016 scale residual branches by it."""

    kind = "reshape"
    per_image = True
    passes = scale_forward, scale_backward

    def __init__(self, factor: float) -> None:
        self.factor = float(factor)

    def label(self) -> str:
        return f"scale by {self.factor:g}"

    def settings(self) -> tuple[Any, ...]:
        return (self.factor,)

    def __repr__(self) -> str:
        return f"Scale({self.factor:g})"
