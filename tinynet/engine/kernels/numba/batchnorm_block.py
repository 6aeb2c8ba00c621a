"""Batch norm with ReLU and max-pool 2×2: after the statistics one sweep, and back in two.

Backward, dz is never stored: it is made of dy, and of the ReLU's output or the pool's winner,
where it is needed.
"""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register, without_fast
from tinynet.engine.kernels.numba.arrays import as_rows, covered, seen
from tinynet.engine.kernels.numba.batchnorm import factors, gradients, statistics, tiled_to
from tinynet.engine.kernels.numba.channel_sums import FEW, fold, passed
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numba.pooling import beats
from tinynet.engine.memory import empty, empty_like
from tinynet.engine.plan.epilogues import (
    NO_WINNER,
    TAILS,
    BatchNormBlockCache,
    Tail,
    batchnorm_block_backward,
    batchnorm_block_forward,
)
from tinynet.engine.threads import images_per_block, over_blocks, over_shares
from tinynet.layers.batchnorm import _check_scale


@compiled
def _scale_and_cut(
    x: Array, mean: Array, scale: Array, beta: Array, floor: float, y: Array
) -> None:
    """y = max{scale (x − μ) + β, floor} for rows of cells."""
    for i in range(x.shape[0]):
        for q in range(x.shape[1]):
            z = scale[q] * (x[i, q] - mean[q]) + beta[q]
            y[i, q] = floor if z <= floor else z  # this way round NaN stays


@compiled
def _scale_and_pool(
    x: Array, mean: Array, scale: Array, beta: Array, y: Array, winner: Array
) -> None:
    """y = max{z, 0}, z = scale (x − μ) + β the largest in its window; who is first to have it.

    x (n, H, W, C); y, winner (n, ⌊H/2⌋, ⌊W/2⌋, C).
    """
    for n in range(y.shape[0]):
        for a in range(y.shape[1]):
            for b in range(y.shape[2]):
                for c in range(y.shape[3]):
                    z0 = scale[c] * (x[n, 2 * a, 2 * b, c] - mean[c]) + beta[c]
                    z1 = scale[c] * (x[n, 2 * a, 2 * b + 1, c] - mean[c]) + beta[c]
                    z2 = scale[c] * (x[n, 2 * a + 1, 2 * b, c] - mean[c]) + beta[c]
                    z3 = scale[c] * (x[n, 2 * a + 1, 2 * b + 1, c] - mean[c]) + beta[c]
                    best, number = z0, 0
                    if beats(z1, best):
                        best, number = z1, 1
                    if beats(z2, best):
                        best, number = z2, 2
                    if beats(z3, best):
                        best, number = z3, 3
                    y[n, a, b, c] = 0 if best <= 0 else best
                    winner[n, a, b, c] = number if best > 0 else NO_WINNER


@register(batchnorm_block_forward, "fast")
def batchnorm_block_forward_compiled(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3, tail: str = "none"
) -> tuple[Array, BatchNormBlockCache]:
    """batchnorm_block_forward: x (N, H, W, C) -> y."""
    _check_scale(x, gamma, beta)
    if not covered(x, gamma, beta) or x.ndim != 4 or tail not in TAILS or _too_small(x, tail):
        return without_fast(batchnorm_block_forward)(x, gamma, beta, epsilon, tail)
    mean, variance = statistics(x)
    inv_std = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    if tail == "relu_pool":
        y, winner = _pooled(x, mean, gamma * inv_std, beta)
        kept = Tail(tail, None, winner, x.shape[1:3])
    else:
        y = _cut(x, mean, gamma * inv_std, beta, floor=0 if tail == "relu" else -np.inf)
        kept = Tail(tail, y if tail == "relu" else None, None, x.shape[1:3])
    return y, BatchNormBlockCache(x, gamma, inv_std, mean, variance, kept)


def _too_small(x: Array, tail: str) -> bool:
    return tail == "relu_pool" and min(x.shape[1:3]) < 2


def _cut(x: Array, mean: Array, scale: Array, beta: Array, floor: float) -> Array:
    y = empty_like(x)
    rows, y_rows = as_rows(x), as_rows(y)
    vectors = tiled_to(rows, mean, scale, beta)

    def work(some: slice) -> None:
        _scale_and_cut(rows[some], *vectors, x.dtype.type(floor), y_rows[some])

    over_shares(len(rows), work)
    return y


