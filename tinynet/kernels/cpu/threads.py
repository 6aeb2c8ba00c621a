"""Share the images of a batch among threads.

A batch is cut into blocks small enough to stay in a core's cache; NumPy lets go of the
interpreter's lock inside its loops and matrix products, so blocks run side by side. The cut
depends on the shapes alone, never on the number of threads, and sums over blocks are taken in
block order: results do not change with the number of threads.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from tinynet.backend import Array

T = TypeVar("T")

BLOCK_BYTES = 1 << 20  # half of a typical second-level cache

_lock = threading.Lock()
_pool: tuple[int, int, ThreadPoolExecutor] | None = None  # process, threads, pool
_blas = ThreadpoolController().select(user_api="blas")


def thread_count() -> int:
    """Threads to use: OMP_NUM_THREADS where it is set, else the cores this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def images_per_block(bytes_per_image: int) -> int:
    """How many images fit a block; at least one."""
    return max(1, BLOCK_BYTES // max(1, bytes_per_image))


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
    threads = thread_count()
    if len(blocks) < 2 or threads < 2:
        return [work(block) for block in blocks]
    # one BLAS thread inside each of ours: more would wait for each other
    busy = _lock.acquire(blocking=False)
    try:
        if not busy:  # another thread's batch has the pool: stay out of its way
            return [work(block) for block in blocks]
        with _blas.limit(limits=1) if _blas.lib_controllers else nullcontext():
            return list(_executor(threads).map(work, blocks))
    finally:
        if busy:
            _lock.release()


def _executor(threads: int) -> ThreadPoolExecutor:
    """The pool, made at first use and anew in a forked process, which inherits no threads."""
    global _pool
    if _pool is None or _pool[:2] != (os.getpid(), threads):
        _pool = os.getpid(), threads, ThreadPoolExecutor(threads, "tinynet")
    return _pool[2]
