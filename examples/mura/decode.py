"""Image files to small squares of grey levels, one by one or in parallel.

The only place that decodes: the training cache, ``predict`` and ``explain`` see the same pixels.
One rule, the same for every file, says what is black and what is white:

- 8 bits as they are.
- more bits: 0 is black, and white is the largest number of 8, 10, 12, 14 or 16 bits, the fewest
  that hold the picture's largest pixel. So 12 bits in a 16-bit file are read as 12 bits.
- floating point: white is 1, or as above if a pixel is larger; 1% beyond either end is the rounding
  of a computation and is cut off.
- pixels below 0 have no agreed black, and pixels above 65,535 no agreed white: the picture's lowest
  and its highest take their place.

Colours become grey by ITU-R 601, what is transparent is laid over black, a TIFF whose white is zero
is inverted, and EXIF's orientation is applied.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Generator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from PIL import ImageChops, ImageFile, ImageOps, TiffImagePlugin, UnidentifiedImageError

from examples.mura.processes import in_workers, usable_cores

Fit = Literal["stretch", "letterbox"]
FITS: tuple[Fit, ...] = ("stretch", "letterbox")

# what can be read: Pillow's name of the format, and the suffixes that a folder is searched for
FORMATS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "JPEG2000": (".jp2", ".j2k"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
    "PPM": (".pgm", ".ppm", ".pnm"),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)

# MURA's largest is 512 x 512; 64 million pixels is a whole-body scan and 64 MB to decode
MAX_PIXELS = 64_000_000
TOO_LARGE = f"has more than {MAX_PIXELS:,} pixels, too many to decode"
# what decoding may take: in proportion to the file, so that a small one cannot fill the memory
LARGEST, LARGEST_GROWTH = 64_000_000, 20
BYTES = {"1": 2, "L": 2, "P": 2, "RGB": 5, "I;16": 6, "CMYK": 9}  # a pixel takes, at most; else 12
NEARLY_CONSTANT = 16  # grey levels
PREVIEWS = 16  # of one picture, in a TIFF
CHUNK = 32  # images handed to a process at a time
POOL_FROM = 512  # fewer images are decoded before the processes have started, half a second

PHOTOMETRIC, SAMPLE_FORMAT, SUBFILE = 262, 339, 254  # tags of a TIFF
# grey TIFFs that Pillow can unpack and has not in its table: sample format and bits, its mode and
# raw modes in either byte order
for sample, bits, mode, little, big in (
    *((1, 16, "I;16", "I;16", "I;16B"), (1, 32, "I", "I;32", "I;32B"), (2, 8, "L", "L", "L")),
    *((2, 16, "I", "I;16S", "I;16BS"), (2, 32, "I", "I;32S", "I;32BS")),
    (3, 64, "F", "F;64F", "F;64BF"),
):
    for white in (0, 1):
        for order, raw in ((b"II", little), (b"MM", big)):
            key = (order, white, (sample,), 1, (bits,), ())
            TiffImagePlugin.OPEN_INFO.setdefault(key, (raw if raw == "I;16B" else mode, raw))

Job = tuple[int, Path]  # row of the pixel file, image file
Outcome = tuple[int, str | None]  # row, what is wrong with its image if it is bad


class BadImage(Exception):
    """An image that cannot be used; the message says what is wrong with it, without its name."""


def read_square(file: Path, side: int, fit: Fit = "stretch") -> NDArray[np.uint8]:
    """Return the image in ``file`` as (side, side) grey levels, 0 to 255.

    fit  "stretch" fills the square and loses the aspect ratio; "letterbox" keeps it and pads
         with black, the grey level of air
    Raises BadImage as ``read_grey`` does.
    """
    return to_square(read_grey(file), side, fit)


def read_grey(file: Path) -> Pillow.Image:
    """Return the image in ``file`` in grey levels, upright, at its full size.

    Raises BadImage if the file is missing, empty, truncated, too large or not one image.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; what matters is raised
            if not os.path.isfile(file):  # a pipe would be waited for
                raise BadImage(reason(file))
            # of a name Pillow would map the file, and get a TIFF that lies on its side wrong
            with file.open("rb") as stream, Pillow.open(stream, formats=tuple(FORMATS)) as image:
                image.draft("L", image.size)  # of a JPEG decode the grey alone
                refuse_large(image, file.stat().st_size)
                refuse_several(image)
                return to_grey(image)
    except BadImage:
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise BadImage(reason(file, error)) from error


def refuse_large(image: Pillow.Image, size: int) -> None:
    """Raise BadImage for too many pixels, or for many more than a file of ``size`` bytes needs."""
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise BadImage(TOO_LARGE)
    each = 12 if image.has_transparency_data else BYTES.get(image.mode, 12)
    if image.format in ("WEBP", "JPEG2000"):
        each = 16
    if image.info.get("progressive"):
        each = max(each, 4)
    if pixels * each > LARGEST + LARGEST_GROWTH * size:
        raise BadImage(
            f"takes {pixels * each / 1e6:,.0f} MB to decode, out of proportion to its "
            f"{size / 1e6:.2g} MB: scale it down"
        )


