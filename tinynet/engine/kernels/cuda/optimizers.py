"""Weight updates of CuPy's arrays: what starts the kernels of ``optimizers.cu``, tensor by tensor.

``together`` starts those that change all tensors of a network at once.
"""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, library_of, register
from tinynet.engine.kernels.cuda.launch import THREADS, blocks
from tinynet.engine.kernels.cuda.source import REALS, function
from tinynet.optimizers import (
    adam_update,
    gradient_descent_update,
    momentum_update,
    rmsprop_update,
)


def covers(*arrays: Array) -> bool:
    """Whether the kernels here change these arrays: of one shape and dtype, without gaps."""
    w = arrays[0]
    return w.dtype in REALS and all(
        library_of(a) == "cupy"
        and a.dtype == w.dtype
        and a.shape == w.shape
        and a.flags.c_contiguous
        for a in arrays
    )


def over_all(name: str, changed: tuple[Array, ...], g: Array, numbers: tuple[float, ...]) -> bool:
    """Run the kernel ``name`` over all numbers; False if it does not cover the arrays."""
    w = changed[0]
    if not covers(*changed, g):
        return False
    if not w.size:
        return True
    kernel = function("optimizers", name, (("REAL", REALS[w.dtype]),))
    arguments = (*changed, g, *map(w.dtype.type, numbers), np.int64(w.size))
    kernel((blocks(w.size),), (THREADS,), arguments)
    return True


# What the kernels take after the gradient, from what the updates take.


def gradient_descent_numbers(learning_rate: float) -> tuple[float, ...]:
    """(rate,)."""
    return (float(learning_rate),)


def momentum_numbers(learning_rate: float, momentum: float, nesterov: bool) -> tuple[float, ...]:
    """(rate, mu, nesterov), the last 0 or 1."""
    return float(learning_rate), float(momentum), float(nesterov)


def rmsprop_numbers(learning_rate: float, alpha: float, epsilon: float) -> tuple[float, ...]:
    """(rate, alpha, keep_v, epsilon)."""
    return float(learning_rate), float(alpha), 1.0 - alpha, float(epsilon)


def adam_numbers(
    learning_rate: float,
    beta: float,
    alpha: float,
    epsilon: float,
    corrections: tuple[float, float] = (1.0, 1.0),
) -> tuple[float, ...]:
    """(rate, beta, keep_m, alpha, keep_v, epsilon, v_correction)."""
    rate = float(learning_rate) / corrections[0]
    averages = float(beta), 1.0 - beta, float(alpha), 1.0 - alpha
    return rate, *averages, float(epsilon), float(corrections[1])


@register(gradient_descent_update, "cupy")
def gradient_descent_update_cuda(w: Array, g: Array, learning_rate: float) -> None:
    """gradient_descent_update: changes w; w and g of one shape."""
    numbers = gradient_descent_numbers(learning_rate)
    if not over_all("gradient_descent_update", (w,), g, numbers):
        gradient_descent_update.reference(w, g, learning_rate)


@register(momentum_update, "cupy")
def momentum_update_cuda(
    w: Array, velocity: Array, g: Array, learning_rate: float, momentum: float, nesterov: bool
) -> None:
    """momentum_update: changes w and velocity; all of one shape."""
    numbers = momentum_numbers(learning_rate, momentum, nesterov)
    if not over_all("momentum_update", (w, velocity), g, numbers):
        momentum_update.reference(w, velocity, g, learning_rate, momentum, nesterov)


@register(rmsprop_update, "cupy")
def rmsprop_update_cuda(
    w: Array, v: Array, g: Array, learning_rate: float, alpha: float, epsilon: float
) -> None:
    """rmsprop_update: changes w and v; all of one shape."""
    numbers = rmsprop_numbers(learning_rate, alpha, epsilon)
    if not over_all("rmsprop_update", (w, v), g, numbers):
        rmsprop_update.reference(w, v, g, learning_rate, alpha, epsilon)


@register(adam_update, "cupy")
def adam_update_cuda(
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
    numbers = adam_numbers(learning_rate, beta, alpha, epsilon, corrections)
    if not over_all("adam_update", (w, m, v), g, numbers):
        adam_update.reference(w, m, v, g, learning_rate, beta, alpha, epsilon, corrections)
