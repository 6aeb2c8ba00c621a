"""Several processes: workers that stop with their parent, and a lock where two would collide."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from filelock import FileLock, Timeout

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)  # what some network drives answer
MOST_WORKERS = 60  # Windows cannot wait for more than 61 processes


@contextmanager
def locked(lock: Path, making: str) -> Iterator[None]:
    """Hold a lock against other processes; if one has it, say so on stderr and wait.

    lock     a file in an existing folder; it is left there
    making   completes the sentence "another process is making ..."
    The operating system frees the lock when a process ends, however it ends. Raises OSError if
    the file cannot be made; on a filesystem without locks the block runs without one.
    """
    held = FileLock(lock)
    try:
        try:
            held.acquire(timeout=0)
        except Timeout:
            print(f"waiting: another process is making {making}", file=sys.stderr)
            held.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        held.release()


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """A process pool that ends with this block, or with this process, however it ends."""
    # spawn works on every system; a fork beside BLAS's threads can deadlock
    context = get_context("spawn")
    pool = ProcessPoolExecutor(min(workers, MOST_WORKERS), context, initializer=start_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def start_worker() -> None:
    """Leave Ctrl-C to the parent process, and end when it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
