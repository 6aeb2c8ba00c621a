"""Pooling in one pass over the input, not over a padded copy.

Max-pool windows of 2×2 that meet, as most are, have a sweep to themselves.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np

from tinynet.backend import Array, output_like, register, without_numba
from tinynet.engine.kernels.numba.arrays import cells_in_a_row, covered, seen
from tinynet.engine.kernels.numba.channel_sums import FEW, fold, passed
from tinynet.engine.kernels.numba.compile import compiled, inlined
from tinynet.engine.memory import empty
from tinynet.engine.threads import over_shares
from tinynet.layer import Shape
from tinynet.layers.pooling import (
    AvgPoolCache,
    MaxPoolCache,
    SumPoolCache,
    averages_over,
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_backward,
    global_avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    pool_window,
    sum_pool2d_backward,
    sum_pool2d_forward,
)
from tinynet.layers.window import Pair, Window

Geometry = tuple[Pair, Pair, Pair, Pair]  # kernel, stride, dilation, padding before the input

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
def _max(x: Array, geometry: Geometry, y: Array, winner: Array) -> None:
    """Each window's cells inside the input, the first and then those that beat the best so far."""
    kernel, stride, dilation, before = geometry
    _, height, width, channels = x.shape
    for n in range(y.shape[0]):
        for a in range(y.shape[1]):
            for b in range(y.shape[2]):
                best, number = y[n, a, b], winner[n, a, b]
                empty = True
                for tap in range(kernel[0] * kernel[1]):
                    row = a * stride[0] + tap // kernel[1] * dilation[0] - before[0]
                    column = b * stride[1] + tap % kernel[1] * dilation[1] - before[1]
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


@register(max_pool2d_forward, "numba")
@wraps(max_pool2d_forward.reference, assigned=())
def max_pool2d_forward_numba(x: Array, *how: Any) -> tuple[Array, MaxPoolCache]:
    """max_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, *how)
    if not covered(x) or window.kernel[0] * window.kernel[1] > 256:
        return without_numba(max_pool2d_forward)(x, *how)
    shape = len(x), *window.output_size, x.shape[3]
    y, winner, x = empty(shape, x.dtype), empty(shape, np.uint8), seen(x)

    def work(images: slice) -> None:
        if _is_two_by_two(window) and x.shape[3] >= VECTORS:
            _max_of_four(x[images], y[images], winner[images])
        else:
            _max(x[images], _geometry(window), y[images], winner[images])

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
def _to_winner(dy: Array, winner: Array, geometry: Geometry, dx: Array) -> None:
    """dx = Σ over the windows that a cell won of dy."""
    kernel, stride, dilation, before = geometry
    _, height, width, channels = dx.shape
    dx[:] = 0
    for n in range(dy.shape[0]):
        for a in range(dy.shape[1]):
            for b in range(dy.shape[2]):
                for tap in range(kernel[0] * kernel[1]):
                    row = a * stride[0] + tap // kernel[1] * dilation[0] - before[0]
                    column = b * stride[1] + tap % kernel[1] * dilation[1] - before[1]
                    if 0 <= row < height and 0 <= column < width:
                        for c in range(channels):
                            dx[n, row, column, c] += passed(
                                dy[n, a, b, c], winner[n, a, b, c] == tap
                            )


@register(max_pool2d_backward, "numba")
def max_pool2d_backward_numba(dy: Array, cache: MaxPoolCache) -> Array:
    """max_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    winner, window = cache
    if not covered(dy) or winner.dtype != np.uint8 or not winner.flags.c_contiguous:
        return without_numba(max_pool2d_backward)(dy, cache)
    dx = empty((len(dy), *window.size, dy.shape[3]), dy.dtype)
    dy, winner = seen(dy), seen(winner)

    def work(images: slice) -> None:
        if _is_two_by_two(window):
            _to_one_of_four(dy[images], winner[images], dx[images])
        else:
            _to_winner(dy[images], winner[images], _geometry(window), dx[images])

    over_shares(len(dy), work)
    return dx


def _is_two_by_two(window: Window) -> bool:
    without = window.dilation == (1, 1) and window.padding == ((0, 0), (0, 0))
    return without and window.kernel == window.stride == (2, 2)


def _geometry(window: Window) -> Geometry:
    """The window as the loops take it."""
    before = window.padding[0][0], window.padding[1][0]
    return window.kernel, window.stride, window.dilation, before


@compiled
def _sums(x: Array, geometry: Geometry, shares: Array, y: Array) -> None:
    """y[a, b] = share[a, b] · Σ of the cells under the window, shares (H', W')."""
    kernel, stride, dilation, before = geometry
    _, height, width, channels = x.shape
    for n in range(y.shape[0]):
        for a in range(y.shape[1]):
            for b in range(y.shape[2]):
                total, share = y[n, a, b], shares[a, b]
                total[:] = 0
                for i in range(kernel[0]):
                    for j in range(kernel[1]):
                        row = a * stride[0] + i * dilation[0] - before[0]
                        column = b * stride[1] + j * dilation[1] - before[1]
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(channels):
                                total[c] += x[n, row, column, c]
                for c in range(channels):
                    total[c] *= share


