"""Files of weights: what a path leads to, and the safetensors format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors
from safetensors import SafetensorError, safe_open

START = 512  # bytes that are enough to tell what a file is
# the format's names of the types that NumPy has, and of the one that is read from its bits
NUMPY_TYPES = {"F64", "F32", "F16", "BOOL", "C64"} | {
    f"{s}{n}" for s in "IU" for n in (8, 16, 32, 64)
}
BFLOAT16 = "BF16"


class WeightsError(Exception):
    """A file of weights cannot be read, or does not fit the network; the network is unchanged.

    The message is one line, whatever names the file holds.
    """

    def __init__(self, message: str) -> None:
        super().__init__("".join(c if c.isprintable() else "?" for c in message))


def refuse_unless(right: bool, fault: str) -> None:
    """Raise WeightsError for a file that is damaged on purpose, unless all is right with it."""
    if not right:
        raise WeightsError(f"{fault}: refused")


def beginning(path: Path, suffixes: tuple[str, ...], advice: str = "") -> bytes:
    """The first bytes of a file.

    suffixes   those that the file's name may have
    advice     what to do with a file of another suffix, where that is known
    Raises WeightsError if there is no such file, it cannot be read, it is plainly not weights (a
    folder, empty, a web page in place of a download, a git LFS pointer), or has another suffix.
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
        raise WeightsError("is a git LFS pointer, not the weights: run git lfs pull")
    check_suffix(path, suffixes, advice)
    return start


def check_suffix(path: Path, suffixes: tuple[str, ...], advice: str = "") -> None:
    if not path.name.lower().endswith(suffixes):
        found = path.suffix or "no suffix"
        raise WeightsError(f"the name ends in {found!r}, want {', '.join(suffixes)}{advice}")


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Name -> array, float16 and bfloat16 as float32; and the texts of the file.

    Raises WeightsError if it is cut short, not safetensors, or holds 8-bit floats.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            texts = file.metadata() or {}
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            for name, kind in types.items():
                if kind not in NUMPY_TYPES and kind != BFLOAT16:
                    raise WeightsError(f"{name} is {kind}, want float16 or wider: convert it")
            arrays = {name: file.get_tensor(name) for name in types if types[name] in NUMPY_TYPES}
        if BFLOAT16 in types.values():
            # from the bits: safetensors reads it only if another package gave NumPy the type
            for name, about in safetensors.deserialize(path.read_bytes()):
                if about["dtype"] == BFLOAT16:
                    x = bfloat16(np.frombuffer(about["data"], "<u2"))
                    arrays[name] = x.reshape(about["shape"])
    except (OSError, SafetensorError) as error:
        raise WeightsError(
            f"is cut short, damaged or not a safetensors file ({error}): copy it again"
        ) from error
    return {name: single(arrays[name]) for name in types}, texts


def bfloat16(halves: np.ndarray) -> np.ndarray:
    """Numbers whose 16 bits are the upper half of a float32's, as float32."""
    return (halves.astype("uint32") << 16).view("float32")


def single(x: np.ndarray) -> np.ndarray:
    """float16 as float32, other types as they are."""
    if x.dtype != np.float16:
        return x
    with np.errstate(invalid="ignore"):  # a signalling NaN: loading names it
        return x.astype("float32")
