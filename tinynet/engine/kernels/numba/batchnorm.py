"""Batch normalisation in two sweeps over rows of cells, forward and backward."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register, without_fast
from tinynet.engine.kernels.numba.arrays import as_rows, covered
from tinynet.engine.kernels.numba.channel_sums import FEW, fold, joined_moments, moments, passed
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.memory import empty_like
from tinynet.engine.threads import images_per_block, over_blocks, over_shares
from tinynet.layers.batchnorm import (
    BatchNormCache,
    FrozenBatchNormCache,
    _check_scale,
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_frozen_backward,
    batchnorm_frozen_forward,
)


def statistics(x: Array) -> tuple[Array, Array]:
    """Mean and variance (C,) of each channel of x (..., C), in x's dtype."""
    rows = as_rows(x)
    per_block, channels = images_per_block(rows[:1].nbytes), x.shape[-1]

    def work(some: slice) -> Array:
        part = np.empty((2, channels))
        moments(rows[some], part)
        return part

    parts = over_blocks(len(rows), per_block, work)
    starts, cells = range(0, len(rows), per_block), rows.shape[1] // channels
    counts = [min(per_block, len(rows) - start) * cells for start in starts]
    mean, variance = joined_moments(parts, counts)
    return mean.astype(x.dtype), variance.astype(x.dtype)


