"""How arrays (rows, channels) are divided among threads (``columns.cuh``), and sums of channels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynet.backend import Array, load_library
from tinynet.engine.kernels.cuda.launch import contiguous
from tinynet.engine.kernels.cuda.source import Definitions, dtype_macros, function
from tinynet.engine.precision import is_bfloat16

THREADS = 256  # in a block
WIDEST = 32  # threads of a block that are neighbours along the channels, at most
BLOCKS = 1056  # 8 for each of the 132 multiprocessors of an H100 or H200, at most
LEAST_ROWS = 4  # of a thread, where there are so few that fewer blocks will do
FINISH = 8, 32  # threads (channels, parts) of a block that adds up the parts
LOAD = 16  # bytes, the largest that a thread loads at a time


class Columns(NamedTuple):
    """The division of an array (rows, channels)."""

    grid: tuple[int, int]  # groups of channels, chunks of rows
    block: tuple[int, int]  # threads along the channels and along the rows
    finish: tuple[int]  # the grid of the second stage
    chunk: int  # rows
    vec: int  # channels of a thread

    @property
    def parts(self) -> int:
        """Partial sums for each channel."""
        return self.grid[1]

    @property
    def definitions(self) -> Definitions:
        """As ``columns.cuh`` asks for it."""
        return (
            ("VEC", self.vec),
            *(("COLUMNS", self.block[0]), ("ROWS", self.block[1])),
            *(("FINISH_COLUMNS", FINISH[0]), ("FINISH_ROWS", FINISH[1])),
        )


def divide(rows: int, channels: int, itemsize: int, *arrays: Array) -> Columns:
    """The division of an array (rows, channels) of numbers of so many bytes.

    arrays   that a kernel reads or writes a thread's channels of, at a time
    """
    vec = LOAD // itemsize
    if channels % vec or not all(map(is_aligned, arrays)):
        vec = 1
    packs = channels // vec
    across = -(-packs // WIDEST)  # blocks, of as many threads each
    wide = -(-packs // across)
    high = max(1, THREADS // wide)
    parts = max(1, min(BLOCKS // across, -(-rows // (high * LEAST_ROWS))))
    chunk = -(-rows // parts)
    chunk = -(-chunk // high) * high
    grid = across, -(-rows // chunk)
    return Columns(grid, (wide, high), (-(-channels // FINISH[0]),), chunk, vec)


def is_aligned(x: Array) -> bool:
    """Whether x begins where the largest load may begin; a part of an array may not."""
    return int(x.data.ptr) % LOAD == 0  # type: ignore[attr-defined]


def channel_sums(x: Array) -> Array:
    """The sum of each channel, the gradient of a bias.  Report §2.5.6.

        db[c] = Σ x[..., c]

    x (..., C) in float32, float64 or bfloat16.  Returns db (C,), float32 for bfloat16.
    Sums of other dtypes are CuPy's.
    """
    types, channels = dtype_macros(x), x.shape[-1]
    if types is None or not x.size:
        return x.sum(axis=tuple(range(x.ndim - 1)))
    xp, x = load_library("cupy"), contiguous(x)
    rows = x.size // channels
    by = divide(rows, channels, x.itemsize, x)
    dtype = real_dtype(x)
    parts = xp.empty((by.parts, channels), dtype)
    given = (*types, *by.definitions)
    arguments = x, parts, np.int64(rows), np.int32(channels), np.int64(by.chunk)
    function("channel_sums", "channel_sums_parts", given)(by.grid, by.block, arguments)
    if by.parts == 1:
        return parts[0]
    sums = xp.empty(channels, dtype)
    finish = function("channel_sums", "channel_sums_finish", given)
    finish(by.finish, FINISH, (parts, sums, np.int32(by.parts), np.int32(channels)))
    return sums


def real_dtype(x: Array) -> np.dtype[np.floating]:
    """The dtype of sums over x: its own, float32 where x is bfloat16."""
    return np.dtype(np.float32) if is_bfloat16(x) else x.dtype
