"""Weight updates on strips that stay in a core's cache, each with scratch of its own.

The references make a fresh array for every intermediate; for millions of weights each is a trip to
memory and back, and fresh pages from the system. The operations and their order are the
references', so the results are theirs bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from tinynet.backend import Array, register
from tinynet.engine.threads import over_blocks
from tinynet.optimizers import (
    adam_update,
    gradient_descent_update,
    momentum_update,
    rmsprop_update,
)

Work: TypeAlias = Callable[..., None]

STRIP = 1 << 15  # elements: with Adam's six arrays 768 KB in float32, within a second-level cache


def over_strips(arrays: tuple[Array, ...], scratch: int, work: Work) -> bool:
    """``work(*strips, *scratch arrays)`` for each strip; False if they cannot be cut.

    arrays   of one shape and dtype; cut if they are long enough to gain from it and each lies in
             one piece of memory
    """
    first = arrays[0]
    if first.size < 2 * STRIP:
        return False
    if any(a.dtype != first.dtype or not a.flags.c_contiguous for a in arrays):
        return False
    flat = [a.reshape(-1) for a in arrays]

    def strip(cut: slice) -> None:
        parts = [a[cut] for a in flat]
        work(*parts, *(np.empty_like(parts[0]) for _ in range(scratch)))

    over_blocks(first.size, STRIP, strip)
    return True


@register(gradient_descent_update, "numpy")
def gradient_descent_update_numpy(w: Array, g: Array, learning_rate: float) -> None:
    """gradient_descent_update: changes w; w and g of one shape."""

    def work(w: Array, g: Array, change: Array) -> None:
        np.multiply(g, learning_rate, out=change)
        w -= change

    if not over_strips((w, g), 1, work):
        gradient_descent_update.reference(w, g, learning_rate)


@register(momentum_update, "numpy")
def momentum_update_numpy(
    w: Array, velocity: Array, g: Array, learning_rate: float, momentum: float, nesterov: bool
) -> None:
    """momentum_update: changes w and velocity; all of one shape."""

    def work(w: Array, velocity: Array, g: Array, change: Array) -> None:
        velocity *= momentum
        velocity += g
        if nesterov:
            np.multiply(velocity, momentum, out=change)
            change += g
            change *= learning_rate
        else:
            np.multiply(velocity, learning_rate, out=change)
        w -= change

    if not over_strips((w, velocity, g), 1, work):
        momentum_update.reference(w, velocity, g, learning_rate, momentum, nesterov)


@register(rmsprop_update, "numpy")
def rmsprop_update_numpy(
    w: Array, v: Array, g: Array, learning_rate: float, alpha: float, epsilon: float
) -> None:
    """rmsprop_update: changes w and v; all of one shape."""

    def work(w: Array, v: Array, g: Array, change: Array, root: Array) -> None:
        np.multiply(g, alpha, out=change)
        change *= g
        v *= 1 - alpha
        v += change
        np.sqrt(v, out=root)
        root += epsilon
        np.multiply(g, learning_rate, out=change)
        change /= root
        w -= change

    if not over_strips((w, v, g), 2, work):
        rmsprop_update.reference(w, v, g, learning_rate, alpha, epsilon)


@register(adam_update, "numpy")
def adam_update_numpy(
    w: Array,
    m: Array,
    v: Array,
    g: Array,
    learning_rate: float,
    beta: float,
    alpha: float,
    epsilon: float,
    corrections: tuple[float, float] = (1.0, 1.0),
) -> None:
    """adam_update: changes w, m and v; all of one shape."""
    m_correction, v_correction = corrections

    def work(w: Array, m: Array, v: Array, g: Array, change: Array, root: Array) -> None:
        np.multiply(g, beta, out=change)
        m *= 1 - beta
        m += change
        np.multiply(g, alpha, out=change)
        change *= g
        v *= 1 - alpha
        v += change
        np.divide(v, v_correction, out=root)
        np.sqrt(root, out=root)
        root += epsilon
        np.multiply(m, learning_rate / m_correction, out=change)
        change /= root
        w -= change

    if not over_strips((w, m, v, g), 2, work):
        adam_update.reference(w, m, v, g, learning_rate, beta, alpha, epsilon, corrections)
