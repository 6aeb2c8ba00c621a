"""ReLU and ReLU6 in one sweep: the output, and where its slope is 1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinynet.backend import Array, register, without_numba
from tinynet.engine.kernels.numba.arrays import covered, seen
from tinynet.engine.kernels.numba.channel_sums import passed
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.memory import empty, empty_like
from tinynet.engine.threads import over_shares
from tinynet.layers.activations import relu6_backward, relu6_forward, relu_backward, relu_forward


@compiled
def _relu(x: Array, least: float, y: Array, above: Array) -> None:
    for i in range(len(x)):
        y[i] = least if x[i] <= least else x[i]  # this way round NaN stays
        above[i] = x[i] > least


@compiled
def _relu6(x: Array, y: Array, between: Array) -> None:
    for i in range(len(x)):
        y[i] = 0 if x[i] <= 0 else 6 if x[i] >= 6 else x[i]
        between[i] = (x[i] > 0) & (x[i] < 6)


@compiled
def _where(dy: Array, through: Array, dx: Array) -> None:
    for i in range(len(dy)):
        dx[i] = passed(dy[i], through[i] != 0)


def _by_shares(work: Callable[..., None], *arrays: Array) -> None:
    """``work(*pieces)`` for each thread's pieces of all arrays, which are of one size."""
    flat = [a.reshape(-1) for a in arrays]

    def piece(some: slice) -> None:
        work(*(a[some] for a in flat))

    over_shares(flat[0].size, piece)


@register(relu_forward, "numba")
def relu_forward_numba(x: Array, threshold: float = 0.0) -> tuple[Array, Array]:
    """relu_forward: x (any shape) -> y and where x > m, both of its shape."""
    if not covered(x):
        return without_numba(relu_forward)(x, threshold)
    y, above = empty_like(x), empty(x.shape, bool)
    least = x.dtype.type(threshold)
    _by_shares(lambda x, *out: _relu(x, least, *out), seen(x), y, above.view(np.uint8))
    return y, above


@register(relu6_forward, "numba")
def relu6_forward_numba(x: Array) -> tuple[Array, Array]:
    """relu6_forward: x (any shape) -> y and where 0 < x < 6, both of its shape."""
    if not covered(x):
        return without_numba(relu6_forward)(x)
    y, between = empty_like(x), empty(x.shape, bool)
    _by_shares(_relu6, seen(x), y, between.view(np.uint8))
    return y, between


@register(relu_backward, "numba")
@register(relu6_backward, "numba")
def relu_backward_numba(dy: Array, cache: Array) -> Array:
    """relu_backward, and ReLU6's: dy (any shape) -> dx of its shape."""
    if not covered(dy) or cache.dtype != bool or not cache.flags.c_contiguous:
        return without_numba(relu_backward)(dy, cache)
    dx = empty_like(dy)
    _by_shares(_where, seen(dy), seen(cache.view(np.uint8)), dx)
    return dx
