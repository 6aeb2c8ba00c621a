"""Pooling on blocks of images that stay in the cache.

Max-pool takes the maximum first and looks for the winner afterwards, counting the taps before the
first that equals it: three times as fast as the reference, which keeps both at every tap.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np

from tinynet.backend import Array, output_like, register
from tinynet.engine.memory import empty
from tinynet.engine.threads import images_per_block, over_blocks
from tinynet.layer import Shape
from tinynet.layers.pooling import (
    AvgPoolCache,
    MaxPoolCache,
    SumPoolCache,
    averages_over,
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    pool_window,
    sum_pool2d_backward,
    sum_pool2d_forward,
)
from tinynet.layers.window import Window


@register(max_pool2d_forward, "numpy")
@wraps(max_pool2d_forward.reference, assigned=())
def max_pool2d_forward_numpy(x: Array, *how: Any) -> tuple[Array, MaxPoolCache]:
    """max_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, *how)
    shape = (x.shape[0], *window.output_size, x.shape[3])
    cells = window.kernel[0] * window.kernel[1]
    y, winner = np.empty(shape, x.dtype), np.empty(shape, np.uint8 if cells <= 256 else np.uint16)

    inside = window.inside(like=x)
    all_real = bool(inside.all())  # no padding, which spares a sweep a tap
    real = [inside[cells] for _, _, cells in window.taps()]

    def work(images: slice) -> None:
        p = window.pad(x[images], value=-np.inf)
        taps = [p[cells] for _, _, cells in window.taps()]
        best, number = y[images], winner[images]
        np.copyto(best, taps[0])
        for tap in taps[1:]:
            np.maximum(best, tap, out=best)
        number[...] = 0
        found = taps[0] == best
        if not all_real:
            found &= real[0]
        for tap, tap_real in zip(taps[1:], real[1:], strict=True):
            number += ~found
            equal = tap == best
            found |= equal if all_real else equal & tap_real
        if not found.all():  # a NaN equals nothing
            best[...], cache = max_pool2d_forward.reference(x[images], *how)
            number[...] = cache.winner

    over_blocks(x.shape[0], images_per_block(x[:1].nbytes), work)
    return y, MaxPoolCache(winner, window)


@register(max_pool2d_backward, "numpy")
def max_pool2d_backward_numpy(dy: Array, cache: MaxPoolCache) -> Array:
    """max_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    winner, window = cache
    dx = np.empty((dy.shape[0], *window.size, dy.shape[3]), dy.dtype)

    def work(images: slice) -> None:
        part = MaxPoolCache(winner[images], window)
        dx[images] = max_pool2d_backward.reference(dy[images], part)

    over_blocks(dy.shape[0], images_per_block(dx[:1].nbytes), work)
    return dx


@register(sum_pool2d_forward, "numpy")
@wraps(sum_pool2d_forward.reference, assigned=())
def sum_pool2d_forward_numpy(x: Array, *how: Any) -> tuple[Array, SumPoolCache]:
    """sum_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, *how)
    if x.dtype.kind != "f":
        return sum_pool2d_forward.reference(x, *how)
    y = _sums(x, window, None)
    return y, SumPoolCache(window, output_like(y))


@register(sum_pool2d_backward, "numpy")
def sum_pool2d_backward_numpy(dy: Array, cache: SumPoolCache) -> Array:
    """sum_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    if dy.dtype.kind != "f":
        return sum_pool2d_backward.reference(dy, cache)
    return _spread(dy, cache.window, None)


@register(avg_pool2d_forward, "numpy")
@wraps(avg_pool2d_forward.reference, assigned=())
def avg_pool2d_forward_numpy(x: Array, *how: Any) -> tuple[Array, AvgPoolCache]:
    """avg_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    if x.dtype.kind != "f":
        return avg_pool2d_forward.reference(x, *how)
    window, n = averages_over(x, *how)
    y = _sums(x, window, n)
    return y, AvgPoolCache(n, window, output_like(y))


@register(avg_pool2d_backward, "numpy")
def avg_pool2d_backward_numpy(dy: Array, cache: AvgPoolCache) -> Array:
    """avg_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    if dy.dtype.kind != "f":
        return avg_pool2d_backward.reference(dy, cache)
    return _spread(dy, cache.window, cache.n)


@register(global_avg_pool2d_forward, "numpy")
def global_avg_pool2d_forward_numpy(x: Array) -> tuple[Array, Shape]:
    """global_avg_pool2d_forward: x (N, H, W, C) -> y (N, C), as a row of ones times each image."""
    if x.dtype.kind != "f":
        return global_avg_pool2d_forward.reference(x)
    n, height, width, channels = x.shape
    rows = np.ascontiguousarray(x).reshape(n, height * width, channels)
    y = np.matmul(np.ones((1, height * width), x.dtype), rows)[:, 0]
    y /= height * width
    return y, x.shape


def _sums(x: Array, window: Window, divisor: Array | None) -> Array:
    """Σ over the taps, over ``divisor`` (1, H', W', 1)."""
    y = empty((len(x), *window.output_size, x.shape[3]), x.dtype)

    def work(images: slice) -> None:
        p, out = window.pad(x[images]), y[images]
        taps = [p[cells] for _, _, cells in window.taps()]
        np.copyto(out, taps[0])
        for tap in taps[1:]:
            out += tap
        if divisor is not None:
            out /= divisor

    over_blocks(len(x), images_per_block(x[:1].nbytes), work)
    return y


def _spread(dy: Array, window: Window, divisor: Array | None) -> Array:
    """Each window's gradient, over ``divisor``, added to the cells under it."""
    dx = empty((len(dy), *window.size, dy.shape[3]), dy.dtype)

    def work(images: slice) -> None:
        share = dy[images] if divisor is None else dy[images] / divisor
        dp = window.padded_zeros(like=share)
        for _, _, cells in window.taps():
            dp[cells] += share
        dx[images] = window.crop(dp)

    over_blocks(len(dy), images_per_block(dx[:1].nbytes), work)
    return dx
