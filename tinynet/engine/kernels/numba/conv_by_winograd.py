"""Shapes, memory and threads for ``winograd.py``."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array
from tinynet.engine.kernels.numba import winograd
from tinynet.engine.kernels.numba.arrays import flat
from tinynet.engine.kernels.numba.block import GAP, PANEL, panels, whole_rows
from tinynet.engine.kernels.numba.shares import (
    FLOAT,
    NO_BYTES,
    NO_FLOATS,
    added,
    panels_a_block,
    tiles_at_a_time,
)
from tinynet.engine.kernels.numba.vector import LANES
from tinynet.engine.kernels.numba.winograd_filters import filters_to_points, points_to_filters
from tinynet.engine.kernels.numba.winograd_transforms import POINTS, TILE
from tinynet.engine.kernels.winograd_switch import WINOGRAD
from tinynet.engine.memory import empty, empty_like
from tinynet.engine.plan.epilogues import TAILS, Tail
from tinynet.engine.threads import over_blocks, over_shares
from tinynet.layers.window import Window


def fits(w: Array, window: Window, tail: str) -> bool:
    """3×3 at stride 1, with channels enough to fill a register; False where it is turned off."""
    channels, filters = w.shape[2:]
    return (
        WINOGRAD
        and window.kernel == (3, 3)
        and window.stride == window.dilation == (1, 1)
        and min(channels, filters) >= LANES
        and not (tail == "relu_pool" and filters % LANES)
    )


def forward(
    x: Array, w: Array, b: Array | None, window: Window, tail: str
) -> tuple[Array, Array | None]:
    """Y, and the pool's winner, from x (N, H, W, C) and w (3, 3, C, K)."""
    (n, *_, channels), filters, (height, width) = x.shape, w.shape[3], window.output_size
    pooled = tail == "relu_pool"
    y = empty((n, *((height // 2, width // 2) if pooled else (height, width)), filters), FLOAT)
    winner = empty(y.shape, np.uint8) if pooled else None
    sizes = _sizes(window, channels, filters)
    tiles = n * sizes[-2] * sizes[-1]
    rows = whole_rows(min(tiles_at_a_time(channels, filters), tiles))
    u = _points(w)
    bias = np.zeros(filters, FLOAT) if b is None else flat(np.ascontiguousarray(b))
    flat_x, flat_y = flat(x), flat(y)
    who = NO_BYTES if winner is None else winner.reshape(-1)

    def work(tiles: slice) -> None:
        v, m, scratch = _scratch(rows, channels, filters)
        first, last = tiles.start, tiles.stop
        kind = TAILS.index(tail)
        winograd.forward(
            flat_x, u, bias, flat_y, who, kind, sizes, first, last, rows, v, m, scratch
        )

    over_shares(tiles, work, multiple=rows)
    return y, winner


def backward(
    dy: Array, x: Array, w: Array, window: Window, tail: Tail, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """Dx or None, dw, db from dy (the shape of y)."""
    (n, *_, channels), filters = x.shape, w.shape[3]
    sizes = _sizes(window, channels, filters)
    per_image = sizes[-2] * sizes[-1]
    rows = whole_rows(min(tiles_at_a_time(channels, filters), n * per_image))
    ut = _points(w.transpose(0, 1, 3, 2)) if need_dx else NO_FLOATS
    dx = empty_like(x) if need_dx else None
    flat_dx = NO_FLOATS if dx is None else dx.reshape(-1)
    flat_dy, flat_x = flat(dy), flat(x)
    y = NO_FLOATS if tail.y is None else flat(tail.y)
    who = NO_BYTES if tail.winner is None else flat(tail.winner)

    def work(images: slice) -> tuple[Array, Array]:
        v, m, scratch = _scratch(rows, channels, filters)
        du, db = (
            empty((_u_size(channels, filters),), FLOAT),
            np.zeros(panels(filters) * PANEL, FLOAT),
        )
        du[...] = 0
        if dx is not None:
            dx[images] = 0
        first, last, kind = (
            images.start * per_image,
            images.stop * per_image,
            TAILS.index(tail.kind),
        )
        winograd.backward(
            *(flat_dy, flat_x, ut, y, who, kind, sizes, first, last, rows, flat_dx),
            *(du, db, v, m, scratch),
        )
        return du, db

    parts = over_shares(n, work)
    du, db = added([part for part, _ in parts]), added([part for _, part in parts])
    dw = np.empty(w.shape, FLOAT)
    flat_dw = dw.reshape(-1)

    def back(part: slice) -> None:
        scratch = np.empty(POINTS * LANES, FLOAT)
        points_to_filters(du, channels, filters, part.start, part.stop, flat_dw, scratch)

    over_blocks(panels(filters), panels_a_block(channels), back)
    return dx, dw, db[:filters]


def _sizes(window: Window, channels: int, filters: int) -> tuple[int, ...]:
    height, width = window.output_size
    (top, _), (left, _) = window.padding
    tiles = -(-height // TILE), -(-width // TILE)
    return (*window.size, channels, filters, top, left, height, width, *tiles)


def _u_size(channels: int, filters: int) -> int:
    return POINTS * (panels(filters) * panels(channels) * PANEL * PANEL + GAP)


def _points(w: Array) -> Array:
    """U of w (3, 3, C, K), flat."""
    channels, filters = w.shape[2:]
    u, flat_w = empty((_u_size(channels, filters),), FLOAT), flat(np.ascontiguousarray(w))

    def work(part: slice) -> None:
        scratch = np.empty(POINTS * LANES, FLOAT)
        filters_to_points(flat_w, channels, filters, part.start, part.stop, u, scratch)

    over_blocks(panels(filters), panels_a_block(channels), work)
    return u


def _scratch(rows: int, channels: int, filters: int) -> tuple[Array, Array, Array]:
    """V, M, and two patches of registers, for one thread."""
    v, m = (
        empty((POINTS * (panels(columns) * rows * PANEL + GAP),), FLOAT)
        for columns in (channels, filters)
    )
    return v, m, np.empty(2 * POINTS * LANES, FLOAT)
