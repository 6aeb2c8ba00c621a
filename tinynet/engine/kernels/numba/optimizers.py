"""Weight updates: one pass over all arrays of a parameter, in strips over threads.

The sums are the references', but for the rounding between a multiplication and the addition after
it, which may become one instruction.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinynet.backend import Array, register, without_fast
from tinynet.engine.kernels.numba.arrays import covered, seen
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numpy.optimizers import STRIP
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
def _momentum(w: Array, u: Array, g: Array, rate: float, momentum: float) -> None:
    for i in range(len(w)):
        u[i] = momentum * u[i] + g[i]
        w[i] -= rate * u[i]


@compiled
def _nesterov(w: Array, u: Array, g: Array, rate: float, momentum: float) -> None:
    for i in range(len(w)):
        u[i] = momentum * u[i] + g[i]
        w[i] -= rate * (g[i] + momentum * u[i])


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
    work: Callable[..., None], changed: tuple[Array, ...], g: Array, *numbers: float
) -> bool:
    """``work(*strips, *numbers)``, the numbers in the arrays' dtype; False if not covered."""
    if not covered(*changed, g) or any(a.shape != g.shape for a in changed):
        return False
    flat = [a.reshape(-1) for a in (*changed, seen(g))]
    of_dtype = [g.dtype.type(number) for number in numbers]
    if g.size <= STRIP:  # biases, gammas and betas: hundreds of short arrays
        work(*flat, *of_dtype)
    else:
        over_shares(g.size, lambda share: work(*[a[share] for a in flat], *of_dtype))
    return True


@register(gradient_descent_update, "fast")
def gradient_descent_update_compiled(w: Array, g: Array, learning_rate: float) -> None:
    """gradient_descent_update: changes w; w and g of one shape."""
    if not over_strips(_gradient_descent, (w,), g, learning_rate):
        without_fast(gradient_descent_update)(w, g, learning_rate)


@register(momentum_update, "fast")
def momentum_update_compiled(
    w: Array, velocity: Array, g: Array, learning_rate: float, momentum: float, nesterov: bool
) -> None:
    """momentum_update: changes w and velocity; all of one shape."""
    rule = _nesterov if nesterov else _momentum
    if not over_strips(rule, (w, velocity), g, learning_rate, momentum):
        without_fast(momentum_update)(w, velocity, g, learning_rate, momentum, nesterov)


@register(rmsprop_update, "fast")
def rmsprop_update_compiled(
    w: Array, v: Array, g: Array, learning_rate: float, alpha: float, epsilon: float
) -> None:
    """rmsprop_update: changes w and v; all of one shape."""
    if not over_strips(_rmsprop, (w, v), g, learning_rate, alpha, 1 - alpha, epsilon):
        without_fast(rmsprop_update)(w, v, g, learning_rate, alpha, epsilon)


@register(adam_update, "fast")
def adam_update_compiled(
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
    numbers = (learning_rate / m_correction, beta, 1 - beta, alpha, 1 - alpha, epsilon)
    if not over_strips(_adam, (w, m, v), g, *numbers, v_correction):
        without_fast(adam_update)(w, m, v, g, learning_rate, beta, alpha, epsilon, corrections)
