"""Which arrays the compiled kernels take, and how they see them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from tinynet.backend import Array

DTYPES = np.dtype(np.float32), np.dtype(np.float64)
ROW = 1024  # numbers in a row; a handful of rows of sums then stay in a first-level cache


def covered(*arrays: Array) -> bool:
    """Whether all are float32, or all float64, in C order, and none is empty."""
    dtype = arrays[0].dtype
    if dtype not in DTYPES:
        return False
    return all(a.dtype == dtype and a.flags.c_contiguous and a.size for a in arrays)


class _Seen:
    """What NumPy keeps alive for a view that may be written to."""

    def __init__(self, x: Array) -> None:
        address, _ = x.__array_interface__["data"]
        self.x = x
        self.__array_interface__: dict[str, Any] = {
            **x.__array_interface__,
            "data": (address, False),
        }


def seen(x: Array) -> Array:
    """x itself, or where it is read-only the same memory, not marked so.

    Numba compiles a function anew for a read-only argument. Only for what a kernel reads.
    """
    return x if x.flags.writeable else np.asarray(_Seen(x))


def flat(x: Array) -> Array:
    """x, in C order, as its numbers in a row; ``seen`` of a read-only one."""
    return seen(x).reshape(-1)


@lru_cache(maxsize=1024)
def cells_in_a_row(cells: int, channels: int) -> int:
    """The largest divisor of ``cells`` that makes a row of at most ``ROW`` numbers, or 1."""
    return max((n for n in range(1, ROW // channels + 1) if cells % n == 0), default=1)


def as_rows(x: Array) -> Array:
    """x (..., C) seen as rows (rows, cells · C) of about ``ROW`` numbers.

    The innermost loop of a kernel then runs over a row. Over C = 16 numbers it would be mostly
    overhead, and the compiler makes vector instructions only for what is left after its last
    multiple of 32.
    """
    channels = x.shape[-1]
    return seen(x).reshape(-1, channels * cells_in_a_row(x.size // channels, channels))
