"""Whether a path is a file that is worth reading as weights; what it is instead, if not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tinynet.interop.errors import WeightsError

START = 512  # bytes that are enough to tell what a file is


def suffix_of(path: Path, suffixes: Sequence[str], advice: str = "") -> str:
    """The one of ``suffixes`` that the file's name ends in, the longest first.

    advice   what to do with a file of another suffix, where that is known
    Raises WeightsError if it ends in none.
    """
    for suffix in sorted(suffixes, key=len, reverse=True):
        if path.name.lower().endswith(suffix):
            return suffix
    raise WeightsError(
        f"the name ends in {path.suffix or 'no suffix'!r}, want {', '.join(suffixes)}{advice}"
    )


def beginning(path: Path) -> bytes:
    """The first bytes of a file.

    Raises WeightsError if there is no such file, it cannot be read, or it is plainly no weights:
    a folder, empty, a web page in place of a download, a pointer of git LFS.
    """
    if path.is_dir():
        raise WeightsError("is a folder: give the file of weights in it")
    try:
        with open(path, "rb") as file:
            start = file.read(START)
    except FileNotFoundError:
        raise WeightsError("there is no such file: check the path") from None
    except OSError as error:
        raise WeightsError(f"cannot be read ({error.strerror or error}): check the path") from error
    if not start:
        raise WeightsError("is empty: copy or download it again")
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise WeightsError("is a web page, not weights: the download failed, repeat it")
    if text.startswith(b"version https://git-lfs"):
        raise WeightsError("is a pointer of git LFS, not the weights: run git lfs pull")
    return start
