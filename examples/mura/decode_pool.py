"""Decode many images in parallel, each process writing its rows of one pixel file."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path

from examples.mura.decode import BadImage, Fit, read_square
from examples.mura.errors import UserError

Job = tuple[int, Path]  # row of the pixel file, image file
Outcome = tuple[int, str | None]  # row, what is wrong with its image if it is bad

CHUNK = 32  # images handed to a process at a time
POOL_FROM = 512  # images from which on processes are worth their start, half a second
MOST_WORKERS = 60  # Windows cannot wait for more than 61 processes


def decode_files(
    jobs: list[Job], pixels: Path, offset: int, side: int, fit: Fit, workers: int | None
) -> Generator[Outcome, None, None]:
    """Decode every job's image into its row of ``pixels``, which start at byte ``offset``.

    Yields (row, None) for an image whose pixels are written and (row, what is wrong) for a bad
    one, in any order.  Closing the generator stops the processes.
    """
    if workers is None:
        workers = usable_cores() if len(jobs) >= POOL_FROM else 1
    decode = partial(decode_chunk, pixels, offset, side, fit)
    chunks = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
    if workers <= 1:
        for chunk in chunks:
            yield from decode(chunk)
        return
    # "spawn" is the one way that works on every system and beside threads
    pool = ProcessPoolExecutor(
        min(workers, MOST_WORKERS), mp_context=get_context("spawn"), initializer=start_worker
    )
    try:
        for future in as_completed([pool.submit(decode, chunk) for chunk in chunks]):
            yield from future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process that decodes images ended early, perhaps for want of memory: "
            "run it again with --workers 1, it goes on from there"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def decode_chunk(pixels: Path, offset: int, side: int, fit: Fit, chunk: list[Job]) -> list[Outcome]:
    """Decode some images, write each to its row of the file, and say how each went."""
    outcomes: list[Outcome] = []
    with pixels.open("r+b") as stream:
        for row, file in chunk:
            try:
                square = read_square(file, side, fit)
            except BadImage as problem:
                outcomes.append((row, str(problem)))
            else:
                stream.seek(offset + row * side * side)
                stream.write(square.tobytes())
                outcomes.append((row, None))
    return outcomes


def start_worker() -> None:
    """Leave Ctrl-C to the parent process, and end when it ends, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_parent, daemon=True).start()


def end_with_parent() -> None:
    """Wait for the parent process to end, and end with it; runs on a thread of a worker."""
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def usable_cores() -> int:
    """Cores that this process may use, where the system says so, or all of them."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
