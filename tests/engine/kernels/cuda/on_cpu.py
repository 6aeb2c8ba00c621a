"""``cupy.RawModule`` without a GPU: kernels compiled by g++ with ``shim.h``, run by threads."""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.gpu import fake_cupy as stand_in
from tests.engine.gpu import fake_graph
from tinynet.doctor import read_gpu
from tinynet.engine.kernels.cuda import source

COMPILER = shutil.which("g++")
SHIM = Path(__file__).parent / "shim.h"
GRID, BLOCK = (2**31 - 1, 65535, 65535), (1024, 1024, 64)  # what a GPU launches at most
MOST_SHARED = 227 * 1024  # bytes a block has on Hopper
KERNEL = re.compile(r'extern "C" __global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(([^)]*)\)')
NUMBERS = {
    "int": ctypes.c_int,
    "Index": ctypes.c_longlong,
    "float": ctypes.c_float,
    "double": ctypes.c_double,
    "unsigned long long": ctypes.c_ulonglong,
}
ARRAYS = {
    "bf16": "bfloat16",
    "float": "float32",
    "double": "float64",
    "bool": "bool",
    "unsigned char": "uint8",
    "int": "int32",
    "Index": "int64",
    "unsigned long long": "uint64",
}
_folder = tempfile.TemporaryDirectory(prefix="tinynet-kernels-")


def compiled(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run g++; AssertionError, with what it says, where it fails."""
    command = [str(COMPILER), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@cache
def shim(flags: tuple[str, ...]) -> tuple[Path, ...]:
    """What is behind the shim's words, compiled with these flags; once, it takes a second."""
    name = hashlib.sha256(" ".join(flags).encode()).hexdigest()[:16]
    objects = []
    for part in sorted(SHIM.parent.glob("shim_*.cpp")):
        objects.append(Path(_folder.name) / f"{name}-{part.stem}.o")
        compiled(*flags, "-c", part, "-o", objects[-1])
    return tuple(objects)


class Module:
    """The kernels of one source under one set of options."""

    def __init__(
        self, code: str, options: tuple[str, ...] = (), flags: tuple[str, ...] = ()
    ) -> None:
        self.kernels = {name: parameters(given) for name, given in KERNEL.findall(code)}
        macros = dict(option[2:].split("=") for option in options if option.startswith("-D"))
        self.types = {name: macros.get(name, "float") for name in ("ACT", "REAL")}
        starts = [start(name, given) for name, given in self.kernels.items()]
        whole = "\n".join([f'#include "{SHIM}"', code, *starts])
        key = hashlib.sha256("\n".join([whole, *options, *flags]).encode()).hexdigest()[:16]
        source, self.file = (Path(_folder.name) / f"{key}.{kind}" for kind in ("cpp", "so"))
        if not self.file.exists():
            source.write_text(whole, encoding="utf-8")
            defined = [f"-D{name}={value}" for name, value in macros.items()]
            # or shared memory of a template would be one for all libraries, whatever their sizes
            apart = "-fno-gnu-unique"
            given = ("-std=c++20", "-O1", "-Wall", "-Wno-unknown-pragmas", "-fPIC", apart, *flags)
            parts = *given, *defined, "-pthread", "-shared", source, *shim(given), "-o", self.file
            assert "warning" not in compiled(*parts).stderr
        self.library = ctypes.CDLL(str(self.file))

    def compile(self) -> None:
        """As CuPy's; it is compiled already."""

    def get_function(self, name: str) -> Any:
        """As CuPy's: a function of grid, block and arguments."""
        return Kernel(self, name)

    def _value(self, name: str, kind: str, arg: Any) -> Any:
        """The argument as C takes it; AssertionError where CUDA would read something else."""
        kind = kind.replace("const ", "").strip()
        for name_of_type, real in self.types.items():
            kind = kind.replace(name_of_type, real)
        if kind.endswith("*"):
            assert isinstance(arg, stand_in.ndarray), f"{name}: {kind} gets {type(arg)}"
            assert arg.host.flags.c_contiguous, f"{name}: an array with gaps"
            kind = kind[:-1].strip()
            assert arg.host.dtype.name == ARRAYS[kind], f"{name}: {kind}* gets {arg.host.dtype}"
            return ctypes.c_void_p(arg.host.ctypes.data)
        number = NUMBERS[kind]
        assert np.dtype(number) == getattr(arg, "dtype", None), f"{name}: {kind} gets {arg!r}"
        return number(arg.item())


class Kernel:
    """As CuPy's RawKernel: a function of grid, block and arguments."""

    def __init__(self, module: Module, name: str) -> None:
        self.module, self.name, self.given = module, name, module.kernels[name]
        self.start = getattr(module.library, f"start_{name}")
        self.max_dynamic_shared_size_bytes = 48 * 1024

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        args: tuple[Any, ...],
        *,
        shared_mem: int = 0,
    ) -> None:
        name, given = self.name, self.given
        assert len(args) == len(given), f"{name} takes {len(given)} arguments, got {len(args)}"
        assert shared_mem <= self.max_dynamic_shared_size_bytes <= MOST_SHARED, name
        values = [
            self.module._value(name, kind, arg) for (kind, _), arg in zip(given, args, strict=True)
        ]
        sizes = dimensions(grid, GRID), dimensions(block, BLOCK), ctypes.c_uint(shared_mem)
        # args are held: a graph may run this when nobody else holds them
        fake_graph.changed(lambda args=args: self.start(*sizes, *values))


def parameters(text: str) -> list[tuple[str, str]]:
    """(type, name) of each parameter."""
    each = [" ".join(one.split()) for one in text.split(",")]
    return [
        (one[: re.search(r"\w+$", one).start()].strip(), re.search(r"\w+$", one)[0]) for one in each
    ]


def start(name: str, given: list[tuple[str, str]]) -> str:
    """A C function that runs the kernel on a grid of blocks."""
    declared = ", ".join(f"{kind} {parameter}" for kind, parameter in given)
    passed = ", ".join(parameter for _, parameter in given)
    return (
        f'extern "C" void start_{name}(const unsigned* grid, const unsigned* block, '
        f"unsigned shared, {declared}) {{ run(grid, block, shared, [=] {{ {name}({passed}); }}); }}"
    )


def dimensions(sizes: tuple[int, ...], most: tuple[int, int, int]) -> Any:
    """Three unsigned numbers; AssertionError for what a GPU does not launch."""
    whole = (*sizes, 1, 1)[:3]
    assert min(whole) > 0, f"a grid or block of {whole}"
    assert all(size <= limit for size, limit in zip(whole, most, strict=True)), whole
    assert most is GRID or whole[0] * whole[1] * whole[2] <= BLOCK[0], whole
    return (ctypes.c_uint * 3)(*map(int, whole))


@pytest.fixture(params=["processor", pytest.param("GPU", marks=pytest.mark.gpu)])
def cupy_kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """CuPy's kernels: on the processor, by the stand-in for CuPy, and on a GPU."""
    source.forget()
    if request.param == "GPU":
        if not (gpu := read_gpu()).devices:
            pytest.skip(gpu.note)
        return importlib.import_module("cupy")
    if COMPILER is None:
        pytest.skip("g++ is not installed: CUDA kernels are not run on the processor")
    made = stand_in.install(monkeypatch)
    made.RawModule = Module
    return made
