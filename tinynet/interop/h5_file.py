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

from tinynet.interop.files import WeightsError, bfloat16, refuse_unless

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


def read_h5(source: Path | io.BytesIO, size: int, ignored: tuple[str, ...] = ()) -> Tree:
    """All arrays of a file, and the texts that name layers and weights.

    size      bytes on disk, which say how much memory its arrays may take
    ignored   groups at the top that are not read
    Raises WeightsError if h5py is not installed, or the file is cut short, damaged or hostile.
    """
    try:
        import h5py
    except ImportError:
        raise WeightsError(
            'reading it needs h5py: python -m pip install "tinynet-dl[weights]"'
        ) from None
    tree = Tree()
    try:
        with h5py.File(source, "r") as file:
            _Reader(h5py, tree, LARGEST_GROWTH * size).group(file, "", 0, ignored)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise WeightsError(
            f"is cut short, damaged or not an HDF5 file ({error}): copy it again"
        ) from error
    return tree


class _Reader:
    """Walks a file and counts the objects and bytes that it claims to hold."""

    def __init__(self, h5py: Any, tree: Tree, most_bytes: int) -> None:
        self.h5py, self.tree = h5py, tree
        self.most_bytes, self.bytes, self.objects = most_bytes, 0, 0

    def group(self, group: Any, path: str, depth: int, ignored: tuple[str, ...] = ()) -> None:
        refuse_unless(depth <= DEEPEST, f"has groups deeper than {DEEPEST}")
        self.tree.texts[path] = texts_of(group)
        for name in group:
            if name in ignored:
                continue
            inner = f"{path}/{name}" if path else name
            self.objects += 1
            refuse_unless(self.objects <= MOST_OBJECTS, f"has more than {MOST_OBJECTS:,} objects")
            link = group.get(name, getlink=True)
            here = isinstance(link, self.h5py.HardLink)
            refuse_unless(here, f"{inner} points elsewhere ({type(link).__name__})")
            found = group[name]
            if isinstance(found, self.h5py.Group):
                self.group(found, inner, depth + 1)
            else:
                is_array = isinstance(found, self.h5py.Dataset)
                refuse_unless(is_array, f"{inner} is neither a group nor an array")
                self.tree.arrays[inner] = self.array(found, inner)

    def array(self, data: Any, path: str) -> np.ndarray:
        """One array, bfloat16 as float32."""
        elsewhere = data.external or data.is_virtual
        refuse_unless(not elsewhere, f"{path} keeps its numbers in another file")
        # as Keras writes it: NumPy has no such type
        truncated = data.dtype.str == "|V2" and data.attrs.get("dtype") == "bfloat16"
        numbers = data.dtype.kind in "fiub" or truncated
        refuse_unless(numbers, f"{path} holds {data.dtype}, want numbers")
        refuse_unless(data.shape is not None, f"{path} has no shape")
        settings = data.id.get_create_plist()
        filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
        own = all(number in OWN_FILTERS for number in filters)
        refuse_unless(own, f"{path} is compressed in a way that is not HDF5's")
        # a number of a chunk takes the memory of the whole chunk
        cells = max(math.prod(data.shape), math.prod(data.chunks or ()))
        self.bytes += cells * data.dtype.itemsize
        fits = self.bytes <= self.most_bytes
        refuse_unless(fits, f"{path} is {data.shape}, larger than the file could hold")
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
    if isinstance(value, bytes):
        return value.decode("utf-8")
    refuse_unless(isinstance(value, str), f"has a {type(value).__name__} in place of a name")
    return str(value)
