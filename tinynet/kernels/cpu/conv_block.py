"""Convolution, ReLU and pool as one operation: by strips for 3 × 3 filters, else by im2col.

Which way convolves is a small model of what was measured (float32, one core with AVX2, ns for each
number of z, C = K, forward): a plain sum costs 9C multiplications, ``Rows`` half of them and
``Tiles`` a quarter, and their transforms 2 ns and 5 ns. So at 64 channels and more ``Tiles`` wins,
if a strip has enough positions to share the reading of 36 C × K filters; below, ``Rows``; and
with fewer than 8 channels on a side there is next to nothing to save.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array, register
from tinynet.blocks import (
    Conv2DBlockCache,
    Tail,
    conv2d_block_backward,
    conv2d_block_forward,
)
from tinynet.kernels import winograd_switch
from tinynet.kernels.cpu import conv_strips, tails
from tinynet.kernels.cpu.conv import way_for
from tinynet.kernels.cpu.frame import Frame, frame_of
from tinynet.kernels.cpu.planes import MOST_CHANNELS, Planes
from tinynet.kernels.cpu.threads import column_sums, images_per_block, over_blocks
from tinynet.kernels.cpu.winograd_rows import Rows
from tinynet.kernels.cpu.winograd_tiles import Tiles
from tinynet.layers.conv import _check_shapes
from tinynet.layers.window import Padding, Pair, Window, pair, window_over
from tinynet.workspace import empty, empty_like

FEWEST_CHANNELS = 8  # of C and of K, for Winograd's convolution
TILES_CHANNELS = 64  # from here on both ways, if there are so many
TILES_POSITIONS = 128


def strip_way(
    x: Array, w: Array, groups: int, window: Window, need_dx: bool = False
) -> tuple[Any, Frame] | None:
    """(way, frame) for x (N, H, W, C) and w (3, 3, C, K); None if im2col does it."""
    frame = frame_of(window)
    if frame is None or groups != 1:
        return None
    fewer = min(w.shape[2:])
    if w.shape[2] <= MOST_CHANNELS:
        return None if need_dx else (Planes, frame)
    if not winograd_switch.WINOGRAD or x.dtype != np.float32 or fewer < FEWEST_CHANNELS:
        return None
    enough = len(x) * frame.tiles * frame.across >= TILES_POSITIONS
    return (Tiles if fewer >= TILES_CHANNELS and enough else Rows), frame


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
