"""Dense layers by rows of their weights, a thread for each run of rows.

Behind the last convolution w has many times as many numbers as x, and each takes part in N
multiplications alone: such a layer takes as long as its weights and their gradients need from
memory and back. So w is read in order, by all threads, and a gradient is added while the rows that
it is added to are in the cache. The sums over n_in are taken row by row, in the rows' order.
"""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register
from tinynet.engine.memory import empty
from tinynet.engine.plan.epilogues import dense_fused_backward
from tinynet.engine.threads import over_blocks
from tinynet.layers.dense import (
    DenseCache,
    check_bias,
    dense_backward,
    dense_forward,
    in_rows,
)

ROWS_BYTES = 1 << 18  # of w: with as many of dw and of its change, within a second-level cache
FEWEST_ROWS = 4  # runs; a smaller layer is one product


@register(dense_forward, "numpy")
def dense_forward_numpy(x: Array, w: Array, b: Array | None = None) -> tuple[Array, DenseCache]:
    """dense_forward: z (N, ..., n_out) from x (N, ..., n_in), w (n_in, n_out) and b (n_out,)."""
    if x.ndim > 2:
        z, _ = dense_forward_numpy(in_rows(x), w, b)
        return z.reshape(*x.shape[:-1], z.shape[1]), DenseCache(x, w, b is not None)
    if x.ndim != 2 or x.shape[-1:] != w.shape[:1] or not _worth_while(w):
        return dense_forward.reference(x, w, b)
    check_bias("dense", b, w)
    parts = over_blocks(len(w), _rows(w), lambda rows: x[:, rows] @ w[rows])
    z = parts[0]
    for part in parts[1:]:
        z += part
    return z if b is None else z + b, DenseCache(x, w, b is not None)


@register(dense_backward, "numpy")
def dense_backward_numpy(dz: Array, cache: DenseCache) -> tuple[Array, Array, Array | None]:
    """dense_backward: dx, dw, db from dz (N, ..., n_out)."""
    w = cache.w
    if not _worth_while(w):
        return dense_backward.reference(dz, cache)
    x, dz = in_rows(cache.x), in_rows(dz)
    dx = empty(x.shape, np.result_type(dz, w))
    dw = empty(w.shape, np.result_type(x, dz))

    def work(rows: slice) -> None:
        np.matmul(dz, w[rows].T, out=dx[:, rows])
        np.matmul(x[:, rows].T, dz, out=dw[rows])

    over_blocks(len(w), _rows(w), work)
    return dx.reshape(cache.x.shape), dw, dz.sum(axis=0) if cache.has_bias else None


@register(dense_fused_backward, "numpy")
def dense_fused_backward_numpy(
    dw: Array, db: Array | None, dz: Array, cache: DenseCache, need_dx: bool = True
) -> Array | None:
    """dense_fused_backward: changes dw and db; dx from dz (N, ..., n_out)."""
    w = cache.w
    if not _worth_while(w):
        return dense_fused_backward.reference(dw, db, dz, cache, need_dx)
    x, dz = in_rows(cache.x), in_rows(dz)
    dx = empty(x.shape, np.result_type(dz, w)) if need_dx else None

    def work(rows: slice) -> None:
        dw[rows] += x[:, rows].T @ dz
        if dx is not None:
            np.matmul(dz, w[rows].T, out=dx[:, rows])

    over_blocks(len(w), _rows(w), work)
    if db is not None:
        db += dz.sum(axis=0)
    return None if dx is None else dx.reshape(cache.x.shape)


def _rows(w: Array) -> int:
    """Rows of w in a run."""
    return max(1, ROWS_BYTES // (w.shape[1] * w.itemsize))


def _worth_while(w: Array) -> bool:
    return w.ndim == 2 and w.size > 0 and len(w) >= FEWEST_ROWS * _rows(w)
