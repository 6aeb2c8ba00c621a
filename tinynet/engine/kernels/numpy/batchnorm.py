"""Batch normalisation in three sweeps (mean, variance, result) over blocks of images."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register
from tinynet.engine.threads import column_sums, images_per_block, over_blocks, tiled
from tinynet.layers.batchnorm import (
    BatchNormCache,
    _check_scale,
    batchnorm_backward,
    batchnorm_forward,
)


@register(batchnorm_forward, "numpy")
def batchnorm_forward_blocks(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3
) -> tuple[Array, BatchNormCache]:
    """batchnorm_forward for x (N, H, W, C) -> y (N, H, W, C)."""
    _check_scale(x, gamma, beta)
    if x.ndim != 4 or not len(x) or not x.dtype == gamma.dtype == beta.dtype:
        return batchnorm_forward.reference(x, gamma, beta, epsilon)
    n, height, width, _ = x.shape
    m, per_block = x.dtype.type(n * height * width), images_per_block(x[:1].nbytes)
    x_hat, y = np.empty_like(x, order="C"), np.empty_like(x, order="C")
    # the same memory, seen as rows of an image (N, H, W·C)
    x_rows, x_hat_rows, y_rows = (part.reshape(n, height, -1) for part in (x, x_hat, y))

    mean = sum(over_blocks(n, per_block, lambda images: column_sums(x[images]))) / m
    mean_row = tiled(mean, width)

    def centre(images: slice) -> Array:
        centred = np.subtract(x_rows[images], mean_row, out=x_hat_rows[images])
        np.multiply(centred, centred, out=y_rows[images])
        return column_sums(y[images])

    variance = sum(over_blocks(n, per_block, centre)) / m
    inv_std = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    inv_std_row, gamma_row, beta_row = (tiled(v, width) for v in (inv_std, gamma, beta))

    def normalise(images: slice) -> None:
        np.multiply(x_hat_rows[images], inv_std_row, out=x_hat_rows[images])
        np.multiply(x_hat_rows[images], gamma_row, out=y_rows[images])
        y_rows[images] += beta_row

    over_blocks(n, per_block, normalise)
    return y, BatchNormCache(x_hat, gamma, inv_std, mean, variance)


@register(batchnorm_backward, "numpy")
def batchnorm_backward_blocks(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """batchnorm_backward for dy (N, H, W, C) -> dx (N, H, W, C), dgamma (C,), dbeta (C,)."""
    x_hat, gamma, inv_std = cache.x_hat, cache.gamma, cache.inv_std
    if dy.ndim != 4 or not len(dy) or not dy.dtype == x_hat.dtype == gamma.dtype:
        return batchnorm_backward.reference(dy, cache)
    n, height, width, _ = dy.shape
    m, per_block = dy.dtype.type(n * height * width), images_per_block(dy[:1].nbytes)
    dx = np.empty_like(dy, order="C")
    dy_rows, x_hat_rows, dx_rows = (part.reshape(n, height, -1) for part in (dy, x_hat, dx))

    def sums(images: slice) -> tuple[Array, Array]:
        np.multiply(dy[images], x_hat[images], out=dx[images])
        return column_sums(dx[images]), column_sums(dy[images])

    parts = over_blocks(n, per_block, sums)
    dgamma: Array = np.sum([part for part, _ in parts], axis=0)
    dbeta: Array = np.sum([part for _, part in parts], axis=0)
    scale = gamma * inv_std
    scale_row, shift_row, slope_row = (
        tiled(v, width) for v in (scale, dbeta * scale / m, dgamma * scale / m)
    )

    def gradient(images: slice) -> None:
        out = np.multiply(x_hat_rows[images], slope_row, out=dx_rows[images])
        out += shift_row
        np.subtract(dy_rows[images] * scale_row, out, out=out)

    over_blocks(n, per_block, gradient)
    return dx, dgamma, dbeta
