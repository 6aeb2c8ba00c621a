"""Shapes, memory and threads for ``im2col.py``."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array
from tinynet.engine.kernels.numba import im2col
from tinynet.engine.kernels.numba.arrays import flat
from tinynet.engine.kernels.numba.block import PANEL, panels, whole_rows
from tinynet.engine.kernels.numba.shares import (
    AT_A_TIME,
    FLOAT,
    NO_FLOATS,
    added,
)
from tinynet.engine.memory import empty, empty_like
from tinynet.engine.plan.epilogues import TAILS, Tail
from tinynet.engine.threads import over_shares
from tinynet.layers.window import Window


def forward(x: Array, w: Array, b: Array | None, window: Window, tail: str) -> Array:
    """Y (N, H', W', K) from x (N, H, W, C) and w (kernel height, kernel width, C, K).

    tail   "none" or "relu"
    """
    (n, *_, channels), filters, (height, width) = x.shape, w.shape[3], window.output_size
    y = empty((n, height, width, filters), FLOAT)
    positions = n * height * width
    rows = whole_rows(min(AT_A_TIME, positions))
    sizes, run = _sizes(window, channels, filters), w.size // filters
    bias = np.zeros(filters, FLOAT) if b is None else flat(np.ascontiguousarray(b))
    flat_x, flat_y, flat_w = flat(x), flat(y), _in_panels(w.reshape(run, filters))

    def work(part: slice) -> None:
        a, z = _scratch(rows, run, filters)
        first, last, kind = part.start, part.stop, TAILS.index(tail)
        im2col.forward(flat_x, flat_w, bias, flat_y, kind, sizes, first, last, rows, a, z)

    over_shares(positions, work, multiple=rows)
    return y


def backward(
    dy: Array, x: Array, w: Array, window: Window, tail: Tail, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """Dx or None, dw, db from dy (N, H', W', K); the tail is "none" or "relu"."""
    (n, *_, channels), filters, (height, width) = x.shape, w.shape[3], window.output_size
    sizes, run = _sizes(window, channels, filters), w.size // filters
    rows = whole_rows(min(AT_A_TIME, n * height * width))
    wt = _in_panels(w.reshape(run, filters).T) if need_dx else NO_FLOATS
    dx = empty_like(x) if need_dx else None
    flat_dx = NO_FLOATS if dx is None else dx.reshape(-1)
    flat_dy, flat_x = flat(dy), flat(x)
    y = NO_FLOATS if tail.y is None else flat(tail.y)
    w_shape = (panels(filters), panels(run) * PANEL, PANEL)

    def work(images: slice) -> tuple[Array, Array]:
        a, z = _scratch(rows, run, filters)
        dw, db = empty(w_shape, FLOAT), np.zeros(panels(filters) * PANEL, FLOAT)
        dw[...] = 0
        if dx is not None:
            dx[images] = 0
        first, last = images.start * height * width, images.stop * height * width
        im2col.backward(
            *(flat_dy, flat_x, wt, y, TAILS.index(tail.kind), sizes, first, last, rows),
            *(flat_dx, dw.reshape(-1), db, a, z),
        )
        return dw, db

    parts = over_shares(n, work)
    dw, db = added([part for part, _ in parts]), added([part for _, part in parts])
    whole = dw.transpose(1, 0, 2).reshape(w_shape[1], -1)[:run, :filters]
    return dx, whole.reshape(w.shape), db[:filters]


def _sizes(window: Window, channels: int, filters: int) -> tuple[int, ...]:
    (top, _), (left, _) = window.padding
    return (
        *(*window.size, channels, filters, top, left, *window.output_size),
        *(*window.kernel, *window.stride, *window.dilation),
    )


def _in_panels(w: Array) -> Array:
    """The matrix w as in ``block.py``, its rows rounded up to whole panels with zeros; flat."""
    rows, columns = w.shape
    wide = np.zeros((panels(rows) * PANEL, panels(columns), PANEL), FLOAT)
    wide.reshape(len(wide), -1)[:rows, :columns] = w
    return np.ascontiguousarray(wide.transpose(1, 0, 2)).reshape(-1)


def _scratch(rows: int, run: int, filters: int) -> tuple[Array, Array]:
    """A and z, for one thread."""
    a, z = (empty((panels(columns) * rows * PANEL,), FLOAT) for columns in (run, filters))
    return a, z
