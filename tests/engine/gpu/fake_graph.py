"""CUDA graphs of the stand-in for CuPy: what is called while a stream is captured is kept, and
done when the graph is launched, on what the arrays hold by then.

What CuPy refuses while it captures is refused: waiting for a number, products by cuBLAS, copies
from the processor. Nothing that is captured changes an array: what a later operation finds there is
what was there before, or nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

REFUSED = {"matmul", "dot", "tensordot", "einsum", "inner", "outer", "vdot"}
UNDEFINED = {"empty", "empty_like"}  # their content is not defined

_thread = threading.local()  # one captures while another, which reads batches, does not


def captured() -> list[Callable[[], Any]] | None:
    """What the graph in the making, in this thread, is to do."""
    return getattr(_thread, "captured", None)


def refuse(what: str) -> None:
    """RuntimeError while a stream is captured."""
    if captured() is not None:
        raise RuntimeError(f"{what} is not permitted while a stream is captured")


def made(name: str, compute: Callable[[], Any]) -> Any:
    """The result of an operation that makes new arrays, or views."""
    graph = captured()
    if graph is None:
        return compute()
    if name in REFUSED:
        refuse(name)
    with np.errstate(all="ignore"):  # of numbers that are not there yet
        result = compute()
    if isinstance(result, np.generic):
        result = np.array(result)  # a place that can be written to
    if name not in UNDEFINED:
        for place in result if isinstance(result, list | tuple) else [result]:
            if isinstance(place, np.ndarray):
                graph.append(lambda: _fill(result, compute()))
                break
    return result


def changed(compute: Callable[[], Any]) -> None:
    """An operation that changes arrays: while a stream is captured, not done at once."""
    graph = captured()
    if graph is None:
        compute()
    else:
        graph.append(compute)


def _fill(places: Any, values: Any) -> None:
    several = isinstance(places, list | tuple)
    for place, value in zip(places, values, strict=True) if several else [(places, values)]:
        if isinstance(place, np.ndarray) and not np.shares_memory(place, value):
            place[...] = value


class Event:
    """Of no effect: everything here happens in order."""


class Stream:
    """A stream whose work can be captured."""

    def __init__(self, non_blocking: bool = False) -> None:
        self.non_blocking = non_blocking

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def record(self) -> Event:
        return Event()

    def wait_event(self, event: Event) -> None:
        assert isinstance(event, Event)

    def synchronize(self) -> None:
        refuse("synchronize")

    def begin_capture(self) -> None:
        assert self.non_blocking
        assert captured() is None
        _thread.captured = []

    def end_capture(self) -> Graph:
        operations = captured()
        assert operations is not None
        _thread.captured = None
        return Graph(operations)


class Graph:
    """What was captured."""

    def __init__(self, operations: list[Callable[[], Any]]) -> None:
        self.operations = operations

    def launch(self, stream: Stream) -> None:
        for operation in self.operations:
            operation()


class MemoryPool:
    """Of no effect."""

    def malloc(self, size: int) -> None:
        raise AssertionError("the stand-in takes NumPy's memory")

    def total_bytes(self) -> int:
        return 3 << 20


class _Allocator:
    def __init__(self, malloc: Any) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass


class Cuda:
    """The module ``cupy.cuda``."""

    Stream, MemoryPool, Event = Stream, MemoryPool, Event
    using_allocator = _Allocator

    @staticmethod
    def alloc_pinned_memory(size: int) -> bytearray:
        return bytearray(size)

    @staticmethod
    def get_current_stream() -> Stream:
        return Stream()
