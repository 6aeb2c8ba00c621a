"""Dense layers of CuPy's arrays: launchers of ``dense.cu``.

They run where cuBLAS cannot: in a step that is captured as a CUDA graph, and on activations in
bfloat16. Elsewhere the references do, and with them cuBLAS.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array, array_module, load_library, register
from tinynet.engine.kernels.cuda.launch import THREADS, blocks, capturing, contiguous
from tinynet.engine.kernels.cuda.source import Definitions, dtype_macros, function
from tinynet.engine.plan.epilogues import dense_fused_backward
from tinynet.engine.precision import is_bfloat16
from tinynet.layers.dense import (
    DenseCache,
    check_bias,
    dense_backward,
    dense_forward,
    in_rows,
)

SIDE = 16  # a block has SIDE × SIDE threads
ENOUGH_BLOCKS = 528  # four for each of an H100's multiprocessors
LEAST_DEPTH, MOST_PARTS = 64, 256  # of a product that is divided over its depth


def covers(x: Array, w: Array, *reals: Array | None) -> bool:
    """Whether the kernels here multiply x by w; the others are of w's dtype, or there are none."""
    return (
        (capturing() or is_bfloat16(x))
        and (x.ndim, w.ndim) == (2, 2)
        and x.shape[1] == w.shape[0]
        and dtype_macros(x, w) is not None
        and all(a is None or a.dtype == w.dtype for a in reals)
        and min(x.size, w.size) > 0
    )


@register(dense_forward, "cuda")
def dense_forward_cuda(x: Array, w: Array, b: Array | None = None) -> tuple[Array, DenseCache]:
    """dense_forward: x (N, ..., n_in), w (n_in, n_out) -> z (N, ..., n_out)."""
    array_module(x, w, b)  # of one library, or an error
    if x.ndim > 2:
        z, _ = dense_forward_cuda(in_rows(x), w, b)
        return z.reshape(*x.shape[:-1], z.shape[1]), DenseCache(x, w, b is not None)
    if not covers(x, w, b):
        return dense_forward.reference(x, w, b)
    check_bias("dense", b, w)
    (n, inputs), outputs = x.shape, w.shape[1]
    z = load_library("cupy").empty((n, outputs), x.dtype)
    weights = contiguous(w)
    bias = weights if b is None else contiguous(b)

    def product(kernel: Any, grid: tuple[int, int], sums: Array, parts: int) -> None:
        sizes = map(np.int32, (n, inputs, outputs, parts, b is not None))
        arrays = contiguous(x), weights, bias, z, sums
        kernel((*grid, parts), (SIDE, SIDE), (*arrays, *sizes))

    in_parts("dense_forward", product, z, weights, inputs, None if b is None else bias)
    return z, DenseCache(x, w, b is not None)


@register(dense_backward, "cuda")
def dense_backward_cuda(dz: Array, cache: DenseCache) -> tuple[Array, Array, Array | None]:
    """dense_backward: dz (N, ..., n_out) -> dx (N, ..., n_in), dw (n_in, n_out), db (n_out,)."""
    x, w, has_bias = in_rows(cache.x), cache.w, cache.has_bias
    if not covers(x, w) or dz.dtype != x.dtype:
        return dense_backward.reference(dz, cache)
    xp = load_library("cupy")
    dw = xp.empty(w.shape, w.dtype)
    db = xp.empty(w.shape[1], w.dtype) if has_bias else None
    dz = in_rows(dz)
    parameter_gradients(dz, x, dw, db, add=False)
    return input_gradient(dz, w).reshape(cache.x.shape), dw, db


@register(dense_fused_backward, "cuda")
def dense_fused_backward_cuda(
    dw: Array, db: Array | None, dz: Array, cache: DenseCache, need_dx: bool = True
) -> Array | None:
    """dense_fused_backward: changes dw and db -> dx."""
    x, w = in_rows(cache.x), cache.w
    gaps = not dw.flags.c_contiguous or (db is not None and not db.flags.c_contiguous)
    if gaps or not covers(x, w, dw, db) or dz.dtype != x.dtype:
        return dense_fused_backward.reference(dw, db, dz, cache, need_dx)
    dz = in_rows(dz)
    parameter_gradients(dz, x, dw, db, add=True)
    return input_gradient(dz, w).reshape(cache.x.shape) if need_dx else None


def input_gradient(dz: Array, w: Array) -> Array:
    """dx (N, n_in)."""
    (inputs, outputs), n = w.shape, len(dz)
    dx = load_library("cupy").empty((n, inputs), dz.dtype)
    dz, w = contiguous(dz), contiguous(w)

    def product(kernel: Any, grid: tuple[int, int], sums: Array, parts: int) -> None:
        sizes = map(np.int32, (n, inputs, outputs, parts))
        kernel((*grid, parts), (SIDE, SIDE), (dz, w, dx, sums, *sizes))

    in_parts("dense_input_gradient", product, dx, w, outputs, None)
    return dx


def parameter_gradients(dz: Array, x: Array, dw: Array, db: Array | None, add: bool) -> None:
    """dw (n_in, n_out) and db (n_out,) become the gradients, or these are added to them."""
    inputs, outputs = dw.shape
    x, dz, given = contiguous(x), contiguous(dz), definitions(x, dw, inputs)
    sizes = map(np.int32, (len(x), inputs, outputs, add))
    kernel = function("dense", "dense_weight_gradient", given)
    kernel(tiles(dw, given), (SIDE, SIDE), (x, dz, dw, *sizes))
    if db is not None:
        sizes = map(np.int32, (len(x), outputs, add))
        kernel = function("dense", "dense_bias_gradient", given)
        kernel((-(-outputs // 32),), (32, 8), (dz, db, *sizes))


def in_parts(name: str, product: Any, y: Array, w: Array, depth: int, b: Array | None) -> None:
    """y (rows, columns), a product with w, whose parts over the depth are made at one time.

    product   what starts the kernel on a grid, given an array for the parts' sums
    """
    given = definitions(y, w, len(y))
    grid = tiles(y, given)
    parts = min(MOST_PARTS, -(-ENOUGH_BLOCKS // (grid[0] * grid[1])), depth // LEAST_DEPTH)
    parts = max(parts, 1)
    sums = w if parts == 1 else load_library("cupy").empty((parts, *y.shape), w.dtype)
    product(function("dense", name, given), grid, sums, parts)
    if parts > 1:
        sizes = np.int64(y.size), np.int32(y.shape[1]), np.int32(parts), np.int32(b is not None)
        kernel = function("dense", "add_parts", given)
        kernel((blocks(y.size),), (THREADS,), (sums, sums if b is None else b, y, *sizes))


def tiles(y: Array, given: Definitions) -> tuple[int, int]:
    """Blocks that cover the rows and the columns of a product."""
    rows = SIDE * int(dict(given)["ROWS"])
    return -(-y.shape[0] // rows), -(-y.shape[1] // (4 * SIDE))


def definitions(x: Array, w: Array, rows: int) -> Definitions:
    """What ``dense.cu`` asks for: a product of that number of rows, w read or written."""
    given = dtype_macros(x, w)
    assert given is not None
    each = 1 if rows <= SIDE else 2 if rows <= 2 * SIDE else 4
    aligned = w.shape[-1] % 4 == 0 and w.data.ptr % (4 * w.itemsize) == 0  # type: ignore[attr-defined]
    return (*given, ("SIDE", SIDE), ("ROWS", each), ("FOURS", int(aligned)))
