"""Weight updates: one pass over all arrays of a parameter, in strips over threads.

The sums are the references', but for the rounding between a multiplication and the addition after
it, which may become one instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from tinynet.backend import Array, Swappable
from tinynet.engine.kernels.numba.arrays import covered, seen
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numpy import optimizers
from tinynet.engine.kernels.updates import register_update
from tinynet.engine.threads import over_shares
from tinynet.optimizers import (
    adam_update,
    gradient_descent_update,
    momentum_update,
    rmsprop_update,
)


@compiled
def _gradient_descent(w: Array, g: Array, rate: float) -> None:
    for i in range(len(w)):
        w[i] -= rate * g[i]


@compiled
def _momentum(w: Array, u: Array, g: Array, rate: float, momentum: float, nesterov: float) -> None:
    for i in range(len(w)):
        u[i] = momentum * u[i] + g[i]
        w[i] -= rate * (g[i] + momentum * u[i] if nesterov else u[i])


@compiled
def _rmsprop(
    w: Array, v: Array, g: Array, rate: float, alpha: float, keep: float, epsilon: float
) -> None:
    for i in range(len(w)):
        v[i] = alpha * g[i] * g[i] + keep * v[i]
        w[i] -= rate * g[i] / (np.sqrt(v[i]) + epsilon)


@compiled
def _adam(
    w: Array,
    m: Array,
    v: Array,
    g: Array,
    rate: float,
    beta: float,
    keep_m: float,
    alpha: float,
    keep_v: float,
    epsilon: float,
    v_correction: float,
) -> None:
    for i in range(len(w)):
        m[i] = beta * g[i] + keep_m * m[i]
        v[i] = alpha * g[i] * g[i] + keep_v * v[i]
        w[i] -= rate * m[i] / (np.sqrt(v[i] / v_correction) + epsilon)


def over_strips(
    work: Callable[..., None], arrays: tuple[Array, ...], numbers: tuple[float, ...]
) -> bool:
    """``work(*strips, *numbers)``, the numbers in the arrays' dtype; False if not covered."""
    *changed, g = arrays
    if not covered(*arrays) or any(a.shape != g.shape for a in changed):
        return False
    flat = [a.reshape(-1) for a in (*changed, seen(g))]
    of_dtype = [g.dtype.type(number) for number in numbers]
    if g.size <= optimizers.STRIP:  # biases, gammas and betas: hundreds of short arrays
        work(*flat, *of_dtype)
    else:
        over_shares(g.size, lambda share: work(*[a[share] for a in flat], *of_dtype))
    return True


KERNELS: dict[Swappable[..., None], Callable[..., None]] = {
    adam_update: _adam,
    gradient_descent_update: _gradient_descent,
    momentum_update: _momentum,
    rmsprop_update: _rmsprop,
}
for _rule, _kernel in KERNELS.items():
    register_update(_rule, "numba", partial(over_strips, _kernel))
