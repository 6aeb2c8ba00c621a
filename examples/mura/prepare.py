"""Decode every radiograph once, into a memory-mapped cache of small grey squares.

A run that was killed, or met a full disk or a bad image, goes on from where it was. Of two at the
same moment, the second waits for the first and uses its cache.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from examples.mura.alone import alone
from examples.mura.cache import (
    DONE,
    LOCK,
    MANIFEST,
    PIXELS,
    PLAN,
    Plan,
    Prepared,
    cache_name,
    make_plan,
    open_prepared,
    read_plan,
    refuse_other,
)
from examples.mura.dataset import Dataset
from examples.mura.decode import FITS, Fit
from examples.mura.decode_pool import decode_files
from examples.mura.errors import UserError
from examples.mura.layout import some
from tinynet.train.checkpoint import CheckpointError, write_whole

__all__ = ["Prepared", "cache_name", "open_prepared", "prepare"]

SAVE_EVERY = 1024  # images between two writes of what is done: a few seconds of work
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def prepare(
    data: Dataset,
    cache: str | os.PathLike[str],
    *,
    side: int,
    fit: Fit = "stretch",
    workers: int | None = None,
    skip_bad: bool = False,
    progress: bool = True,
) -> Prepared:
    """Decode and resize the images of ``data`` into the folder ``cache``; at once if it is done.

    side, fit  of the squares, see ``decode.read_square``
    workers    processes; None takes every core, or for a few images none but this one
    skip_bad   leave out images that cannot be decoded and list them in ``Prepared.left_out``
    Raises UserError for an image that cannot be decoded (when all the others are done), a full
    disk, and a folder that holds something else: other files, other settings, other images.
    """
    if side < 1 or fit not in FITS:
        raise UserError(f"got side {side} and fit {fit!r}, want 1 or more and {' or '.join(FITS)}")
    cache = Path(cache)
    plan = make_plan(data, side, fit)
    if not (cache / MANIFEST).exists():
        try:
            refuse_foreign(cache)  # before a lock is left there
            cache.mkdir(parents=True, exist_ok=True)
            with alone(cache / LOCK, str(cache)):
                if not (cache / MANIFEST).exists():  # else another process was first
                    start(cache, plan)
                    bad = decode_missing(data, cache, plan, workers, progress)
                    refuse_bad(list(bad.values()), skip_bad and len(bad) < plan.count)
                    finish(data, cache, plan, bad)
        except (OSError, CheckpointError) as error:
            raise unwritable(cache, plan, error) from error
    refuse_other(read_plan(cache / MANIFEST)[0], plan, cache)
    prepared = open_prepared(cache)
    refuse_bad(prepared.left_out, skip_bad)
    return prepared


def refuse_foreign(cache: Path) -> None:
    """Raise UserError if the folder holds files, and none that tells of a cache."""
    if not cache.exists() or not any(cache.iterdir()):
        return
    # asked last: whoever makes a cache in the meantime begins with the lock
    if not any((cache / name).exists() for name in (LOCK, PLAN, MANIFEST)):
        raise holds_others(cache)


def holds_others(cache: Path) -> UserError:
    """The error for a folder that holds other files."""
    return UserError(f"{cache} holds other files: give an empty or a new folder with --cache")


def start(cache: Path, plan: Plan) -> None:
    """Reserve the cache's space, or check that what is there is ours to go on with."""
    if (cache / PLAN).exists():
        refuse_other(read_plan(cache / PLAN)[0], plan, cache)
    elif any(file.name != LOCK for file in cache.iterdir()):
        raise holds_others(cache)
    size = len(npy_header(plan.shape)) + int(np.prod(plan.shape))
    pixels, done = cache / PIXELS, cache / DONE
    if done.exists() and pixels.exists() and pixels.stat().st_size == size:
        return
    done.unlink(missing_ok=True)  # it must never outlive the pixels that it speaks of
    write_whole(cache / PLAN, json.dumps(asdict(plan)).encode())
    try:
        reserve(pixels, npy_header(plan.shape), size)
    except OSError:
        pixels.unlink(missing_ok=True)
        (cache / PLAN).unlink()
        raise
    write_whole(done, bytes(plan.count))


def npy_header(shape: tuple[int, ...]) -> bytes:
    """What a .npy file of uint8 says before its first element."""
    stream = io.BytesIO()
    entries = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, entries)
    return stream.getvalue()


