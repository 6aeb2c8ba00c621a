"""CUDA sources of this package, compiled for one geometry at its first use.

CuPy compiles with the runtime compiler and keeps the code in ~/.cupy/kernel_cache, so that a
machine compiles once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np

from tinynet.backend import Array, load_library
from tinynet.layers.window import Window

Definitions: TypeAlias = tuple[tuple[str, str | int], ...]  # of the macros that a source asks for

MOST_AT_ONCE = 16  # compilers; each takes some hundred MB
INCLUDED = re.compile(r'#include "(\w+\.cuh)"')
REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


def dtype_macros(x: Array, w: Array | None = None) -> Definitions | None:
    """ACT, the type of activations like x, and REAL, of weights and of all arithmetic.

    Both are float, or both double; for x in bfloat16 REAL is float. None where no kernel covers the
    dtypes.
    """
    if x.dtype.name == "bfloat16":
        act, real = "bf16", np.dtype(np.float32)
    elif x.dtype in REALS:
        act, real = REALS[x.dtype], x.dtype
    else:
        return None
    return (("ACT", act), ("REAL", REALS[real])) if w is None or w.dtype == real else None


def window_macros(window: Window) -> Definitions:
    """The geometry of a window, as all sources ask for it."""
    (height, width), (out_h, out_w) = window.size, window.output_size
    (top, _), (left, _) = window.padding
    return (
        *(("HEIGHT", height), ("WIDTH", width), ("OUT_H", out_h), ("OUT_W", out_w)),
        *(("KERNEL_H", window.kernel[0]), ("KERNEL_W", window.kernel[1])),
        *(("STRIDE_H", window.stride[0]), ("STRIDE_W", window.stride[1])),
        *(("DILATION_H", window.dilation[0]), ("DILATION_W", window.dilation[1])),
        *(("TOP", top), ("LEFT", left)),
    )


def text(name: str) -> str:
    """The source ``name``.cu, with the headers of this package written into it."""
    return INCLUDED.sub(lambda found: _read(found[1]), _read(f"{name}.cu"))


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def options(definitions: Definitions) -> tuple[str, ...]:
    """What the compiler is told."""
    return ("-std=c++17", *(f"-D{name}={value}" for name, value in definitions))


def function(source: str, name: str, definitions: Definitions) -> Any:
    """The kernel ``name`` of ``source``.cu, as a function of (grid, block, arguments)."""
    wanted = _wanted.get()
    if wanted is not None:
        wanted[source, definitions] = None
        return NullKernel()
    return _function(source, name, definitions)


@cache
def _function(source: str, name: str, definitions: Definitions) -> Any:
    return _module(source, definitions).get_function(name)


@cache
def _module(source: str, definitions: Definitions) -> Any:
    return load_library("cupy").RawModule(code=text(source), options=options(definitions))


def forget() -> None:
    """Compile anew what is asked for next, as for another library under CuPy's name."""
    for kept in (_function, _module):
        kept.cache_clear()


class NullKernel:
    """Stand-in for a kernel while kernels are only counted: it does nothing."""

    max_dynamic_shared_size_bytes = 0

    def __call__(self, *arguments: Any, **more: Any) -> None:
        """Do nothing."""


# sources and definitions that were asked for, in order, while nothing is compiled and nothing runs
_wanted: ContextVar[dict[tuple[str, Definitions], None] | None] = ContextVar("wanted", default=None)


@contextmanager
def counted() -> Iterator[dict[tuple[str, Definitions], None]]:
    """Within this block kernels do nothing; collect what would have been compiled."""
    wanted: dict[tuple[str, Definitions], None] = {}
    token = _wanted.set(wanted)
    try:
        yield wanted
    finally:
        _wanted.reset(token)


def compile_all(wanted: Iterable[tuple[str, Definitions]]) -> None:
    """Compile all of them, as many at once as there are cores; a bar is shown if that takes long.

    The compiler takes seconds for a source, and a network has dozens of geometries.
    """
    from tqdm import tqdm  # imported where it is used: import tinynet needs NumPy alone

    with ThreadPoolExecutor(min(MOST_AT_ONCE, os.cpu_count() or 1)) as pool:
        waiting = [pool.submit(_compile, *one) for one in wanted]
        shown = tqdm(as_completed(waiting), "compile for the GPU", len(waiting), False, delay=2)
        for done in shown:
            done.result()


def _compile(source: str, definitions: Definitions) -> None:
    _module(source, definitions).compile()
