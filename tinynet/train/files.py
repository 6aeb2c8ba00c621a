"""Files that outlive a kill, a full disk, a power cut and a second process.

A file is written beside its place, under a name that no other writer uses, and then moved there:
``path`` holds all of it or what it held before. A lock keeps a second process out of a folder, and
ends with the process that holds it; what kills have left half-written there is then removed.
"""

from __future__ import annotations

import errno
import glob
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from tinynet.train.reading import CheckpointError

LOCK = "run.lock"
HALF_WRITTEN = ".tinynet-????????.tmp"  # the end of a temporary file's name
HOUR = 3600.0
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP)  # what some network drives answer


class InUseError(CheckpointError):
    """Another process, or another thread, is using a folder."""


def write_whole(path: Path, data: bytes) -> None:
    """Write ``data`` so that ``path`` holds either all of it or what it held before.

    Makes the folder if need be.  Raises CheckpointError if it cannot be written.
    """
    with written_whole(path) as file:
        file.write(data)


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which becomes ``path`` at the end of the block, or never.

    It is on the disk by then, and so is its name. Makes the folder if need be. Raises
    CheckpointError, with what was there before, if it cannot be written.
    """
    folder = path.parent
    try:
        changed = [folder, *(p.parent for p in (folder, *folder.parents) if not p.exists())]
        folder.mkdir(parents=True, exist_ok=True)
        unique = HALF_WRITTEN.replace("?" * 8, os.urandom(4).hex())
        temporary = path.with_name(path.name + unique)
        stream = open(temporary, "xb")  # noqa: SIM115  a new file, never through a link
        try:
            with stream as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        _sync(changed)
        remove_half_written(folder, path.name, HOUR)
    except OSError as error:
        raise CheckpointError(
            f"{path}: cannot be written ({error.strerror or error}); what was there before is "
            "whole. Free some space, or choose a folder that can be written to"
        ) from error


def _sync(folders: list[Path]) -> None:
    """Have the names in these folders outlive a power cut, where the system can do that."""
    for folder in folders:
        with suppress(OSError):  # Windows opens no folders, some drives do not sync them
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def remove_half_written(folder: Path, name: str | None = None, older: float = 0.0) -> None:
    """Remove what kills have left of files that were being written in the folder.

    name    only what was to become this file; None: any
    older   only what was last written to this many seconds ago
    """
    prefix = "*" if name is None else glob.escape(name)
    for file in folder.glob(prefix + HALF_WRITTEN):
        with suppress(OSError):  # another process may have been first
            if time.time() - file.lstat().st_mtime >= older:
                file.unlink()


def holds_something(folder: Path, lock: str = LOCK) -> bool:
    """Whether a folder exists and holds more than its lock and what kills have left."""
    return folder.exists() and any(
        file.name != lock and not file.match("*" + HALF_WRITTEN) for file in folder.iterdir()
    )


@contextmanager
def locked(lock: Path, making: str = "") -> Iterator[None]:
    """Hold a lock against other processes and other threads.

    lock     a file; it is made, in a folder that is made if need be, and left there
    making   completes the sentence "another process is making ...": if one has the lock, say so on
             stderr and wait; "": raise InUseError
    The operating system frees the lock when a process ends, however it ends. The thread that has
    it may take it again. Raises CheckpointError if the file cannot be made; on a filesystem without
    locks the block runs without one.
    """
    from filelock import FileLock, Timeout  # imported where it is used

    held = FileLock(lock, is_singleton=True)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            held.acquire(timeout=0)
        except Timeout:
            if not making:
                raise InUseError(
                    f"{lock.parent}: another run is using this folder: wait until it has ended, "
                    "or choose another folder"
                ) from None
            print(f"waiting: another process is making {making}", file=sys.stderr)
            held.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise CheckpointError(
                f"{lock.parent}: cannot be written to ({error.strerror or error}): free some space,"
                " or choose a folder that can be written to"
            ) from error
    try:
        yield
    finally:
        held.release()
