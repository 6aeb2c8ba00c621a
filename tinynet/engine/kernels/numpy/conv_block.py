"""Convolution, ReLU and pool as one operation, strip by strip or block of images by block."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register
from tinynet.engine.kernels.numpy import conv_strips, tails
from tinynet.engine.kernels.numpy.conv_ways import strip_way, way_for
from tinynet.engine.memory import empty, empty_like
from tinynet.engine.plan.epilogues import (
    Conv2DBlockCache,
    Tail,
    conv2d_block_backward,
    conv2d_block_forward,
)
from tinynet.engine.threads import column_sums, images_per_block, over_blocks
from tinynet.layers.conv import _check_shapes
from tinynet.layers.window import Padding, Pair, Window, pair, window_over


@register(conv2d_block_forward, "numpy")
def conv2d_block_forward_strips(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
    tail: str = "none",
) -> tuple[Array, Conv2DBlockCache]:
    """conv2d_block_forward: x (N, H, W, C), w (kh, kw, C / groups, K) -> y."""
    _check_shapes(x, w, groups)
    if x.dtype != w.dtype or not len(x):
        return conv2d_block_forward.reference(x, w, b, stride, padding, dilation, groups, tail)
    window = window_over(
        x.shape[1:3], w.shape[:2], pair(stride, "stride"), padding, pair(dilation, "dilation")
    )
    chosen = strip_way(x, w, groups, window)
    if chosen is not None:
        y, kept = conv_strips.forward(*chosen, x, w, b, tail)
    else:
        y, kept = _forward(x, w, b, groups, window, tail)
    return y, Conv2DBlockCache(x, w, window, groups, b is not None, kept)


@register(conv2d_block_backward, "numpy")
def conv2d_block_backward_strips(
    dy: Array, cache: Conv2DBlockCache, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """conv2d_block_backward: dy -> dx or None, dw, db or None."""
    x, w, window, groups, has_bias, tail = cache
    if not x.dtype == w.dtype == dy.dtype or not len(x):
        return conv2d_block_backward.reference(dy, cache, need_dx)
    chosen = strip_way(x, w, groups, window, need_dx)
    if chosen is not None:
        dx, dw, db = conv_strips.backward(*chosen, dy, x, w, tail, need_dx)
    else:
        dx, dw, db = _backward(dy, x, w, groups, window, tail, need_dx)
    return dx, dw, db if has_bias else None


def _forward(
    x: Array, w: Array, b: Array | None, groups: int, window: Window, tail: str
) -> tuple[Array, Tail]:
    """y and its tail for any geometry, a block of images after the other."""
    y, kept = tails.empty_output(len(x), window.output_size, w.shape[3], tail, x.dtype)
    way = way_for(w, groups)

    def work(images: slice) -> None:
        z = way.product(np.ascontiguousarray(window.pad(x[images])), w, b, window)
        tails.finish(z, y, kept, images, 0)

    over_blocks(len(x), images_per_block(x[:1].nbytes), work)
    return y, kept


def _backward(
    dy: Array, x: Array, w: Array, groups: int, window: Window, tail: Tail, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """dx (or None), dw and db for any geometry."""
    way = way_for(w, groups)
    dx = empty_like(x) if need_dx else None

    def work(images: slice) -> tuple[Array, Array]:
        dz = empty((len(x[images]), *window.output_size, w.shape[3]), dy.dtype)
        tails.gradient(dz, dy, tail, images, 0)
        p = np.ascontiguousarray(window.pad(x[images]))
        dw = way.weight_gradient(dz, p, w, window)
        if dx is not None:
            dx[images] = way.input_gradient(dz, w, window, x.shape[3])
        return dw, column_sums(dz)

    shares = max(conv_strips.LEAST_SHARES, conv_strips.SUMS_BYTES // w.nbytes)
    per_block = max(images_per_block(x[:1].nbytes), -(-len(x) // min(shares, conv_strips.SHARES)))
    parts = over_blocks(len(x), per_block, work)
    return dx, sum(dw for dw, _ in parts), sum(db for _, db in parts)  # type: ignore[return-value]
