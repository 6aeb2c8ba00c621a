"""Names and arrays of a PyTorch file, in either of torch.save's formats or as safetensors.

Since torch 1.6 the file is a zip: ``data.pkl`` describes the tensors, ``data/0``, ``data/1``, …
hold the numbers of their storages, ``byteorder`` says which way round. Before, it was a row of
pickles with the storages behind them; many official weights still are. Neither is unpickled:
``state_dict.interpret`` reads what the pickle says.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.interop.state_dict import Storage, Tensor, interpret
from tinynet.train.reading import (
    LONGEST_NAME,
    Budget,
    FileError,
    WeightsError,
    beginning,
    bfloat16,
    check_suffix,
    naming,
    read_safetensors,
    refuse_unless,
    single,
)

# torch's tutorials save checkpoints as .tar, its examples as .pth.tar
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".pth.tar", ".tar")
MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the format before torch 1.6
# where a training script's checkpoint has the state dict
INNER = ("state_dict", "model_state_dict", "model", "module", "net")
PROGRAMS = {  # a file that only their zips have -> what they are, and their weights
    "constants.pkl": ("a TorchScript program", "torch.jit.load(file).state_dict()"),
    "model.json": ("an exported program", "torch.export.load(file).state_dict"),
}


def read_torch(file: str | Path) -> dict[str, np.ndarray]:
    """Name -> array (read-only; float16 and bfloat16 as float32) of a PyTorch file of weights.

    A checkpoint that holds its weights under "state_dict" or "model" gives those, whatever else is
    beside them.
    Raises WeightsError, naming the file, if it cannot be read or would run code.
    """
    path = Path(file)
    with naming(path, WeightsError):
        start = beginning(path)
        advice = "; a Keras file is read by load_keras" if ".h5" in path.name else ""
        check_suffix(path, SUFFIXES, advice)
        if path.suffix.lower() == ".safetensors":
            return {name: single(x) for name, x in read_safetensors(path)[0].items()}
        budget = Budget(path.stat().st_size)
        if start.startswith(b"PK"):
            return read_zip(path, budget)
        if start.startswith(b"\x80"):
            return read_row(path.read_bytes(), budget)
        raise FileError("is neither of torch.save's formats: download or save it again")


def read_zip(path: Path, budget: Budget) -> dict[str, np.ndarray]:
    """The arrays of a file of torch 1.6 or later."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        for name in members:
            if name.rpartition("/")[2] in PROGRAMS:
                what, weights = PROGRAMS[name.rpartition("/")[2]]
                raise FileError(
                    f"is {what}: save its weights alone, torch.save({weights}, new_file)"
                )
        pickles = [name for name in members if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise FileError("is a zip, but not torch.save's: it has no data.pkl")
        folder = pickles[0].removesuffix("data.pkl")

        def member(name: str) -> bytes:
            info = members.get(folder + name)
            if info is None:
                raise FileError(f"has no {name} inside: copy it again")
            if info.compress_type != zipfile.ZIP_STORED:
                raise FileError(f"{name} inside is compressed, which torch.save never does")
            return budget.member(archive, info)

        big = f"{folder}byteorder" in members and member("byteorder").strip() == b"big"
        value, _ = interpret(io.BytesIO(member("data.pkl")), budget)
        order = ">" if big else "<"
        return arrays_of(value, lambda storage: member(f"data/{storage.key}"), order, budget)


def read_row(data: bytes, budget: Budget) -> dict[str, np.ndarray]:
    """The arrays of a file from before torch 1.6: magic number, version, machine, weights, keys.

    Behind these five pickles each storage, in the order of the keys, is its count as a 64-bit
    number and then its elements, little end first.
    """
    file = io.BytesIO(data)  # which, unlike a file, is never asked for memory beyond its end
    magic, _ = interpret(file, budget)
    refuse_unless(magic == MAGIC, "is a pickle, but not torch.save's")
    interpret(file, budget)
    interpret(file, budget)
    value, storages = interpret(file, budget)
    keys, _ = interpret(file, budget)
    right = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    refuse_unless(right, "does not list its storages")
    contents: dict[str, memoryview] = {}
    for key in keys:
        refuse_unless(key in storages, "lists a storage that no tensor uses")
        count = int.from_bytes(file.read(8), "little")
        if count != storages[key].length:
            raise FileError("is cut short or damaged (a storage's size): copy it again")
        start, size = file.tell(), count * width(storages[key].element)
        if size > len(data) - start:
            raise FileError("is cut short: copy it again")
        contents[key] = memoryview(data)[start : file.seek(start + size)]
    return arrays_of(value, lambda storage: contents.get(storage.key, b""), "<", budget)


def arrays_of(
    value: Any, content: Callable[[Storage], bytes | memoryview], order: str, budget: Budget
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
            data = content(view.storage)
            budget.take(4 * len(data), 0, f"the storage of {name}")  # half floats become float32
            read[kind] = numbers(data, view, order)
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
    """The state dict's tensors by name: those of what ``value`` has under ``INNER``, or its own."""
    whole = value if isinstance(value, dict) else {}
    for inner in (*(whole.get(key) for key in INNER), whole):
        if isinstance(inner, dict):
            tensors = {str(name): x for name, x in inner.items() if isinstance(x, Tensor)}
            if tensors:
                short = all(len(name) <= LONGEST_NAME for name in tensors)
                refuse_unless(short, "has a tensor with a name without end")
                return tensors
    raise FileError("holds no state dict: save one, torch.save(model.state_dict(), file)")


def numbers(content: bytes | memoryview, view: Tensor, order: str) -> np.ndarray:
    """A storage's bytes as the numbers that a view of it has."""
    need = view.storage.length * width(view.storage.element)
    if len(content) < need:
        raise FileError(
            f"a storage has {len(content)} bytes, want {need}: it is cut short, copy it again"
        )
    element = np.dtype("uint16" if view.element == "bfloat16" else view.element)
    stored = np.dtype(order + element.str[1:])
    x = np.frombuffer(content, stored, need // element.itemsize).astype(element, copy=False)
    return bfloat16(x) if view.element == "bfloat16" else single(x)


def width(element: str) -> int:
    """Bytes of one number."""
    return 2 if element == "bfloat16" else np.dtype(element).itemsize
