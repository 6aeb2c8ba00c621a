"""Worker processes that end with the work they were started for.

Imports nothing that takes long: a worker can be ended from here on.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children, get_context
from multiprocessing.connection import Connection
from typing import TypeVar

from examples.mura.errors import UserError

T = TypeVar("T")
R = TypeVar("R")

MOST_WORKERS = 60  # Windows cannot wait for more than 61 processes


def in_workers(
    work: Callable[[T], R], tasks: Sequence[T], workers: int, chunk: int = 1
) -> Generator[R, None, None]:
    """``work(task)`` for each task, in order, by worker processes; by this one if one is enough.

    chunk   tasks that are handed to a process at a time
    The processes end with this generator, or with this process, however they end; at once if it is
    closed early, or interrupted. Raises UserError if one of them ended by itself.
    """
    workers = min(workers, MOST_WORKERS, -(-len(tasks) // chunk))
    if workers <= 1:
        yield from map(work, tasks)
        return
    # spawn works on every system; a fork beside BLAS's threads can deadlock
    context = get_context("spawn")
    watched, held = context.Pipe(duplex=False)  # the system closes what a process holds as it ends
    others = active_children()
    pool = ProcessPoolExecutor(workers, context, initializer=start_worker, initargs=(watched,))
    try:
        with starting():
            results = pool.map(work, tasks, chunksize=chunk)
        yield from results
        pool.shutdown()
    except BrokenProcessPool as error:
        time.sleep(0.2)  # a signal to all of them comes to this process too: it is the cause
        raise UserError(
            "a worker process ended early, perhaps for want of memory: close other programs and "
            "run the same command again, it goes on from there"
        ) from error
    finally:
        held.close()  # ends the workers that are left, but for those that have just been started
        for worker in set(active_children()).difference(others):
            worker.kill()
        pool.shutdown(cancel_futures=True)
        watched.close()


@contextmanager
def starting() -> Iterator[None]:
    """Within this block, where processes are started, an interrupt waits and is not theirs."""
    from tinynet.train.interrupts import held_interrupts

    with held_interrupts():
        if not hasattr(signal, "pthread_sigmask"):  # Windows
            yield
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # inherited by them
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start_worker(watched: Connection) -> None:
    """Leave interrupts to the parent process, and end as soon as it is done with its workers."""
    for name in ("SIGINT", "SIGHUP"):  # not SIGTERM, by which a pool ends what is left of it
        if hasattr(signal, name):  # Windows has no SIGHUP
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    threading.Thread(target=end_with, args=(watched,), daemon=True).start()


def end_with(watched: Connection) -> None:
    watched.poll(None)  # until the other end is closed
    os._exit(1)


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
