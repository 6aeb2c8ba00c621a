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
    elif fits_winograd(w, window, epilogue):
        y, kept = winograd_forward(x, w, b, window, epilogue)
    elif epilogue == "relu":
        y = im2col_forward(x, w, b, window, epilogue)
        kept = EpilogueCache(epilogue, y)
    else:
        y, kept = epilogue_forward(im2col_forward(x, w, b, window, "none"), epilogue)
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
    elif fits_winograd(w, window, epilogue.kind):
        dx, dw, db = winograd_backward(dy, x, w, window, epilogue, need_dx)
    else:
        if epilogue.kind == "relu_pool":
            dy, epilogue = np.ascontiguousarray(epilogue_backward(dy, epilogue)), NO_EPILOGUE
        dx, dw, db = im2col_backward(dy, x, w, window, epilogue, need_dx)
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


def winograd_forward(
    x: Array, w: Array, b: Array | None, window: Window, epilogue: str
) -> tuple[Array, EpilogueCache]:
    """y and its epilogue's cache, from x (N, H, W, C) and w (3, 3, C, K)."""
    (n, *_, channels), filters, (height, width) = x.shape, w.shape[3], window.output_size
    pooled = epilogue == "relu_pool"
    y = empty((n, *((height // 2, width // 2) if pooled else (height, width)), filters), FLOAT)
    winner = empty(y.shape, np.uint8) if pooled else None
    sizes = _tile_sizes(window, channels, filters)
    tiles = n * sizes[-2] * sizes[-1]
    rows = whole_rows(min(_tiles_at_a_time(channels, filters), tiles))
    u, bias = _points(w), _bias(b, filters)
    flat_x, flat_y = flat(x), flat(y)
    who, kind = NO_BYTES if winner is None else winner.reshape(-1), EPILOGUES.index(epilogue)

    def work(tiles: slice) -> None:
        v, m, scratch = _tile_scratch(rows, channels, filters)
        some = tiles.start, tiles.stop, rows
        winograd.forward(flat_x, u, bias, flat_y, who, kind, sizes, *some, v, m, scratch)

    over_shares(tiles, work, multiple=rows)
    return y, EpilogueCache(epilogue, y if epilogue == "relu" else None, winner, (height, width))


def winograd_backward(
    dy: Array, x: Array, w: Array, window: Window, epilogue: EpilogueCache, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """dx or None, dw, db from dy (the shape of y)."""
    (n, *_, channels), filters = x.shape, w.shape[3]
    sizes = _tile_sizes(window, channels, filters)
    per_image = sizes[-2] * sizes[-1]
    rows = whole_rows(min(_tiles_at_a_time(channels, filters), n * per_image))
    ut = _points(w.transpose(0, 1, 3, 2)) if need_dx else NO_FLOATS
    dx = empty_like(x) if need_dx else None
    flat_dx = NO_FLOATS if dx is None else dx.reshape(-1)
    flat_dy, flat_x = flat(dy), flat(x)
    y = NO_FLOATS if epilogue.y is None else flat(epilogue.y)
    who = NO_BYTES if epilogue.winner is None else flat(epilogue.winner)
    kind = EPILOGUES.index(epilogue.kind)

    def work(images: slice) -> tuple[Array, Array]:
        v, m, scratch = _tile_scratch(rows, channels, filters)
        du = empty((_u_size(channels, filters),), FLOAT)
        db = np.zeros(panels(filters) * PANEL, FLOAT)
        du[...] = 0
        if dx is not None:
            dx[images] = 0
        some = images.start * per_image, images.stop * per_image, rows
        winograd.backward(
            *(flat_dy, flat_x, ut, y, who, kind, sizes, *some, flat_dx),
            *(du, db, v, m, scratch),
        )
        return du, db

    parts = over_shares(n, work)
    du, db = _added([part for part, _ in parts]), _added([part for _, part in parts])
    dw = np.empty(w.shape, FLOAT)
    flat_dw = dw.reshape(-1)

    def back(part: slice) -> None:
        scratch = np.empty(POINTS * LANES, FLOAT)
        winograd.points_to_filters(du, channels, filters, part.start, part.stop, flat_dw, scratch)

    over_blocks(panels(filters), _panels_a_block(channels), back)
    return dx, dw, db[:filters]


def im2col_forward(x: Array, w: Array, b: Array | None, window: Window, epilogue: str) -> Array:
    """y (N, H', W', K) from x (N, H, W, C) and w (kernel height, kernel width, C, K).

    epilogue   "none" or "relu"
    """
    (n, *_, channels), filters, (height, width) = x.shape, w.shape[3], window.output_size
    y = empty((n, height, width, filters), FLOAT)
    positions = n * height * width
    rows = whole_rows(min(POSITIONS, positions))
    sizes, run = _window_sizes(window, channels, filters), w.size // filters
    flat_x, flat_y, flat_w = flat(x), flat(y), _in_panels(w.reshape(run, filters))
    bias, kind = _bias(b, filters), EPILOGUES.index(epilogue)

    def work(part: slice) -> None:
        a, z = _window_scratch(rows, run, filters)
        some = part.start, part.stop, rows
        im2col.forward(flat_x, flat_w, bias, flat_y, kind, sizes, *some, a, z)

    over_shares(positions, work, multiple=rows)
    return y


def im2col_backward(
    dy: Array, x: Array, w: Array, window: Window, epilogue: EpilogueCache, need_dx: bool
) -> tuple[Array | None, Array, Array]:
    """dx or None, dw, db from dy (N, H', W', K); the epilogue is "none" or "relu"."""
    (n, *_, channels), filters, (height, width) = x.shape, w.shape[3], window.output_size
    sizes, run = _window_sizes(window, channels, filters), w.size // filters
    rows = whole_rows(min(POSITIONS, n * height * width))
    wt = _in_panels(w.reshape(run, filters).T) if need_dx else NO_FLOATS
    dx = empty_like(x) if need_dx else None
    flat_dx = NO_FLOATS if dx is None else dx.reshape(-1)
    flat_dy, flat_x = flat(dy), flat(x)
    y = NO_FLOATS if epilogue.y is None else flat(epilogue.y)
    kind = EPILOGUES.index(epilogue.kind)
    w_shape = (panels(filters), panels(run) * PANEL, PANEL)

    def work(images: slice) -> tuple[Array, Array]:
        a, z = _window_scratch(rows, run, filters)
        dw, db = empty(w_shape, FLOAT), np.zeros(panels(filters) * PANEL, FLOAT)
        dw[...] = 0
        if dx is not None:
            dx[images] = 0
        some = images.start * height * width, images.stop * height * width, rows
        im2col.backward(
            *(flat_dy, flat_x, wt, y, kind, sizes, *some),
            *(flat_dx, dw.reshape(-1), db, a, z),
        )
        return dw, db

    parts = over_shares(n, work)
    dw, db = _added([part for part, _ in parts]), _added([part for _, part in parts])
    whole = dw.transpose(1, 0, 2).reshape(w_shape[1], -1)[:run, :filters]
    return dx, whole.reshape(w.shape), db[:filters]


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


def _tile_sizes(window: Window, channels: int, filters: int) -> tuple[int, ...]:
    height, width = window.output_size
    (top, _), (left, _) = window.padding
    tiles = -(-height // TILE), -(-width // TILE)
    return (*window.size, channels, filters, top, left, height, width, *tiles)


def _tiles_at_a_time(channels: int, filters: int) -> int:
    return MANY_TILES if channels + filters > MANY_CHANNELS else FEW_TILES


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


def _tile_scratch(rows: int, channels: int, filters: int) -> tuple[Array, Array, Array]:
    """V, M, and two patches of registers, for one thread."""
    v, m = (
        empty((POINTS * (panels(columns) * rows * PANEL + GAP),), FLOAT)
        for columns in (channels, filters)
    )
    return v, m, np.empty(2 * POINTS * LANES, FLOAT)


def _window_sizes(window: Window, channels: int, filters: int) -> tuple[int, ...]:
    (top, _), (left, _) = window.padding
    return (
        *(*window.size, channels, filters, top, left, *window.output_size),
        *(*window.kernel, *window.stride, *window.dilation),
    )


def _in_panels(w: Array) -> Array:
    """The matrix w as in ``products.py``, its rows rounded up to whole panels with zeros; flat."""
    rows, columns = w.shape
    wide = np.zeros((panels(rows) * PANEL, panels(columns), PANEL), FLOAT)
    wide.reshape(len(wide), -1)[:rows, :columns] = w
    return np.ascontiguousarray(wide.transpose(1, 0, 2)).reshape(-1)


def _window_scratch(rows: int, run: int, filters: int) -> tuple[Array, Array]:
    """A and z, for one thread."""
    a, z = (empty((panels(columns) * rows * PANEL,), FLOAT) for columns in (run, filters))
    return a, z
