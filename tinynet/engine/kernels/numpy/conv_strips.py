"""A 3 × 3 convolution strip by strip: the padded input, the products, then ReLU and pool.

A ``way`` is a class that has the memory for a strip and the steps on it: ``Rows`` (Winograd down
the columns), ``Tiles`` (Winograd down and across) or ``Planes`` (few channels).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.engine.kernels.numpy import tails
from tinynet.engine.kernels.numpy.frame import MARGIN, TILE, Frame, Strip, fill, rows_inside, strips
from tinynet.engine.kernels.numpy.planes import Planes
from tinynet.engine.kernels.numpy.winograd_rows import Rows
from tinynet.engine.memory import empty_like
from tinynet.engine.plan.epilogues import Tail
from tinynet.engine.threads import over_blocks

SHARES = 16  # of the strips, for threads to take; each share has its own scratch and its sum of dw
LEAST_SHARES = 4
SUMS_BYTES = 1 << 25  # for the sums of dw together, if that leaves LEAST_SHARES


def forward(
    way: Any, frame: Frame, x: Array, w: Array, b: Array | None, tail: str
) -> tuple[Array, Tail]:
    """y and its tail from x (N, H, W, C), w (3, 3, C, K), b (K,) or None."""
    channels, filters = w.shape[2:]
    height, width = frame.output_size
    y, kept = tails.empty_output(len(x), frame.output_size, filters, tail, x.dtype)
    u = way.transform_filters(w)
    images, tiles = way.strip_size(frame, len(x), channels, filters)
    every = strips(len(x), frame, images, tiles)

    def work(share: slice) -> None:
        memory = way(frame, frame.left, images, tiles * TILE + MARGIN, channels, filters, x.dtype)
        for strip in every[share]:
            v = input_under(memory, x, strip)
            z = memory.convolve(v, u, b, strip)
            first = strip.start * TILE
            z = z[:, : max(0, height - first), :width]
            tails.finish(z, y, kept, strip.images, first)

    over_blocks(len(every), -(-len(every) // SHARES), work)
    return y, kept


def backward(
    way: Any, frame: Frame, dy: Array, x: Array, w: Array, tail: Tail, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """dx (or None), dw and db from dy; the others as in ``forward``."""
    channels, filters = w.shape[2:]
    dx = empty_like(x) if need_dx else None
    u = way.transform_filters(turned(w)) if need_dx else w
    images, tiles = way.strip_size(frame, len(x), channels, filters)
    every = strips(len(x), frame, images, tiles)
    rows = tiles * TILE

    def work(share: slice) -> tuple[Array, Array]:
        memory = way(frame, frame.left, images, rows + MARGIN, channels, filters, x.dtype)
        above: Any = (Rows if way is Planes else way)(
            frame,
            frame.left_back,
            images,
            rows + 2 * MARGIN,
            filters,
            channels,
            x.dtype,
            of=memory,
        )
        du, db = None, np.zeros(filters, x.dtype)
        for strip in every[share]:
            dz = gradient_over(above, dy, tail, strip)
            dm = memory.transform_gradient(dz, frame.left_back, strip)
            db += memory.bias_gradient(dm)
            v = input_under(memory, x, strip)
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


def turned(w: Array) -> Array:
    """The filters (3, 3, K, C) that convolve dz to dx: w (3, 3, C, K) upside down, from behind."""
    return np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))


def input_under(memory: Any, x: Array, strip: Strip) -> Array:
    """V of the rows of x under a strip."""
    some = x[strip.images]
    cells = memory.cells(len(some), strip.tiles * TILE + MARGIN)
    fill(cells, some, strip.start * TILE - memory.frame.top, memory.left)
    return memory.transform_input(cells, 0, strip)


def gradient_over(memory: Any, dy: Array, tail: Tail, strip: Strip) -> Array:
    """∂L/∂z (images, rows, ...) of a strip, and of MARGIN rows above and below it."""
    height, width = memory.frame.output_size
    some = dy[strip.images]
    cells: Array = memory.cells(len(some), strip.tiles * TILE + 2 * MARGIN)
    first = strip.start * TILE - MARGIN
    inside = rows_inside(cells, height, first, memory.left, width)
    if inside.shape[1]:
        tails.gradient(inside, dy, tail, strip.images, max(0, first))
    return cells
