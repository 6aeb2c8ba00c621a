"""Convolutions of CuPy's arrays: what starts ``conv.cu``, or where it can ``tensor_conv.cu``."""

from __future__ import annotations

from typing import cast

import numpy as np

from tinynet.backend import Array, load_library, register
from tinynet.engine.kernels.cuda import few_channels, tensor_conv
from tinynet.engine.kernels.cuda.channel_sums import channel_sums
from tinynet.engine.kernels.cuda.launch import plain
from tinynet.engine.kernels.cuda.source import Definitions, function, kinds
from tinynet.engine.kernels.cuda.tails import tail_backward_cuda, tail_forward_cuda
from tinynet.engine.plan.epilogues import (
    Conv2DBlockCache,
    Tail,
    conv2d_block_backward,
    conv2d_block_forward,
)
from tinynet.layers.conv import Conv2DCache, _check_shapes, conv2d_backward, conv2d_forward
from tinynet.layers.window import Padding, Pair, Window, pair, window_over

SIDE = 16  # a block has SIDE × SIDE threads
EACH = 4  # a thread makes EACH × EACH numbers of a product
PART = 4096  # window positions in a partial sum of a weight gradient, at least
MOST_PARTS = 64
FEW_TAPS = 16  # taps and channels


def covers(x: Array, w: Array) -> bool:
    """Whether the kernels here convolve x with w."""
    return kinds(x, w) is not None and x.size > 0


