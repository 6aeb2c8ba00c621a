"""Convolutions with their epilogues: shapes, memory and threads for the compiled functions.

3 × 3 filters at stride 1 go by ``winograd.py`` if there are channels enough, other filters by
``im2col.py``, and one filter a channel by ``depthwise.py``.
"""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, without_numba
from tinynet.engine.kernels.numba import depthwise, im2col, winograd
from tinynet.engine.kernels.numba.arrays import flat
from tinynet.engine.kernels.numba.products import GAP, PANEL, panels, whole_rows
from tinynet.engine.kernels.numba.vectors import LANES
from tinynet.engine.kernels.numba.winograd import POINTS, TILE
from tinynet.engine.kernels.numpy.winograd import allowed
from tinynet.engine.memory import empty, empty_like
from tinynet.engine.plan.epilogues import (
    EPILOGUES,
    NO_EPILOGUE,
    EpilogueCache,
    FusedCache,
    conv2d_fused_backward,
    conv2d_fused_forward,
    epilogue_backward,
    epilogue_forward,
    register_fused,
)
from tinynet.engine.threads import column_sums, over_blocks, over_shares
from tinynet.layers.conv import Conv2DCache, conv_window
from tinynet.layers.window import Padding, Pair, Window

FLOAT = np.dtype(np.float32)
NO_BYTES, NO_FLOATS = np.zeros(0, np.uint8), np.zeros(0, FLOAT)

POSITIONS = 48  # window positions at a time: enough to use each filter often, few enough to cache
# Tiles at a time: 24 were 5 to 15% faster than 48 where 36 (C + K) numbers a tile then fit the
# second-level cache, and 6% slower at C = K = 256, whose filters, 9 MB, come from further away.
FEW_TILES, MANY_TILES, MANY_CHANNELS = 24, 48, 256
POINTS_BYTES = 1 << 22  # of filters at the 36 points, in one block: half a millisecond's work


@register_fused(conv2d_fused_forward, "numba")
def conv2d_forward_numba(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
    epilogue: str = "none",
) -> tuple[Array, FusedCache]:
    """conv2d_fused_forward: x (N, H, W, C), w (kh, kw, C, K) -> y."""
    window = conv_window(x, w, b, stride, padding, dilation, groups)
    if not covers(x, w, groups) or (b is not None and b.dtype != FLOAT):
        more = stride, padding, dilation, groups, epilogue
        return without_numba(conv2d_fused_forward)(x, w, b, *more)
    x = np.ascontiguousarray(x)
    if is_depthwise(x, w):
        y, kept = epilogue_forward(depthwise.product(window.pad(x), w, b, window), epilogue)
    elif (by_tiles := fits_winograd(w, window, epilogue)) or epilogue == "relu":
        y, kept = forward(x, w, b, window, epilogue, by_tiles)
    else:
        y, kept = epilogue_forward(forward(x, w, b, window, "none", by_tiles=False)[0], epilogue)
    return y, FusedCache(Conv2DCache(x, w, window, groups, b is not None), kept)


