"""Convolution with its epilogue: strip by strip for 3 × 3 filters, else some images at a time.

3 × 3 filters at stride 1 go by strips, with one of three classes that hold a strip's memory and
the steps on it: ``WinogradRows``, ``WinogradTiles`` or ``FewChannels``. Everything else goes by
one of three modules, with ``product``, ``weight_gradient`` and ``input_gradient`` each:
``im2col``, ``grouped`` or ``depthwise``.

The choice follows a small model of what was measured (float32, one core with AVX2, ns for each
number of z, C = K, forward): a plain sum takes 9C multiplications and additions, 0.23 C ns;
``WinogradRows`` half of them and 2 ns for its transforms; ``WinogradTiles`` a quarter and 5 ns. So
at 64 channels and more the tiles win, if there are positions enough to share the reading of their
36 C × K filters; below, the rows. With fewer than 8 channels on a side there is little to save.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.engine.kernels.numpy import depthwise, epilogues, grouped, im2col, winograd
from tinynet.engine.kernels.numpy.few_channels import MOST_CHANNELS, FewChannels
from tinynet.engine.kernels.numpy.strips import (
    MARGIN,
    TILE,
    Frame,
    Strip,
    fill,
    frame_of,
    rows_inside,
    strips,
)
from tinynet.engine.kernels.numpy.winograd import WinogradRows, WinogradTiles
from tinynet.engine.memory import empty, empty_like
from tinynet.engine.plan.epilogues import (
    EpilogueCache,
    FusedCache,
    conv2d_fused_backward,
    conv2d_fused_forward,
    register_fused,
)
from tinynet.engine.threads import column_sums, images_per_block, over_blocks
from tinynet.layers.conv import Conv2DCache, conv_window
from tinynet.layers.window import Padding, Pair, Window

FEWEST_CHANNELS = 8  # of C and of K, for Winograd's convolution
TILES_CHANNELS = 64  # of C and of K, from which WinogradTiles win
TILES_POSITIONS = 128

SHARES = 16  # of the strips, for threads to take; each share has its own scratch and its sum of dw
LEAST_SHARES = 4
SUMS_BYTES = 1 << 25  # for the sums of dw together, if that leaves LEAST_SHARES


@register_fused(conv2d_fused_forward, "numpy")
def conv2d_forward_numpy(
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
    if x.dtype != w.dtype or (b is not None and b.dtype != w.dtype) or not len(x):
        more = stride, padding, dilation, groups, epilogue
        return conv2d_fused_forward.reference(x, w, b, *more)
    chosen = strip_algorithm(x, w, groups, window)
    if chosen is not None:
        y, kept = strips_forward(*chosen, x, w, b, epilogue)
    else:
        y, kept = _forward(x, w, b, groups, window, epilogue)
    return y, FusedCache(Conv2DCache(x, w, window, groups, b is not None), kept)


@register_fused(conv2d_fused_backward, "numpy")
def conv2d_backward_numpy(
    dy: Array, cache: FusedCache, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """conv2d_fused_backward: dy -> dx or None, dw, db or None."""
    (x, w, window, groups, has_bias), epilogue = cache
    if not x.dtype == w.dtype == dy.dtype or not len(x):
        return conv2d_fused_backward.reference(dy, cache, need_dx)
    chosen = strip_algorithm(x, w, groups, window, need_dx)
    if chosen is not None:
        dx, dw, db = strips_backward(*chosen, dy, x, w, epilogue, need_dx)
    else:
        dx, dw, db = _backward(dy, x, w, groups, window, epilogue, need_dx)
    return dx, dw, db if has_bias else None


def strip_algorithm(
    x: Array, w: Array, groups: int, window: Window, need_dx: bool = False
) -> tuple[Any, Frame] | None:
    """(class, frame) for x (N, H, W, C) and w (3, 3, C, K), or None if a module convolves."""
    frame = frame_of(window)
    if frame is None or groups != 1:
        return None
    fewer = min(w.shape[2:])
    if w.shape[2] <= MOST_CHANNELS:
        return None if need_dx else (FewChannels, frame)
    if x.dtype != np.float32 or fewer < FEWEST_CHANNELS or not winograd.allowed():
        return None
    enough = len(x) * frame.tiles * frame.across >= TILES_POSITIONS
    return (WinogradTiles if fewer >= TILES_CHANNELS and enough else WinogradRows), frame


def module_for(w: Array, groups: int) -> ModuleType:
    """The module that convolves with filters w (kernel height, kernel width, C / groups, K)."""
    if groups == 1:
        return im2col
    return depthwise if w.shape[2] == 1 else grouped


def _forward(
    x: Array, w: Array, b: Array | None, groups: int, window: Window, epilogue: str
) -> tuple[Array, EpilogueCache]:
    """y and its epilogue's cache for any geometry, a block of images after the other."""
    y, kept = epilogues.empty_output(len(x), window.output_size, w.shape[3], epilogue, x.dtype)
    module = module_for(w, groups)

    def work(images: slice) -> None:
        z = module.product(np.ascontiguousarray(window.pad(x[images])), w, b, window)
        epilogues.finish(z, y, kept, images, 0)

    over_blocks(len(x), images_per_block(x[:1].nbytes), work)
    return y, kept


