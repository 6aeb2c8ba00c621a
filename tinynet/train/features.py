"""Representations of a whole data set by a frozen base, computed once and kept on disk.  §2.5.6.

model.base.freeze()
features = cached_features(model.base, train, "features")     runs the base, or finds it run
fit(HeadOnly(model), loss, optimizer, features, epochs=50)    seconds: the head alone
"""

from __future__ import annotations

import hashlib
import sys
import time
from contextlib import closing
from enum import Enum
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinynet._version import __version__
from tinynet.backend import Array, to_device
from tinynet.engine import one_blas_thread
from tinynet.layer import EVAL, Layer, Parameter
from tinynet.train.data import ArrayDataset, Dataset, as_dataset, batches, prefetch
from tinynet.train.evaluation import device_of
from tinynet.train.files import CheckpointError, written_whole
from tinynet.train.reading import FileError, beginning, naming
from tinynet.train.transfer import Frozen, frozen_part

ADVICE = "delete it, and it is made again"


class CachedFeatures(ArrayDataset):
    """Representations (N, ...), memory-mapped, with the labels of the images they are of.

    file     the .npy that holds them
    reused   whether they were there already
    """

    def __init__(self, x: Array, y: Array, file: Path, reused: bool) -> None:
        super().__init__(x, y)
        self.file, self.reused = file, reused


@one_blas_thread()
def cached_features(
    base: Layer,
    data: Dataset | tuple[Array, Array],
    folder: str | Path,
    *,
    batch_size: int = 64,
    progress: bool = True,
) -> CachedFeatures:
    """base(x) for every example of a data set, as a data set for the head.  Report §2.5.6.

    base         frozen in all three ways, so that it computes in training what it computes here
    data         a dataset, read without augmentation, or a pair (x, y) of arrays
    folder       where ``features-KEY.npy`` is kept, one file for each base and data set; the key is
                 a hash of the base's layers, settings, weights and statistics, of every x, and of
                 tinynet's version. What differs in any has another file: none is ever stale
    batch_size   examples at a time; it may move the last bit of a representation
    progress     say, on standard error, whether they were found or computed, and how long it took
    The data are read once for the key, and a second time if the base has to run.
    Raises ValueError if something of the base is not frozen; CheckpointError if the folder cannot
    be written to, with no half-written file left.
    """
    check_frozen(base)
    data = as_dataset(data)
    start = time.perf_counter()
    digest = hashlib.sha256(f"{__version__}\n".encode())
    digest.update(layer_digest(base))
    labels = add_examples(digest, data, batch_size)
    file = Path(folder) / f"features-{digest.hexdigest()[:32]}.npy"
    reused = file.exists()
    if not reused:
        write_features(file, base, data, batch_size)
    if progress:
        took = f"{time.perf_counter() - start:.1f} s"
        done = f"found in {file}" if reused else f"computed in {took}, kept in {file}"
        print(f"features of {len(data):,} examples: {done}", file=sys.stderr)
    return CachedFeatures(open_features(file, len(data), base), labels, file, reused)


def check_frozen(base: Layer) -> None:
    """Raise ValueError, saying what is not, unless all of the base is frozen."""
    part = frozen_part("base", base)

    def not_frozen(kind: str, n: Frozen) -> list[str]:
        return [f"{n.total - n.frozen:,} of its {n.total:,} {kind}"] if n.frozen < n.total else []

    loose = [
        *not_frozen("parameters", part.parameters),
        *not_frozen("batch-norm statistics", part.statistics),
        *not_frozen("dropout layers", part.dropout),
    ]
    if loose:
        raise ValueError(
            f"the base is not frozen, {' and '.join(loose)} are not: its representations would "
            "change in training. Call model.base.freeze() first"
        )


