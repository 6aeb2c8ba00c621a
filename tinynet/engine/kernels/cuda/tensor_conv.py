"""Convolutions of CuPy's arrays on tensor cores: launchers of ``tensor_*.cu``."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array, load_library
from tinynet.engine.kernels.cuda.launch import THREADS, aligned, blocks, contiguous
from tinynet.engine.kernels.cuda.source import Definitions, dtype_macros, function, window_macros
from tinynet.engine.precision import is_bfloat16, precision_in_use
from tinynet.layers.window import Window

MICRO_BATCH_BYTES = 16  # what a thread copies at once
WANTED_BLOCKS = 264  # two for each of an H100's 132 processors
MOST_CELLS = 2**31 - 2**16  # whose numbers, and those of a tile more, an int holds


class Tile(NamedTuple):
    """How a product is cut up."""

    rows: int  # of a block
    columns: int
    warps_down: int
    warps_across: int
    pieces: int  # of 16 bytes, along the depth: 4 or 8
    stages: int  # loads under way or in use

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps_down * self.warps_across

    def depth(self, x: Array) -> int:
        """Numbers like x's along the depth that are loaded at once."""
        return self.pieces * piece(x)

    def blocks(self, rows: int, columns: int) -> int:
        """Number of tiles that cover a product (rows, columns)."""
        return -(-rows // self.rows) * -(-columns // self.columns)

    def shared_bytes(self, itemsize: int) -> int:
        """Bytes of shared memory: the stages, or the result on its way out."""
        stages = self.stages * (self.rows + self.columns) * self.pieces * MICRO_BATCH_BYTES
        return max(stages, self.rows * (self.columns * itemsize + MICRO_BATCH_BYTES))


WIDE = Tile(128, 128, 2, 2, 8, 3)
NARROW = Tile(128, 64, 4, 1, 8, 3)
SLIM = Tile(128, 32, 4, 1, 8, 3)
SHORT = Tile(64, 64, 2, 2, 8, 3)  # where WIDE would leave processors without a block


def tile_for(rows: int, columns: int) -> Tile:
    """The tile for a product (rows, columns)."""
    if columns <= 64:
        return NARROW if columns > 32 else SLIM
    return WIDE if WIDE.blocks(rows, columns) >= WANTED_BLOCKS else SHORT


def covers(x: Array, w: Array, window: Window, groups: int) -> bool:
    """Return True if the kernels here convolve x with w: bfloat16, or float32 under "tf32".

    Filters must be in whole pieces of 16 bytes, and channels, or fewer than one piece: those of a
    first layer, which get zeros behind them.
    """
    if not x.size or not w.size or groups != 1 or window.dilation != (1, 1):
        return False
    if not is_bfloat16(x) and not (x.dtype == np.float32 and precision_in_use() == "tf32"):
        return False
    if max(x[..., 0].size, len(x) * window.output_size[0] * window.output_size[1]) > MOST_CELLS:
        return False
    channels, filters = w.shape[2:]
    if channels != widened(channels, x) and channels > piece(x):
        return False
    return dtype_macros(x, w) is not None and filters % piece(x) == 0


def covers_input_gradient(x: Array, w: Array, window: Window, groups: int) -> bool:
    """The same of the gradient of x, whose channels must be whole pieces."""
    return covers(x, w, window, groups) and w.shape[2] % piece(x) == 0


def piece(x: Array) -> int:
    """Return how many of x's numbers 16 bytes hold."""
    return int(MICRO_BATCH_BYTES // x.dtype.itemsize)


def widened(channels: int, x: Array) -> int:
    """The number of channels, rounded up to whole pieces of x."""
    return -(-channels // piece(x)) * piece(x)


def wide_image(x: Array) -> Array:
    """x, aligned; of channels that are no whole pieces a copy with zeros behind them."""
    if x.shape[3] == widened(x.shape[3], x):
        return aligned(x)
    xp, cells = load_library("cupy"), x[..., 0].size
    copy = xp.empty((*x.shape[:3], widened(x.shape[3], x)), x.dtype)
    sizes = np.int32(x.shape[3]), np.int64(cells)
    helper(x, "widen")((blocks(cells),), (THREADS,), (contiguous(x), copy, *sizes))
    return copy


def convolve(
    x: Array, w: Array, b: Array | None, window: Window, relu: bool = False, pool: bool = False
) -> Any:
    """z (N, H', W', K) = x * w + b, or max{z, 0}.

    pool   the maxima over 2 × 2 of max{z, 0}; H' and W' are at least 2
    Returns z; with ``pool`` y (N, ⌊H'/2⌋, ⌊W'/2⌋, K) and the winners, as ``epilogue_forward``.
    """
    xp, n, filters = load_library("cupy"), len(x), w.shape[3]
    size = tuple(length // 2 for length in window.output_size) if pool else window.output_size
    rows = n * size[0] * size[1] * (4 if pool else 1)
    tile = tile_for(rows, filters)
    z = xp.empty((n, *size, filters), x.dtype)
    winner = xp.empty(z.shape if pool else (1,), np.uint8)
    # a kernel is given an array for every parameter, also where it does not look at it
    arrays = wide_image(x), filters_forward(x, w), w if b is None else contiguous(b), z, winner
    numbers = np.int32(n), np.int32(b is not None), np.int32(relu or pool)
    given, grid = definitions(x, w, window, tile, pool), (tile.blocks(rows, filters),)
    launch("tensor_forward", given, tile, grid, (*arrays, *numbers), x.dtype.itemsize)
    return (z, winner) if pool else z


def input_gradient(dz: Array, x: Array, w: Array, window: Window) -> Array:
    """dx (the shape of x)."""
    xp, n, channels = load_library("cupy"), len(x), w.shape[2]
    dx = xp.empty(x.shape, x.dtype)
    s_h, s_w = window.stride
    rows = n * -(-window.size[0] // s_h) * -(-window.size[1] // s_w)
    tile = tile_for(rows, channels)
    given, grid = definitions(x, w, window, tile), (tile.blocks(rows, channels), 1, s_h * s_w)
    arguments = aligned(dz), filters_backward(x, w), dx, np.int32(n)
    launch("tensor_input_gradient", given, tile, grid, arguments, x.dtype.itemsize)
    return dx


def weight_gradient(dz: Array, x: Array, w: Array, window: Window) -> Array:
    """dw (the shape of w); partial sums are added in their order: its bits are always the same."""
    xp, n = load_library("cupy"), len(x)
    positions, (kh, kw, channels, filters) = dz[..., 0].size, w.shape
    wide = widened(channels, x)
    rows = kh * kw * wide
    tile = tile_for(MOST_CELLS if rows > SHORT.rows else rows, filters)
    given, tiles, depth = definitions(x, w, window, tile), tile.blocks(rows, filters), tile.depth(x)
    # whole loads, and in a part enough of them to fill the pipeline
    loads = -(-positions // depth)
    each = -(-loads // split(tiles, max(1, loads // (2 * tile.stages)))) * depth
    parts = -(-positions // each)
    sums = xp.empty((parts, kh, kw, wide, filters), w.dtype)
    arguments = wide_image(x), aligned(dz), sums, np.int32(n), np.int32(each)
    grid = tiles, 1, parts
    launch("tensor_weight_gradient", given, tile, grid, arguments, x.dtype.itemsize)
    if parts == 1 and wide == channels:
        return sums[0]
    dw = xp.empty(w.shape, w.dtype)
    sizes = map(np.int32, (parts, kh * kw, channels, wide, filters))
    helper(x, "add_parts")((blocks(dw.size),), (THREADS,), (sums, dw, *sizes))
    return dw


def split(tiles: int, most: int) -> int:
    """The number of parts of a sum, so that few processors wait for the last blocks.

    The smallest number that keeps nine in ten of them busy, else the best there is, up to ``most``.
    """
    best, of_best = 1, 0.0
    for parts in range(1, most + 1):
        busy = tiles * parts / (-(-tiles * parts // WANTED_BLOCKS) * WANTED_BLOCKS)
        if busy > of_best:
            best, of_best = parts, busy
        if busy >= 0.9:
            break
    return best


def filters_forward(x: Array, w: Array) -> Array:
    """w as the forward pass takes it, (K, kernel height, kernel width, C), rounded and widened."""
    (kh, kw, channels, filters), wide = w.shape, widened(w.shape[2], x)
    result = load_library("cupy").empty((filters, kh, kw, wide), x.dtype)
    grid, sizes = (-(-filters // 32), -(-wide // 32), kh * kw), (channels, wide, filters)
    helper(x, "filters_forward")(grid, (32, 8), (contiguous(w), result, *map(np.int32, sizes)))
    return result


def filters_backward(x: Array, w: Array) -> Array:
    """w as the input gradient takes it, (C, kernel height, kernel width, K), rounded."""
    kh, kw, channels, filters = w.shape
    result = load_library("cupy").empty((channels, kh, kw, filters), x.dtype)
    sizes = map(np.int32, (kh * kw, channels, filters))
    kernel = helper(x, "filters_backward")
    kernel((blocks(w.size),), (THREADS,), (contiguous(w), result, *sizes))
    return result


def helper(x: Array, name: str) -> Any:
    """The kernel ``name`` of ``tensor_filters.cu``, for arrays like x."""
    return function("tensor_filters", name, dtype_macros(x) or ())


def launch(
    name: str,
    given: Definitions,
    tile: Tile,
    grid: tuple[int, ...],
    arguments: tuple[Any, ...],
    itemsize: int,
) -> None:
    """Run the kernel ``name`` with the shared memory that its tile needs."""
    kernel, shared = function("tensor_conv", name, given), tile.shared_bytes(itemsize)
    if shared > 48 * 1024:  # what a kernel has unless it asks
        kernel.max_dynamic_shared_size_bytes = shared
    kernel(grid, (tile.threads,), arguments, shared_mem=shared)


def definitions(
    x: Array,
    w: Array,
    window: Window,
    tile: Tile,
    pool: bool = False,
) -> Definitions:
    """The macros of ``tensor_conv.cu``."""
    return (
        *(dtype_macros(x, w) or ()),
        *(("N_CHANNELS", widened(w.shape[2], x)), ("N_FILTERS", w.shape[3])),
        *window_macros(window),
        ("POOL", int(pool)),
        *(("BLOCK_M", tile.rows), ("BLOCK_N", tile.columns)),
        *(("WARPS_M", tile.warps_down), ("WARPS_N", tile.warps_across)),
        *(("PIECES", tile.pieces), ("STAGES", tile.stages)),
    )
