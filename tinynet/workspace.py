"""Memory that a training step keeps for the next one.

Every step of one shape asks for the same arrays. Fresh memory from the system costs a page fault
for each 4 KB, which is as slow as the arithmetic of a small layer. So within ``with workspace:``
``empty`` hands out buffers that earlier arrays have given back, and after the first step nothing
large is asked of the system. An array gives its buffer back when nothing refers to it any more:
Python counts references, views count too, and what is still in use is never handed out.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left
from contextvars import ContextVar, Token
from typing import Any

import numpy as np

from tinynet.backend import Array

SMALL = 1 << 16  # bytes; below, the system's own allocator is as good
WASTE = 1.25  # a buffer serves an array that is smaller by no more than this factor
ALIGNMENT = 64  # bytes, a cache line

_active: ContextVar[Workspace | None] = ContextVar("workspace", default=None)


class _Lease:
    """A buffer in use. NumPy keeps the object as the array's base, and so alive."""

    __slots__ = ("__array_interface__", "buffer", "workspace")

    def __init__(self, buffer: Array, workspace: Workspace) -> None:
        self.buffer, self.workspace = buffer, workspace
        self.__array_interface__ = buffer.__array_interface__

    def __del__(self) -> None:
        self.workspace.give_back(self.buffer)


class Workspace:
    """Buffers that are handed out again once nothing refers to them.

    allocated   bytes of all its buffers, in use or not
    """

    def __init__(self) -> None:
        self.allocated = 0
        self._free: list[Array] = []  # the smallest first
        self._sizes: list[int] = []  # theirs
        self._lock = threading.RLock()  # a garbage collection may give back in the middle of a take
        self._tokens: list[Token[Workspace | None]] = []

    def take(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array (shape) of undefined content, on the smallest free buffer that fits."""
        dtype = np.dtype(dtype)
        size = dtype.itemsize * math.prod(shape)
        with self._lock:
            place = bisect_left(self._sizes, size)
            if place < len(self._free) and self._sizes[place] <= WASTE * size:
                buffer = self._free.pop(place)
                del self._sizes[place]
            else:
                buffer = _aligned(size)
                self.allocated += size
        leased = np.asarray(_Lease(buffer, self))
        return leased[:size].view(dtype).reshape(shape)

    def give_back(self, buffer: Array) -> None:
        """Called when the last array on a buffer has gone."""
        with self._lock:
            place = bisect_left(self._sizes, buffer.nbytes)
            self._free.insert(place, buffer)
            self._sizes.insert(place, buffer.nbytes)

    def clear(self) -> None:
        """Let the system have what is not in use, as when shapes have changed."""
        with self._lock:
            self.allocated -= sum(self._sizes)
            self._free, self._sizes = [], []

    def __enter__(self) -> Workspace:
        self._tokens.append(_active.set(self))
        return self

    def __exit__(self, *error: object) -> None:
        _active.reset(self._tokens.pop())


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of undefined content, from the workspace in force if it is large, else fresh."""
    workspace = _active.get()
    if workspace is None or np.dtype(dtype).itemsize * math.prod(shape) < SMALL:
        return np.empty(shape, dtype)
    return workspace.take(shape, dtype)


def empty_like(x: Array) -> Array:
    """``empty`` of x's shape and dtype, in C order."""
    return empty(x.shape, x.dtype)


def _aligned(size: int) -> Array:
    raw = np.empty(size + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + size]