def layer_digest(layer: Layer) -> bytes:
    """SHA-256 of what a layer computes: inner layers, their settings, weights and statistics."""
    digest = hashlib.sha256()
    first: dict[int, str] = {}

    def visit(path: str, part: Layer) -> None:
        if id(part) in first:  # the same layer again: where it was first is all there is to say
            digest.update(f"{path} is {first[id(part)]}\n".encode())
            return
        first[id(part)] = path
        kind = type(part)
        digest.update(f"{path} {kind.__module__}.{kind.__qualname__}\n".encode())
        for name, value in sorted(vars(part).items()):
            array = value.value if isinstance(value, Parameter) else value
            if name in part.buffer_names or isinstance(value, Parameter):
                add_array(digest, f"{path}.{name}", array)
            elif text := setting_text(value):
                digest.update(f"{path}.{name}={text}\n".encode())
        for name, child in part.children().items():
            visit(f"{path}.{name}", child)

    visit("", layer)
    return digest.digest()


def setting_text(value: Any) -> str:
    """A layer's setting as text that is the same in every process; "" for an inner layer."""
    if isinstance(value, Layer):
        return ""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(setting_text, value))})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{k!r}: {setting_text(v)}' for k, v in value.items())}}}"
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{value.shape} {hashlib.sha256(value.tobytes()).hexdigest()}"
    if callable(value):
        return f"{value.__module__}.{getattr(value, '__qualname__', type(value).__qualname__)}"
    if value is None or isinstance(value, bool | int | float | complex | str | np.generic | Enum):
        return repr(value)
    return f"{type(value).__qualname__} {setting_text(vars(value))}"


def add_array(digest: Any, name: str, x: Array) -> None:
    """Add an array's name, type, shape and numbers to a hash."""
    x = np.ascontiguousarray(to_device(x, "numpy"))
    digest.update(f"{name} {x.dtype.str} {x.shape}\n".encode())
    digest.update(x.data)


def add_examples(digest: Any, data: Dataset, batch_size: int) -> Array:
    """Add every x to a hash, whatever the batches; returns the labels (N,) or (N, K)."""
    labels = []
    for number, (x, y) in enumerate(reading(data, batch_size)):
        x = np.ascontiguousarray(to_device(x, "numpy"))
        if number == 0:
            digest.update(f"x {len(data)} {x.dtype.str} {x.shape[1:]}\n".encode())
        digest.update(x.data)
        labels.append(to_device(y, "numpy"))
    return np.concatenate(labels)


def reading(data: Dataset, batch_size: int) -> Any:
    """(x, y) of the whole set in order, not augmented, read ahead by a thread."""
    order = batches(len(data), batch_size, None)
    return prefetch(data.batch(indices, None) for indices in order)


def write_features(file: Path, base: Layer, data: Dataset, batch_size: int) -> None:
    """Run the base and write its output as .npy, whole or not at all."""
    device = device_of(base)
    # written, not mapped: a full disk is then an error and not the end of the process
    with written_whole(file) as stream, closing(reading(data, batch_size)) as loaded:
        for number, (x, _) in enumerate(loaded):
            z = to_device(base.forward(to_device(x, device), EVAL)[0], "numpy")
            if number == 0:
                write_header(stream, z, len(data))
            stream.write(np.ascontiguousarray(z).data)


def write_header(stream: BinaryIO, z: Array, count: int) -> None:
    """Return the header of a .npy file of ``count`` arrays like those of z."""
    entries = {"descr": z.dtype.str, "fortran_order": False, "shape": (count, *z.shape[1:])}
    np.lib.format.write_array_header_1_0(stream, entries)


def open_features(file: Path, count: int, like: Layer) -> Array:
    """The memory map in ``file``; raises CheckpointError if it is damaged."""
    own = next((p.value.dtype for p in like.parameters().values()), None)
    with naming(file, CheckpointError):
        beginning(file)
        try:
            with open(file, "rb") as stream:
                np.lib.format.read_magic(stream)
                shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
                offset = stream.tell()
        except Exception as error:  # a damaged header can raise whatever Python's parser does
            raise FileError(f"is damaged ({error}): {ADVICE}") from error
        whole = file.stat().st_size - offset == prod(shape) * dtype.itemsize
        right = whole and shape[:1] == (count,) and dtype.kind in "fV" and own in (None, dtype)
        if not right:
            found = f"{dtype} {shape}, want {count} examples of {own or 'floats'}"
            raise FileError(f"is damaged ({found}): {ADVICE}")
        return np.memmap(file, dtype, "r", offset, shape)
