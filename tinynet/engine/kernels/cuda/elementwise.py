"""Conversions, sums of two arrays and ReLU: launchers of ``elementwise.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array, load_library, register
from tinynet.engine.kernels.cuda.columns import LOAD, is_aligned
from tinynet.engine.kernels.cuda.launch import THREADS, blocks, contiguous
from tinynet.engine.kernels.cuda.source import REALS, dtype_macros, function
from tinynet.engine.precision import added, bfloat16, converted
from tinynet.layers.activations import relu_backward, relu_forward


@register(converted, "cuda")
def cast(x: Array, dtype: Any) -> Array:
    """x (any shape) in another dtype; x itself where it is of that dtype.

    Between float32, float64 and bfloat16 by a kernel, to the nearest number, of two as near the
    even one (float64 to bfloat16 is rounded to float32 first); otherwise CuPy's ``astype``.
    """
    dtype = bfloat16() if str(dtype) == "bfloat16" else np.dtype(dtype)
    if x.dtype == dtype:
        return x
    x, y = contiguous(x), load_library("cupy").empty(x.shape, dtype)
    narrow, wide = sorted((x, y), key=lambda a: a.itemsize)
    types = dtype_macros(narrow)
    if types is None or wide.dtype not in REALS:
        return x.astype(dtype)
    (act, _), name = types, "widen" if x is narrow else "narrow"
    over_all(name, (act, ("REAL", REALS[wide.dtype])), x, y)
    return y


@register(added, "cuda")
def add(a: Array, b: Array) -> Array:
    """a + b, of one shape and dtype; the sum of bfloat16 is taken in float32 and rounded once.

    Raises ValueError where the shapes or the dtypes differ.
    """
    types = _types("add", a, b)
    if types is None:
        return a + b
    total = load_library("cupy").empty(a.shape, a.dtype)
    over_all("add", types, contiguous(a), contiguous(b), total)
    return total


def relu(x: Array) -> Array:
    """max{x, 0} (the shape of x); a NaN stays."""
    types = _types("relu", x)
    if types is None:
        return load_library("cupy").maximum(x, 0)
    y = load_library("cupy").empty(x.shape, x.dtype)
    over_all("relu_of_each", types, contiguous(x), y)
    return y


def relu_gradient(dy: Array, y: Array) -> Array:
    """∂L/∂z of y = max{z, 0}:  dy where y > 0, else 0 dy, so that a NaN is not hidden.

    dy, y of one shape and dtype; ValueError where they differ.
    """
    types = _types("relu_gradient", dy, y)
    if types is None:
        return dy * (y > 0)
    dz = load_library("cupy").empty(dy.shape, dy.dtype)
    over_all("relu_gradient", types, contiguous(dy), contiguous(y), dz)
    return dz


def _types(name: str, x: Array, *others: Array) -> Any:
    """``dtype_macros`` of arrays that are of one shape and dtype; ValueError if they are not."""
    for a in others:
        if a.shape != x.shape or a.dtype != x.dtype:
            raise ValueError(
                f"{name}: got {x.shape} {x.dtype} and {a.shape} {a.dtype}, want them the same"
            )
    return dtype_macros(x)


def over_all(name: str, types: Any, *arrays: Array, numbers: tuple[Any, ...] = ()) -> None:
    """Run the kernel ``name`` over all numbers of arrays without gaps; x is the first.

    numbers   what the kernel takes between the arrays and the count of packs
    """
    size = arrays[0].size
    if not size:
        return
    vec = LOAD // min(a.itemsize for a in arrays if a.dtype != np.bool_)
    if size % vec or not all(map(is_aligned, arrays)):
        vec = 1
    kernel = function("elementwise", name, (*types, ("VEC", vec)))
    packs = size // vec
    kernel((blocks(packs),), (THREADS,), (*arrays, *numbers, np.int64(packs)))


@register(relu_forward, "cuda")
def relu_forward_cuda(x: Array, threshold: float = 0.0) -> tuple[Array, Array]:
    """relu_forward: x (any shape) -> y of its shape."""
    types = dtype_macros(x)
    if types is None:
        return relu_forward.reference(x, threshold)
    xp, real = load_library("cupy"), x.dtype if x.dtype in REALS else np.dtype(np.float32)
    y, slope = xp.empty(x.shape, x.dtype), xp.empty(x.shape, np.bool_)
    over_all("relu_and_slope", types, contiguous(x), y, slope, numbers=(real.type(threshold),))
    return y, slope


@register(relu_backward, "cuda")
def relu_backward_cuda(dy: Array, cache: Array) -> Array:
    """relu_backward: dy (any shape) -> dx of its shape."""
    types = dtype_macros(dy)
    if types is None or cache.dtype != np.bool_ or cache.shape != dy.shape:
        return relu_backward.reference(dy, cache)
    dx = load_library("cupy").empty(dy.shape, dy.dtype)
    over_all("times_slope", types, contiguous(dy), contiguous(cache), dx)
    return dx
