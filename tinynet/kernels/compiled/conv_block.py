"""conv2d_block_forward and conv2d_block_backward, compiled: which way for which shape."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register, without_fast
from tinynet.blocks import (
    TAILS,
    Conv2DBlockCache,
    Tail,
    conv2d_block_backward,
    conv2d_block_forward,
)
from tinynet.kernels.compiled import winograd
from tinynet.kernels.compiled.block import PANEL, panels, whole_rows
from tinynet.kernels.compiled.vector import LANES
from tinynet.kernels.compiled.winograd_transforms import (
    PATCH,
    POINTS,
    TILE,
    filter_gradient,
    transform_filters,
)
from tinynet.kernels.cpu.threads import over_blocks
from tinynet.layers.window import Padding, Pair, Window, pair, window_over
from tinynet.workspace import empty

TILES = 48  # at a time
SUMS = 4  # of dU at most, 36 numbers a filter and channel each


def in_panels(u: Array) -> Array:
    """U (36, C, K) as (36, panels of K, C rounded up, PANEL), zeros where nothing is."""
    points, c, k = u.shape
    wide = np.zeros((points, panels(c) * PANEL, panels(k) * PANEL), u.dtype)
    wide[:, :c, :k] = u
    return np.ascontiguousarray(
        wide.reshape(points, panels(c) * PANEL, panels(k), PANEL).transpose(0, 2, 1, 3)
    )


def from_panels(u: Array, c: int, k: int) -> Array:
    points = u.shape[0]
    wide = u.transpose(0, 2, 1, 3).reshape(points, u.shape[2], -1)
    return wide[:, :c, :k]


def sizes_of(window: Window, channels: int, filters: int):
    height, width = window.output_size
    (top, _), (left, _) = window.padding
    return (*window.size, channels, filters, top, left, height, width, -(-height // TILE), -(-width // TILE))


def covers(x: Array, w: Array, window: Window, groups: int, tail: str) -> bool:
    return (
        x.dtype == w.dtype == np.float32
        and groups == 1
        and window.kernel == (3, 3)
        and window.stride == window.dilation == (1, 1)
        and w.shape[2] >= LANES
        and len(x) > 0
        and not (tail == "relu_pool" and w.shape[3] % LANES)
    )


def scratch_for(rows, c, k):
    v = np.empty(POINTS * (panels(c) * rows * PANEL + winograd.GAP), np.float32) if False else empty((POINTS * (panels(c) * rows * PANEL + winograd.GAP),), np.float32)
    m = empty((POINTS * (panels(k) * rows * PANEL + winograd.GAP),), np.float32)
    return v, m, np.empty(2 * POINTS * LANES, np.float32)


NO_BYTES, NO_FLOATS = np.zeros(0, np.uint8), np.zeros(0, np.float32)


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
    window = window_over(
        x.shape[1:3], w.shape[:2], pair(stride, "stride"), padding, pair(dilation, "dilation")
    )
    if not covers(x, w, window, groups, tail):
        return without_fast(conv2d_block_forward)(x, w, b, stride, padding, dilation, groups, tail)
    x = np.ascontiguousarray(x)
    n, (c, k) = len(x), w.shape[2:]
    height, width = window.output_size
    u = in_panels(transform_filters(w).reshape(POINTS, c, k)).reshape(-1)
    winner = None
    if tail == "relu_pool":
        y = empty((n, height // 2, width // 2, k), x.dtype)
        winner = empty(y.shape, np.uint8)
    else:
        y = empty((n, height, width, k), x.dtype)
    bias = np.zeros(k, np.float32) if b is None else b
    sizes = sizes_of(window, c, k)
    per_image = sizes[-1] * sizes[-2]
    rows = whole_rows(min(TILES, n * per_image))
    flat_x, flat_y = x.reshape(-1), y.reshape(-1)
    who = NO_BYTES if winner is None else winner.reshape(-1)

    def work(images: slice) -> None:
        v, m, scratch = scratch_for(rows, c, k)
        winograd.forward(
            flat_x, u, bias, flat_y, who, TAILS.index(tail), sizes,
            images.start * per_image, images.stop * per_image, rows, v, m, scratch,
        )

    over_blocks(n, max(1, -(-n // 8)), work)
    return y, Conv2DBlockCache(
        x, w, window, groups, b is not None,
        Tail(tail, y if tail == "relu" else None, winner, (height, width)),
    )


@register(conv2d_block_backward, "fast")
def conv2d_block_backward_compiled(
    dy: Array, cache: Conv2DBlockCache, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    x, w, window, groups, has_bias, tail = cache
    if not covers(x, w, window, groups, tail.kind) or dy.dtype != x.dtype:
        return without_fast(conv2d_block_backward)(dy, cache, need_dx)
    dy = np.ascontiguousarray(dy)
    n, (c, k) = len(x), w.shape[2:]
    u = transform_filters(w).reshape(POINTS, c, k)
    ut = in_panels(np.ascontiguousarray(u.transpose(0, 2, 1))).reshape(-1)
    sizes = sizes_of(window, c, k)
    per_image = sizes[-1] * sizes[-2]
    rows = whole_rows(min(TILES, n * per_image))
    dx = empty(x.shape, x.dtype) if need_dx else None
    flat = [a.reshape(-1) for a in (dy, x)]
    y = NO_FLOATS if tail.y is None else tail.y.reshape(-1)
    who = NO_BYTES if tail.winner is None else tail.winner.reshape(-1)
    into = NO_FLOATS if dx is None else dx.reshape(-1)

    def work(images: slice):
        v, m, scratch = scratch_for(rows, c, k)
        du = empty((POINTS, panels(k), panels(c) * PANEL, PANEL), np.float32)
        du[...] = 0
        db = np.zeros(panels(k) * PANEL, np.float32)
        if dx is not None:
            dx[images] = 0
        winograd.backward(
            flat[0], flat[1], ut, y, who, TAILS.index(tail.kind), sizes,
            images.start * per_image, images.stop * per_image, rows, into,
            du.reshape(-1), db, v, m, scratch,
        )
        return du, db

    parts = over_blocks(n, -(-n // SUMS), work)
    du, db = parts[0]
    for more, _ in parts[1:]:
        du += more
    for _, more in parts[1:]:
        db += more
    dw = filter_gradient(from_panels(du, c, k).reshape(PATCH, PATCH, c, k))
    return dx, dw, db[:k] if has_bias else None