def tiled_to(rows: Array, *vectors: Array) -> list[Array]:
    """Each vector (C,) repeated for every cell of a row."""
    return [np.tile(v, rows.shape[1] // len(v)) for v in vectors]


@compiled
def _normalise(
    x: Array, mean: Array, inv_std: Array, gamma: Array, beta: Array, x_hat: Array, y: Array
) -> None:
    """x̂ = (x − μ) / √(σ² + ε),  y = γ x̂ + β."""
    for i in range(x.shape[0]):
        for q in range(x.shape[1]):
            x_hat[i, q] = (x[i, q] - mean[q]) * inv_std[q]
            y[i, q] = gamma[q] * x_hat[i, q] + beta[q]


def _normalised(
    x: Array, mean: Array, inv_std: Array, gamma: Array, beta: Array
) -> tuple[Array, Array]:
    """x̂ and y, of x's shape."""
    x_hat, y = empty_like(x), empty_like(x)
    rows, x_hat_rows, y_rows = as_rows(x), as_rows(x_hat), as_rows(y)
    vectors = tiled_to(rows, mean, inv_std, gamma, beta)

    def work(some: slice) -> None:
        _normalise(rows[some], *vectors, x_hat_rows[some], y_rows[some])

    over_shares(len(rows), work)
    return x_hat, y


@register(batchnorm_forward, "fast")
def batchnorm_forward_compiled(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3
) -> tuple[Array, BatchNormCache]:
    """batchnorm_forward: x (..., C) -> y of its shape."""
    _check_scale(x, gamma, beta)
    if not covered(x, gamma, beta):
        return without_fast(batchnorm_forward)(x, gamma, beta, epsilon)
    mean, variance = statistics(x)
    inv_std = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    x_hat, y = _normalised(x, mean, inv_std, gamma, beta)
    return y, BatchNormCache(x_hat, gamma, inv_std, mean, variance)


@register(batchnorm_frozen_forward, "fast")
def batchnorm_frozen_forward_compiled(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float = 1e-3
) -> tuple[Array, FrozenBatchNormCache]:
    """batchnorm_frozen_forward: x (..., C) -> y of its shape."""
    _check_scale(x, gamma, beta)
    if not covered(x, gamma, beta, mean, variance):
        return without_fast(batchnorm_frozen_forward)(x, gamma, beta, mean, variance, epsilon)
    inv_std = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    x_hat, y = _normalised(x, mean, inv_std, gamma, beta)
    return y, FrozenBatchNormCache(x_hat, gamma, inv_std)


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


def factors(
    sums: Array, m: int, scale: Array, inverse: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """dγ, dβ and three factors of dx, each (C,), from Σ dz and Σ dz (x − μ) over m cells.

        dx = γ/s (dz − dβ/m − x̂ dγ/m),   s = √(σ² + ε),   x̂ = (x − μ) · inverse

    scale (C,) γ/s.  The factors are those of dz, of x − μ, and what is subtracted.
    """
    dgamma, dbeta = sums[1] * inverse, sums[0]
    slope, shift = scale * inverse * dgamma / m, scale * dbeta / m
    dgamma, dbeta, slope, shift = (v.astype(scale.dtype) for v in (dgamma, dbeta, slope, shift))
    return dgamma, dbeta, scale, slope, shift


def gradients(
    dy: Array, y: Array | None, x: Array, mean: Array, scale: Array, inverse: Array
) -> tuple[Array, Array, Array]:
    """dx, dγ, dβ as in ``factors``; where y is given and not above 0, dy does not count."""
    dx = empty_like(x)
    dy_rows, x_rows, dx_rows = as_rows(dy), as_rows(x), as_rows(dx)
    y_rows = None if y is None else as_rows(y)
    per_block = images_per_block(x_rows[:1].nbytes)
    (mean_row,) = tiled_to(x_rows, mean)

    def sums(some: slice) -> Array:
        part = np.empty((2, x.shape[-1]))
        of_y = None if y_rows is None else y_rows[some]
        _gradient_sums(dy_rows[some], of_y, x_rows[some], mean_row, part)
        return part

    total: Array = np.sum(over_blocks(len(x_rows), per_block, sums), axis=0)
    dgamma, dbeta, *three = factors(total, x.size // x.shape[-1], scale, inverse)
    rows = tiled_to(x_rows, *three)

    def work(some: slice) -> None:
        of_y = None if y_rows is None else y_rows[some]
        _gradient(dy_rows[some], of_y, x_rows[some], mean_row, *rows, dx_rows[some])

    over_shares(len(x_rows), work)
    return dx, dgamma, dbeta


@register(batchnorm_backward, "fast")
def batchnorm_backward_compiled(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """batchnorm_backward: dy (..., C) -> dx of its shape, dgamma (C,), dbeta (C,)."""
    x_hat, gamma, inv_std = cache.x_hat, cache.gamma, cache.inv_std
    if not covered(dy, x_hat, gamma, inv_std):
        return without_fast(batchnorm_backward)(dy, cache)
    # x̂ has mean 0 and needs no factor
    return gradients(dy, None, x_hat, np.zeros_like(gamma), gamma * inv_std, np.ones_like(gamma))


@compiled
def _frozen_gradient(dy: Array, x_hat: Array, scale: Array, dx: Array, total: Array) -> None:
    """dx = scale dy; total (2, C) float64: Σ dy and Σ dy x̂."""
    rows, width = dy.shape
    sums, products = np.zeros(width, dy.dtype), np.zeros(width, dy.dtype)
    total[:] = 0
    for first in range(0, rows, FEW):
        for i in range(first, min(first + FEW, rows)):
            for q in range(width):
                dx[i, q] = scale[q] * dy[i, q]
                sums[q] += dy[i, q]
                products[q] += dy[i, q] * x_hat[i, q]
        fold(sums, total[0])
        fold(products, total[1])


@register(batchnorm_frozen_backward, "fast")
def batchnorm_frozen_backward_compiled(
    dy: Array, cache: FrozenBatchNormCache
) -> tuple[Array, Array, Array]:
    """batchnorm_frozen_backward: dy (..., C) -> dx of its shape, dgamma (C,), dbeta (C,)."""
    x_hat, gamma, inv_std = cache
    if not covered(dy, x_hat, gamma, inv_std):
        return without_fast(batchnorm_frozen_backward)(dy, cache)
    dx = empty_like(dy)
    dy_rows, x_rows, dx_rows = as_rows(dy), as_rows(x_hat), as_rows(dx)
    (scale,) = tiled_to(dy_rows, gamma * inv_std)

    def work(some: slice) -> Array:
        part = np.empty((2, len(gamma)))
        _frozen_gradient(dy_rows[some], x_rows[some], scale, dx_rows[some], part)
        return part

    parts = over_blocks(len(dy_rows), images_per_block(dy_rows[:1].nbytes), work)
    dbeta, dgamma = np.sum(parts, axis=0).astype(dy.dtype)
    return dx, dgamma, dbeta