def _backward(
    dy: Array,
    x: Array,
    w: Array,
    groups: int,
    window: Window,
    epilogue: EpilogueCache,
    need_dx: bool,
) -> tuple[Array | None, Array, Array]:
    """dx (or None), dw and db for any geometry."""
    module = module_for(w, groups)
    dx = empty_like(x) if need_dx else None

    def work(images: slice) -> tuple[Array, Array]:
        dz = empty((len(x[images]), *window.output_size, w.shape[3]), dy.dtype)
        epilogues.gradient(dz, dy, epilogue, images, 0)
        p = np.ascontiguousarray(window.pad(x[images]))
        dw = module.weight_gradient(dz, p, w, window)
        if dx is not None:
            dx[images] = module.input_gradient(dz, w, window, x.shape[3])
        return dw, column_sums(dz)

    shares = max(LEAST_SHARES, SUMS_BYTES // w.nbytes)
    per_block = max(images_per_block(x[:1].nbytes), -(-len(x) // min(shares, SHARES)))
    parts = over_blocks(len(x), per_block, work)
    return dx, sum(dw for dw, _ in parts), sum(db for _, db in parts)  # type: ignore[return-value]


def strips_forward(
    algorithm: Any, frame: Frame, x: Array, w: Array, b: Array | None, epilogue: str
) -> tuple[Array, EpilogueCache]:
    """y and its epilogue's cache from x (N, H, W, C), w (3, 3, C, K), b (K,) or None."""
    channels, filters = w.shape[2:]
    height, width = frame.output_size
    y, kept = epilogues.empty_output(len(x), frame.output_size, filters, epilogue, x.dtype)
    u = algorithm.transform_filters(w)
    images, tiles = algorithm.strip_size(frame, len(x), channels, filters)
    every = strips(len(x), frame, images, tiles)
    rows = tiles * TILE + MARGIN

    def work(share: slice) -> None:
        memory = algorithm(frame, frame.left, images, rows, channels, filters, x.dtype)
        for strip in every[share]:
            v = _input_under(memory, x, strip)
            z = memory.convolve(v, u, b, strip)
            first = strip.start * TILE
            z = z[:, : max(0, height - first), :width]
            epilogues.finish(z, y, kept, strip.images, first)

    over_blocks(len(every), -(-len(every) // SHARES), work)
    return y, kept


def strips_backward(
    algorithm: Any,
    frame: Frame,
    dy: Array,
    x: Array,
    w: Array,
    epilogue: EpilogueCache,
    need_dx: bool,
) -> tuple[Array | None, Array, Array]:
    """dx (or None), dw and db from dy; the others as in ``strips_forward``."""
    channels, filters = w.shape[2:]
    dx = empty_like(x) if need_dx else None
    u = algorithm.transform_filters(_rotated(w)) if need_dx else w
    images, tiles = algorithm.strip_size(frame, len(x), channels, filters)
    every = strips(len(x), frame, images, tiles)
    rows = tiles * TILE

    def work(share: slice) -> tuple[Array, Array]:
        memory = algorithm(frame, frame.left, images, rows + MARGIN, channels, filters, x.dtype)
        back, high = algorithm.BACK or algorithm, rows + 2 * MARGIN
        above = back(frame, frame.left_back, images, high, filters, channels, x.dtype, of=memory)
        du, db = None, np.zeros(filters, x.dtype)
        for strip in every[share]:
            dz = _gradient_over(above, dy, epilogue, strip)
            dm = memory.transform_gradient(dz, frame.left_back, strip)
            db += memory.bias_gradient(dm)
            v = _input_under(memory, x, strip)
            du = memory.filter_gradient_at_points(v, dm, du)
            if dx is not None:
                v = above.transform_input(dz, frame.top, strip)  # MARGIN − top_back rows down
                first = strip.start * TILE
                part = dx[strip.images, first : first + rows]
                part[...] = above.convolve(v, u, None, strip)[:, : part.shape[1], : part.shape[2]]
        return memory.filter_gradient(du), db

    shares = max(LEAST_SHARES, min(SHARES, SUMS_BYTES // w.nbytes))
    parts = over_blocks(len(every), -(-len(every) // shares), work)
    dw, db = parts[0]
    for more_dw, more_db in parts[1:]:
        dw += more_dw
        db += more_db
    return dx, dw, db


def _rotated(w: Array) -> Array:
    """The filters (3, 3, K, C) from dz to dx: w rotated by 180°, channels and filters swapped."""
    return np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))


def _input_under(memory: Any, x: Array, strip: Strip) -> Array:
    """V of the rows of x under a strip."""
    some = x[strip.images]
    cells = memory.cells(len(some), strip.tiles * TILE + MARGIN)
    fill(cells, some, strip.start * TILE - memory.frame.top, memory.left)
    return memory.transform_input(cells, 0, strip)


def _gradient_over(memory: Any, dy: Array, epilogue: EpilogueCache, strip: Strip) -> Array:
    """∂L/∂z (images, rows, ...) of a strip, and of MARGIN rows above and below it."""
    height, width = memory.frame.output_size
    some = dy[strip.images]
    cells: Array = memory.cells(len(some), strip.tiles * TILE + 2 * MARGIN)
    first = strip.start * TILE - MARGIN
    inside = rows_inside(cells, height, first, memory.left, width)
    if inside.shape[1]:
        epilogues.gradient(inside, dy, epilogue, strip.images, max(0, first))
    return cells
