"""Sum, average and global average pooling: one pass over the input, none over a padded copy."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, array_module, register, without_fast
from tinynet.engine.kernels.numba.arrays import cells_in_a_row, covered, seen
from tinynet.engine.kernels.numba.channel_sums import FEW, fold
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.memory import empty
from tinynet.engine.threads import over_shares
from tinynet.layer import Shape
from tinynet.layers.pooling import (
    AvgPoolCache,
    SumPoolCache,
    _sum_under,
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_backward,
    global_avg_pool2d_forward,
    pool_window,
    sum_pool2d_backward,
    sum_pool2d_forward,
)
from tinynet.layers.window import Padding, Pair, Window


@compiled
def _sums(x: Array, kernel: Pair, stride: Pair, before: Pair, shares: Array, y: Array) -> None:
    """y[a, b] = share[a, b] · Σ of the cells under the window, shares (H', W')."""
    _, height, width, channels = x.shape
    for n in range(y.shape[0]):
        for a in range(y.shape[1]):
            for b in range(y.shape[2]):
                total, share = y[n, a, b], shares[a, b]
                total[:] = 0
                for i in range(kernel[0]):
                    for j in range(kernel[1]):
                        row = a * stride[0] + i - before[0]
                        column = b * stride[1] + j - before[1]
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(channels):
                                total[c] += x[n, row, column, c]
                for c in range(channels):
                    total[c] *= share


@compiled
def _spread(dy: Array, kernel: Pair, stride: Pair, before: Pair, shares: Array, dx: Array) -> None:
    """dx = Σ over the windows above a cell of share · dy."""
    _, height, width, channels = dx.shape
    dx[:] = 0
    for n in range(dy.shape[0]):
        for a in range(dy.shape[1]):
            for b in range(dy.shape[2]):
                share = shares[a, b]
                for i in range(kernel[0]):
                    for j in range(kernel[1]):
                        row = a * stride[0] + i - before[0]
                        column = b * stride[1] + j - before[1]
                        if 0 <= row < height and 0 <= column < width:
                            for c in range(channels):
                                dx[n, row, column, c] += share * dy[n, a, b, c]


def _pooled(x: Array, window: Window, shares: Array) -> Array:
    y = empty((len(x), *window.output_size, x.shape[3]), x.dtype)
    x, before = seen(x), (window.padding[0][0], window.padding[1][0])

    def work(images: slice) -> None:
        _sums(x[images], window.kernel, window.stride, before, shares, y[images])

    over_shares(len(x), work)
    return y


def _spread_out(dy: Array, window: Window, shares: Array) -> Array:
    dx = empty((len(dy), *window.size, dy.shape[3]), dy.dtype)
    dy, before = seen(dy), (window.padding[0][0], window.padding[1][0])

    def work(images: slice) -> None:
        _spread(dy[images], window.kernel, window.stride, before, shares, dx[images])

    over_shares(len(dy), work)
    return dx


@register(sum_pool2d_forward, "fast")
def sum_pool2d_forward_compiled(
    x: Array, pool_size: int | Pair, stride: int | Pair | None = None, padding: Padding = "valid"
) -> tuple[Array, SumPoolCache]:
    """sum_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, pool_size, stride, padding)
    if not covered(x):
        return without_fast(sum_pool2d_forward)(x, pool_size, stride, padding)
    return _pooled(x, window, np.ones(window.output_size, x.dtype)), SumPoolCache(window)


@register(sum_pool2d_backward, "fast")
def sum_pool2d_backward_compiled(dy: Array, cache: SumPoolCache) -> Array:
    """sum_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    if not covered(dy):
        return without_fast(sum_pool2d_backward)(dy, cache)
    return _spread_out(dy, cache.window, np.ones(cache.window.output_size, dy.dtype))


@register(avg_pool2d_forward, "fast")
def avg_pool2d_forward_compiled(
    x: Array,
    pool_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = "valid",
    count_padding: bool = False,
) -> tuple[Array, AvgPoolCache]:
    """avg_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, pool_size, stride, padding)
    if not covered(x):
        return without_fast(avg_pool2d_forward)(x, pool_size, stride, padding, count_padding)
    inside = window.inside(like=x).astype(x.dtype)
    n = _sum_under(window, array_module(x).ones_like(inside) if count_padding else inside)
    return _pooled(x, window, 1 / n[0, :, :, 0]), AvgPoolCache(n, window)


@register(avg_pool2d_backward, "fast")
def avg_pool2d_backward_compiled(dy: Array, cache: AvgPoolCache) -> Array:
    """avg_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    if not covered(dy) or cache.n.dtype != dy.dtype:
        return without_fast(avg_pool2d_backward)(dy, cache)
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


@register(global_avg_pool2d_forward, "fast")
def global_avg_pool2d_forward_compiled(x: Array) -> tuple[Array, Shape]:
    """global_avg_pool2d_forward: x (N, H, W, C) -> y (N, C)."""
    if x.ndim != 4 or not covered(x):
        return without_fast(global_avg_pool2d_forward)(x)
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


@register(global_avg_pool2d_backward, "fast")
def global_avg_pool2d_backward_compiled(dy: Array, cache: Shape) -> Array:
    """global_avg_pool2d_backward: dy (N, C) -> dx (N, H, W, C)."""
    if not covered(dy):
        return without_fast(global_avg_pool2d_backward)(dy, cache)
    n, height, width, channels = cache
    dx = empty(cache, dy.dtype)
    share, cells = dy / (height * width), dx.reshape(n, -1, channels)

    def work(images: slice) -> None:
        _to_every_cell(share[images], cells[images])

    over_shares(n, work)
    return dx