def reserve(file: Path, header: bytes, size: int) -> None:
    """Write ``header`` and take ``size`` bytes: a disk too small is found now, not at the end."""
    if shutil.disk_usage(file.parent).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with file.open("wb") as stream:
        stream.write(header)
        stream.truncate(size)
        if hasattr(os, "posix_fallocate"):
            try:
                os.posix_fallocate(stream.fileno(), 0, size)
            except OSError as error:
                # a filesystem that cannot reserve; if it fills up, writing there says so
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                    raise


def decode_missing(
    data: Dataset, cache: Path, plan: Plan, workers: int | None, progress: bool
) -> dict[int, str]:
    """Decode every image that is not done; returns what is wrong with the bad ones, by row."""
    done = np.fromfile(cache / DONE, dtype=np.uint8)
    jobs = [(int(row), data.file(data.images[row])) for row in np.flatnonzero(done == 0)]
    offset = len(npy_header(plan.shape))
    outcomes = decode_files(jobs, cache / PIXELS, offset, plan.side, plan.fit, workers)
    bad: dict[int, str] = {}
    bar = tqdm(
        total=len(done),
        initial=len(done) - len(jobs),
        desc="prepare",
        unit=" images",
        disable=not progress,
    )
    try:
        with bar:
            for seen, (row, problem) in enumerate(outcomes, start=1):
                if problem is None:
                    done[row] = 1
                else:
                    bad[row] = f"{data.file(data.images[row])} {problem}"
                bar.update()
                if seen % SAVE_EVERY == 0:
                    save_done(cache, done)
    finally:
        outcomes.close()
        save_done(cache, done)
    return dict(sorted(bad.items()))


def save_done(cache: Path, done: NDArray[np.uint8]) -> None:
    """Pixels first, then the note that they are there: a power cut must not leave it alone."""
    with (cache / PIXELS).open("r+b") as stream:
        os.fsync(stream.fileno())
    write_whole(cache / DONE, done.tobytes())


def finish(data: Dataset, cache: Path, plan: Plan, bad: dict[int, str]) -> None:
    """Take the rows of bad images out, and write the manifest that makes the cache complete."""
    if bad:
        drop_rows(cache / PIXELS, np.delete(np.arange(plan.count), list(bad)))
    images = [str(image.path) for row, image in enumerate(data.images) if row not in bad]
    manifest = asdict(plan) | {"images": images, "left_out": list(bad.values())}
    write_whole(cache / MANIFEST, json.dumps(manifest, indent=1).encode())
    for name in (PLAN, DONE):
        (cache / name).unlink(missing_ok=True)


def drop_rows(file: Path, rows: NDArray[np.int64]) -> None:
    """Keep only ``rows`` of the .npy file, in one rename."""
    pixels = np.load(file, mmap_mode="r")
    part = file.with_suffix(".part")
    try:
        with part.open("wb") as stream:
            stream.write(npy_header((len(rows), *pixels.shape[1:])))
            for some_rows in np.array_split(rows, len(rows) // SAVE_EVERY + 1):
                stream.write(pixels[some_rows].tobytes())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError:
        part.unlink(missing_ok=True)
        raise
    del pixels  # Windows cannot replace a file that is mapped
    os.replace(part, file)


def refuse_bad(problems: list[str], skip_bad: bool) -> None:
    """Raise UserError naming the first of the images that cannot be used, unless they may go."""
    if problems and not skip_bad:
        raise UserError(
            f"{some(problems)}: copy it again from the archive, or leave it out with --skip-bad"
        )


def unwritable(cache: Path, plan: Plan, error: Exception) -> UserError:
    """The error for a cache that cannot be written, with the space it needs."""
    cause = error.__cause__ or error  # the system's own error, where write_whole wrapped it
    if getattr(cause, "errno", None) in DISK_FULL:
        return UserError(
            f"no space in {cache}: the cache needs {int(np.prod(plan.shape)):,} bytes, "
            f"{shutil.disk_usage(nearest(cache)).free:,} are free: "
            "free some, or give a folder on another disk with --cache"
        )
    reason = getattr(cause, "strerror", None) or cause
    return UserError(f"cannot write to {cache} ({reason}): give another with --cache")


def nearest(folder: Path) -> Path:
    """The folder, or where it is not there yet the first one above it that is."""
    return next(place for place in (folder, *folder.parents) if place.exists())
