"""Max pooling on blocks of images that stay in the cache; within a block, the reference."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register
from tinynet.kernels.cpu.threads import images_per_block, over_blocks
from tinynet.layers.pooling import (
    MaxPoolCache,
    max_pool2d_backward,
    max_pool2d_forward,
    pool_window,
)
from tinynet.layers.window import Padding, Pair


@register(max_pool2d_forward, "numpy")
def max_pool2d_forward_blocks(
    x: Array, pool_size: int | Pair, stride: int | Pair | None = None, padding: Padding = "valid"
) -> tuple[Array, MaxPoolCache]:
    """max_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, pool_size, stride, padding)
    shape = (x.shape[0], *window.output_size, x.shape[3])
    cells = window.kernel[0] * window.kernel[1]
    y, winner = np.empty(shape, x.dtype), np.empty(shape, np.uint8 if cells <= 256 else np.uint16)

    def work(images: slice) -> None:
        y[images], cache = max_pool2d_forward.reference(x[images], pool_size, stride, padding)
        winner[images] = cache.winner

    over_blocks(x.shape[0], images_per_block(x[:1].nbytes), work)
    return y, MaxPoolCache(winner, window)


@register(max_pool2d_backward, "numpy")
def max_pool2d_backward_blocks(dy: Array, cache: MaxPoolCache) -> Array:
    """max_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    winner, window = cache
    dx = np.empty((dy.shape[0], *window.size, dy.shape[3]), dy.dtype)

    def work(images: slice) -> None:
        part = MaxPoolCache(winner[images], window)
        dx[images] = max_pool2d_backward.reference(dy[images], part)

    over_blocks(dy.shape[0], images_per_block(dx[:1].nbytes), work)
    return dx
