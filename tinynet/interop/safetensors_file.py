"""Names, arrays and texts of a safetensors file, whatever floats it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors
from safetensors import SafetensorError, safe_open

from tinynet.interop.errors import WeightsError
from tinynet.train.checkpoint import CheckpointError, load_arrays

# the format's name of a type -> NumPy's of its bits
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?"}
TYPES |= {"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1"}
TYPES |= {"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "C64": "<c8"}


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Name -> array, float16 and bfloat16 as float32; and the texts of the file.

    Raises WeightsError if it is cut short, no safetensors, or holds 8-bit floats.
    """
    if element_types(path) <= TYPES.keys() - {"BF16"}:
        try:
            arrays, texts = load_arrays(path)
        except CheckpointError as error:
            raise WeightsError(str(error).removeprefix(f"{path}: ")) from error
    else:  # not left to safetensors, which reads bfloat16 or not by what else is imported
        arrays, texts = with_bfloat16(path)
    half = {name: single(x) for name, x in arrays.items() if x.dtype == "float16"}
    return arrays | half, texts


def element_types(path: Path) -> set[str]:
    """The types in the file, by the format's names; none if it cannot be read."""
    try:
        with safe_open(path, framework="numpy") as file:
            return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return set()


def with_bfloat16(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The same from the file's bytes, since NumPy has no bfloat16."""
    with safe_open(path, framework="numpy") as file:
        texts = file.metadata() or {}
    arrays = {}
    for name, about in safetensors.deserialize(path.read_bytes()):
        if about["dtype"] not in TYPES:
            raise WeightsError(f"{name} is {about['dtype']}, want float16 or wider: convert it")
        x = np.frombuffer(about["data"], TYPES[about["dtype"]])
        x = bfloat16(x) if about["dtype"] == "BF16" else x
        arrays[name] = x.reshape(about["shape"])
    return arrays, texts


def bfloat16(halves: np.ndarray) -> np.ndarray:
    """Numbers whose 16 bits are the upper half of a float32's, as float32."""
    return (halves.astype("uint32") << 16).view("float32")


def single(halves: np.ndarray) -> np.ndarray:
    """float16 as float32."""
    with np.errstate(invalid="ignore"):  # a signalling NaN: loading names it
        return halves.astype("float32")
