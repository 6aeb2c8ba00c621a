"""Convolutions of CuPy's arrays with their epilogues: launchers of ``conv.cu``, and the choice."""

from __future__ import annotations

from typing import cast

import numpy as np

from tinynet.backend import Array, load_library
from tinynet.engine.kernels.cuda import few_channels, tensor_conv
from tinynet.engine.kernels.cuda.columns import channel_sums
from tinynet.engine.kernels.cuda.epilogues import epilogue_backward_cuda, epilogue_forward_cuda
from tinynet.engine.kernels.cuda.launch import contiguous
from tinynet.engine.kernels.cuda.source import Definitions, dtype_macros, function, window_macros
from tinynet.engine.plan.epilogues import (
    EpilogueCache,
    FusedCache,
    conv2d_fused_backward,
    conv2d_fused_forward,
    register_fused,
)
from tinynet.layers.conv import Conv2DCache, conv_window
from tinynet.layers.window import Padding, Pair, Window

SIDE = 16  # a block has SIDE × SIDE threads
EACH = 4  # a thread makes EACH × EACH numbers of a product
PART = 4096  # window positions in a partial sum of a weight gradient, at least
MOST_PARTS = 64
FEW_TAPS = 16  # taps and channels


def covers(x: Array, w: Array) -> bool:
    """Return True if the kernels here convolve x with w."""
    return dtype_macros(x, w) is not None and x.size > 0


@register_fused(conv2d_fused_forward, "cuda")
def conv2d_forward_cuda(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
    epilogue: str = "none",
) -> tuple[Array, FusedCache]:
    """conv2d_fused_forward: x (N, H, W, C), w (kh, kw, C / groups, K) -> y."""
    window = conv_window(x, w, b, stride, padding, dilation, groups)
    if not covers(x, w) or (b is not None and b.dtype != w.dtype):
        more = stride, padding, dilation, groups, epilogue
        return conv2d_fused_forward.reference(x, w, b, *more)
    pools = epilogue == "relu_pool" and min(window.output_size) >= 2
    pools = pools and not by_few_channels(x, w, window, groups)
    if epilogue == "relu":
        y = convolve(x, w, b, window, groups, relu=True)
        kept = EpilogueCache(epilogue, y)
    elif pools and tensor_conv.covers(x, w, window, groups):
        y, winner = tensor_conv.convolve(x, w, b, window, pool=True)
        kept = EpilogueCache(epilogue, None, winner, window.output_size)
    else:
        y, kept = epilogue_forward_cuda(convolve(x, w, b, window, groups), epilogue)
    return y, FusedCache(Conv2DCache(x, w, window, groups, b is not None), kept)


@register_fused(conv2d_fused_backward, "cuda")
def conv2d_backward_cuda(
    dy: Array, cache: FusedCache, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """conv2d_fused_backward: dy (the shape of y) -> dx, dw, db."""
    (x, w, window, groups, has_bias), epilogue = cache
    if not covers(x, w) or dy.dtype != x.dtype:
        return conv2d_fused_backward.reference(dy, cache, need_dx)
    dz = epilogue_backward_cuda(dy, epilogue)
    dw = weight_gradient(dz, x, w, window, groups)
    dx = input_gradient(dz, x, w, window, groups) if need_dx else None
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
    x, w = contiguous(x), contiguous(w)
    kernel(grid, (SIDE, SIDE), (x, w, w if b is None else contiguous(b), z, np.int32(n)))
    return z


def by_few_channels(x: Array, w: Array, window: Window, groups: int) -> bool:
    """Return True if ``few_channels.cu`` makes z and dw: few taps, or no tensor cores for x and w.

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
    kernel(grid, (SIDE, SIDE), (contiguous(dz), contiguous(w), dx, np.int32(n)))
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
    kernel(grid, (SIDE, SIDE), (contiguous(x), contiguous(dz), dw, np.int32(n), np.int32(parts)))
    return dw[0] if parts == 1 else dw.sum(axis=0)


def definitions(
    x: Array, w: Array, window: Window, groups: int, has_bias: bool = False, relu: bool = False
) -> Definitions:
    """The macros of ``conv.cu``."""
    return (
        *(dtype_macros(x, w) or ()),
        ("SIDE", SIDE),
        ("N_CHANNELS", w.shape[2]),
        ("N_FILTERS", w.shape[3] // groups),
        ("GROUPS", groups),
        *window_macros(window),
        *(("HAS_BIAS", int(has_bias)), ("RELU", int(relu))),
    )


def tiles(length: int) -> int:
    """Return the number of tiles that cover ``length`` rows or columns."""
    return -(-length // (EACH * SIDE))
