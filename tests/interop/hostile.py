"""Files that claim, repeat or nest more than they hold, and a child that opens each of them.

``files`` makes them from a seed.  ``python -m tests.interop.hostile`` reads lines of a
reader's name and a path, and answers each with what happened, and the time and memory it took.
"""

import io
import json
import os
import resource
import struct
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tests.interop.support import number, state_dict, tensor, text, torch_zip
from tinynet.interop import load_keras, load_torch, load_weights, renamed, save_weights
from tinynet.interop.keras_file import read_keras
from tinynet.interop.names import WeightNames
from tinynet.interop.torch_file import read_torch
from tinynet.layers import Dense, ReLU, Sequential
from tinynet.models import vgg_like
from tinynet.optimizers import Adam
from tinynet.train.checkpoint import save_arrays
from tinynet.train.features import open_features
from tinynet.train.reading import FileError
from tinynet.train.run_folder import RunFolder

DEEP = 100_000
MANY = 150_000
SETTINGS = {"seed": 1, "monitor": "train_loss"}


def network() -> Sequential:
    return Sequential(first=Dense(3, 4, rng=np.random.default_rng(0)), relu=ReLU())


def names(library: str) -> WeightNames:
    return WeightNames(library, "a network", renamed([]))  # type: ignore[arg-type]


def resumed(path: Path) -> None:
    model, optimizer = network(), Adam(0.1)
    RunFolder(path.parent, model, optimizer, SETTINGS).resume()


READERS: dict[str, Callable[[Path], object]] = {
    "read_torch": read_torch,
    "read_keras": read_keras,
    "load_torch": lambda path: load_torch(network(), path, names=names("torch"), input_shape=(3,)),
    "load_keras": lambda path: load_keras(network(), path, names=names("keras")),
    "load_weights": load_weights,
    "resume": resumed,
    "features": lambda path: np.asarray(open_features(path, 6, network())).sum(),
}

# PyTorch's


def program(body: bytes) -> bytes:
    return b"\x80\x02" + body + b"."


