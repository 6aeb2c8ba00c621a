"""Conversions, sums of two arrays and ReLU: what starts the kernels of ``cast.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array, load_library, register
from tinynet.engine.kernels.cuda.columns import LOAD, aligned
from tinynet.engine.kernels.cuda.launch import THREADS, blocks, plain
from tinynet.engine.kernels.cuda.source import REALS, function, kinds
from tinynet.engine.precision import added, bfloat16, converted


@register(converted, "cupy")
def cast(x: Array, dtype: Any) -> Array:
    """x (any shape) in another dtype; x itself where it is of that dtype.

    Between float32, float64 and bfloat16 by a kernel, to the nearest number, of two as near the
    even one (float64 to bfloat16 is rounded to float32 first); otherwise CuPy's ``astype``.
    """
    dtype = bfloat16() if str(dtype) == "bfloat16" else np.dtype(dtype)
    if x.dtype == dtype:
        return x
    x, y = plain(x), load_library("cupy").empty(x.shape, dtype)
    narrow, wide = sorted((x, y), key=lambda a: a.itemsize)
    types = kinds(narrow)
    if types is None or wide.dtype not in REALS:
        return x.astype(dtype)
    (act, _), name = types, "widen" if x is narrow else "narrow"
    over_all(name, (act, ("REAL", REALS[wide.dtype])), x, y)
    return y


@register(added, "cupy")
def add(a: Array, b: Array) -> Array:
    """a + b, of one shape and dtype; the sum of bfloat16 is taken in float32 and rounded once.

    Raises ValueError where the shapes or the dtypes differ.
    """
    types = _types("add", a, b)
    if types is None:
        return a + b
    total = load_library("cupy").empty(a.shape, a.dtype)
    over_all("add", types, plain(a), plain(b), total)
    return total


def relu(x: Array) -> Array:
    """max{x, 0} (the shape of x); a NaN stays."""
    types = _types("relu", x)
    if types is None:
        return load_library("cupy").maximum(x, 0)
    y = load_library("cupy").empty(x.shape, x.dtype)
    over_all("relu_of_each", types, plain(x), y)
    return y


def relu_gradient(dy: Array, y: Array) -> Array:
    """∂L/∂z of y = max{z, 0}:  dy where y > 0, else 0 dy, so that a NaN is not hidden.

    dy, y of one shape and dtype; ValueError where they differ.
    """
    types = _types("relu_gradient", dy, y)
    if types is None:
        return dy * (y > 0)
    dz = load_library("cupy").empty(dy.shape, dy.dtype)
    over_all("relu_gradient", types, plain(dy), plain(y), dz)
    return dz


def _types(name: str, x: Array, *others: Array) -> Any:
    """``kinds`` of arrays that are of one shape and dtype; ValueError if they are not."""
    for a in others:
        if a.shape != x.shape or a.dtype != x.dtype:
            raise ValueError(
                f"{name}: got {x.shape} {x.dtype} and {a.shape} {a.dtype}, want them the same"
            )
    return kinds(x)


def over_all(name: str, types: Any, *arrays: Array, numbers: tuple[Any, ...] = ()) -> None:
    """Run the kernel ``name`` over all numbers of arrays without gaps; x is the first.

    numbers   what the kernel takes between the arrays and the count of packs
    """
    size = arrays[0].size
    if not size:
        return
    vec = LOAD // min(a.itemsize for a in arrays if a.dtype != np.bool_)
    if size % vec or not all(map(aligned, arrays)):
        vec = 1
    kernel = function("cast", name, (*types, ("VEC", vec)))
    packs = size // vec
    kernel((blocks(packs),), (THREADS,), (*arrays, *numbers, np.int64(packs)))
