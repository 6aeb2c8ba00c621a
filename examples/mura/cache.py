"""The prepared cache on disk: what its files are, and how a finished one is opened.

    pixels.npy      uint8 (n, side, side), opened as a memory map: never all in memory
    manifest.json   the plan, the n images in order, and which were left out
    prepare.lock    empty; held by the process that makes the cache, left there afterwards

While it is made there is no manifest, but ``plan.json`` (what it is made of) and ``done.part``
(a byte per image, 1 once its pixels are on the disk).  The manifest is written last, in one
rename: a folder that has one is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.mura.dataset import Dataset
from examples.mura.decode import Fit
from examples.mura.errors import UserError
from examples.mura.layout import Image, parse_image

FORMAT = "tinynet-mura-cache"
VERSION = 1
PIXELS, MANIFEST, PLAN, DONE = "pixels.npy", "manifest.json", "plan.json", "done.part"
LOCK = "prepare.lock"


@dataclass(frozen=True)
class Prepared:
    """A finished cache, open."""

    folder: Path
    pixels: NDArray[np.uint8]  # (n, side, side), a read-only memory map
    images: list[Image]
    labels: NDArray[np.int64]  # (n,), 0 normal, 1 abnormal
    side: int
    fit: Fit
    synthetic: bool
    left_out: list[str]  # "FILE is truncated", a line each

    def rows(self, images: Iterable[Image]) -> NDArray[np.int64]:
        """Where the given images stand in ``pixels``; those that were left out are passed over."""
        row_of = {image: row for row, image in enumerate(self.images)}
        return np.array([row_of[i] for i in images if i in row_of], dtype=np.int64)


@dataclass(frozen=True)
class Plan:
    """What a cache is made of: two caches are the same if their plans are equal."""

    side: int
    fit: Fit
    synthetic: bool
    count: int
    digest: str
    format: str = FORMAT
    version: int = VERSION

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the cache: (number of images, side, side)."""
        return self.count, self.side, self.side


def make_plan(data: Dataset, side: int, fit: Fit) -> Plan:
    """The plan of a cache of ``data`` with these settings."""
    return Plan(side, fit, data.synthetic, len(data.images), digest(data))


def digest(data: Dataset) -> str:
    """SHA-256 of every image's path and size in bytes: quick, and changes when a file does."""
    total = hashlib.sha256()
    for image in data.images:
        try:
            size = data.file(image).stat().st_size
        except OSError:
            size = -1  # decoding it will say that it is missing
        total.update(f"{image.path}\t{size}\n".encode())
    return total.hexdigest()


def cache_name(data: Dataset, side: int, fit: Fit) -> str:
    """A folder name of its own for every choice of images, side and fit."""
    return f"{side}-{fit}-{digest(data)[:12]}"


def open_prepared(cache: str | os.PathLike[str]) -> Prepared:
    """The finished cache in the folder ``cache``.

    Raises UserError if it is half written, damaged, or no such folder at all.
    """
    cache = Path(cache)
    if not (cache / MANIFEST).exists():
        if (cache / PLAN).exists():
            raise UserError(f"{cache} is half prepared: run prepare again, it goes on from there")
        raise UserError(
            f"{cache} holds no prepared images (no {MANIFEST}): "
            "make them with python -m examples.mura prepare --data FOLDER"
        )
    plan, more = read_plan(cache / MANIFEST)
    images = [image for path in more.get("images", []) if (image := parse_image(path))]
    return Prepared(
        cache,
        open_pixels(cache / PIXELS, (len(images), plan.side, plan.side)),
        images,
        np.array([image.label for image in images], dtype=np.int64),
        plan.side,
        plan.fit,
        plan.synthetic,
        more.get("left_out", []),
    )


def open_pixels(file: Path, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The memory map in ``file``; raises UserError unless it is uint8 of ``shape``."""
    try:
        pixels = np.load(file, mmap_mode="r", allow_pickle=False)
        found = f"{pixels.dtype} {pixels.shape}"
    except (OSError, ValueError, EOFError) as error:
        pixels, found = None, str(error)
    if pixels is None or pixels.shape != shape or pixels.dtype != np.uint8:
        raise UserError(
            f"{file} is damaged (got {found}, want uint8 {shape}): "
            f"delete the folder {file.parent} and run prepare again"
        )
    return pixels


def read_plan(file: Path) -> tuple[Plan, dict[str, Any]]:
    """The plan that a manifest or a plan file holds, and its other entries."""
    try:
        entries = json.loads(file.read_text(encoding="utf-8"))
        version = entries["version"] if entries["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise foreign(file) from error
    if version is None:
        raise foreign(file)
    if version != VERSION:
        raise UserError(
            f"{file} is of version {version}, want {VERSION}: "
            f"delete the folder {file.parent} and run prepare again"
        )
    names = Plan.__dataclass_fields__
    return Plan(**{n: entries[n] for n in names}), {
        n: entry for n, entry in entries.items() if n not in names
    }


def foreign(file: Path) -> UserError:
    """The error for a folder that holds something else."""
    return UserError(
        f"{file} is not of a cache of prepared images: give another folder with --cache"
    )


def refuse_other(found: Plan, wanted: Plan, cache: Path) -> None:
    """Raise UserError if the cache in the folder is not the one that is wanted."""
    if found == wanted:
        return
    if (found.side, found.fit) != (wanted.side, wanted.fit):
        differing = (
            f"at {found.side} x {found.side} ({found.fit}), "
            f"want {wanted.side} x {wanted.side} ({wanted.fit})"
        )
    else:
        differing = f"from other images ({found.count:,}, want {wanted.count:,})"
    raise UserError(
        f"{cache} was prepared {differing}: give another folder with --cache or delete this one"
    )
