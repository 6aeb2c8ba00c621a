"""Files of weights made by hand, for tests that need what no library would write."""

import struct
import zipfile
from pathlib import Path

import numpy as np


def text(value: str) -> bytes:
    """Pickle: a text."""
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    """Pickle: a whole number of any size."""
    data = value.to_bytes(20, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values: tuple[int, ...]) -> bytes:
    """Pickle: a tuple of whole numbers."""
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    offset: int = 0,
    *,
    key: str = "0",
    kind: str = "FloatStorage",
    count: int = 6,
) -> bytes:
    """Pickle: torch._utils._rebuild_tensor_v2 on a storage, as torch.save writes it."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(key) + text("cpu")
    storage += number(count) + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(offset)
    return call + numbers(shape) + numbers(strides) + b"\x89}tR"


def state_dict(**values: bytes) -> bytes:
    """Pickle: a whole program that makes a dict of these."""
    items = b"".join(text(name) + value for name, value in values.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u."


def torch_zip(path: Path, program: bytes, compress: int = zipfile.ZIP_STORED, **members) -> Path:
    """A file as torch.save writes it; members are by name, with storages ``data/0``, …"""
    members = members or {"data/0": np.arange(6, dtype="<f4").tobytes()}
    with zipfile.ZipFile(path, "w", compress) as archive:
        archive.writestr("archive/data.pkl", program)
        for name, data in members.items():
            archive.writestr(f"archive/{name}", data)
    return path
