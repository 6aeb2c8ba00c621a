"""Image files to small squares of grey levels, one by one or in parallel.

The only place that decodes: the training cache, ``predict`` and ``explain`` see the same pixels.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import UnidentifiedImageError

from examples.mura.processes import in_workers, usable_cores

Fit = Literal["stretch", "letterbox"]
FITS: tuple[Fit, ...] = ("stretch", "letterbox")

# MURA's largest is 512 x 512; 64 million pixels is a whole-body scan and 64 MB to decode
MAX_PIXELS = 64_000_000
TOO_LARGE = f"has more than {MAX_PIXELS:,} pixels, too many to decode"
FORMATS = ("PNG", "JPEG", "TIFF", "BMP")
CHUNK = 32  # images handed to a process at a time
POOL_FROM = 512  # fewer images are decoded before the processes have started, half a second

# what Pillow raises for a file that is damaged or not an image
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Pillow.DecompressionBombError,
    Pillow.DecompressionBombWarning,
)

Job = tuple[int, Path]  # row of the pixel file, image file
Outcome = tuple[int, str | None]  # row, what is wrong with its image if it is bad


class BadImage(Exception):
    """An image that cannot be used; the message says what is wrong with it, without its name."""


def read_square(file: Path, side: int, fit: Fit = "stretch") -> NDArray[np.uint8]:
    """Return the image in ``file`` as (side, side) grey levels, 0 to 255.

    fit  "stretch" fills the square and loses the aspect ratio; "letterbox" keeps it and pads
         with black, the grey level of air
    Raises BadImage if the file is missing, empty, truncated, too large or not an image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Pillow.DecompressionBombWarning)
            with Pillow.open(file, formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise BadImage(TOO_LARGE)
                return to_square(to_grey(image), side, fit)
    except DECODE_ERRORS as error:
        raise BadImage(reason(file, error)) from error


def to_grey(image: Pillow.Image) -> Pillow.Image:
    if image.mode.startswith("I"):  # 16 bits: the high byte, where Pillow's own rule may clip
        return Pillow.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L")


def to_square(image: Pillow.Image, side: int, fit: Fit) -> NDArray[np.uint8]:
    """Resize with a filter that widens as the image shrinks, so that thin lines do not alias.

    Bicubic is sharper than the triangle filter and rings less around metal than Lanczos.
    """
    filter_ = Pillow.Resampling.BICUBIC
    if fit == "stretch":
        return np.asarray(image.resize((side, side), filter_, reducing_gap=3.0))
    scale = side / max(image.size)
    width, height = (max(1, round(scale * length)) for length in image.size)
    square = Pillow.new("L", (side, side))
    inside = image.resize((width, height), filter_, reducing_gap=3.0)
    square.paste(inside, ((side - width) // 2, (side - height) // 2))
    return np.asarray(square)


def reason(file: Path, error: Exception) -> str:
    if not file.is_file():
        return "is missing"
    if isinstance(error, Pillow.DecompressionBombError | Pillow.DecompressionBombWarning):
        return TOO_LARGE
    if file.stat().st_size == 0:
        return "is empty (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return "is not an image"
    if "truncated" in str(error).lower():
        return "is truncated"
    return f"cannot be decoded ({error})"


def decode_files(
    jobs: list[Job], pixels: Path, offset: int, side: int, fit: Fit, workers: int | None
) -> Generator[Outcome, None, None]:
    """Decode every job's image into its row of ``pixels``, whose rows start at byte ``offset``.

    Yields (row, None) for an image whose pixels are written and (row, what is wrong) for a bad
    one.  Closing the generator stops the processes.
    """
    if workers is None:
        workers = usable_cores() if len(jobs) >= POOL_FROM else 1
    decode = partial(decode_chunk, pixels, offset, side, fit)
    chunks = [jobs[i : i + CHUNK] for i in range(0, len(jobs), CHUNK)]
    with closing(in_workers(decode, chunks, workers)) as outcomes:
        for some in outcomes:
            yield from some


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
