"""Files read without trust in what they say: errors in one line, a budget, the safetensors format.

Whoever wrote it, a file is read with memory and work in proportion to its size, or refused.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import Array, described

START = 512  # bytes that are enough to tell what a file is
LONGEST_MESSAGE = 800  # characters
LONGEST_NAME = 1000  # of a layer or an array
MOST_DIMENSIONS = 16
# what the parsers of zips, pickles, HDF5 and NumPy raise for a damaged file
DAMAGED = (
    *(OSError, EOFError, ValueError, TypeError, KeyError, IndexError, OverflowError),
    *(RuntimeError, zipfile.BadZipFile, zlib.error, struct.error),
)
# what the parts of a text become as Python's objects, at most, in bytes for each sign
JSON_COSTS = {"{": 232, "[": 112, ",": 40, '"': 30}
Schema = Any  # see ``mismatch``
WANTED = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
MOST = {int: 2**63 - 1, float: 1e300}
BFLOAT16 = "BF16"
# the names that safetensors has for types
TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", BFLOAT16: "<u2", "BOOL": "?", "C64": "<c8"}
TYPES |= {f"{kind.upper()}{8 * n}": f"<{kind}{n}" for kind in "iu" for n in (1, 2, 4, 8)}


class FileError(Exception):
    """A file cannot be read, or is not what was wanted.

    The message is one line of moderate length, whatever names the file holds.
    """

    def __init__(self, message: str) -> None:
        if len(message) > LONGEST_MESSAGE:
            half = LONGEST_MESSAGE // 2
            message = f"{message[:half]} … {message[-half:]}"
        super().__init__("".join(c if c.isprintable() else "?" for c in message))


class CheckpointError(FileError):
    """A checkpoint or another file of a run could not be written, read, or used for this model."""


class WeightsError(FileError):
    """A file of weights cannot be read, or does not fit the network; the network is unchanged."""


@contextmanager
def naming(path: str | Path, kind: type[FileError]) -> Iterator[None]:
    """Raise what goes wrong with a file as an error of ``kind`` that begins with its path."""
    try:
        yield
    except FileError as error:
        raise kind(f"{path}: {error}") from error.__cause__
    except MemoryError as error:
        raise kind(f"{path}: does not fit into this machine's memory: close others") from error
    except DAMAGED as error:
        raise kind(f"{path}: is cut short or damaged ({error}): copy it again") from error


def refuse_unless(right: bool, fault: str) -> None:
    """Raise FileError for a file that is damaged on purpose, unless all is right with it."""
    if not right:
        raise FileError(f"{fault}: refused")


class Budget:
    """Memory and work that reading one file may take, in proportion to its size.

    With the copies and buffers that are not counted, at most 64 MB + 20 times the file, and some
    seconds. What a part needs is taken before the part is read.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.most = self.memory = 48 * 2**20 + 16 * size  # bytes
        self.steps = 2_000_000  # each about a microsecond

    def room(self, memory: int, what: str) -> None:
        """Raise FileError if ``what`` needs more memory, for a moment, than is left."""
        if memory > self.memory:
            raise FileError(
                f"{what} would take more memory than a file of {self.size / 2**20:,.1f} MB may, "
                f"{self.most / 2**20:,.0f} MB: refused"
            )

    def take(self, memory: int, steps: int, what: str) -> None:
        """Count what ``what`` needs.  Raises FileError if that is more than is left."""
        self.room(memory, what)
        self.memory -= memory
        self.steps -= steps
        if self.steps < 0:
            raise FileError(f"has more parts than a file of weights needs, at {what}: refused")

    def json(self, data: bytes | str, what: str, **how: Any) -> Any:
        """The value of a JSON text.  Raises FileError if it is damaged, too large or too deep."""
        text = data.decode() if isinstance(data, bytes) else data
        signs = sum(text.count(sign) * cost for sign, cost in JSON_COSTS.items())
        self.take(signs + len(text) * (2 if text.isascii() else 8), 0, what)
        try:
            return json.loads(text, **how)
        except RecursionError:
            raise FileError(f"{what} is nested too deeply: refused") from None
        except ValueError as error:
            raise FileError(f"{what} cannot be read ({error}): use another copy") from error

    def member(self, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
        """The bytes of a file in a zip."""
        name = info.filename
        known = info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        refuse_unless(known, f"{name} inside is compressed in an unusual way")
        self.take(2 * info.file_size, 1, f"{name} inside")  # zipfile joins pieces
        with archive.open(info) as file:
            data = file.read(info.file_size)  # a zip may hold more than it says
        refuse_unless(len(data) == info.file_size, f"{name} inside is shorter than the zip says")
        return data


def beginning(path: Path) -> bytes:
    """The first bytes of a file.

    Raises FileError if there is no such file, it cannot be read, or it is plainly not weights: a
    folder or a device, empty, a web page in place of a download, a git LFS pointer.
    """
    if path.is_dir():
        raise FileError("is a folder: give the file in it")
    if path.exists() and not path.is_file():
        raise FileError("is a device or a pipe: give a file")
    try:
        with open(path, "rb") as file:
            start = file.read(START)
    except FileNotFoundError:
        raise FileError("there is no such file: check the path") from None
    except OSError as error:
        raise FileError(f"cannot be read ({error.strerror or error}): check the path") from error
    if not start:
        raise FileError("is empty: copy or download it again")
    text = start.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise FileError("is a web page, not weights: the download failed, repeat it")
    if text.startswith(b"version https://git-lfs"):
        raise FileError("is a git LFS pointer, not the weights: run git lfs pull")
    return start


def check_suffix(path: Path, suffixes: tuple[str, ...], advice: str = "") -> None:
    """Raise FileError, with advice where there is any, if the name has another suffix."""
    if not path.name.lower().endswith(suffixes):
        found = path.suffix or "no suffix"
        raise FileError(f"the name ends in {found!r}, want {', '.join(suffixes)}{advice}")


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Name -> array, bfloat16 as float32; and the texts of the file.

    Source: the format's description in the package safetensors: the length of a JSON header, the
    header, then the numbers of one array after the other.
    Raises FileError if it is cut short, not safetensors, or holds 8-bit floats.
    """
    start = beginning(path)
    if start[8:9] != b"{":
        raise FileError("is not a safetensors file: use another copy")
    length, size = int.from_bytes(start[:8], "little"), path.stat().st_size
    budget = Budget(size)
    refuse_unless(length <= size - 8, "is cut short (its header), or damaged")
    with open(path, "rb") as file:
        file.seek(8)
        header = budget.json(file.read(length), "its header")
        texts = header.pop("__metadata__", {})
        plain = isinstance(texts, dict) and all(isinstance(x, str) for x in texts.values())
        refuse_unless(plain, "its header has texts that are not texts")
        places = {name: _place(budget, name, about) for name, about in header.items()}
        arrays, at = {}, 0
        for name, (begin, end, kind, shape) in sorted(places.items(), key=lambda x: x[1][:2]):
            refuse_unless(begin == at, f"the numbers of {name} begin where those before do not end")
            refuse_unless(end <= size - 8 - length, "is cut short (its numbers), or damaged")
            stored = np.dtype(TYPES[kind])
            x = np.fromfile(file, stored, prod(shape)).astype(stored.newbyteorder("="), copy=False)
            arrays[name] = (bfloat16(x) if kind == BFLOAT16 else x).reshape(shape)
            at = end
        refuse_unless(at == size - 8 - length, "has bytes at its end that are not an array's")
    return {name: arrays[name] for name in places}, texts


def _place(budget: Budget, name: str, about: Any) -> tuple[int, int, str, tuple[int, ...]]:
    """(first byte, byte behind the last, type, shape) that a header gives an array."""
    budget.take(0, 20, name)
    refuse_unless(len(name) <= LONGEST_NAME, "has an array with a name without end")
    keys = {"dtype", "shape", "data_offsets"}
    right = isinstance(about, dict) and about.keys() == keys
    refuse_unless(right, f"its header does not say what {name} is")
    kind, shape, ends = about["dtype"], about["shape"], about["data_offsets"]
    whole = isinstance(shape, list) and isinstance(ends, list) and len(ends) == 2
    whole = whole and all(type(n) is int and 0 <= n < 2**63 for n in (*shape, *ends))
    refuse_unless(whole, f"the sizes of {name} are not whole numbers from 0")
    few = len(shape) <= MOST_DIMENSIONS
    refuse_unless(few, f"{name} has {len(shape)} dimensions, want at most {MOST_DIMENSIONS}")
    if not isinstance(kind, str) or kind not in TYPES:
        raise FileError(f"{name} is {kind}, want float16 or wider: convert it")
    fits = ends[1] - ends[0] == prod(shape) * np.dtype(TYPES[kind]).itemsize
    refuse_unless(fits, f"{name} is {tuple(shape)} {kind}, which is not {ends[1] - ends[0]} bytes")
    return ends[0], ends[1], kind, tuple(shape)


def bfloat16(halves: np.ndarray) -> np.ndarray:
    """Numbers whose 16 bits are the upper half of a float32's, as float32."""
    return (halves.astype("uint32") << 16).view("float32")


def single(x: np.ndarray) -> np.ndarray:
    """float16 as float32, other types as they are."""
    if x.dtype != np.float16:
        return x
    with np.errstate(invalid="ignore"):  # a signalling NaN: loading names it
        return x.astype("float32")


def mismatch(value: Any, schema: Schema, place: str) -> str:
    """What is wrong at which place of a value from JSON; "" if it is as the schema says.

    A schema is a type (an int passes for a float, a bool for no number), ``[s]`` for a list of s,
    ``[s, t]`` for a list of just these two, ``(s, t)`` for either, None, or a dict: its keys must
    be there, unless they end in "?", and the key ``str`` stands for all others.
    """
    if isinstance(schema, tuple):
        faults = [mismatch(value, one, place) for one in schema]
        return "" if "" in faults else faults[0]
    if isinstance(schema, list):
        if not isinstance(value, list) or len(value) != len(schema) > 1:
            return f"{place} is {shown(value)}, want a list" + f" of {len(schema)}" * bool(
                schema[1:]
            )
        each = schema if schema[1:] else schema * len(value)
        inner = [(v, s, f"{place}[{i}]") for i, (v, s) in enumerate(zip(value, each, strict=True))]
    elif isinstance(schema, dict):
        if not isinstance(value, dict):
            return f"{place} is {shown(value)}, want names and values"
        names = {name.removesuffix("?"): s for name, s in schema.items() if name is not str}
        if absent := [name for name in names if f"{name}?" not in schema and name not in value]:
            return f"{place} lacks {absent[0]!r}"
        others = schema.get(str)
        if unknown := [name for name in value if name not in names and str not in schema]:
            return f"{place} has {unknown[0]!r}, which is unknown"
        start = "" if place == "it" else f"{place}."
        inner = [(v, names.get(name, others), f"{start}{name}") for name, v in value.items()]
    else:
        kinds = (int, float) if schema is float else schema or type(None)
        number = schema in (int, float) and isinstance(value, bool)
        wanted = "nothing" if schema is None else WANTED.get(schema, "something else")
        fine = isinstance(value, kinds) and not number
        if fine and schema in MOST and abs(value) > MOST[schema]:
            wanted += f" up to {MOST[schema]:g}"
            fine = False
        return "" if fine else f"{place} is {shown(value)}, want {wanted}"
    return next((wrong for each in inner if (wrong := mismatch(*each))), "")


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True, default=described)
    return text if len(text) <= 40 else text[:37] + "..."


def finite(x: np.ndarray, name: str, own: Array) -> np.ndarray:
    """Weights in the type of the network's ``own``.

    Raises FileError if they are not floating point, or a number is not finite.
    """
    if x.dtype.kind not in ("fc" if own.dtype.kind == "c" else "f"):
        raise FileError(f"{name} holds {x.dtype}, want floats: save the weights as float32")
    with np.errstate(over="ignore", invalid="ignore"):
        x = x.astype(own.dtype, copy=False)
    bad = int((~np.isfinite(x)).sum())
    if bad:
        raise FileError(
            f"{name} has {bad} of {x.size} numbers that are NaN or infinite: these weights "
            "are broken, use others"
        )
    return x