@register_fused(conv2d_fused_backward, "numba")
def conv2d_backward_numba(
    dy: Array, cache: FusedCache, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """conv2d_fused_backward: dy (the shape of y) -> dx, dw, db."""
    (x, w, window, groups, has_bias), epilogue = cache
    if not covers(x, w, groups) or dy.dtype != FLOAT:
        return without_numba(conv2d_fused_backward)(dy, cache, need_dx)
    dy, x = np.ascontiguousarray(dy), np.ascontiguousarray(x)
    dx: Array | None = None
    if is_depthwise(x, w):
        dz = np.ascontiguousarray(epilogue_backward(dy, epilogue))
        dw, db = depthwise.weight_gradient(dz, window.pad(x), w, window), column_sums(dz)
        dx = depthwise.input_gradient(dz, w, window, x.shape[3]) if need_dx else None
    else:
        by_tiles = fits_winograd(w, window, epilogue.kind)
        if epilogue.kind == "relu_pool" and not by_tiles:
            dy, epilogue = np.ascontiguousarray(epilogue_backward(dy, epilogue)), NO_EPILOGUE
        dx, dw, db = backward(dy, x, w, window, epilogue, need_dx, by_tiles)
    return dx, dw, db if has_bias else None


def covers(x: Array, w: Array, groups: int) -> bool:
    """Return True if the functions here convolve x with w."""
    one_filter_a_channel = groups == x.shape[3] == w.shape[3]
    return bool(x.dtype == w.dtype == FLOAT and len(x) and (groups == 1 or one_filter_a_channel))


def is_depthwise(x: Array, w: Array) -> bool:
    """Return True if each filter sees one channel of several."""
    return w.shape[2] == 1 and x.shape[3] > 1


def fits_winograd(w: Array, window: Window, epilogue: str) -> bool:
    """Return True for 3×3 at stride 1, with channels enough to fill a register."""
    channels, filters = w.shape[2:]
    return (
        allowed()
        and window.kernel == (3, 3)
        and window.stride == window.dilation == (1, 1)
        and min(channels, filters) >= LANES
        and not (epilogue == "relu_pool" and filters % LANES)
    )


def forward(
    x: Array, w: Array, b: Array | None, window: Window, epilogue: str, by_tiles: bool
) -> tuple[Array, EpilogueCache]:
    """y and its epilogue's cache, from x (N, H, W, C) and w (kernel height, kernel width, C, K).

    by_tiles   by ``winograd.py``; else by ``im2col.py``, where the epilogue is "none" or "relu"
    """
    filters, (height, width) = w.shape[3], window.output_size
    pooled = epilogue == "relu_pool"
    size = (height // 2, width // 2) if pooled else (height, width)
    y = empty((len(x), *size, filters), FLOAT)
    winner = empty(y.shape, np.uint8) if pooled else None
    sizes, units, rows = _pieces(x, w, window, by_tiles)
    who: tuple[Array, ...] = ()
    if by_tiles:
        kernel, u = winograd.forward, _points(w)
        who = (NO_BYTES if winner is None else winner.reshape(-1),)
    else:
        kernel, u = im2col.forward, _in_panels(w.reshape(-1, filters))
    given = flat(x), u, _bias(b, filters), flat(y), *who, EPILOGUES.index(epilogue), sizes

    def work(part: slice) -> None:
        kernel(*given, part.start, part.stop, rows, *_scratch(rows, w, by_tiles))

    over_shares(len(x) * units, work, multiple=rows)
    return y, EpilogueCache(epilogue, y if epilogue == "relu" else None, winner, (height, width))


def backward(
    dy: Array,
    x: Array,
    w: Array,
    window: Window,
    epilogue: EpilogueCache,
    need_dx: bool,
    by_tiles: bool,
) -> tuple[Array | None, Array, Array]:
    """dx or None, dw, db from dy (the shape of y); the rest as in ``forward``."""
    channels, filters = w.shape[2:]
    sizes, units, rows = _pieces(x, w, window, by_tiles)
    dx = empty_like(x) if need_dx else None
    flat_dx = NO_FLOATS if dx is None else dx.reshape(-1)
    y = NO_FLOATS if epilogue.y is None else flat(epilogue.y)
    shape: tuple[int, ...]  # of a thread's sum of dw, as the kernel lays it out
    who: tuple[Array, ...] = ()
    if by_tiles:
        kernel, turned, shape = winograd.backward, _turned_points, (_u_size(channels, filters),)
        who = (NO_BYTES if epilogue.winner is None else flat(epilogue.winner),)
    else:
        run = w.size // filters
        kernel, turned = im2col.backward, _turned_panels
        shape = panels(filters), panels(run) * PANEL, PANEL
    wt = turned(w) if need_dx else NO_FLOATS
    given = flat(dy), flat(x), wt, y, *who, EPILOGUES.index(epilogue.kind), sizes

    def work(images: slice) -> tuple[Array, Array]:
        dw, db = empty(shape, FLOAT), np.zeros(panels(filters) * PANEL, FLOAT)
        dw[...] = 0
        if dx is not None:
            dx[images] = 0
        sums = flat_dx, dw.reshape(-1), db
        some = images.start * units, images.stop * units, rows
        kernel(*given, *some, *sums, *_scratch(rows, w, by_tiles))
        return dw, db

    parts = over_shares(len(x), work)
    dw, db = _added([part for part, _ in parts]), _added([part for _, part in parts])
    if by_tiles:
        return dx, _from_points(dw, w.shape), db[:filters]
    whole = dw.transpose(1, 0, 2).reshape(-1, panels(filters) * PANEL)[:run, :filters]
    return dx, whole.reshape(w.shape), db[:filters]


def _pieces(x: Array, w: Array, window: Window, by_tiles: bool) -> tuple[tuple[int, ...], int, int]:
    """The geometry; units of an image, tiles or window positions; and how many at a time."""
    channels, filters = w.shape[2:]
    height, width = window.output_size
    (top, _), (left, _) = window.padding
    sizes: tuple[int, ...] = (*window.size, channels, filters, top, left, height, width)
    if by_tiles:
        tiles = -(-height // TILE), -(-width // TILE)
        sizes, units = (*sizes, *tiles), tiles[0] * tiles[1]
        at_a_time = MANY_TILES if channels + filters > MANY_CHANNELS else FEW_TILES
    else:
        sizes = (*sizes, *window.kernel, *window.stride, *window.dilation)
        units, at_a_time = height * width, POSITIONS
    return sizes, units, whole_rows(min(at_a_time, len(x) * units))


def _bias(b: Array | None, filters: int) -> Array:
    return np.zeros(filters, FLOAT) if b is None else flat(np.ascontiguousarray(b))


def _added(sums: list[Array]) -> Array:
    """The sum of arrays of one shape, in their order; the first is changed."""
    first = sums[0]

    def work(part: slice) -> None:
        for other in sums[1:]:
            first[part] += other[part]

    over_shares(len(first), work)
    return first


def _panels_a_block(channels: int) -> int:
    return max(1, POINTS_BYTES // (POINTS * channels * PANEL * FLOAT.itemsize))


def _u_size(channels: int, filters: int) -> int:
    return POINTS * (panels(filters) * panels(channels) * PANEL * PANEL + GAP)


def _points(w: Array) -> Array:
    """U of w (3, 3, C, K), flat."""
    channels, filters = w.shape[2:]
    u, flat_w = empty((_u_size(channels, filters),), FLOAT), flat(np.ascontiguousarray(w))

    def work(part: slice) -> None:
        scratch = np.empty(POINTS * LANES, FLOAT)
        winograd.filters_to_points(flat_w, channels, filters, part.start, part.stop, u, scratch)

    over_blocks(panels(filters), _panels_a_block(channels), work)
    return u


def _turned_points(w: Array) -> Array:
    """U of the filters from dz to dx."""
    return _points(w.transpose(0, 1, 3, 2))


def _from_points(du: Array, shape: tuple[int, ...]) -> Array:
    """dw (3, 3, C, K) from dU, flat."""
    dw, (channels, filters) = np.empty(shape, FLOAT), shape[2:]
    flat_dw = dw.reshape(-1)

    def work(part: slice) -> None:
        scratch = np.empty(POINTS * LANES, FLOAT)
        winograd.points_to_filters(du, channels, filters, part.start, part.stop, flat_dw, scratch)

    over_blocks(panels(filters), _panels_a_block(channels), work)
    return dw


def _turned_panels(w: Array) -> Array:
    """The filters' transpose, from dz to the cells under a window."""
    return _in_panels(w.reshape(-1, w.shape[3]).T)


def _scratch(rows: int, w: Array, by_tiles: bool) -> list[Array]:
    """For one thread: V, M and two patches of registers, or the windows' cells and z."""
    (*_, channels, filters), run = w.shape, w.size // w.shape[3]
    if not by_tiles:
        return [empty((panels(columns) * rows * PANEL,), FLOAT) for columns in (run, filters)]
    v, m = (
        empty((POINTS * (panels(columns) * rows * PANEL + GAP),), FLOAT)
        for columns in (channels, filters)
    )
    return [v, m, np.empty(2 * POINTS * LANES, FLOAT)]


def _in_panels(w: Array) -> Array:
    """The matrix w as in ``products.py``, its rows rounded up to whole panels with zeros; flat."""
    rows, columns = w.shape
    wide = np.zeros((panels(rows) * PANEL, panels(columns), PANEL), FLOAT)
    wide.reshape(len(wide), -1)[:rows, :columns] = w
    return np.ascontiguousarray(wide.transpose(1, 0, 2)).reshape(-1)
