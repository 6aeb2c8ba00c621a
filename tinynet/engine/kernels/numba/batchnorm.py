"""Batch norm with its epilogue: after the statistics one sweep over the input, and back in two.

Backward, dz is never stored: it is made of dy, and of the ReLU's output or the pool's winner,
where it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinynet.backend import Array, register, without_numba
from tinynet.engine.kernels.numba.arrays import as_rows, covered, seen
from tinynet.engine.kernels.numba.channel_sums import FEW, fold, joined_moments, moments, passed
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numba.pooling import beats
from tinynet.engine.memory import empty, empty_like
from tinynet.engine.plan.epilogues import (
    EPILOGUES,
    NO_WINNER,
    EpilogueCache,
    FusedCache,
    batchnorm_fused_backward,
    batchnorm_fused_forward,
    register_fused,
)
from tinynet.engine.threads import images_per_block, over_blocks, over_shares
from tinynet.layers.batchnorm import (
    BatchNormCache,
    FrozenBatchNormCache,
    batchnorm_frozen_backward,
    batchnorm_frozen_forward,
    check_scale,
)


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


@register_fused(batchnorm_fused_forward, "numba")
def batchnorm_forward_numba(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3, epilogue: str = "none"
) -> tuple[Array, FusedCache]:
    """batchnorm_fused_forward: x (..., C) -> y."""
    check_scale(x, gamma, beta)
    pools = epilogue == "relu_pool" and x.ndim == 4 and min(x.shape[1:3]) > 1
    if not covered(x, gamma, beta) or not (pools or epilogue in EPILOGUES[:2]):
        return without_numba(batchnorm_fused_forward)(x, gamma, beta, epsilon, epilogue)
    exact, variance = statistics(x)
    mean, variance = exact.astype(x.dtype), variance.astype(x.dtype)
    inv_std = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    scale = gamma * inv_std
    beta = beta - scale * (exact - mean).astype(x.dtype)  # what rounding took from a large mean
    if pools:
        y, winner = _pooled(x, mean, scale, beta)
        kept = EpilogueCache(epilogue, None, winner, x.shape[1:3])
    else:
        y = _cut(x, mean, scale, beta, floor=0 if epilogue == "relu" else -np.inf)
        kept = EpilogueCache(epilogue, y if epilogue == "relu" else None)
    return y, FusedCache(BatchNormCache(x, gamma, inv_std, mean, variance), kept)


@register(batchnorm_frozen_forward, "numba")
def batchnorm_frozen_forward_numba(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float = 1e-3
) -> tuple[Array, FrozenBatchNormCache]:
    """batchnorm_frozen_forward: x (..., C) -> y of its shape."""
    check_scale(x, gamma, beta, mean, variance)
    if not covered(x, gamma, beta, mean, variance):
        return without_numba(batchnorm_frozen_forward)(x, gamma, beta, mean, variance, epsilon)
    inv_std = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    y = _cut(x, mean, gamma * inv_std, beta, floor=-np.inf)
    return y, FrozenBatchNormCache(x, gamma, inv_std, mean)


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and variance (C,) of each channel of x (..., C), in float64."""
    rows = as_rows(x)
    per_block, channels = images_per_block(rows[:1].nbytes), x.shape[-1]

    def work(some: slice) -> Array:
        part = np.empty((2, channels))
        moments(rows[some], part)
        return part

    parts = over_blocks(len(rows), per_block, work)
    starts, cells = range(0, len(rows), per_block), rows.shape[1] // channels
    counts = [min(per_block, len(rows) - start) * cells for start in starts]
    return joined_moments(parts, counts)


