"""CUDA graphs: what was captured once is launched again, in one call, on the same memory.

Python takes about ten microseconds to start a kernel, longer than the GPU takes to run a small one.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np

from tinynet.backend import Array, library_of, load_library
from tinynet.engine.kernels.cuda.source import compile_all, counted


class GraphArena:
    """A stream and a pool of memory, for graphs that never run at the same time.

    Graphs write to memory of this pool, which serves nothing else.
    """

    def __init__(self) -> None:
        cuda = load_library("cupy").cuda
        self.stream, self.pool = cuda.Stream(non_blocking=True), cuda.MemoryPool()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """In this block kernels run in the stream, after all work so far; memory is the pool's.

        Work of other streams that comes later waits for nothing: read a result first.
        """
        cuda = load_library("cupy").cuda
        self.stream.wait_event(cuda.get_current_stream().record())
        with self.stream, cuda.using_allocator(self.pool.malloc):
            yield

    def put(self, place: Array, x: Array) -> None:
        """Copy x, NumPy's or CuPy's, to ``place`` on the GPU, after what the stream does."""
        if library_of(x) == "numpy":
            place.set(np.ascontiguousarray(x), stream=self.stream)  # type: ignore[attr-defined]
        else:
            place[...] = x


class CapturedFunction:
    """A function on fixed places of the GPU's memory, captured when it is called again.

    body      takes nothing; starts kernels and waits for none. Before the first call it runs
              without kernels, to find out which are to be compiled. The first call runs it as it
              is, which finds out how much memory it needs. The second captures it.
    what      it is, for the warning where it cannot be captured: then it runs as it is each time
    changes   what body changes beside its result, other than by our kernels
    """

    def __init__(
        self, arena: GraphArena, body: Callable[[], Any], what: str, changes: Iterable[Array] = ()
    ) -> None:
        self.arena, self.body, self.what = arena, body, what
        self.changes = list(changes)
        self.result: Any = None  # of body; the next call writes over it
        self._ran = self._launched = False
        self._graph: Any = None
        self._captures = True

    @property
    def launched(self) -> bool:
        """Whether the last call was a graph's launch: nothing of ``body`` ran on the processor."""
        return self._launched

    def __call__(self) -> Any:
        """What ``body`` returns, on the GPU."""
        self._launched = self._graph is not None
        if not self._ran:
            self._compile()
        elif self._graph is None and self._captures:
            self._capture()
        if self._graph is not None:
            self._graph.launch(self.arena.stream)
        else:
            self.result = self.body()
        self._ran = True
        return self.result

    def _compile(self) -> None:
        """All kernels at once, and before the first of them runs."""
        before = [array.copy() for array in self.changes]
        # what is wrong is said when it happens again, with kernels
        with counted() as wanted, np.errstate(all="ignore"), suppress(Exception):
            self.body()
        for array, copy in zip(self.changes, before, strict=True):
            array[...] = copy
        compile_all(wanted)

    def _capture(self) -> None:
        stream = self.arena.stream
        stream.begin_capture()
        try:
            result = self.body()
        except Exception as error:
            with suppress(Exception):  # CUDA reports the same error once more
                stream.end_capture()
            self._captures = False
            reason = (str(error).strip() or repr(error)).splitlines()[0]
            warnings.warn(
                f"{self.what} cannot be made a CUDA graph, and runs kernel by kernel: {reason}",
                RuntimeWarning,
                stacklevel=2,
            )
            return
        self._graph, self.result = stream.end_capture(), result
