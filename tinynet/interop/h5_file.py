"""The arrays of an HDF5 file, read without trust in what it says.

An HDF5 file can point into other files, claim sizes that it does not have, let many names stand for
one long text, and hold Python objects. Here only groups and plain numbers are followed, within the
file's budget; the rest is refused, by name.
"""

from __future__ import annotations

import io
import itertools
import mmap
import struct
import zlib
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinynet.train.reading import DAMAGED, LONGEST_NAME, Budget, FileError, bfloat16, refuse_unless

DEEPEST = 32  # groups in groups
STEPS = 200  # of a budget, that one object takes
DEFLATE, *OTHER_FILTERS = range(1, 7)  # those of HDF5 itself: others are code from elsewhere
TEXTS = ("layer_names", "weight_names", "name")  # attributes that matter here
SIGNATURE, HEAP = b"\x89HDF\r\n\x1a\n", b"GCOL"  # begin the file, and each heap of texts
MOST_LARGE = 16  # heaps with a text that is too long for a name: Keras's settings


@dataclass
class Tree:
    """A file's arrays and texts, by path: "layers/conv2d/vars/0"."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    texts: dict[str, dict[str, list[str]]] = field(default_factory=dict)  # of a group


def read_h5(source: Path | bytes, budget: Budget, ignored: tuple[str, ...] = ()) -> Tree:
    """All arrays of a file, and the texts that name layers and weights.

    source    the file, or what it holds
    ignored   groups at the top that are not read
    Raises FileError if h5py is not installed, or the file is cut short, damaged or hostile.
    """
    try:
        import h5py
    except ImportError:
        raise FileError(
            'reading it needs h5py: python -m pip install "tinynet-dl[weights]"'
        ) from None
    tree = Tree()
    try:
        sizes = TextSizes.of(source, budget)
        with h5py.File(io.BytesIO(source) if isinstance(source, bytes) else source, "r") as file:
            _Reader(h5py, tree, budget, sizes).group(file, "", 0, ignored)
    except DAMAGED as error:
        raise FileError(
            f"is cut short, damaged or not an HDF5 file ({error}): copy it again"
        ) from error
    return tree


class TextSizes(NamedTuple):
    """What texts of variable length can take: HDF5 keeps them in heaps, and refers to them."""

    name: int  # bytes of the longest that may be a name
    others: int  # bytes of all longer ones, each as often as something refers to it

    @classmethod
    def of(cls, source: Path | bytes, budget: Budget) -> TextSizes:
        if isinstance(source, bytes):
            return cls.within(source, budget)
        with (
            open(source, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return cls.within(content, budget)

    @classmethod
    def within(cls, content: bytes | mmap.mmap, budget: Budget) -> TextSizes:
        start = max(content.find(SIGNATURE), 0)  # from which HDF5 counts
        name = others = large = 0
        heap = content.find(HEAP)
        while heap >= 0:
            at, end = heap + 16, heap + int.from_bytes(content[heap + 8 : heap + 16], "little")
            while at < min(end, len(content)):
                budget.take(0, 1, "a heap of texts")
                index, size = struct.unpack("<H6xQ", content[at : at + 16].ljust(16, b"\0"))
                large += bool(index) and size > LONGEST_NAME
                if index and (size <= LONGEST_NAME or large > MOST_LARGE):
                    name = max(name, min(size, len(content)))
                elif index:
                    reference = struct.pack("<QI", heap - start, index)
                    found = content.find(reference)
                    while found >= 0:
                        budget.take(0, 1, "a reference to a heap of texts")
                        others, found = others + size, content.find(reference, found + 1)
                at += 16 + -(-size // 8) * 8 if index else max(size, 16)
            heap = content.find(HEAP, heap + 4)
        return cls(name, others)


class _Reader:
    """Walks a file, and takes from the budget what each object claims to hold."""

    def __init__(self, h5py: Any, tree: Tree, budget: Budget, sizes: TextSizes) -> None:
        self.h5py, self.tree, self.budget, self.sizes = h5py, tree, budget, sizes

    def group(self, group: Any, path: str, depth: int, ignored: tuple[str, ...] = ()) -> None:
        refuse_unless(depth <= DEEPEST, f"has groups deeper than {DEEPEST}")
        self.tree.texts[path] = self.texts(group)
        for name in self.names(group, path):
            if name in ignored:
                continue
            inner = f"{path}/{name}" if path else name
            self.budget.take(3 * len(inner) + 1000, STEPS, inner)
            found = group[name]
            if isinstance(found, self.h5py.Group):
                self.group(found, inner, depth + 1)
            else:
                is_array = isinstance(found, self.h5py.Dataset)
                refuse_unless(is_array, f"{inner} is neither a group nor an array")
                self.tree.arrays[inner] = self.array(found, inner)

    def names(self, group: Any, path: str) -> list[str]:
        """What is in a group, name by name: many links may have one long name."""
        names: list[str] = []
        faults: list[FileError] = []  # HDF5 does not pass an error on from its loop

        def keep(name: bytes, about: Any) -> FileError | None:
            try:
                self.budget.take(len(name) + 100, 1, f"a name in {path or 'the file'}")
                here = about.type == self.h5py.h5l.TYPE_HARD
                names.append(name.decode())
                refuse_unless(len(name) <= LONGEST_NAME, f"{path} holds a name without end")
                refuse_unless(here, f"{path}/{names[-1]} points elsewhere")
            except (FileError, ValueError) as error:
                faults.append(FileError(str(error)))
            return faults[0] if faults else None

        group.id.links.iterate(keep, info=True, order=self.h5py.h5.ITER_NATIVE)
        if faults:
            raise faults[0]
        return sorted(names)

    def texts(self, group: Any) -> dict[str, list[str]]:
        """A group's texts; a long list of names is in parts: layer_names0, layer_names1, …"""
        found = {}
        for key in TEXTS:
            parts = itertools.takewhile(
                group.attrs.__contains__, (f"{key}{i}" for i in itertools.count())
            )
            names = [key] if key in group.attrs else list(parts)
            if names:
                found[key] = [text for name in names for text in self.text(group, name)]
        return found

    def text(self, group: Any, key: str) -> list[str]:
        about = self.h5py.h5a.open(group.id, key.encode())
        kind, count = about.get_type(), about.get_space().get_simple_extent_npoints()
        if not count and about.shape == (0,):  # of a layer without weights
            return []
        is_text = isinstance(kind, self.h5py.h5t.TypeStringID)
        refuse_unless(is_text, f"{key} is not text, in place of a name")
        varies = kind.is_variable_str()
        size = self.sizes.name if varies else kind.get_size()
        memory = count * (2 * size + 100) + (2 * self.sizes.others if varies else 0)
        self.budget.room(memory, f"{key} (write the network as .keras)")
        values = np.ravel(group.attrs[key])
        named = all(isinstance(value, bytes | str) for value in values)
        refuse_unless(named, f"{key} is nothing, in place of a name")
        texts = [x.decode() if isinstance(x, bytes) else str(x) for x in values]
        self.budget.take(sum(map(len, texts)) + 100 * count, 3 * STEPS + count, key)
        return texts

    def array(self, data: Any, path: str) -> np.ndarray:
        """One array, bfloat16 as float32."""
        elsewhere = data.external or data.is_virtual
        refuse_unless(not elsewhere, f"{path} keeps its numbers in another file")
        # as Keras writes it: NumPy has no such type
        truncated = data.dtype.str == "|V2" and data.attrs.get("dtype") == "bfloat16"
        numbers = data.dtype.kind in "fiub" or truncated
        refuse_unless(numbers, f"{path} holds {data.dtype}, want numbers")
        refuse_unless(data.shape is not None, f"{path} has no shape")
        self.budget.take(data.size * data.dtype.itemsize * (5 if truncated else 1), 0, path)
        if data.chunks and data.size:
            self.chunks(data, path)
        x = np.asarray(data)
        return bfloat16(x.view("<u2")) if truncated else x

    def chunks(self, data: Any, path: str) -> None:
        """Refuse an array whose chunks would take more than its numbers.

        HDF5 keeps a note of each chunk, takes memory for a whole one, and unpacks all that is
        packed in it, however much that is.
        """
        settings = data.id.get_create_plist()
        filters = [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]
        own = {DEFLATE, *OTHER_FILTERS}.issuperset(filters) and filters.count(DEFLATE) <= 1
        refuse_unless(own, f"{path} is compressed in a way that is not HDF5's")
        count = prod(-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True))
        self.budget.take(500 * count, count, path)
        size = prod(data.chunks) * data.dtype.itemsize
        self.budget.room(3 * size, path)
        if DEFLATE in filters:
            stored: list[Any] = []
            data.id.chunk_iter(stored.append)
            for chunk in stored:
                if not chunk.filter_mask >> filters.index(DEFLATE) & 1:
                    packed = data.id.read_direct_chunk(chunk.chunk_offset)[1]
                    unpacked = zlib.decompressobj().decompress(packed, size + 100)
                    refuse_unless(len(unpacked) < size + 100, f"{path} would unpack without limit")