def _tiled_to(rows: Array, *vectors: Array) -> list[Array]:
    """Each vector (C,) repeated for every cell of a row."""
    return [np.tile(v, rows.shape[1] // len(v)) for v in vectors]


def _cut(x: Array, mean: Array, scale: Array, beta: Array, floor: float) -> Array:
    y = empty_like(x)
    rows, y_rows = as_rows(x), as_rows(y)
    vectors = _tiled_to(rows, mean, scale, beta)

    def work(some: slice) -> None:
        _scale_and_cut(rows[some], *vectors, x.dtype.type(floor), y_rows[some])

    over_shares(len(rows), work)
    return y


def _pooled(x: Array, mean: Array, scale: Array, beta: Array) -> tuple[Array, Array]:
    n, height, width, channels = x.shape
    shape = n, height // 2, width // 2, channels
    y, winner = empty(shape, x.dtype), empty(shape, np.uint8)
    x = seen(x)

    def work(images: slice) -> None:
        _scale_and_pool(x[images], mean, scale, beta, y[images], winner[images])

    over_shares(n, work)
    return y, winner


@compiled
def _gradient_sums(dy: Array, y: Array | None, x: Array, mean: Array, total: Array) -> None:
    """total (2, C) float64: Σ dz and Σ dz (x − μ), where dz = dy, or 0 where y is not above 0."""
    rows, width = dy.shape
    sums, products = np.zeros(width, dy.dtype), np.zeros(width, dy.dtype)
    total[:] = 0
    for first in range(0, rows, FEW):
        for i in range(first, min(first + FEW, rows)):
            for q in range(width):
                dz = dy[i, q] if y is None else passed(dy[i, q], y[i, q] > 0)
                sums[q] += dz
                products[q] += dz * (x[i, q] - mean[q])
        fold(sums, total[0])
        fold(products, total[1])


@compiled
def _gradient(
    dy: Array,
    y: Array | None,
    x: Array,
    mean: Array,
    scale: Array,
    slope: Array,
    shift: Array,
    dx: Array,
) -> None:
    """dx = scale dz − slope (x − μ) − shift, with dz as in ``_gradient_sums``."""
    for i in range(dy.shape[0]):
        for q in range(dy.shape[1]):
            dz = dy[i, q] if y is None else passed(dy[i, q], y[i, q] > 0)
            dx[i, q] = scale[q] * dz - slope[q] * (x[i, q] - mean[q]) - shift[q]


@compiled
def _pool_gradient_sums(dy: Array, winner: Array, x: Array, mean: Array, total: Array) -> None:
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
def _pool_gradient(
    dy: Array,
    winner: Array,
    x: Array,
    mean: Array,
    scale: Array,
    slope: Array,
    shift: Array,
    dx: Array,
) -> None:
    """dx = scale dz − slope (x − μ) − shift, with dz as in ``_pool_gradient_sums``."""
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


@register_fused(batchnorm_fused_backward, "numba")
def batchnorm_backward_numba(dy: Array, cache: FusedCache) -> tuple[Array, Array, Array]:
    """batchnorm_fused_backward: dy (the shape of y) -> dx (the shape of x), dgamma, dbeta (C,)."""
    (x, gamma, inv_std, mean, _), epilogue = cache
    y, winner = epilogue.y, epilogue.winner
    contiguous = winner is None or (winner.dtype == np.uint8 and winner.flags.c_contiguous)
    if not covered(dy, x, gamma, inv_std, mean, *([] if y is None else [y])) or not contiguous:
        return without_numba(batchnorm_fused_backward)(dy, cache)
    if winner is not None:
        arrays: list[Any] = [seen(dy), winner, seen(x)]
        return _gradients(
            _pool_gradient_sums, _pool_gradient, arrays, x, gamma, inv_std, seen(mean)
        )
    arrays = [as_rows(dy), None if y is None else as_rows(y), as_rows(x)]
    return _gradients(_gradient_sums, _gradient, arrays, x, gamma, inv_std, mean)


def _gradients(
    sums_of: Callable[..., None],
    gradient_of: Callable[..., None],
    arrays: Sequence[Any],
    x: Array,
    gamma: Array,
    inv_std: Array,
    mean: Array,
) -> tuple[Array, Array, Array]:
    """dx, dγ, dβ by two sweeps over dy, what the epilogue kept and x, all cut along the first axis.

    dx = γ/s (dz − dβ/m − x̂ dγ/m),   s = √(σ² + ε),   x̂ = (x − μ)/s
    """
    dx, m = empty_like(x), x.size // x.shape[-1]
    seen_x: Array = arrays[2]
    whole = dx.reshape(seen_x.shape)
    by_rows = seen_x.ndim == 2  # then a row has several cells, and each vector is repeated
    (centre,) = _tiled_to(seen_x, mean) if by_rows else (mean,)

    def some(part: slice) -> list[Any]:
        return [None if a is None else a[part] for a in arrays]

    def sums(part: slice) -> Array:
        total = np.empty((2, x.shape[-1]))
        sums_of(*some(part), centre, total)
        return total

    per_block = images_per_block(seen_x[:1].nbytes)
    total: Array = np.sum(over_blocks(len(seen_x), per_block, sums), axis=0)
    scale, dgamma, dbeta = gamma * inv_std, total[1] * inv_std, total[0]
    slope, shift = scale * inv_std * dgamma / m, scale * dbeta / m
    factors = [v.astype(scale.dtype) for v in (scale, slope, shift)]
    factors = _tiled_to(seen_x, *factors) if by_rows else factors

    def work(part: slice) -> None:
        gradient_of(*some(part), centre, *factors, whole[part])

    over_shares(len(seen_x), work)
    return dx, dgamma.astype(scale.dtype), dbeta.astype(scale.dtype)


@compiled
def _frozen_gradient(
    dy: Array, x: Array, mean: Array, scale: Array, dx: Array, total: Array
) -> None:
    """dx = scale dy; total (2, C) float64: Σ dy and Σ dy (x − μ)."""
    rows, width = dy.shape
    sums, products = np.zeros(width, dy.dtype), np.zeros(width, dy.dtype)
    total[:] = 0
    for first in range(0, rows, FEW):
        for i in range(first, min(first + FEW, rows)):
            for q in range(width):
                dx[i, q] = scale[q] * dy[i, q]
                sums[q] += dy[i, q]
                products[q] += dy[i, q] * (x[i, q] - mean[q])
        fold(sums, total[0])
        fold(products, total[1])


@register(batchnorm_frozen_backward, "numba")
def batchnorm_frozen_backward_numba(
    dy: Array, cache: FrozenBatchNormCache
) -> tuple[Array, Array, Array]:
    """batchnorm_frozen_backward: dy (..., C) -> dx of its shape, dgamma (C,), dbeta (C,)."""
    x, gamma, inv_std, mean = cache
    if not covered(dy, x, gamma, inv_std, mean):
        return without_numba(batchnorm_frozen_backward)(dy, cache)
    dx = empty_like(dy)
    dy_rows, x_rows, dx_rows = as_rows(dy), as_rows(x), as_rows(dx)
    centre, scale = _tiled_to(dy_rows, mean, gamma * inv_std)

    def work(some: slice) -> Array:
        part = np.empty((2, len(gamma)))
        _frozen_gradient(dy_rows[some], x_rows[some], centre, scale, dx_rows[some], part)
        return part

    parts = over_blocks(len(dy_rows), images_per_block(dy_rows[:1].nbytes), work)
    dbeta, dgamma = np.sum(parts, axis=0)
    return dx, (dgamma * inv_std).astype(dy.dtype), dbeta.astype(dy.dtype)
