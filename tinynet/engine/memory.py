"""Memory that a training step keeps for the next one.

Every step of one shape asks for the same arrays. Fresh memory from the system costs a page fault
for each 4 KB, which is as slow as the arithmetic of a small layer. So within ``with workspace:``
``empty`` hands out pieces of one slab, and after the first steps nothing large is asked of the
system. An array gives its piece back when nothing refers to it any more: Python counts references,
views count too, and what is still in use is never handed out.

The first ``with`` block finds out how much is in use at one time, at most; the slab has that size.
Where pieces do not fit into it, because what is free lies scattered, fresh memory serves, and the
slab is larger the next time.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
from bisect import bisect_left
from collections import deque
from contextvars import ContextVar, Token
from typing import Any
from weakref import ref

import numpy as np

from tinynet.backend import Array

SMALL = 1 << 16  # bytes; below, the system's own allocator is as good
LONG_LIVED = (
    1 << 22
)  # bytes; pieces from here on are cut from the slab's front, others from its end
ALIGNMENT = 64  # bytes, a cache line
HUGE = 1 << 22  # bytes; from here on in large pages, of which fewer need to be fetched

_active: ContextVar[Workspace | None] = ContextVar("workspace", default=None)
_lock = threading.RLock()
if hasattr(os, "register_at_fork"):  # held meanwhile: no fork comes in the middle of a take
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


class _Slab:
    """One stretch of memory; what is free of it, as sorted starts and ends."""

    def __init__(self, size: int) -> None:
        # From the system itself and, unlike what malloc has given, back to it when freed: malloc
        # keeps what it gave as part of its heap while anything behind that is in use.
        memory = mmap.mmap(-1, max(size, 1))
        if size >= HUGE and hasattr(mmap, "MADV_HUGEPAGE"):  # as NumPy does
            memory.madvise(mmap.MADV_HUGEPAGE)
        self.memory = np.frombuffer(memory, np.uint8, size)
        self.starts, self.ends = [0], [size]

    def take(self, size: int) -> int | None:
        """Return where a piece of ``size`` bytes begins, or None if there is no room."""
        places = range(len(self.starts))
        for i in places if size >= LONG_LIVED else reversed(places):
            start, end = self.starts[i], self.ends[i]
            if end - start < size:
                continue
            if end - start == size:
                del self.starts[i], self.ends[i]
                return start
            if size >= LONG_LIVED:
                self.starts[i] = start + size
                return start
            self.ends[i] = end - size
            return end - size
        return None

    def give_back(self, start: int, size: int) -> None:
        """Free a piece; it grows together with what is free around it."""
        end, i = start + size, bisect_left(self.starts, start)
        before = i > 0 and self.ends[i - 1] == start
        after = i < len(self.starts) and self.starts[i] == end
        if before and after:
            self.ends[i - 1] = self.ends[i]
            del self.starts[i], self.ends[i]
        elif before:
            self.ends[i - 1] = end
        elif after:
            self.starts[i] = start
        else:
            self.starts.insert(i, start)
            self.ends.insert(i, end)


class _Lease:
    """A piece in use. NumPy keeps the object as the array's base, and so alive."""

    __slots__ = ("__array_interface__", "__weakref__", "memory")

    def __init__(self, memory: Array) -> None:
        self.memory = memory
        self.__array_interface__ = memory.__array_interface__


class Workspace:
    """Memory that is handed out again once nothing refers to it.

    allocated   bytes that it holds, in use or not
    """

    def __init__(self) -> None:
        self._slab: _Slab | None = None
        self._in_use = self._most = 0  # bytes, of the slab and beside it; now, and at most
        self._beside = self._most_beside = 0  # bytes beside the slab
        self._tokens = threading.local()  # what was in force before, for each thread's blocks
        self._slabs = 0  # that there were
        # Pieces in use: number of the slab (0: beside it), place and size. A lease that goes is put
        # into the queue by the interpreter: Ctrl-C cannot come between, as in a ``__del__``.
        self._leases: dict[ref[_Lease], tuple[int, int, int]] = {}
        self._gone: deque[ref[_Lease]] = deque()

    @property
    def allocated(self) -> int:
        """Bytes that it holds, in use or not."""
        with _lock:
            self._collect()
            return self._beside + (0 if self._slab is None else len(self._slab.memory))

    def take(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """An array (shape) of undefined content."""
        dtype = np.dtype(dtype)
        bytes_ = dtype.itemsize * math.prod(shape)
        size = -(-bytes_ // ALIGNMENT) * ALIGNMENT
        with _lock:
            self._collect()
            slab, place = self._slab, None if self._slab is None else self._slab.take(size)
            number = self._slabs
            if slab is None or place is None:
                slab, place, number = _Slab(size), 0, 0
                self._beside += size
                self._most_beside = max(self._most_beside, self._beside)
            self._in_use += size
            self._most = max(self._most, self._in_use)
            lease = _Lease(slab.memory[place : place + size])
            self._leases[ref(lease, self._gone.append)] = number, place, size
        return np.asarray(lease)[:bytes_].view(dtype).reshape(shape)

    def _collect(self) -> None:
        """Free the pieces to which no array refers any more."""
        while self._gone:
            number, place, size = self._leases.pop(self._gone.popleft())
            self._in_use -= size
            if self._slab is not None and number == self._slabs:
                self._slab.give_back(place, size)
            else:
                self._beside -= size

    def clear(self) -> None:
        """Let go of the slab, as when shapes have changed; arrays in use keep their memory."""
        with _lock:
            self._collect()
            self._replace(None)
            self._most = self._in_use

    def __enter__(self) -> Workspace:
        before: list[Token[Workspace | None]] = self._tokens.__dict__.setdefault("before", [])
        before.append(_active.set(self))
        return self

    def __exit__(self, *error: object) -> None:
        _active.reset(self._tokens.before.pop())
        with _lock:
            self._collect()
            if self._most_beside:  # something did not fit
                held = 0 if self._slab is None else len(self._slab.memory)
                size = max(self._most, held + self._most_beside if held else 0)
                self._replace(None)  # before its successor is made, so that both never exist
                self._replace(_Slab(size))

    def _replace(self, slab: _Slab | None) -> None:
        if self._slab is not None:
            free = sum(self._slab.ends) - sum(self._slab.starts)
            self._beside += len(self._slab.memory) - free  # its arrays in use live on beside
        self._slab = slab
        self._slabs += slab is not None
        self._most_beside = 0


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """An array of undefined content, from the workspace in force if it is large, else fresh."""
    workspace = _active.get()
    if workspace is None or np.dtype(dtype).itemsize * math.prod(shape) < SMALL:
        return np.empty(shape, dtype)
    return workspace.take(shape, dtype)


def empty_like(x: Array) -> Array:
    """``empty`` of x's shape and dtype, in C order."""
    return empty(x.shape, x.dtype)