def refuse_several(image: Pillow.Image) -> None:
    """Raise BadImage if the file holds several pictures; a TIFF's previews are none."""
    if not getattr(image, "is_animated", False) or image.format == "MPO":  # a photo and its preview
        return
    with suppress(EOFError):
        for frame in range(1, PREVIEWS):
            image.seek(frame)
            if not tag(image, SUBFILE, 0) & 1:
                raise BadImage("holds several pictures, want one: save each as a file")
    image.seek(0)


def tag(image: Pillow.Image, number: int, default: int) -> int:
    """The first value of a TIFF's tag; the default if there is none, or the file is no TIFF."""
    value: Any = getattr(image, "tag_v2", {}).get(number, default)
    return int(value[0] if isinstance(value, tuple) else value)


def load(image: ImageFile.ImageFile) -> None:
    """Decode the pixels; those of a compressed TIFF come in this machine's byte order."""
    for k, tile in enumerate(image.tile):
        if tile.codec_name == "libtiff":  # Pillow knows it of 16 bits without a sign alone
            assert isinstance(tile.args, tuple)
            raw, *others = tile.args
            image.tile[k] = tile._replace(args=(re.sub(r";(\d+)B", r";\1N", raw), *others))
    image.load()


def to_grey(image: ImageFile.ImageFile) -> Pillow.Image:
    short = ";16" in str(image.tile)  # 16 bits a colour, of which Pillow keeps the upper 8
    load(image)
    with suppress(Exception):  # damaged EXIF says nothing of an orientation
        ImageOps.exif_transpose(image, in_place=True)
    if image.mode[0] in "IF" or (image.mode == "L" and tag(image, SAMPLE_FORMAT, 1) == 2):
        pixels = np.asarray(image)
        if image.mode == "L":
            pixels = pixels.view(np.int8)
        elif image.mode == "I" and tag(image, SAMPLE_FORMAT, 1) == 1:
            pixels = pixels.view(np.uint32)
        grey = Pillow.fromarray(grey_levels(pixels))
        white_is_zero = tag(image, PHOTOMETRIC, 0 if image.format == "TIFF" else 1) == 0
        return ImageOps.invert(grey) if white_is_zero else grey
    if image.mode == "La":  # multiplied by its alpha already
        return image.getchannel(0)
    clear = image.has_transparency_data
    colours = image.convert("RGBA") if clear else image
    grey = colours.convert("L")
    if short and np.asarray(grey).max() < 64:
        raise BadImage("has 16-bit colours that use 14 bits or fewer: save it as 16-bit grey")
    if clear and (alpha := colours.getchannel("A")).getbbox():  # else it is a channel left unused
        return ImageChops.multiply(grey, alpha)
    return grey


def grey_levels(pixels: NDArray[np.number]) -> NDArray[np.uint8]:
    """Grey levels of pixels (H, W) that are not of 8 bits, by the rule at the top of this file."""
    low, high = float(pixels.min()), float(pixels.max())
    if not np.isfinite(low + high):
        raise BadImage("has pixels that are NaN or infinite")
    whites, slack = [255, 1023, 4095, 16383, 65535], 0.0
    if pixels.dtype.kind == "f":
        whites, slack = [1, *whites], 0.01
    black = low if low < -slack * high else 0.0
    white = high
    if black == 0:
        white = next((white for white in whites if high <= (1 + slack) * white), high)
    grey = np.empty(pixels.shape, np.uint8)
    for some in range(0, len(pixels), 256):  # rows: in double precision all would take much memory
        part = (pixels[some : some + 256].astype(np.float64) - black) / max(white - black, 1e-300)
        grey[some : some + 256] = np.rint(255 * part.clip(0, 1))
    return grey


def nearly_constant(square: NDArray[np.uint8]) -> bool:
    """Whether a square has hardly any grey levels, but for black borders."""
    inside = square[square.any(1)][:, square.any(0)]
    return inside.size == 0 or int(np.ptp(inside)) < NEARLY_CONSTANT


def to_square(image: Pillow.Image, side: int, fit: Fit) -> NDArray[np.uint8]:
    """Resize with a filter that widens as the image shrinks, so that thin lines do not alias.

    Bicubic is sharper than the triangle filter and rings less around metal than Lanczos.
    """
    left, top, right, bottom = place(image.size, side, fit)
    size = (right - left, bottom - top)
    square = Pillow.new("L", (side, side))
    square.paste(image.resize(size, Pillow.Resampling.BICUBIC, reducing_gap=3.0), (left, top))
    return np.asarray(square)


def place(size: tuple[int, int], side: int, fit: Fit) -> tuple[int, int, int, int]:
    """Where in the square an image of (width, height) lies: left, top, right, bottom."""
    scale = side / max(size)
    width, height = (side if fit == "stretch" else max(1, round(scale * n)) for n in size)
    left, top = (side - width) // 2, (side - height) // 2
    return left, top, left + width, top + height


def reason(file: Path, error: Exception | None = None) -> str:
    if not os.path.exists(file):
        return "is a link to a file that is not there" if file.is_symlink() else "is missing"
    if not os.path.isfile(file):
        return "is not a file"
    if isinstance(error, Pillow.DecompressionBombError):
        return TOO_LARGE
    if file.stat().st_size == 0:
        return "is empty (0 bytes)"
    if isinstance(error, UnidentifiedImageError):
        return f"is not an image, or not of a kind that can be read ({', '.join(FORMATS)})"
    if "truncated" in str(error).lower():
        return "is truncated"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return f"cannot be decoded ({str(error) or type(error).__name__})"


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
