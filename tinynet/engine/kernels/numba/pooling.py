"""Max pooling: windows of 2×2 that meet, as most are, in one sweep; any other tap by tap."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register, without_fast
from tinynet.engine.kernels.numba.arrays import covered, seen
from tinynet.engine.kernels.numba.channel_sums import passed
from tinynet.engine.kernels.numba.compile import compiled, inlined
from tinynet.engine.memory import empty
from tinynet.engine.threads import over_shares
from tinynet.layers.pooling import (
    MaxPoolCache,
    max_pool2d_backward,
    max_pool2d_forward,
    pool_window,
)
from tinynet.layers.window import Padding, Pair, Window

VECTORS = 16  # channels from which a loop over them, once unrolled, has vectors to work on


@inlined
def beats(z: float, best: float) -> bool:
    """Whether z is larger; a NaN is larger than all."""
    return (z > best) | (z != z)  # noqa: PLR0124 - only NaN differs from itself


@compiled
def _max_of_four(x: Array, y: Array, winner: Array) -> None:
    """x (n, H, W, C); y, winner (n, ⌊H/2⌋, ⌊W/2⌋, C)."""
    for n in range(y.shape[0]):
        for a in range(y.shape[1]):
            for b in range(y.shape[2]):
                for c in range(y.shape[3]):
                    best, number = x[n, 2 * a, 2 * b, c], 0
                    x1 = x[n, 2 * a, 2 * b + 1, c]
                    x2 = x[n, 2 * a + 1, 2 * b, c]
                    x3 = x[n, 2 * a + 1, 2 * b + 1, c]
                    if beats(x1, best):
                        best, number = x1, 1
                    if beats(x2, best):
                        best, number = x2, 2
                    if beats(x3, best):
                        best, number = x3, 3
                    y[n, a, b, c] = best
                    winner[n, a, b, c] = number


@compiled
def _max(x: Array, kernel: Pair, stride: Pair, before: Pair, y: Array, winner: Array) -> None:
    """Each window's cells inside the input, the first and then those that beat the best so far."""
    _, height, width, channels = x.shape
    for n in range(y.shape[0]):
        for a in range(y.shape[1]):
            for b in range(y.shape[2]):
                best, number = y[n, a, b], winner[n, a, b]
                empty = True
                for tap in range(kernel[0] * kernel[1]):
                    row = a * stride[0] + tap // kernel[1] - before[0]
                    column = b * stride[1] + tap % kernel[1] - before[1]
                    if 0 <= row < height and 0 <= column < width:
                        if empty:
                            best[:], number[:] = x[n, row, column], tap
                            empty = False
                            continue
                        this = np.uint8(tap)
                        for c in range(channels):  # read and stored in any case: no branches
                            z, old, last = x[n, row, column, c], best[c], number[c]
                            best[c] = z if beats(z, old) else old
                            number[c] = this if beats(z, old) else last


@register(max_pool2d_forward, "fast")
def max_pool2d_forward_compiled(
    x: Array, pool_size: int | Pair, stride: int | Pair | None = None, padding: Padding = "valid"
) -> tuple[Array, MaxPoolCache]:
    """max_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, pool_size, stride, padding)
    if not covered(x) or window.kernel[0] * window.kernel[1] > 256:
        return without_fast(max_pool2d_forward)(x, pool_size, stride, padding)
    shape = len(x), *window.output_size, x.shape[3]
    y, winner, x = empty(shape, x.dtype), empty(shape, np.uint8), seen(x)

    def work(images: slice) -> None:
        if _is_two_by_two(window) and x.shape[3] >= VECTORS:
            _max_of_four(x[images], y[images], winner[images])
        else:
            before = window.padding[0][0], window.padding[1][0]
            _max(x[images], window.kernel, window.stride, before, y[images], winner[images])

    over_shares(len(x), work)
    return y, MaxPoolCache(winner, window)


@compiled
def _to_one_of_four(dy: Array, winner: Array, dx: Array) -> None:
    """dx = dy where that cell won, else 0."""
    _, height, width, channels = dx.shape
    for n in range(dx.shape[0]):
        for i in range(height):
            for j in range(width):
                a, b, tap = i // 2, j // 2, 2 * (i % 2) + j % 2
                if a < dy.shape[1] and b < dy.shape[2]:
                    for c in range(channels):
                        dx[n, i, j, c] = passed(dy[n, a, b, c], winner[n, a, b, c] == tap)
                else:
                    dx[n, i, j] = 0  # a last row or column that is under no window


@compiled
def _to_winner(
    dy: Array, winner: Array, kernel: Pair, stride: Pair, before: Pair, dx: Array
) -> None:
    """dx = Σ over the windows that a cell won of dy."""
    _, height, width, channels = dx.shape
    dx[:] = 0
    for n in range(dy.shape[0]):
        for a in range(dy.shape[1]):
            for b in range(dy.shape[2]):
                for tap in range(kernel[0] * kernel[1]):
                    row = a * stride[0] + tap // kernel[1] - before[0]
                    column = b * stride[1] + tap % kernel[1] - before[1]
                    if 0 <= row < height and 0 <= column < width:
                        for c in range(channels):
                            dx[n, row, column, c] += passed(
                                dy[n, a, b, c], winner[n, a, b, c] == tap
                            )


@register(max_pool2d_backward, "fast")
def max_pool2d_backward_compiled(dy: Array, cache: MaxPoolCache) -> Array:
    """max_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    winner, window = cache
    if not covered(dy) or winner.dtype != np.uint8 or not winner.flags.c_contiguous:
        return without_fast(max_pool2d_backward)(dy, cache)
    dx = empty((len(dy), *window.size, dy.shape[3]), dy.dtype)
    dy, winner = seen(dy), seen(winner)

    def work(images: slice) -> None:
        if _is_two_by_two(window):
            _to_one_of_four(dy[images], winner[images], dx[images])
        else:
            before = window.padding[0][0], window.padding[1][0]
            _to_winner(dy[images], winner[images], window.kernel, window.stride, before, dx[images])

    over_shares(len(dy), work)
    return dx


def _is_two_by_two(window: Window) -> bool:
    return window.kernel == window.stride == (2, 2) and window.padding == ((0, 0), (0, 0))