@register(conv2d_block_forward, "cupy")
def conv2d_block_forward_cuda(
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
    if not covers(x, w):
        more = stride, padding, dilation, groups, tail
        return conv2d_block_forward.reference(x, w, b, *more)
    window = window_over(
        x.shape[1:3], w.shape[:2], pair(stride, "stride"), padding, pair(dilation, "dilation")
    )
    pools = tail == "relu_pool" and min(window.output_size) >= 2
    pools = pools and not by_few_channels(x, w, window, groups)
    if tail == "relu":
        y = convolve(x, w, b, window, groups, relu=True)
        kept = Tail(tail, y, None, window.output_size)
    elif pools and tensor_conv.covers(x, w, window, groups):
        y, winner = tensor_conv.convolve(x, w, b, window, pool=True)
        kept = Tail(tail, None, winner, window.output_size)
    else:
        y, kept = tail_forward_cuda(convolve(x, w, b, window, groups), tail)
    return y, Conv2DBlockCache(x, w, window, groups, b is not None, kept)


@register(conv2d_block_backward, "cupy")
def conv2d_block_backward_cuda(
    dy: Array, cache: Conv2DBlockCache, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """conv2d_block_backward: dy (the shape of y) -> dx, dw, db."""
    x, w, window, groups, has_bias, tail = cache
    if not covers(x, w) or dy.dtype != x.dtype:
        return conv2d_block_backward.reference(dy, cache, need_dx)
    dz = tail_backward_cuda(dy, tail)
    dw = weight_gradient(dz, x, w, window, groups)
    dx = input_gradient(dz, x, w, window, groups) if need_dx else None
    return dx, dw, channel_sums(dz) if has_bias else None


@register(conv2d_forward, "cupy")
def conv2d_forward_cuda(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Array, Conv2DCache]:
    """conv2d_forward: x (N, H, W, C), w (kh, kw, C / groups, K) -> z (N, H', W', K)."""
    _check_shapes(x, w, groups)
    if not covers(x, w):
        return conv2d_forward.reference(x, w, b, stride, padding, dilation, groups)
    window = window_over(
        x.shape[1:3], w.shape[:2], pair(stride, "stride"), padding, pair(dilation, "dilation")
    )
    p = window.pad(x)  # what the cache holds
    z = convolve(p, w, b, window.over_padded(), groups)
    return z, Conv2DCache(p, w, window, groups, b is not None)


@register(conv2d_backward, "cupy")
def conv2d_backward_cuda(dz: Array, cache: Conv2DCache) -> tuple[Array, Array, Array | None]:
    """conv2d_backward: dz (N, H', W', K) -> dx, dw, db."""
    p, w, window, groups, has_bias = cache
    if not covers(p, w) or dz.dtype != p.dtype:
        return conv2d_backward.reference(dz, cache)
    padded = window.over_padded()
    dw = weight_gradient(dz, p, w, padded, groups)
    dx = window.crop(input_gradient(dz, p, w, padded, groups))
    return dx, dw, channel_sums(dz) if has_bias else None


def convolve(
    x: Array, w: Array, b: Array | None, window: Window, groups: int, relu: bool = False
) -> Array:
    """z (N, H', W', K) = x * w + b, or max{z, 0}."""
    if by_few_channels(x, w, window, groups):
        return few_channels.convolve(x, w, b, window, relu)
    if tensor_conv.covers(x, w, window, groups):
        return cast(Array, tensor_conv.convolve(x, w, b, window, relu))
    xp, n, filters = load_library("cupy"), len(x), w.shape[3]
    z = xp.empty((n, *window.output_size, filters), x.dtype)
    given = definitions(x, w, window, groups, has_bias=b is not None, relu=relu)
    kernel = function("conv", "conv2d_forward", given)
    grid = tiles(z[..., 0].size), tiles(filters // groups), groups
    x, w = plain(x), plain(w)
    kernel(grid, (SIDE, SIDE), (x, w, w if b is None else plain(b), z, np.int32(n)))
    return z


def by_few_channels(x: Array, w: Array, window: Window, groups: int) -> bool:
    """Whether ``few_channels.cu`` makes z and dw: for few taps, or where there are no tensor cores.

    For 16 taps and more a thread reads more numbers from shared memory than it writes.
    """
    if not few_channels.covers(x, w, groups):
        return False
    return w[..., 0].size <= FEW_TAPS or not tensor_conv.covers(x, w, window, groups)


def input_gradient(dz: Array, x: Array, w: Array, window: Window, groups: int) -> Array:
    """dx (the shape of x)."""
    if tensor_conv.covers_input_gradient(x, w, window, groups):
        return tensor_conv.input_gradient(dz, x, w, window)
    xp, n, channels = load_library("cupy"), len(x), x.shape[3]
    dx = xp.empty(x.shape, x.dtype)
    kernel = function("conv", "conv2d_input_gradient", definitions(x, w, window, groups))
    grid = tiles(x[..., 0].size), tiles(channels // groups), groups
    kernel(grid, (SIDE, SIDE), (plain(dz), plain(w), dx, np.int32(n)))
    return dx


def weight_gradient(dz: Array, x: Array, w: Array, window: Window, groups: int) -> Array:
    """dw (the shape of w); partial sums are added in their order: its bits are always the same."""
    if by_few_channels(x, w, window, groups):
        return few_channels.weight_gradient(dz, x, w, window)
    if tensor_conv.covers(x, w, window, groups):
        return tensor_conv.weight_gradient(dz, x, w, window)
    xp, n, filters = load_library("cupy"), len(x), w.shape[3]
    parts = min(MOST_PARTS, -(-dz[..., 0].size // PART))
    dw = xp.empty((parts, *w.shape), w.dtype)
    kernel = function("conv", "conv2d_weight_gradient", definitions(x, w, window, groups))
    grid = tiles(w[..., 0].size), tiles(filters // groups), groups * parts
    kernel(grid, (SIDE, SIDE), (plain(x), plain(dz), dw, np.int32(n), np.int32(parts)))
    return dw[0] if parts == 1 else dw.sum(axis=0)


def definitions(
    x: Array, w: Array, window: Window, groups: int, has_bias: bool = False, relu: bool = False
) -> Definitions:
    """The geometry, as ``conv.cu`` asks for it."""
    (height, width), (out_h, out_w) = window.size, window.output_size
    (top, _), (left, _) = window.padding
    return (
        *(kinds(x, w) or ()),
        ("SIDE", SIDE),
        ("N_CHANNELS", w.shape[2]),
        ("N_FILTERS", w.shape[3] // groups),
        ("GROUPS", groups),
        *(("HEIGHT", height), ("WIDTH", width), ("OUT_H", out_h), ("OUT_W", out_w)),
        *(("KERNEL_H", window.kernel[0]), ("KERNEL_W", window.kernel[1])),
        *(("STRIDE_H", window.stride[0]), ("STRIDE_W", window.stride[1])),
        *(("DILATION_H", window.dilation[0]), ("DILATION_W", window.dilation[1])),
        *(("TOP", top), ("LEFT", left), ("HAS_BIAS", int(has_bias)), ("RELU", int(relu))),
    )


def tiles(length: int) -> int:
    """How many tiles cover so many rows or columns."""
    return -(-length // (EACH * SIDE))
