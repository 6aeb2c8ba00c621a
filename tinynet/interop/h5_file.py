"""The arrays of an HDF5 file, read without trust in what it says.

An HDF5 file can point into other files, claim sizes that it does not have, and hold Python
objects. Here only groups and plain numbers are followed; the rest is refused, by name.
"""

from __future__ import annotations

import io
import itertools
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.interop.errors import WeightsError
from tinynet.interop.safetensors_file import bfloat16

DEEPEST = 32  # groups in groups
MOST_OBJECTS = 100_000
LARGEST_GROWTH = 100  # numbers may be compressed, but not out of nothing
OWN_FILTERS = range(1, 7)  # those of HDF5 itself: others are code from elsewhere
TEXTS = ("layer_names", "weight_names", "name")  # attributes that matter here


@dataclass
class Tree:
    """A file's arrays and texts, by path: "layers/conv2d/vars/0"."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    texts: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # of a group


def read_h5(source: Path | io.BytesIO, ignored: tuple[str, ...] = ()) -> Tree:
    """All arrays of a file, and the texts that name layers and weights.

    ignored   groups at the top that are not read
    Raises WeightsError if h5py is not installed, or the file is cut short, damaged or hostile.
    """
    try:
        import h5py
    except ImportError:
        raise WeightsError(
            'reading it needs h5py: python -m pip install "tinynet-dl[weights]"'
        ) from None
    size = len(source.getbuffer()) if isinstance(source, io.BytesIO) else source.stat().st_size
    tree = Tree()
    try:
        with h5py.File(source, "r") as file:
            _Reader(h5py, tree, LARGEST_GROWTH * size).group(file, "", 0, ignored)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"is cut short, damaged or no HDF5 file ({error}): copy it again") from (
            error
        )
    return tree


class _Reader:
    """Walks a file, counting what it has been promised."""

    def __init__(self, h5py: Any, tree: Tree, most_bytes: int) -> None:
        self.h5py, self.tree = h5py, tree
        self.most_bytes, self.bytes, self.objects = most_bytes, 0, 0

    def group(self, group: Any, path: str, depth: int, ignored: tuple[str, ...] = ()) -> None:
        """Everything in a group."""
        if depth > DEEPEST:
            raise WeightsError(f"has groups deeper than {DEEPEST}: refused")
        self.tree.texts[path] = texts_of(group)
        for name in group:
            if name in ignored:
                continue
            inner = f"{path}/{name}" if path else name
            self.objects += 1
            if self.objects > MOST_OBJECTS:
                raise WeightsError(f"has more than {MOST_OBJECTS:,} objects: refused")
            link = group.get(name, getlink=True)
            if not isinstance(link, self.h5py.HardLink):
                raise WeightsError(f"{inner} points elsewhere ({type(link).__name__}): refused")
            found = group[name]
            if isinstance(found, self.h5py.Group):
                self.group(found, inner, depth + 1)
            elif isinstance(found, self.h5py.Dataset):
                self.tree.arrays[inner] = self.array(found, inner)
            else:
                raise WeightsError(f"{inner} is no group and no array: refused")

    def array(self, data: Any, path: str) -> np.ndarray:
        """One array, bfloat16 as float32."""
        if data.external or data.is_virtual:
            raise WeightsError(f"{path} keeps its numbers in another file: refused")
        # as Keras writes it: NumPy has no such type
        truncated = data.dtype.str == "|V2" and data.attrs.get("dtype") == "bfloat16"
        if data.dtype.kind not in "fiub" and not truncated:
            raise WeightsError(f"{path} holds {data.dtype}, want numbers: refused")
        if data.shape is None:
            raise WeightsError(f"{path} has no shape: refused")
        settings = data.id.get_create_plist()
        for i in range(settings.get_nfilters()):
            if settings.get_filter(i)[0] not in OWN_FILTERS:
                raise WeightsError(f"{path} is compressed in a way that is not HDF5's: refused")
        self.bytes += math.prod(data.shape) * data.dtype.itemsize
        if self.bytes > self.most_bytes:
            raise WeightsError(f"{path} is {data.shape}, larger than the file could hold: refused")
        x = np.asarray(data)
        return bfloat16(x.view("<u2")) if truncated else x


def texts_of(group: Any) -> dict[str, list[str]]:
    """A group's texts; a long list of names is in parts: layer_names0, layer_names1, …"""
    found = {}
    for key in TEXTS:
        parts = itertools.takewhile(
            group.attrs.__contains__, (f"{key}{i}" for i in itertools.count())
        )
        names = [key] if key in group.attrs else list(parts)
        if names:
            found[key] = [text_of(x) for name in names for x in np.ravel(group.attrs[name])]
    return found


def text_of(value: Any) -> str:
    """A text, which may come as bytes."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if not isinstance(value, str):
        raise WeightsError(f"has a {type(value).__name__} in place of a name: refused")
    return str(value)
