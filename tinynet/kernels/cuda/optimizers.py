"""Weight updates of CuPy's arrays: what starts the kernels of ``optimizers.cu``."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, library_of, register
from tinynet.kernels.cuda.launch import THREADS, blocks
from tinynet.kernels.cuda.source import REALS, function
from tinynet.optimizers import (
    adam_update,
    gradient_descent_update,
    momentum_update,
    rmsprop_update,
)


def over_all(name: str, changed: tuple[Array, ...], g: Array, *numbers: float | int) -> bool:
    """Run the kernel ``name`` over all numbers; False if it does not cover the arrays.

    numbers   in the arrays' dtype, but for whole numbers
    """
    w = changed[0]
    for a in (*changed, g):
        same = library_of(a) == "cupy" and a.dtype == w.dtype and a.shape == w.shape
        if not (same and a.dtype in REALS and a.flags.c_contiguous):
            return False
    if not w.size:
        return True
    of_dtype = [np.int32(n) if isinstance(n, int) else w.dtype.type(n) for n in numbers]
    kernel = function("optimizers", name, (("REAL", REALS[w.dtype]),))
    kernel((blocks(w.size),), (THREADS,), (*changed, g, *of_dtype, np.int64(w.size)))
    return True


@register(gradient_descent_update, "cupy")
def gradient_descent_update_cuda(w: Array, g: Array, learning_rate: float) -> None:
    """gradient_descent_update: changes w; w and g of one shape."""
    if not over_all("gradient_descent_update", (w,), g, float(learning_rate)):
        gradient_descent_update.reference(w, g, learning_rate)


@register(momentum_update, "cupy")
def momentum_update_cuda(
    w: Array, velocity: Array, g: Array, learning_rate: float, momentum: float, nesterov: bool
) -> None:
    """momentum_update: changes w and velocity; all of one shape."""
    numbers = float(learning_rate), float(momentum), int(nesterov)
    if not over_all("momentum_update", (w, velocity), g, *numbers):
        momentum_update.reference(w, velocity, g, learning_rate, momentum, nesterov)


@register(rmsprop_update, "cupy")
def rmsprop_update_cuda(
    w: Array, v: Array, g: Array, learning_rate: float, alpha: float, epsilon: float
) -> None:
    """rmsprop_update: changes w and v; all of one shape."""
    numbers = float(learning_rate), float(alpha), 1.0 - alpha, float(epsilon)
    if not over_all("rmsprop_update", (w, v), g, *numbers):
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
    m_correction, v_correction = corrections
    rate = float(learning_rate) / m_correction
    numbers = rate, float(beta), 1.0 - beta, float(alpha), 1.0 - alpha, float(epsilon)
    if not over_all("adam_update", (w, m, v), g, *numbers, float(v_correction)):
        adam_update.reference(w, m, v, g, learning_rate, beta, alpha, epsilon, corrections)
