"""Share the images of a batch among threads.

NumPy lets go of the interpreter's lock inside its loops and matrix products, and so does compiled
code: pieces of a batch run side by side.

    over_blocks    pieces small enough to stay in a core's cache, cut by the shapes alone: sums over
                   them, taken in their order, do not change with the number of threads
    over_shares    one piece for each thread: for work that keeps to the cache by itself, and whose
                   results do not depend on the cut, or may do so in their last bits
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import numpy as np
from threadpoolctl import ThreadpoolController

from tinynet.backend import Array
from tinynet.engine.team import Team

T = TypeVar("T")

BLOCK_BYTES = 1 << 20  # half of a typical second-level cache

_lock = threading.Lock()
_team: Team | None = None
_blas = ThreadpoolController().select(user_api="blas")
_holders_lock, _holders = threading.Lock(), 0  # of one_blas_thread
_limit: Any = None


def thread_count() -> int:
    """Threads to use: OMP_NUM_THREADS where it is set, else the cores this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
    global _holders, _limit
    with _holders_lock:
        _holders += 1
        if _holders == 1:
            _limit = _blas.limit(limits=1)
    try:
        yield
    finally:
        with _holders_lock:
            _holders -= 1
            if _holders == 0 and _limit is not None:
                _limit.restore_original_limits()


def images_per_block(bytes_per_image: int) -> int:
    """How many images fit a block; at least one."""
    return max(1, BLOCK_BYTES // max(1, bytes_per_image))


def rows_per_strip(bytes_per_row: int, at_least: int) -> int:
    """How many rows fit a block, or ``at_least`` so many bytes if that is more; at least one."""
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
    """
    threads = thread_count()
    size = max(1, -(-n // (threads * multiple))) * multiple
    shares = [slice(start, min(start + size, n)) for start in range(0, n, size)]
    if len(shares) < 2:
        return [work(share) for share in shares]
    if not _lock.acquire(
        blocking=False
    ):  # another thread's batch has the team: stay out of its way
        return [work(slice(0, n))]
    try:
        with one_blas_thread():
            return _team_of(threads).run([partial(work, share) for share in shares])
    finally:
        _lock.release()


def _team_of(threads: int) -> Team:
    """Made at first use, and anew in a forked process, which inherits no threads."""
    global _team
    here = _team is not None and _team.process == os.getpid()
    if _team is None or not here or _team.size != threads:
        if _team is not None and here:
            _team.end()
        _team = Team(threads)
    return _team
