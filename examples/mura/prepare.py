"""Decode every radiograph once, into a memory-mapped cache of small grey squares.

    pixels.npy      uint8 (n, side, side), opened as a memory map: never all in memory
    manifest.json   the plan, the n images in order, which were left out or are nearly constant
    prepare.lock    empty; locked by the process that makes the cache, left there afterwards

Until the cache is complete there is no manifest, but ``plan.json`` (what it is made of) and
``done.part`` (a number per image, its file's stamp once its pixels are on the disk): a run that was
killed, or met a full disk or a bad image, goes on from where it was, and decodes what was mended.
The manifest is written last, in one rename.
Of two processes at the same moment, the second waits for the first and uses its cache.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import shlex
import shutil
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from examples.mura.dataset import PARTS, Dataset, Image, parse_image, some
from examples.mura.decode import FITS, NEARLY_CONSTANT, Fit, decode_files, nearly_constant
from examples.mura.errors import UserError
from examples.mura.records import Schema, mismatch
from tinynet.train.files import (
    CheckpointError,
    holds_something,
    locked,
    remove_half_written,
    write_whole,
    written_whole,
)

FORMAT = "tinynet-mura-cache"
VERSION = 2  # 1: other grey levels, of files that are not 8-bit grey
PIXELS, MANIFEST, PLAN, DONE = "pixels.npy", "manifest.json", "plan.json", "done.part"
LOCK = "prepare.lock"
SCHEMA: Schema = {  # of the manifest; a plan has no lists
    **{"side": int, "fit": str, "synthetic": bool, "count": int, "names": str, "digest": str},
    **dict.fromkeys(("images?", "left_out?", "nearly_constant?"), [str]),
    str: object,
}
SAVE_EVERY = 1024  # images between two writes of what is done: a few seconds of work
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Prepared:
    folder: Path
    pixels: NDArray[np.uint8]  # (n, side, side), a read-only memory map
    images: list[Image]
    labels: NDArray[np.int64]  # (n,), 0 normal, 1 abnormal
    side: int
    fit: Fit
    synthetic: bool
    left_out: list[str]  # "FILE is truncated", a line each
    nearly_constant: list[str]  # files whose pictures show hardly anything

    @property
    def warnings(self) -> list[str]:
        left_out = [f"{line}: left out" for line in self.left_out]
        what = f"is nearly constant (fewer than {NEARLY_CONSTANT} grey levels): look at it"
        return left_out + [f"{file} {what}" for file in self.nearly_constant]

    def rows(self, images: Iterable[Image]) -> NDArray[np.int64]:
        """Row numbers of ``images`` in ``pixels``, without those that were left out."""
        row_of = {image: row for row, image in enumerate(self.images)}
        return np.array([row_of[i] for i in images if i in row_of], dtype=np.int64)

    def split(self, name: str, parts: Collection[str] = PARTS) -> list[Image]:
        """The images of one split and of ``parts``."""
        return [i for i in self.images if i.split == name and i.part in parts]


@dataclass(frozen=True)
class Plan:
    """What a cache is made of: two caches are the same if their plans are equal."""

    side: int
    fit: Fit
    synthetic: bool
    count: int
    names: str  # digest of the images' paths
    digest: str  # and of their files' stamps
    format: str = FORMAT
    version: int = VERSION

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.count, self.side, self.side

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))


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
    """Decode and resize the images of ``data`` into the folder ``cache``, unless that is done.

    side, fit  of the squares, see ``decode.read_square``
    workers    processes; None: one per core, or for a few images this one alone
    skip_bad   leave out images that cannot be decoded and list them in ``Prepared.left_out``
    Raises UserError for an image that cannot be decoded (once all the others are done), a full
    disk, and a folder that holds something else: other files, other settings, other images.
    """
    if side < 1 or fit not in FITS:
        raise UserError(f"got side {side} and fit {fit!r}, want 1 or more and {' or '.join(FITS)}")
    cache = Path(cache)
    stamps = [stamp(data.file(image)) for image in data.images]
    names = digest(data, [0] * len(stamps))
    plan = Plan(side, fit, data.synthetic, len(stamps), names, digest(data, stamps))
    if not (cache / MANIFEST).exists():
        try:
            refuse_foreign(cache, LOCK, PLAN, MANIFEST)  # before a lock is left there
            with locked(cache / LOCK, str(cache)):
                remove_half_written(cache)
                if not (cache / MANIFEST).exists():  # else another process was first
                    start(cache, plan)
                    bad = decode_missing(data, stamps, cache, plan, workers, progress)
                    refuse_bad(list(bad.values()), skip_bad and len(bad) < plan.count)
                    finish(data, cache, plan, bad)
        except (OSError, CheckpointError) as error:
            raise unwritable(cache, plan, error) from error
    with suppress(OSError):  # that of another user may not be written to
        for name in (PLAN, DONE):
            (cache / name).unlink(missing_ok=True)
    refuse_other(read_plan(cache / MANIFEST)[0], plan, cache)
    prepared = open_prepared(cache)
    refuse_bad(prepared.left_out, skip_bad)
    return prepared


def open_prepared(
    cache: str | os.PathLike[str], *, side: int | None = None, fit: Fit | None = None
) -> Prepared:
    """Open the finished cache in the folder ``cache``.

    side, fit   that its images must have; None: any
    Raises UserError if it is half written, damaged, of another kind, or not a cache.
    """
    cache = Path(cache)
    if not (cache / MANIFEST).exists():
        if (cache / PLAN).exists():
            raise UserError(f"{cache} is half prepared: run prepare again, it goes on from there")
        raise UserError(
            f"{cache} holds no prepared images (no {MANIFEST}): run {command(cache, side, fit)}"
        )
    plan, lists = read_plan(cache / MANIFEST, side, fit)
    if (side or plan.side, fit or plan.fit) != (plan.side, plan.fit):
        raise UserError(
            f"{cache} holds images of {plan.side} x {plan.side} ({plan.fit}), want "
            f"{side} x {side} ({fit}): {again(cache, side, fit)}"
        )
    images = [image for path in lists["images"] if (image := parse_image(path))]
    return Prepared(
        cache,
        open_pixels(cache / PIXELS, (len(images), plan.side, plan.side)),
        images,
        np.array([image.label for image in images], dtype=np.int64),
        plan.side,
        plan.fit,
        plan.synthetic,
        lists["left_out"],
        lists["nearly_constant"],
    )


def command(cache: Path, side: int | None, fit: Fit | None) -> str:
    """What makes a cache."""
    kind = f" --side {side} --fit {fit}" if side and fit else ""
    place = shlex.quote(str(cache))
    return f"python -m examples.mura prepare --data FOLDER{kind} --cache {place}"


def again(cache: Path, side: int | None = None, fit: Fit | None = None) -> str:
    return f"delete the folder {cache}, then run {command(cache, side, fit)}"


def cache_name(data: Dataset, side: int, fit: Fit) -> str:
    """A folder name that differs for every choice of images, side and fit."""
    stamps = [stamp(data.file(image)) for image in data.images]
    return f"{side}-{fit}-{digest(data, stamps)[:12]}"


def stamp(file: Path) -> int:
    """A number of 64 bits, not 0, that changes with the file's size or time of last change."""
    try:
        facts = file.stat()
        text = f"{facts.st_size} {facts.st_mtime_ns}"
    except OSError:
        text = "missing"  # decoding it will say so
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") | 1


