"""Names and arrays of a PyTorch file: ``.pth`` or ``.pt`` in both of torch's formats, safetensors.

Since torch 1.6 the file is a zip: ``data.pkl`` describes the tensors, ``data/0``, ``data/1``, …
hold the numbers of their storages, ``byteorder`` says which way round. Before, it was a row of
pickles with the storages behind them; many official weights still are. Neither is unpickled:
``state_dict.interpret`` reads what the pickle says.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.interop.errors import WeightsError
from tinynet.interop.files import beginning, suffix_of
from tinynet.interop.safetensors_file import bfloat16, read_safetensors, single
from tinynet.interop.state_dict import interpret
from tinynet.interop.tensors import Storage, Tensor

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the format before torch 1.6
INNER = ("state_dict", "model_state_dict", "model", "module")  # of a training script's checkpoint
LARGEST_PICKLE = 2**26  # bytes
# what zipfile raises for a damaged file
DAMAGED = (
    zipfile.BadZipFile,
    *(OSError, ValueError, EOFError, RuntimeError),
    struct.error,
    zlib.error,
)


def read_torch(file: str | Path) -> dict[str, np.ndarray]:
    """Name -> array (read-only; float16 and bfloat16 as float32) of a PyTorch file of weights.

    A checkpoint that holds its weights under "state_dict" or "model" gives those; the "module."
    that DataParallel puts before every name is taken off.
    Raises WeightsError, naming the file, if it cannot be read or would run code.
    """
    path = Path(file)
    try:
        advice = "; a Keras file is read by load_keras" if ".h5" in path.name else ""
        start = beginning(path)
        if suffix_of(path, SUFFIXES, advice) == ".safetensors":
            return read_safetensors(path)[0]
        if start.startswith(b"PK"):
            return read_zip(path)
        if start.startswith(b"\x80"):
            return read_row(path.read_bytes())
        raise WeightsError("is neither of torch.save's formats: download or save it again")
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from error.__cause__
    except DAMAGED as error:
        raise WeightsError(f"{path}: is cut short or damaged ({error}): copy it again") from error


def read_zip(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of torch 1.6 or later."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if sum(info.file_size for info in members.values()) > path.stat().st_size:
            raise WeightsError("is a zip whose parts are larger than itself: refused")
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise WeightsError("is a zip, but not torch.save's: it has no data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in members:
            raise WeightsError(
                "is a TorchScript program: save its weights alone, torch.save(model.state_dict())"
            )

        def member(name: str) -> bytes:
            info = members.get(folder + name)
            if info is None:
                raise WeightsError(f"has no {name} inside: copy it again")
            if info.compress_type != zipfile.ZIP_STORED:  # it could grow without end
                raise WeightsError(f"{name} inside is compressed, which torch.save never does")
            return archive.read(info)

        if members[pickles[0]].file_size > LARGEST_PICKLE:
            raise WeightsError("describes more than any state dict needs: refused")
        big = f"{folder}byteorder" in members and member("byteorder").strip() == b"big"
        value, _ = interpret(io.BytesIO(member("data.pkl")))
        return arrays_of(value, lambda storage: member(f"data/{storage.key}"), ">" if big else "<")


def read_row(data: bytes) -> dict[str, np.ndarray]:
    """The arrays of a file from before torch 1.6: magic number, version, machine, weights, keys.

    Behind these five pickles each storage, in the order of the keys, is its count as a 64-bit
    number and then its elements, little end first.
    """
    file = io.BytesIO(data)  # which, unlike a file, is never asked for memory beyond its end
    magic, _ = interpret(file)
    if magic != MAGIC:
        raise WeightsError("is a pickle, but not torch.save's: refused")
    interpret(file)
    interpret(file)
    value, storages = interpret(file)
    keys, _ = interpret(file)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise WeightsError("does not list its storages: refused")
    contents: dict[str, memoryview] = {}
    for key in keys:
        if key not in storages:
            raise WeightsError("lists a storage that no tensor uses: refused")
        count = int.from_bytes(file.read(8), "little")
        if count != storages[key].length:
            raise WeightsError("is cut short or damaged (a storage's size): copy it again")
        start, size = file.tell(), count * width(storages[key].element)
        if size > len(data) - start:
            raise WeightsError("is cut short: copy it again")
        contents[key] = memoryview(data)[start : file.seek(start + size)]
    return arrays_of(value, lambda storage: contents.get(storage.key, memoryview(b"")), "<")


def arrays_of(
    value: Any, content: Callable[[Storage], bytes | memoryview], order: str
) -> dict[str, np.ndarray]:
    """Name -> array of the state dict that a file's value is, or holds.

    content   the bytes of a storage
    order     "<" where their little end is first, ">" where it is the big one
    """
    tensors = tensors_in(value)
    read: dict[tuple[Storage, str], np.ndarray] = {}
    arrays = {}
    for name, view in tensors.items():
        kind = view.storage, view.element
        if kind not in read:
            read[kind] = numbers(content(view.storage), view, order)
        flat = read[kind]
        strides = [stride * flat.itemsize for stride in view.strides]
        arrays[name] = (
            np.lib.stride_tricks.as_strided(
                flat[view.offset :], view.shape, strides, writeable=False
            )
            if 0 not in view.shape
            else np.empty(view.shape, flat.dtype)
        )
    return arrays


def tensors_in(value: Any) -> dict[str, Tensor]:
    """The state dict's tensors by name: those of ``value``, or of what it has under ``INNER``."""
    for key in (None, *INNER):
        inner = value if key is None else value.get(key) if isinstance(value, dict) else None
        if not isinstance(inner, dict):
            continue
        tensors = {str(name): x for name, x in inner.items() if isinstance(x, Tensor)}
        if tensors:
            wrapped = all(name.startswith("module.") for name in tensors)
            return {n.removeprefix("module.") if wrapped else n: x for n, x in tensors.items()}
    raise WeightsError("holds no state dict: save one, torch.save(model.state_dict(), file)")


def numbers(content: bytes | memoryview, view: Tensor, order: str) -> np.ndarray:
    """A storage's bytes as the numbers that a view of it has."""
    need = view.storage.length * width(view.storage.element)
    if len(content) < need:
        raise WeightsError(
            f"a storage has {len(content)} bytes, want {need}: it is cut short, copy it again"
        )
    element = np.dtype("uint16" if view.element == "bfloat16" else view.element)
    stored = np.dtype(order + element.str[1:])
    x = np.frombuffer(content, stored, need // element.itemsize).astype(element, copy=False)
    if view.element == "bfloat16":
        return bfloat16(x)
    return single(x) if view.element == "float16" else x


def width(element: str) -> int:
    """Bytes of one number."""
    return 2 if element == "bfloat16" else np.dtype(element).itemsize
