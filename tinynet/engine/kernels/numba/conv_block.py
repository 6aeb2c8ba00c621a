"""Convolutions, compiled: by Winograd where that fits, else by im2col; depthwise ones by sums."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register, without_fast
from tinynet.engine.kernels.numba import conv_by_im2col, conv_by_winograd, depthwise
from tinynet.engine.kernels.numba.shares import FLOAT
from tinynet.engine.plan.epilogues import (
    Conv2DBlockCache,
    Tail,
    conv2d_block_backward,
    conv2d_block_forward,
    tail_backward,
    tail_forward,
)
from tinynet.engine.threads import column_sums
from tinynet.layers.conv import Conv2DCache, _check_shapes, conv2d_backward, conv2d_forward
from tinynet.layers.window import Padding, Pair, Window, pair, window_over


def covers(x: Array, w: Array, groups: int) -> bool:
    """Whether the functions here convolve x with w."""
    one_filter_a_channel = groups == x.shape[3] == w.shape[3]
    return bool(x.dtype == w.dtype == FLOAT and len(x) and (groups == 1 or one_filter_a_channel))


def is_depthwise(x: Array, w: Array) -> bool:
    """Whether each filter sees one channel of several."""
    return w.shape[2] == 1 and x.shape[3] > 1


@register(conv2d_block_forward, "fast")
def conv2d_block_forward_compiled(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
    tail: str = "none",
) -> tuple[Array, Conv2DBlockCache]:
    """conv2d_block_forward: x (N, H, W, C), w (kh, kw, C, K) -> y."""
    _check_shapes(x, w, groups)
    if not covers(x, w, groups):
        return without_fast(conv2d_block_forward)(x, w, b, stride, padding, dilation, groups, tail)
    window = window_over(
        x.shape[1:3], w.shape[:2], pair(stride, "stride"), padding, pair(dilation, "dilation")
    )
    x = np.ascontiguousarray(x)
    y, kept = convolve(x, w, b, window, tail)
    return y, Conv2DBlockCache(x, w, window, groups, b is not None, kept)


@register(conv2d_block_backward, "fast")
def conv2d_block_backward_compiled(
    dy: Array, cache: Conv2DBlockCache, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """conv2d_block_backward: dy (the shape of y) -> dx, dw, db."""
    x, w, window, groups, has_bias, tail = cache
    if not covers(x, w, groups) or dy.dtype != FLOAT:
        return without_fast(conv2d_block_backward)(dy, cache, need_dx)
    dx, dw, db = gradients(dy, x, w, window, tail, need_dx)
    return dx, dw, db if has_bias else None


@register(conv2d_forward, "fast")
def conv2d_forward_compiled(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Array, Conv2DCache]:
    """conv2d_forward: x (N, H, W, C), w (kh, kw, C, K) -> z (N, H', W', K)."""
    _check_shapes(x, w, groups)
    if not covers(x, w, groups):
        return without_fast(conv2d_forward)(x, w, b, stride, padding, dilation, groups)
    window = window_over(
        x.shape[1:3], w.shape[:2], pair(stride, "stride"), padding, pair(dilation, "dilation")
    )
    p = np.ascontiguousarray(window.pad(x))
    z, _ = convolve(p, w, b, window.over_padded(), "none")
    return z, Conv2DCache(p, w, window, groups, b is not None)


@register(conv2d_backward, "fast")
def conv2d_backward_compiled(dz: Array, cache: Conv2DCache) -> tuple[Array, Array, Array | None]:
    """conv2d_backward: dz (N, H', W', K) -> dx, dw, db."""
    p, w, window, groups, has_bias = cache
    if not covers(p, w, groups) or dz.dtype != FLOAT:
        return without_fast(conv2d_backward)(dz, cache)
    no_tail = Tail("none", None, None, window.output_size)
    dp, dw, db = gradients(dz, p, w, window.over_padded(), no_tail, True)
    assert dp is not None
    return window.crop(dp), dw, db if has_bias else None


def convolve(x: Array, w: Array, b: Array | None, window: Window, tail: str) -> tuple[Array, Tail]:
    """Y and what the tail keeps, by whichever way fits."""
    if is_depthwise(x, w):
        return tail_forward(depthwise.product(window.pad(x), w, b, window), tail)
    if conv_by_winograd.fits(w, window, tail):
        y, winner = conv_by_winograd.forward(x, w, b, window, tail)
        return y, Tail(tail, y if tail == "relu" else None, winner, window.output_size)
    if tail == "relu":
        y = conv_by_im2col.forward(x, w, b, window, tail)
        return y, Tail(tail, y, None, window.output_size)
    return tail_forward(conv_by_im2col.forward(x, w, b, window, "none"), tail)


def gradients(
    dy: Array, x: Array, w: Array, window: Window, tail: Tail, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """Dx or None, dw, db."""
    dy, x = np.ascontiguousarray(dy), np.ascontiguousarray(x)
    if is_depthwise(x, w):
        dz = np.ascontiguousarray(tail_backward(dy, tail))
        dw = depthwise.weight_gradient(dz, window.pad(x), w, window)
        dx = depthwise.input_gradient(dz, w, window, x.shape[3]) if need_dx else None
        return dx, dw, column_sums(dz)
    if conv_by_winograd.fits(w, window, tail.kind):
        return conv_by_winograd.backward(dy, x, w, window, tail, need_dx)
    if tail.kind == "relu_pool":
        dy = np.ascontiguousarray(tail_backward(dy, tail))
        tail = Tail("none", None, None, tail.size)
    return conv_by_im2col.backward(dy, x, w, window, tail, need_dx)