def digest(data: Dataset, stamps: Sequence[int]) -> str:
    """SHA-256 of every image's path and stamp."""
    total = hashlib.sha256()
    for image, number in zip(data.images, stamps, strict=True):
        total.update(os.fsencode(f"{image.path}\t{number}\n"))
    return total.hexdigest()


def open_pixels(file: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    try:
        pixels = np.load(file, mmap_mode="r", allow_pickle=False)
        found = f"{pixels.dtype} {pixels.shape}"
    except (OSError, ValueError, EOFError) as error:
        pixels, found = None, str(error)
    if pixels is None or pixels.shape != shape or pixels.dtype != np.uint8:
        raise UserError(
            f"{file} is damaged (got {found}, want uint8 {shape}): {again(file.parent)}"
        )
    return pixels


def read_plan(
    file: Path, side: int | None = None, fit: Fit | None = None
) -> tuple[Plan, dict[str, list[str]]]:
    """The plan that a manifest or a plan file holds, and the manifest's lists of names."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        version = entries["version"] if entries["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        version = None
    if version is None:
        raise UserError(
            f"{file} is not of a cache of prepared images: give another folder with --cache"
        )
    advice = again(file.parent, side, fit)
    if version != VERSION:
        raise UserError(f"{file} is of version {version}, want {VERSION}: {advice}")
    wrong = mismatch(entries, SCHEMA, "it")
    if not wrong and (entries["side"] < 1 or entries["fit"] not in FITS):
        wrong = f"side is {entries['side']} and fit {entries['fit']!r}"
    lists = {name: entries.pop(name, []) for name in ("images", "left_out", "nearly_constant")}
    if not wrong and not all(map(parse_image, lists["images"])):
        wrong = "images are not all paths of images"
    if wrong:
        raise UserError(f"{file} is damaged ({wrong}): {advice}")
    return Plan(**{name: entries[name] for name in Plan.__dataclass_fields__}), lists


def refuse_other(found: Plan, wanted: Plan, cache: Path) -> None:
    if found == wanted:
        return
    if (found.side, found.fit) != (wanted.side, wanted.fit):
        differing = (
            f"at {found.side} x {found.side} ({found.fit}), "
            f"want {wanted.side} x {wanted.side} ({wanted.fit})"
        )
    elif found.names == wanted.names and found.synthetic == wanted.synthetic:
        differing = "before some of its images were replaced"
    else:
        differing = f"from other images ({found.count:,}, want {wanted.count:,})"
    raise UserError(
        f"{cache} was prepared {differing}: give another folder with --cache or delete this one"
    )


def refuse_foreign(cache: Path, *ours: str) -> None:
    """Raise UserError if the folder holds files, and none of ``ours``."""
    if not holds_something(cache, LOCK):
        return
    # asked last: a process that makes a cache in the meantime begins with the lock
    if not any((cache / name).exists() for name in ours):
        raise UserError(f"{cache} holds other files: give an empty or a new folder with --cache")


def refuse_bad(problems: list[str], skip_bad: bool) -> None:
    """Raise UserError for images that cannot be used, unless they may be left out."""
    if problems and not skip_bad:
        raise UserError(
            f"{some(problems)}: replace it by a good copy, or leave it out with --skip-bad"
        )


def start(cache: Path, plan: Plan) -> None:
    """Reserve the cache's space, or check that what is there is ours to go on with."""
    refuse_foreign(cache, PLAN)
    if (cache / PLAN).exists():
        refuse_other(replace(read_plan(cache / PLAN)[0], digest=plan.digest), plan, cache)
    size = len(npy_header(plan.shape)) + plan.nbytes
    pixels, done = cache / PIXELS, cache / DONE
    whole = done.exists() and done.stat().st_size == 8 * plan.count
    if whole and pixels.exists() and pixels.stat().st_size == size:
        return
    done.unlink(missing_ok=True)  # it must never outlive the pixels that it speaks of
    write_whole(cache / PLAN, json.dumps(asdict(plan)).encode())
    try:
        reserve(pixels, npy_header(plan.shape), size)
    except OSError:
        pixels.unlink(missing_ok=True)
        (cache / PLAN).unlink()
        raise
    write_whole(done, bytes(8 * plan.count))


def npy_header(shape: tuple[int, ...]) -> bytes:
    """What a .npy file of uint8 holds before its first element."""
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
    data: Dataset,
    stamps: Sequence[int],
    cache: Path,
    plan: Plan,
    workers: int | None,
    progress: bool,
) -> dict[int, str]:
    """Decode every image that is not done; return what is wrong with the bad ones, by row."""
    done, wanted = np.fromfile(cache / DONE, "<u8"), np.array(stamps, "<u8")
    jobs = [(int(row), data.file(data.images[row])) for row in np.flatnonzero(done != wanted)]
    offset = len(npy_header(plan.shape))
    outcomes = decode_files(jobs, cache / PIXELS, offset, plan.side, plan.fit, workers)
    bad: dict[int, str] = {}
    bar = {"total": len(done), "initial": len(done) - len(jobs), "unit": " images"}
    try:
        with tqdm(**bar, desc="prepare", disable=not progress) as shown:
            for seen, (row, problem) in enumerate(outcomes, start=1):
                if problem is None:
                    done[row] = wanted[row]
                else:
                    if not data.root.is_dir():
                        raise UserError(
                            f"{data.root} has gone while its images were read: bring it back and "
                            "run the same command again, it goes on from there"
                        )
                    bad[row] = f"{data.file(data.images[row])} {problem}"
                shown.update()
                if seen % SAVE_EVERY == 0:
                    save_done(cache, done)
    finally:
        outcomes.close()
        save_done(cache, done)
    return dict(sorted(bad.items()))


