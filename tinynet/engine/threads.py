"""Share the images of a batch among threads.

NumPy releases the interpreter's lock inside its loops and matrix products, and so does compiled
code: parts of a batch run side by side.

    over_blocks    blocks small enough for a core's cache, cut by the shapes alone: sums over them,
                   taken in their order, do not change with the number of threads
    over_shares    one share for each thread: for work that keeps to the cache by itself, and whose
                   results do not depend on the cut, or may do so in their last bits
    WorkerPool     the threads: each waits for a task on a lock. Handing a task over and hearing
                   that it is done takes 90 µs on a virtual machine of two cores, half of what
                   ThreadPoolExecutor takes; a training step of a small network does it 100 times
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import copy_context
from functools import cache, partial
from typing import Any, TypeVar

import numpy as np

from tinynet.backend import Array

T = TypeVar("T")

BLOCK_BYTES = 1 << 20  # half of a typical second-level cache

_lock = threading.RLock()  # of what follows
_pool: WorkerPool | None = None
_user: object = None  # of the pool
_holders: dict[object, int] = {}  # blocks of one_blas_thread, and the thread that each is in
_blas_counts: list[tuple[Any, int]] = []  # BLAS libraries kept to one thread; theirs before


class StartError(Exception):
    """A thread could not be started."""


class Worker:
    """One thread, which runs a task at a time.

    busy   from ``start`` to the end of the task
    """

    def __init__(self) -> None:
        self.busy = False
        self._task: Callable[[], Any] | None = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self.thread = threading.Thread(target=self._work, name="tinynet", daemon=True)
        try:
            self.thread.start()
        except RuntimeError as error:
            raise StartError(str(error)) from error
        except BaseException:  # Ctrl-C while it starts: it ends as soon as it has
            self.end()
            raise

    def start(self, task: Callable[[], Any]) -> None:
        """Have the task run; the worker must not be busy."""
        self._task, self._error, self.busy = task, None, True
        self._go.release()

    def wait(self) -> None:
        """Return when the task has ended; Ctrl-C interrupts it."""
        while self.busy:
            self._done.acquire()  # may be open from an earlier task: ``busy`` is what counts

    def result(self) -> Any:
        """Return what the last task returned; raise what it raised."""
        result, error, self._result, self._error = self._result, self._error, None, None
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """End the thread, which must not be busy."""
        self._task = None
        self._go.release()

    def _work(self) -> None:
        while True:
            self._go.acquire()
            if self._task is None:
                return
            try:
                self._result = self._task()
            except BaseException as error:  # whatever it is, the thread that waits raises it
                self._error = error
            self._task = None  # keep nothing alive
            self.busy = False
            with suppress(RuntimeError):  # open already: the last task was not waited for
                self._done.release()


def wait_for(workers: Sequence[Worker]) -> None:
    """Return when all their tasks have ended."""
    for worker in workers:
        worker.wait()


def to_the_end(work: Callable[[], Any]) -> None:
    """Do ``work``, again from its start if Ctrl-C interrupts it.

    Raises the last KeyboardInterrupt when it is done. To be called in an ``except`` clause: the
    first may come before a function's first line.
    """
    interrupt: KeyboardInterrupt | None = None
    while True:
        try:
            work()
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


class WorkerPool:
    """The calling thread and ``size`` − 1 workers."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.workers: list[Worker] = []
        try:
            while len(self.workers) < size - 1:
                self.workers.append(Worker())
        except BaseException:
            self.end()
            raise

    def run(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """The results of at most ``size`` tasks, run at the same time, the first on this thread.

        Each runs in a copy of this thread's context: the same memory, the same choice of
        kernels. None is still running when this returns or raises.
        """
        others = self.workers[: len(tasks) - 1]
        try:
            for worker, task in zip(others, tasks[1:], strict=True):
                context = copy_context()
                worker.start(lambda context=context, task=task: context.run(task))  # type: ignore[misc]
            first = tasks[0]()
        finally:
            try:
                wait_for(others)
            except KeyboardInterrupt:
                to_the_end(lambda: wait_for(others))
                raise
        return [first, *(worker.result() for worker in others)]

    def end(self) -> None:
        """End the workers' threads."""
        for worker in self.workers:
            worker.end()


def thread_count() -> int:
    """Return the number of cores that this process may use, or OMP_NUM_THREADS if that is less."""
    if sys.platform == "emscripten":  # a browser: Python cannot start threads there
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    setting = os.environ.get("OMP_NUM_THREADS", "")
    asked = threads_asked(setting)
    if setting and asked is None:
        warnings.warn(
            f"OMP_NUM_THREADS is {setting[:20]!r}, want a whole number from 1: every core is used",
            RuntimeWarning,
            stacklevel=2,
        )
    return min(cores or 1, asked or sys.maxsize)


def threads_asked(setting: str) -> int | None:
    """What a variable such as OMP_NUM_THREADS asks for; None where that is no number of threads.

    "4,2" asks for 4 threads, and for 2 inside each of them.
    """
    digits = setting.split(",")[0].strip().lstrip("0")
    # of a number beyond any machine's, the first digits
    return int(digits[:9]) if digits.isascii() and digits.isdigit() else None


@cache
def _blas() -> Any:
    from threadpoolctl import ThreadpoolController  # only where threads share the work

    return ThreadpoolController().select(user_api="blas").lib_controllers


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Within this block BLAS keeps to the thread that calls it, if our threads share the work.

    BLAS threads inside ours would wait for each other, and for some milliseconds after a product
    they turn idly on a core that another thread needs. Changing their number costs time too, so
    training holds this block around all its steps; blocks inside it then change nothing. Measured
    on the demo's training step, 2 cores: 2.6 ms an image, against 3.6 with a change per operation.
    """
    if thread_count() < 2:
        yield
        return
    holder = object()
    try:
        _hold_blas(holder)
        yield
    finally:
        try:
            _hold_blas(holder, False)
        except KeyboardInterrupt:
            to_the_end(lambda: _hold_blas(holder, False))
            raise


def _hold_blas(holder: object, held: bool = True) -> None:
    """Note that ``holder`` wants BLAS to keep to one thread, or no longer does; may be repeated."""
    global _blas_counts
    with _lock:
        if held:
            _holders[holder] = threading.get_ident()
        else:
            _holders.pop(holder, None)
        if _holders and not _blas_counts:
            _blas_counts = [(library, library.num_threads) for library in _blas()]
            for library, _ in _blas_counts:
                library.set_num_threads(1)
        elif not _holders:
            for library, count in _blas_counts:
                library.set_num_threads(count)
            _blas_counts = []


def images_per_block(bytes_per_image: int) -> int:
    """Return the number of images that fit a block, at least one."""
    return max(1, BLOCK_BYTES // max(1, bytes_per_image))


def rows_per_strip(bytes_per_row: int, at_least: int) -> int:
    """Return the number of rows that fit a block, or ``at_least`` bytes if more; at least one."""
    return max(1, max(BLOCK_BYTES, at_least) // max(1, bytes_per_row))


def column_sums(x: Array) -> Array:
    """Σ over all but the last axis: (C,) from (..., C), as the product of a row of ones with x.

    BLAS does it at the speed of memory; ``x.sum(axis=0)`` takes several times as long.
    """
    rows = x.reshape(-1, x.shape[-1])
    return np.ones(len(rows), x.dtype) @ rows


def tiled(v: Array, width: int) -> Array:
    """v (C,) repeated for a row of ``width`` cells, (width·C,).

    NumPy's inner loops run over the last axis, and a loop of C = 16 numbers is mostly overhead:
    (H, W·C) against (W·C,) is 2 to 4 times as fast as (H, W, C) against (C,).
    """
    return np.tile(v, width)


def over_blocks(n: int, per_block: int, work: Callable[[slice], T]) -> list[T]:
    """``work(images)`` for each block of ``per_block`` among n images; the results in block order.

    ``work`` runs on several threads at once and must write to its own images only.
    """
    blocks = [slice(start, min(start + per_block, n)) for start in range(0, n, per_block)]

    def run(share: slice) -> list[T]:
        return [work(block) for block in blocks[share]]

    return [result for results in over_shares(len(blocks), run) for result in results]


def over_shares(n: int, work: Callable[[slice], T], multiple: int = 1) -> list[T]:
    """``work(images)`` for one run of images a thread, the first on this thread; in order.

    multiple   of which every run but the last is one
    While another thread's batch has the workers, this thread takes all runs, one by one: they are
    cut the same way, so that the bits of a result do not depend on what else the process does.
    """
    global _user
    threads = thread_count()
    size = max(1, -(-n // (threads * multiple))) * multiple
    shares = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    if len(shares) < 2:
        return [work(share) for share in shares]
    me = object()
    try:
        with _lock:
            _user = me if _user is None else _user
        if _user is me:
            with one_blas_thread(), suppress(StartError):
                return _pool_of(threads).run([partial(work, share) for share in shares])
        with one_blas_thread():
            return [work(share) for share in shares]
    finally:
        if _user is me:  # no call here: Ctrl-C comes between two of them
            _user = None


def _pool_of(threads: int) -> WorkerPool:
    """Return the pool, made at first use and for another number of threads."""
    global _pool
    if _pool is None or _pool.size != threads:
        if _pool is not None:
            _pool.end()
        _pool = None
        _pool = WorkerPool(threads)
    return _pool


def _after_fork() -> None:
    """In the new process, which has one thread: no workers, and no blocks of other threads."""
    global _pool, _user
    _lock.release()
    _pool = _user = None
    for holder, thread in list(_holders.items()):
        if thread != threading.get_ident():
            _hold_blas(holder, False)


if hasattr(os, "register_at_fork"):  # the lock is held meanwhile: another thread's never goes over
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork
    )
