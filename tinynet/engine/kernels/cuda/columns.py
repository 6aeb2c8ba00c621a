"""How arrays (rows, channels) are divided among threads: what ``columns.cuh`` is told."""

from __future__ import annotations

from typing import NamedTuple

from tinynet.backend import Array
from tinynet.engine.kernels.cuda.source import Definitions

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
    if channels % vec or not all(map(aligned, arrays)):
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


def aligned(x: Array) -> bool:
    """Whether x begins where the largest load may begin; a part of an array may not."""
    return int(x.data.ptr) % LOAD == 0  # type: ignore[attr-defined]
