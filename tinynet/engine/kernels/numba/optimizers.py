"""Weight updates: one pass over all arrays of a parameter, in strips over threads.

The sums are the references', but for the rounding between a multiplication and the addition after
it, which may become one instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet.backend import Array, Swappable, register, without_numba
from tinynet.engine.kernels.numba.arrays import covered, seen
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numpy import optimizers
from tinynet.engine.kernels.updates import (
    adam_numbers,
    gradient_descent_numbers,
    momentum_numbers,
    rmsprop_numbers,
)
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


# rule -> its kernel, how many arrays it takes, w first and the gradient last, and its numbers
KERNELS: dict[Swappable[..., None], tuple[Callable[..., None], int, Callable[..., Any]]] = {
    adam_update: (_adam, 4, adam_numbers),
    gradient_descent_update: (_gradient_descent, 2, gradient_descent_numbers),
    momentum_update: (_momentum, 3, momentum_numbers),
    rmsprop_update: (_rmsprop, 3, rmsprop_numbers),
}


def register_strips(rule: Swappable[..., None]) -> None:
    """Have a kernel replace ``rule``, its numbers in the arrays' dtype."""
    kernel, count, numbers_of = KERNELS[rule]

    @register(rule, "numba")
    def update(*arguments: Any, **more: Any) -> None:
        *changed, g = arrays = arguments[:count]
        if not covered(*arrays) or any(a.shape != g.shape for a in changed):
            without_numba(rule)(*arguments, **more)
            return
        numbers = tuple(map(g.dtype.type, numbers_of(*arguments[count:], **more)))
        flat = [a.reshape(-1) for a in (*changed, seen(g))]
        if g.size <= optimizers.STRIP:  # biases, gammas and betas: hundreds of short arrays
            kernel(*flat, *numbers)
        else:
            over_shares(g.size, lambda share: kernel(*[a[share] for a in flat], *numbers))


for _rule in KERNELS:
    register_strips(_rule)