def pickles(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    n = int(rng.integers(MANY, 2 * MANY))
    big = text("k" * int(rng.integers(5 * 10**5, 10**6)))
    yield "empty lists", program(b"(" + b"]" * 8 * n + b"l")
    yield "empty dicts", program(b"(" + b"}" * 8 * n + b"t")
    yield "marks", program(b"(" * 8 * n)
    yield (
        "remembered lists",
        program(b"".join(b"]r" + struct.pack("<I", i) for i in range(n)) + b"."),
    )
    yield "memoised", program(b"]\x94" * 4 * n)
    yield "nested tuples", program(b")" + b"\x85" * DEEP)
    yield "nested lists", program(b"]" * DEEP + b"a" * (DEEP - 1))
    for name, step in (("one hash", 2**61 - 1), ("low bits", 2**12), ("negative", -(2**20))):
        keys = b"".join(number(i * step) + b"N" for i in range(n // 4))
        yield f"keys of {name}", program(b"}(" + keys + b"u")
    keys = b"".join(b"G" + struct.pack(">d", 2.0 ** (-61 * (i % 17)) * i) + b"N" for i in range(n))
    yield "floats as keys", program(b"}(" + keys + b"u")
    pairs = b"](" + b"".join(b"(" + text(f"{i}") + b"Nt" for i in range(1000)) + b"e"
    call = b"ccollections\nOrderedDict\n"
    body = b"j\x00\x00\x00\x00j\x01\x00\x00\x00R"
    stored = b"(" + pairs + b"t"
    yield (
        "a dict of the same list again and again",
        program(b"(" + call + b"r\0\0\0\0" + stored + b"r\1\0\0\0" + body * (n // 4) + b"t"),
    )
    storage = b"(j\0\0\0\0ctorch\nFloatStorage\nj\1\0\0\0j\1\0\0\0K\6tQ"
    start = text("storage") + b"r\0\0\0\0" + big + b"r\1\0\0\0"
    yield (
        "a storage with a long key again and again",
        program(b"(" + start + storage * (n // 8) + b"t"),
    )
    yield (
        "a long text in a name",
        program(b"(" + b"(" + start + (b"j\1\0\0\0j\1\0\0\0\x93") * (n // 8)),
    )
    view = tensor((6,), (1,))
    arguments = view[view.index(b"(") : -1]
    again = b"ctorch._utils\n_rebuild_tensor_v2\nr\0\0\0\0" + arguments + b"r\1\0\0\0R"
    items = b"".join(text(f"{i:x}") + b"j\0\0\0\0j\1\0\0\0R" for i in range(n))
    yield "views of one storage", program(b"}(" + text("a") + again + items + b"u")
    items = b"".join(text(f"{i:x}.first.weight") + b"j\0\0\0\0j\1\0\0\0R" for i in range(n // 8))
    yield "many networks", program(b"}(" + text("a") + again + items + b"u")
    dots = text("." * 200_000 + "first.weight")
    yield "a name of dots", program(b"}(" + dots + view + b"u")
    yield "a long name", program(b"}(" + big + view + b"u")
    yield "a text of wide letters", program(b"(" + text("\U00010000" + "a" * 10**6) * 4 + b"t")
    yield "a number of a million digits", program(b"L" + b"9" * 10**6 + b"L\n")
    yield "a text that ends behind the file", program(b"\x8d" + b"\xff" * 7 + b"\x7f" + b"abc")
    yield (
        "sizes of 255 bytes",
        program(b"}(" + text("a") + tensor((2**140,) * 16, (1,) * 16) + b"u"),
    )


def zips(rng: np.random.Generator, folder: Path) -> Iterator[tuple[str, Path]]:
    """Zips around a sound program."""
    sound = state_dict(weight=tensor((6,), (1,)))
    n = 10 ** int(rng.integers(6, 8))
    numbers = bytes(8 * n)
    large = state_dict(weight=tensor((2 * n,), (1,), count=2 * n))
    for name, kind in (("deflate", 8), ("bzip2", 12), ("lzma", 14)):
        yield f"{name} bomb", torch_zip(folder / f"{name}.pth", large, kind, **{"data/0": numbers})
    path = torch_zip(folder / "lie.pth", sound, 8, **{"data/0": bytes(50 * 10**6)})
    yield "a zip that holds more than it says", lying(path, 24)
    half = state_dict(
        **{
            f"w{i}": tensor((n // 8,), (1,), kind="BFloat16Storage", key=str(i), count=n // 8)
            for i in range(100)
        }
    )
    path = torch_zip(folder / "overlap.pth", half, **{"data/0": bytes(n // 4)})
    yield "members that are one and the same", overlapping(path, "archive/data/0", 100)
    path = torch_zip(folder / "directory.pth", sound)
    yield "a long directory", overlapping(path, "archive/data/0", MANY)


def lying(path: Path, size: int) -> Path:
    """The same zip, saying in its directory that every member has ``size`` bytes."""
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        name = data[at + 46 : at + 46 + int.from_bytes(data[at + 28 : at + 30], "little")]
        if name.endswith((b"data/0", b".h5")):
            data[at + 24 : at + 28] = struct.pack("<I", size)
        at = data.find(b"PK\x01\x02", at + 4)
    path.write_bytes(data)
    return path


def overlapping(path: Path, member: str, count: int) -> Path:
    """The same zip with ``count`` more entries that all lead to one member."""
    data = path.read_bytes()
    end = data.rindex(b"PK\x05\x06")
    start = int.from_bytes(data[end + 16 : end + 20], "little")
    entry = data.rindex(member.encode(), 0, end) - 46
    head = data[entry : entry + 46]
    entries = []
    for i in range(count):
        name = f"{member.rpartition('/')[0]}/{i + 1}".encode()
        entries.append(head[:28] + struct.pack("<H", len(name)) + head[30:] + name)
    whole = data[start:end] + b"".join(entries)
    total = min(int.from_bytes(data[end + 10 : end + 12], "little") + count, 0xFFFF)
    last = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, total, total, len(whole), start, 0)
    path.write_bytes(data[:start] + whole + last)
    return path


# safetensors, checkpoints, weights of tinynet


def safetensors(header: object, data: bytes = bytes(24), length: int | None = None) -> bytes:
    whole = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(whole) if length is None else length
    return struct.pack("<Q", size) + whole + data


def entry(shape: object = (6,), offsets: object = (0, 24), dtype: object = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def headers(rng: np.random.Generator, many: int = MANY) -> Iterator[tuple[str, bytes]]:
    n = int(rng.integers(many, 2 * many))
    for length in (0, 1, 2**31, 2**63, 2**64 - 1):
        yield f"length {length}", safetensors({"a": entry()}, length=length)
    yield "many arrays", safetensors({f"{i}": entry((0,), (0, 0)) for i in range(n)}, b"x")
    yield "deep", safetensors(b'{"a":' + b"[" * n)
    yield "deep dicts", safetensors(b'{"a":' * n)
    yield "lists in the texts", safetensors(b'{"__metadata__":[' + b"[]," * n * 10 + b"0]}")
    yield "dicts in the texts", safetensors(b'{"__metadata__":[' + b'{"":0},' * n * 10 + b"0]}")
    yield "strings", safetensors(b'{"__metadata__":[' + '"é",'.encode() * n * 10 + b"0]}")
    yield "a long number", safetensors(b'{"a":' + b"9" * n + b"}")
    yield "one name twice", safetensors(b'{"a":1,"a":2}')
    yield "a long name", safetensors({"a" * n: entry()})
    yield "a name with newlines", safetensors({"a\n\x1b[31m" * 50: entry((7,))})
    yield "not UTF-8", safetensors(b'{"\xff":1}')
    yield "texts that are numbers", safetensors({"__metadata__": {"a": 1}, "a": entry()})
    faults = {
        "65 dimensions": entry([1] * 64 + [6]),
        "many dimensions": entry([1] * n),
        "negative": entry([-6]),
        "float": entry([6.0]),
        "true": entry([6, True]),
        "text": entry(["6"]),
        "no list": entry("6"),
        "absurd": entry([2**62]),
        "product": entry([2**32, 2**32, 0], [0, 0]),
        "overlap": entry([6], [-4, 20]),
        "behind the end": entry([7], [0, 28]),
        "hole": entry([5], [4, 24]),
        "backwards": entry([6], [24, 0]),
        "one offset": entry([6], [0]),
        "8-bit floats": entry([24], dtype="F8_E4M3"),
        "type a list": entry(dtype=["F32"]),
        "type of Python": entry([3], dtype="O"),
        "nothing": {},
        "null": None,
    }
    for name, about in faults.items():
        yield name, safetensors({"a": about})


def positions(rng: np.random.Generator, many: int = MANY) -> Iterator[tuple[str, str]]:
    n = int(rng.integers(many, 2 * many))
    yield "a list", "[1]"
    yield "a number", "1"
    yield "deep", "[" * n
    yield "deep dict", '{"history":' * n
    yield "lists", "[" + "[]," * n * 8 + "0]"
    yield "dicts", "[" + '{"":0},' * n * 8 + "0]"
    yield "cut", '{"history": ['
    row = {"epoch": 1, "train_loss": 0.5}
    sound = SOUND | {"history": [row], "steps": 4}
    faults = [
        *({"steps": value} for value in ("4", -1, 1.5, None, True, 10**300, [4])),
        *({"batch": value} for value in (-1, 2, "0", 2**70)),
        *({"loss_sum": value} for value in ("x", None, float("nan"), float("inf"), {})),
        *({"history": value} for value in (None, {}, [1], [[]], [row | {"epoch": 2}], [row, row])),
        *({"history": [row | {"train_loss": value}]} for value in ("x", None, [], 10**400)),
        *({"history": [{"epoch": 1}]}, {"labels": 3}, {"probabilities": [1]}, {"extra": 1}),
        *({"seconds": -1.0}, {"weight": -1}, {"seed": None}, {"seed": [1] * 1000}),
    ]
    for change in faults:
        name, value = next(iter(change.items()))
        yield f"{name} {str(value)[:20]}", json.dumps(sound | change)
    for name in sound.keys() - {"weight"}:  # which older versions did not write
        yield f"no {name}", json.dumps({key: value for key, value in sound.items() if key != name})


SOUND = {"history": [], "steps": 1, "batch": 0, "loss_sum": 0, "weight": 0, "seconds": 0}
SOUND |= {"labels": None, "probabilities": None} | SETTINGS


def run_file(
    folder: Path, position: str = json.dumps(SOUND), arrays: dict[str, np.ndarray] | None = None
) -> Path:
    """The last checkpoint of a run, with this position, and with these in place of its arrays."""
    model, adam = network(), Adam(0.1)
    adam.step(model.parameters())
    own = {f"model/{key}": x for key, x in model.state().items()}
    own |= {f"optimizer/{key}": x for key, x in adam.state().items()}
    last = folder / "last.safetensors"
    about = {"format": "1", "optimizer": "Adam", "position": position}
    save_arrays(last, own | (arrays or {}), about)
    return last


BAD_ARRAYS = {
    "complex": np.ones((3, 4), "c8"),
    "int8": np.ones((3, 4), "i1"),
    "NaN": np.full((3, 4), np.nan, "f4"),
    "infinite": np.full((3, 4), -np.inf, "f4"),
    "too large": np.full((3, 4), 1e300),
    "bool": np.ones((3, 4), "?"),
    "another shape": np.ones((4, 3), "f4"),
    "one dimension": np.ones(12, "f4"),
}


def bad_arrays() -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    for name, x in BAD_ARRAYS.items():
        yield f"weights: {name}", {"model/first.weight": x}
        if name not in ("infinite", "too large"):
            yield f"memory: {name}", {"optimizer/m.first.weight": x}
    for name, x in {"text": np.ones(3, "u1"), "float": np.float64(2), "negative": -1}.items():
        yield f"step: {name}", {"optimizer/step": np.asarray(x)}
    labels = {"position/labels": np.zeros(4, "i8"), "position/probabilities": np.ones((4, 2))}
    yield "predictions without a batch", labels
    yield "predictions of two lengths", labels | {"position/labels": np.zeros(3, "i8")}
    yield "steps that are an array", {"position/steps": np.zeros(3)}


WEIGHTS = {
    "filters": [[4096] * 50, [4] * 10**5, [10**9], [[]], "4"],
    "hidden": [10**15, -1, 4096, None],
    "num_classes": [10**12, 4096],
    "input_shape": [[10**9, 10**9, 3], [4096, 4096, 1], [16, 16, 10**8]],
    "keep_prob": ["often", [1] * 10**5],
}


# Keras's


def keras_zip(path: Path, config: bytes, weights: bytes, kind: int = 8) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.writestr("config.json", config)
        archive.writestr("model.weights.h5", weights)
    return path


def h5_bytes(make: Callable[[object], object], **options: object) -> bytes:
    import h5py

    data = io.BytesIO()
    with h5py.File(data, "w", **options) as file:
        group = file.create_group("layers/dense/vars")
        group.attrs["name"] = "first"
        make(file)
    return data.getvalue()


def shared_text(file: object, key: str, path: str, count: int, size: int) -> None:
    """An attribute of ``count`` texts, to be made one and the same by ``share``."""
    group = file.require_group(path) if path else file  # type: ignore[attr-defined]
    group.attrs[key] = ["S" * size, *("t" for _ in range(count))]


def share(data: bytes, size: int) -> bytes:
    """The same file with all short texts of shared_text turned into its long one."""
    changed = bytearray(data)
    long = struct.pack("<I", size)
    at = changed.find(long)
    while at >= 0:
        reference = changed[at : at + 16]
        address = int.from_bytes(reference[4:12], "little")
        if changed[address : address + 4] == b"GCOL":
            at += 16
            while changed[at : at + 4] == struct.pack("<I", 1):
                changed[at : at + 16] = reference
                at += 16
            return bytes(changed)
        at = changed.find(long, at + 1)
    raise AssertionError("no such text")


def h5_files(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    import h5py

    size = int(rng.integers(2**19, 2**20))
    for key, path in (("layer_names", ""), ("weight_names", "a"), ("name", "layers/dense/vars")):
        data = h5_bytes(lambda f, k=key, p=path: shared_text(f, k, p, 3500, size))
        yield f"one long text as all of {key}", share(data, size)

    def chunk_bomb(file: h5py.File) -> None:
        x = file.create_dataset("layers/dense/vars/0", (4,), "f4", chunks=(4,), compression="gzip")
        packed = zlib.compress(bytes(100 * 2**20), 1)
        x.id.write_direct_chunk((0,), packed)

    def unallocated(shape: tuple[int, ...], chunks: tuple[int, ...] | None, **options: object):
        def make(file: h5py.File) -> None:
            file.create_dataset("layers/dense/vars/0", shape, "f4", chunks=chunks, **options)

        return make

    def links(count: int, length: int) -> Callable[[h5py.File], object]:
        def make(file: h5py.File) -> None:
            group = file["layers/dense/vars"]
            group["0"] = np.ones(3, "f4")
            for i in range(count):
                file[f"layers/{'n' * length}{i}"] = group

        return make

    def doubled(file: h5py.File) -> None:
        below = file["layers/dense"]
        for i in range(25):
            above = file.create_group(f"layers/l{i}")
            above["a"], above["b"] = below, below
            below = above

    def nested(file: h5py.File) -> None:
        group = file["layers"]
        for _ in range(20):
            group = group.create_group("g" * 60_000)
        for i in range(4000):
            group[f"{i}"] = np.float32(1)

    def many_names(file: h5py.File) -> None:
        for i in range(20_000):
            file.attrs[f"layer_names{i}"] = np.array([b""], "S1")

    yield "unpacks without end", h5_bytes(chunk_bomb)
    yield (
        "one absurd chunk",
        h5_bytes(unallocated((4,), (2**28,), maxshape=(None,), compression="gzip")),
    )
    yield "chunks of one number", h5_bytes(unallocated((8 * 10**6,), (1,)))
    yield "never written", h5_bytes(unallocated((2**40,), (2**10,)))
    yield "just in proportion", h5_bytes(unallocated((10**7,), (2**16,)))
    yield "no numbers", h5_bytes(unallocated((0, 2**40), None))
    yield "many dimensions", h5_bytes(unallocated((2,) * 32, None))
    yield "thousands of links", h5_bytes(links(20_000, 1))
    yield "long names", h5_bytes(links(100, 30_000), libver="latest")
    yield "groups twice in groups", h5_bytes(doubled)
    yield "long nested names", h5_bytes(nested, libver="latest")
    yield "lists of names without end", h5_bytes(many_names)

    def one_long(file: h5py.File) -> None:
        group = file.create_group("layers/dense/vars/names")
        for name in ("N" * size, *map(str, range(3000))):
            group[name] = group

    yield "names that are one", same_names(h5_bytes(one_long), size)


def same_names(data: bytes, size: int) -> bytes:
    """The same file, the long name of a link in place of every name beside it."""
    changed = bytearray(data)
    start = data.find(b"N" * size)
    heap, at = 0, data.find(b"HEAP")
    while at >= 0:  # the last that begins before the name
        begin = int.from_bytes(data[at + 24 : at + 32], "little")
        heap, at = begin if heap < begin < start else heap, data.find(b"HEAP", at + 8)
    at = data.find(b"SNOD")
    while at >= 0:
        for place in range(
            at + 8, at + 8 + 40 * int.from_bytes(data[at + 6 : at + 8], "little"), 40
        ):
            changed[place : place + 8] = struct.pack("<Q", start - heap)
        at = data.find(b"SNOD", at + 8)
    return bytes(changed)


def configs(rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    n = int(rng.integers(10**6, 3 * 10**6))
    yield "lists", b"[" + b"[]," * 10 * n + b"0]"
    yield "dicts", b"[" + b'{"":{}},' * n + b"0]"
    yield "numbers", b"[" + b"1.5," * n + b"0]"
    yield "texts", b"[" + '"é",'.encode() * n + b'""]'
    yield "wide texts", b'["' + "\U00010000".encode() + b"a" * 10 * n + b'"]'
    yield "deep", b"[" * n
    yield "long numbers", b"[" + b",".join([b"9" * 5000] * 100) + b"]"
    layer = {"class_name": "A" * 10**6, "config": {"layers": [{"config": {}}] * 20_000}}
    yield "a class with an endless name", json.dumps({"config": {"layers": [layer]}}).encode()
    layer = {"class_name": "A" * 900, "config": {"layers": [{"config": {}}] * 100_000}}
    yield "many layers", json.dumps({"config": {"layers": [layer]}}).encode()


# NumPy's


def arrays_of_numpy() -> Iterator[tuple[str, bytes]]:
    def npy(header: bytes, data: bytes = bytes(96), version: bytes = b"\x01\x00") -> bytes:
        size = struct.pack("<H" if version[0] == 1 else "<I", len(header))
        return b"\x93NUMPY" + version + size + header + data

    def about(descr: str = "'<f4'", shape: str = "(6, 4)", order: str = "False") -> bytes:
        return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}\n".encode()

    faults = {
        "0-d": about(shape="()"),
        "objects": about("'|O'"),
        "records": about("[('a', '<f4'), ('b', '<f4')]"),
        "texts": about("'<U4'"),
        "whole numbers": about("'<i4'"),
        "float64": about("'<f8'", "(6, 2)"),
        "65 dimensions": about(shape=f"(6, 4, {'1, ' * 63})"),
        "absurd": about(shape=f"(6, {10**30})"),
        "negative": about(shape="(6, -4)"),
        "a product that wraps": about(shape=f"(6, {2**62}, {2**62})"),
        "behind the end": about(shape="(6, 40)"),
        "another number": about(shape="(5, 4)"),
        "a text for a shape": about(shape="'6'"),
        "not a dict": b"[]\n",
        "nothing": b"",
        "a call": b"__import__('os').system('true')\n",
        "an open bracket": b"{'descr': (\n",
        "an open text": b"{'''\n",
        "odd indents": b"  {\n a\n",
        "zeros": bytes(64),
        "deep": b"(" * 9000 + b"\n",
        "deep lists": b"[" * 500 + b"]" * 500 + b"\n",
        "signs": b"-" * 9000 + b"1\n",
        "long": b"{" + b" " * 60_000 + b"}\n",
        "a long type": about("'<f4" + "4" * 4000 + "'"),
        "a nested type": about("(" * 90 + "'<f4'" + ", (1,))" * 90),
    }
    for name, header in faults.items():
        yield name, npy(header)
    yield "version 3", npy(about(), version=b"\x03\x00")
    yield "version 9", npy(about(), version=b"\x09\x00")
    yield "a long header", npy(b"{" + b" " * 10**6, version=b"\x02\x00")
    data = io.BytesIO()
    np.savez(data, **{f"{i}": np.ones(4, "f4") for i in range(6)})
    yield "a zip of six arrays", data.getvalue()
    yield "a pickle", b"\x80\x04]."


def files(folder: Path, seed: int = 0) -> Iterator[tuple[str, str, Path]]:
    """(what is wrong with it, a reader of it, the file)."""
    rng = np.random.default_rng(seed)

    def put(name: str, data: bytes) -> Path:
        path = folder / name
        path.write_bytes(data)
        return path

    for name, body in pickles(rng):
        reader = "load_torch" if "network" in name or "name" in name else "read_torch"
        yield f"pickle: {name}", reader, torch_zip(folder / "a.pth", body)
        if name in ("empty lists", "memoised", "one hash"):
            yield f"old pickle: {name}", reader, put("old.pth", body)
    for name, path in zips(rng, folder):
        yield f"zip: {name}", "read_torch", path
    for name, data in headers(rng):
        yield f"safetensors: {name}", "load_torch", put("a.safetensors", data)
    for name, position in positions(rng):
        yield f"position: {name}", "resume", run_file(folder, position)
    for name, arrays in bad_arrays():
        yield f"checkpoint: {name}", "resume", run_file(folder, arrays=arrays)
    model = vgg_like(3, (16, 16, 1), filters=(4, 6), hidden=8, rng=rng)
    for setting, values in WEIGHTS.items():
        for value in values:
            path = folder / "weights.safetensors"
            save_weights(model, path)
            settings = dict(model.architecture.settings) | {setting: value}
            texts = {"tinynet": "1", "epsilon": "{}", "architecture": "vgg_like"}
            save_arrays(path, model.state(), texts | {"settings": json.dumps(settings)})
            yield f"weights: {setting} {str(value)[:20]}", "load_weights", path
    for name, data in h5_files(rng):
        yield f"h5: {name}", "load_keras", put("a.weights.h5", data)
        yield f"keras: {name}", "load_keras", keras_zip(folder / "a.keras", b"{}", data)
    small = h5_bytes(lambda file: None)
    for name, config in configs(rng):
        path = keras_zip(folder / "a.keras", config, small)
        yield f"keras: config of {name}", "read_keras", path
    for name, kind in (("bzip2", 12), ("lzma", 14)):
        path = keras_zip(folder / "a.keras", b"{}", bytes(10**8), kind)
        yield f"keras: {name}", "read_keras", path
    path = keras_zip(folder / "a.keras", b"{}", bytes(10**8))
    yield "keras: a zip that holds more than it says", "read_keras", lying(path, 24)
    for name, data in arrays_of_numpy():
        yield f"npy: {name}", "features", put("features.npy", data)
    last = run_file(folder)
    whole = {
        "load_torch": torch_zip(folder / "b.pth", state_dict(weight=tensor((6,), (1,)))),
        "resume": last,
        "load_keras": put("b.weights.h5", small),
    }
    for reader, path in whole.items():
        data = np.frombuffer(path.read_bytes(), "uint8")
        for i in range(40):
            bent = data.copy()
            places = rng.integers(len(data), size=1 + i % 8)
            bent[places] = rng.integers(256, size=len(places))
            path.write_bytes(bent.tobytes())
            yield f"{reader}: damage {i}", reader, path


def opened(reader: str, path: Path) -> dict[str, object]:
    """What happens when a forked child opens a file."""
    out, into = os.pipe()
    child = os.fork()
    if not child:
        before = resource.getrusage(resource.RUSAGE_SELF)
        start = time.process_time()
        try:
            READERS[reader](path)
            said = ["read", ""]
        except FileError as error:
            said = ["refused", str(error)]
        except BaseException as error:
            said = [type(error).__name__, repr(error)[:500]]
        after = resource.getrusage(resource.RUSAGE_SELF)
        took = time.process_time() - start, (after.ru_maxrss - before.ru_maxrss) / 1024
        os.write(into, json.dumps([*said, *took]).encode())
        os._exit(0)
    os.close(into)
    with open(out, "rb") as answer:
        found = answer.read()
    status = os.waitpid(child, 0)[1]
    what, message, seconds, megabytes = json.loads(found) if found else ["died", status, 0, 0]
    return {"what": what, "message": message, "seconds": seconds, "megabytes": megabytes}


if __name__ == "__main__":
    import h5py  # noqa: F401  # so that no child pays for it

    for line in sys.stdin:
        which, _, place = line.rstrip("\n").partition("\t")
        print(json.dumps(opened(which, Path(place))), flush=True)
