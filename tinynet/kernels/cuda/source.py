"""CUDA sources of this package, compiled for one geometry at its first use.

CuPy compiles with the runtime compiler and keeps the code in ~/.cupy/kernel_cache, so that a
machine compiles once.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

import numpy as np

from tinynet.backend import Array, load_library

Definitions: TypeAlias = tuple[tuple[str, str | int], ...]  # of the macros that a source asks for

INCLUDED = re.compile(r'#include "(\w+\.cuh)"')
REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}


def kinds(x: Array, w: Array | None = None) -> Definitions | None:
    """ACT, in which activations like x are stored, and REAL, of weights and of all arithmetic.

    The two are one, float or double, but for x in bfloat16, whose weights are float32.
    None where no kernel covers the two.
    """
    if x.dtype.name == "bfloat16":
        act, real = "bf16", np.dtype(np.float32)
    elif x.dtype in REALS:
        act, real = REALS[x.dtype], x.dtype
    else:
        return None
    return (("ACT", act), ("REAL", REALS[real])) if w is None or w.dtype == real else None


def text(name: str) -> str:
    """The source ``name``.cu, with the headers of this package written into it."""
    return INCLUDED.sub(lambda found: _read(found[1]), _read(f"{name}.cu"))


def _read(name: str) -> str:
    return (files(__package__) / name).read_text(encoding="utf-8")


def options(definitions: Definitions) -> tuple[str, ...]:
    """What the compiler is told."""
    return ("-std=c++17", *(f"-D{name}={value}" for name, value in definitions))


@cache
def function(source: str, name: str, definitions: Definitions) -> Any:
    """The kernel ``name`` of ``source``.cu, as a function of (grid, block, arguments)."""
    return _module(source, definitions).get_function(name)


@cache
def _module(source: str, definitions: Definitions) -> Any:
    return load_library("cupy").RawModule(code=text(source), options=options(definitions))
