"""One process at a time where two would write the same files."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)  # as some network folders answer


@contextmanager
def alone(lock: Path, making: str) -> Iterator[None]:
    """Within this block no other process is in one with the same ``lock``; waits, and says so.

    lock     a file in a folder that is there; it stays, and may lie beside what is made
    making   what for, to be read after "another process is making"
    The system itself frees the lock when a process ends, however it ends. Raises OSError if the
    file cannot be made; where the filesystem has no locks the block runs without.
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
