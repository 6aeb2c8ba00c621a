"""Sum and average pooling on blocks of images that stay in the cache."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register
from tinynet.engine.memory import empty
from tinynet.engine.threads import images_per_block, over_blocks
from tinynet.layer import Shape
from tinynet.layers.pooling import (
    AvgPoolCache,
    SumPoolCache,
    _sum_under,
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_forward,
    pool_window,
    sum_pool2d_backward,
    sum_pool2d_forward,
)
from tinynet.layers.window import Padding, Pair, Window


@register(sum_pool2d_forward, "numpy")
def sum_pool2d_forward_blocks(
    x: Array, pool_size: int | Pair, stride: int | Pair | None = None, padding: Padding = "valid"
) -> tuple[Array, SumPoolCache]:
    """sum_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, pool_size, stride, padding)
    if x.dtype.kind != "f":
        return sum_pool2d_forward.reference(x, pool_size, stride, padding)
    return _sums(x, window, None), SumPoolCache(window)


@register(sum_pool2d_backward, "numpy")
def sum_pool2d_backward_blocks(dy: Array, cache: SumPoolCache) -> Array:
    """sum_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    if dy.dtype.kind != "f":
        return sum_pool2d_backward.reference(dy, cache)
    return _spread(dy, cache.window, None)


@register(avg_pool2d_forward, "numpy")
def avg_pool2d_forward_blocks(
    x: Array,
    pool_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = "valid",
    count_padding: bool = False,
) -> tuple[Array, AvgPoolCache]:
    """avg_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, pool_size, stride, padding)
    if x.dtype.kind != "f":
        return avg_pool2d_forward.reference(x, pool_size, stride, padding, count_padding)
    inside = window.inside(like=x).astype(x.dtype)
    n = _sum_under(window, np.ones_like(inside) if count_padding else inside)
    return _sums(x, window, n), AvgPoolCache(n, window)


@register(avg_pool2d_backward, "numpy")
def avg_pool2d_backward_blocks(dy: Array, cache: AvgPoolCache) -> Array:
    """avg_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    if dy.dtype.kind != "f":
        return avg_pool2d_backward.reference(dy, cache)
    return _spread(dy, cache.window, cache.n)


@register(global_avg_pool2d_forward, "numpy")
def global_avg_pool2d_forward_products(x: Array) -> tuple[Array, Shape]:
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