def save_done(cache: Path, done: NDArray[np.uint64]) -> None:
    """Pixels first, then the note that they are there: a power cut must not leave it alone."""
    with (cache / PIXELS).open("r+b") as stream:
        os.fsync(stream.fileno())
    write_whole(cache / DONE, done.tobytes())


def finish(data: Dataset, cache: Path, plan: Plan, bad: dict[int, str]) -> None:
    """Take the rows of bad images out, and write the manifest that makes the cache complete."""
    if bad:
        drop_rows(cache / PIXELS, np.delete(np.arange(plan.count), list(bad)))
    images = [image for row, image in enumerate(data.images) if row not in bad]
    pixels = np.load(cache / PIXELS, mmap_mode="r")
    manifest = asdict(plan) | {
        "images": [str(image.path) for image in images],
        "left_out": list(bad.values()),
        "nearly_constant": [
            str(data.file(image))
            for image, square in zip(images, pixels, strict=True)
            if nearly_constant(square)
        ],
    }
    write_whole(cache / MANIFEST, json.dumps(manifest, indent=1).encode())


def drop_rows(file: Path, rows: NDArray[np.int64]) -> None:
    pixels = np.load(file, mmap_mode="r")
    with written_whole(file) as stream:
        stream.write(npy_header((len(rows), *pixels.shape[1:])))
        for some_rows in np.array_split(rows, len(rows) // SAVE_EVERY + 1):
            stream.write(pixels[some_rows].tobytes())
        del pixels  # Windows cannot replace a file that is mapped


def unwritable(cache: Path, plan: Plan, error: Exception) -> UserError:
    cause = error.__cause__ or error  # the system's own error, where write_whole wrapped it
    if getattr(cause, "errno", None) in DISK_FULL:
        existing = next(place for place in (cache, *cache.parents) if place.exists())
        return UserError(
            f"no space in {cache}: the cache needs {plan.nbytes:,} bytes, "
            f"{shutil.disk_usage(existing).free:,} are free: "
            "free some, or give a folder on another disk with --cache"
        )
    reason = getattr(cause, "strerror", None) or cause
    return UserError(f"cannot write to {cache} ({reason}): give another with --cache")