@compiled
def _spread(dy: Array, geometry: Geometry, shares: Array, dx: Array) -> None:
    """dx = Σ over the windows above a cell of share · dy."""
    kernel, stride, dilation, before = geometry
    _, height, width, channels = dx.shape
    dx[:] = 0
    for n in range(dy.shape[0]):
        for a in range(dy.shape[1]):
            for b in range(dy.shape[2]):
                share = shares[a, b]
                for i in range(kernel[0]):
                    for j in range(kernel[1]):
                        row = a * stride[0] + i * dilation[0] - before[0]
                        column = b * stride[1] + j * dilation[1] - before[1]
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(channels):
                                dx[n, row, column, c] += share * dy[n, a, b, c]


def _pooled(x: Array, window: Window, shares: Array) -> Array:
    y = empty((len(x), *window.output_size, x.shape[3]), x.dtype)
    x, geometry = seen(x), _geometry(window)

    def work(images: slice) -> None:
        _sums(x[images], geometry, shares, y[images])

    over_shares(len(x), work)
    return y


def _spread_out(dy: Array, window: Window, shares: Array) -> Array:
    dx = empty((len(dy), *window.size, dy.shape[3]), dy.dtype)
    dy, geometry = seen(dy), _geometry(window)

    def work(images: slice) -> None:
        _spread(dy[images], geometry, shares, dx[images])

    over_shares(len(dy), work)
    return dx


@register(sum_pool2d_forward, "numba")
@wraps(sum_pool2d_forward.reference, assigned=())
def sum_pool2d_forward_numba(x: Array, *how: Any) -> tuple[Array, SumPoolCache]:
    """sum_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, *how)
    if not covered(x):
        return without_numba(sum_pool2d_forward)(x, *how)
    y = _pooled(x, window, np.ones(window.output_size, x.dtype))
    return y, SumPoolCache(window, output_like(y))


@register(sum_pool2d_backward, "numba")
def sum_pool2d_backward_numba(dy: Array, cache: SumPoolCache) -> Array:
    """sum_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    if not covered(dy):
        return without_numba(sum_pool2d_backward)(dy, cache)
    return _spread_out(dy, cache.window, np.ones(cache.window.output_size, dy.dtype))


@register(avg_pool2d_forward, "numba")
@wraps(avg_pool2d_forward.reference, assigned=())
def avg_pool2d_forward_numba(x: Array, *how: Any) -> tuple[Array, AvgPoolCache]:
    """avg_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    if x.ndim != 4 or not covered(x):
        return without_numba(avg_pool2d_forward)(x, *how)
    window, n = averages_over(x, *how)
    y = _pooled(x, window, 1 / n[0, :, :, 0])
    return y, AvgPoolCache(n, window, output_like(y))


@register(avg_pool2d_backward, "numba")
def avg_pool2d_backward_numba(dy: Array, cache: AvgPoolCache) -> Array:
    """avg_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    if not covered(dy) or cache.n.dtype != dy.dtype:
        return without_numba(avg_pool2d_backward)(dy, cache)
    return _spread_out(dy, cache.window, 1 / cache.n[0, :, :, 0])


@compiled
def _means(x: Array, y: Array) -> None:
    """y (n, C): the mean over the cells of x (n, rows, cells · C)."""
    _, rows, width = x.shape
    sums, total = np.zeros(width, x.dtype), np.zeros(y.shape[1])
    for n in range(x.shape[0]):
        total[:] = 0
        for first in range(0, rows, FEW):
            for i in range(first, min(first + FEW, rows)):
                for q in range(width):
                    sums[q] += x[n, i, q]
            fold(sums, total)
        for c in range(y.shape[1]):
            y[n, c] = total[c] * y.shape[1] / (rows * width)


@register(global_avg_pool2d_forward, "numba")
def global_avg_pool2d_forward_numba(x: Array) -> tuple[Array, Shape]:
    """global_avg_pool2d_forward: x (N, H, W, C) -> y (N, C)."""
    if x.ndim != 4 or not covered(x):
        return without_numba(global_avg_pool2d_forward)(x)
    n, height, width, channels = x.shape
    y = empty((n, channels), x.dtype)
    rows = seen(x).reshape(n, -1, channels * cells_in_a_row(height * width, channels))

    over_shares(n, lambda some: _means(rows[some], y[some]))
    return y, x.shape


@compiled
def _to_every_cell(share: Array, dx: Array) -> None:
    """dx (n, cells, C) = share (n, C)."""
    _, cells, channels = dx.shape
    for n in range(dx.shape[0]):
        for i in range(cells):
            for c in range(channels):
                dx[n, i, c] = share[n, c]


@register(global_avg_pool2d_backward, "numba")
def global_avg_pool2d_backward_numba(dy: Array, cache: Shape) -> Array:
    """global_avg_pool2d_backward: dy (N, C) -> dx (N, H, W, C)."""
    if not covered(dy):
        return without_numba(global_avg_pool2d_backward)(dy, cache)
    n, height, width, channels = cache
    dx = empty(cache, dy.dtype)
    share, cells = dy / (height * width), dx.reshape(n, -1, channels)

    def work(images: slice) -> None:
        _to_every_cell(share[images], cells[images])

    over_shares(n, work)
    return dx
