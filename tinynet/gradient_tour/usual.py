"""The check that most people write, which the tour shows and runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinynet.backend import Array


def slope_along_a_line(
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[[Array, Any], Any],
    args: Sequence[Array],
    dy: Array | None = None,
    seed: int = 7,
) -> tuple[float, float]:
    """The slope of L = Σ dy ⊙ f(args) along one random direction: by the gradients, and measured.

    args   float arrays, all of them differentiated
    dy     the upstream gradient, the shape of y; None: drawn at random
    seed   of the direction, and of dy
    """
    rng, h = np.random.default_rng(seed), 1e-4
    y, cache = forward(*args)
    dy = rng.standard_normal(y.shape).astype(y.dtype) if dy is None else dy
    line = [rng.standard_normal(a.shape).astype(a.dtype) for a in args]

    def loss(t: float) -> float:
        moved = [a + a.dtype.type(t) * d for a, d in zip(args, line, strict=True)]
        return float((dy * forward(*moved)[0]).sum())

    gradients = backward(dy, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, line, strict=True))
    return slope, (loss(h) - loss(-h)) / (2 * h)


def close(got: float, wanted: float) -> bool:
    """Whether the check is content: |got − wanted| ≤ 1e-5 + 1e-4 |wanted|."""
    return abs(got - wanted) <= 1e-5 + 1e-4 * abs(wanted)