def _pooled(x: Array, mean: Array, scale: Array, beta: Array) -> tuple[Array, Array]:
    n, height, width, channels = x.shape
    shape = n, height // 2, width // 2, channels
    y, winner = empty(shape, x.dtype), empty(shape, np.uint8)
    x, beta = seen(x), seen(beta)

    def work(images: slice) -> None:
        _scale_and_pool(x[images], mean, scale, beta, y[images], winner[images])

    over_shares(n, work)
    return y, winner


@compiled
def _gradient_sums(dy: Array, winner: Array, x: Array, mean: Array, total: Array) -> None:
    """total (2, C) float64: Σ dz and Σ dz (x − μ), where dz is dy at the winner, else 0."""
    channels = dy.shape[3]
    sums, products = np.zeros(channels, dy.dtype), np.zeros(channels, dy.dtype)
    total[:] = 0
    cells = 0
    for n in range(dy.shape[0]):
        for a in range(dy.shape[1]):
            for b in range(dy.shape[2]):
                for c in range(channels):
                    x0, x1 = x[n, 2 * a, 2 * b, c], x[n, 2 * a, 2 * b + 1, c]
                    x2, x3 = x[n, 2 * a + 1, 2 * b, c], x[n, 2 * a + 1, 2 * b + 1, c]
                    number = winner[n, a, b, c]
                    above, below = x1 if number == 1 else x0, x3 if number == 3 else x2
                    dz = passed(dy[n, a, b, c], number != NO_WINNER)
                    sums[c] += dz
                    products[c] += dz * ((below if number >= 2 else above) - mean[c])
            cells += dy.shape[2]
            if cells >= FEW:
                cells = 0
                fold(sums, total[0])
                fold(products, total[1])
    fold(sums, total[0])
    fold(products, total[1])


@compiled
def _gradient(
    dy: Array,
    winner: Array,
    x: Array,
    mean: Array,
    scale: Array,
    slope: Array,
    shift: Array,
    dx: Array,
) -> None:
    """dx = scale dz − slope (x − μ) − shift, with dz as in ``_gradient_sums``."""
    _, height, width, channels = x.shape
    for n in range(x.shape[0]):
        for i in range(height):
            for j in range(width):
                a, b, tap = i // 2, j // 2, 2 * (i % 2) + j % 2
                if a < dy.shape[1] and b < dy.shape[2]:
                    for c in range(channels):
                        dz = passed(dy[n, a, b, c], winner[n, a, b, c] == tap)
                        centred = x[n, i, j, c] - mean[c]
                        dx[n, i, j, c] = scale[c] * dz - slope[c] * centred - shift[c]
                else:  # a last row or column that is under no window
                    for c in range(channels):
                        dx[n, i, j, c] = -slope[c] * (x[n, i, j, c] - mean[c]) - shift[c]


@register(batchnorm_block_backward, "fast")
def batchnorm_block_backward_compiled(
    dy: Array, cache: BatchNormBlockCache
) -> tuple[Array, Array, Array]:
    """batchnorm_block_backward: dy (the shape of y) -> dx (N, H, W, C), dgamma, dbeta (C,)."""
    x, gamma, inv_std, mean, _, tail = cache
    kept = () if tail.y is None else (tail.y,)
    if not covered(dy, x, gamma, inv_std, mean, *kept) or not _is_plain(tail.winner):
        return without_fast(batchnorm_block_backward)(dy, cache)
    scale = gamma * inv_std
    if tail.winner is None:
        return gradients(dy, tail.y, x, mean, scale, inv_std)
    return _through_pool(seen(dy), tail.winner, seen(x), seen(mean), scale, inv_std)


def _is_plain(winner: Array | None) -> bool:
    return winner is None or (winner.dtype == np.uint8 and winner.flags.c_contiguous)


def _through_pool(
    dy: Array, winner: Array, x: Array, mean: Array, scale: Array, inv_std: Array
) -> tuple[Array, Array, Array]:
    dx, per_block = empty_like(x), images_per_block(x[:1].nbytes)

    def sums(images: slice) -> Array:
        part = np.empty((2, len(mean)))
        _gradient_sums(dy[images], winner[images], x[images], mean, part)
        return part

    total: Array = np.sum(over_blocks(len(x), per_block, sums), axis=0)
    dgamma, dbeta, *three = factors(total, x.size // len(mean), scale, inv_std)

    def work(images: slice) -> None:
        _gradient(dy[images], winner[images], x[images], mean, *three, dx[images])

    over_shares(len(x), work)
    return dx, dgamma, dbeta
