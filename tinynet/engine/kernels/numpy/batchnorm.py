"""Batch norm with its epilogue: the sums first, then the rest block by block.

The normalised input x̂ is recomputed in the backward pass: reading x again costs less than keeping a
second array of its size. The gradient before the epilogue is written where dx goes, and turned into
dx in place.
"""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array
from tinynet.engine.kernels.numpy import epilogues
from tinynet.engine.memory import empty, empty_like
from tinynet.engine.plan.epilogues import (
    FusedCache,
    batchnorm_fused_backward,
    batchnorm_fused_forward,
    register_fused,
)
from tinynet.engine.threads import column_sums, images_per_block, over_blocks, tiled
from tinynet.layers.batchnorm import BatchNormCache, check_scale


@register_fused(batchnorm_fused_forward, "numpy")
def batchnorm_forward_numpy(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3, epilogue: str = "none"
) -> tuple[Array, FusedCache]:
    """batchnorm_fused_forward: x (N, H, W, C) -> y."""
    check_scale(x, gamma, beta)
    if x.ndim != 4 or not len(x) or not x.dtype == gamma.dtype == beta.dtype:
        return batchnorm_fused_forward.reference(x, gamma, beta, epsilon, epilogue)
    x = np.ascontiguousarray(x)
    n, height, width, channels = x.shape
    m, per_block = x.dtype.type(n * height * width), images_per_block(x[:1].nbytes)
    y, kept = epilogues.empty_output(n, (height, width), channels, epilogue, x.dtype)

    near: Array = sum(over_blocks(n, per_block, lambda images: column_sums(x[images]))) / m
    mean_row = tiled(near, width)

    def moments(images: slice) -> tuple[Array, Array]:
        centred = _centred(x, images, mean_row)
        sums = column_sums(centred)
        np.multiply(centred, centred, out=centred)
        return sums, column_sums(centred)

    parts = over_blocks(n, per_block, moments)
    missing, spread = (sum(part[i] for part in parts) / m for i in range(2))
    # the sum of large numbers lost digits, which those of x − near still have
    mean, variance = near + missing, np.maximum(spread - missing * missing, 0)
    inv_std = 1 / np.sqrt(variance + x.dtype.type(epsilon))
    scale = gamma * inv_std
    scale_row, beta_row = tiled(scale, width), tiled(beta - scale * missing, width)

    def normalise(images: slice) -> None:
        z = _centred(x, images, mean_row)
        rows = z.reshape(len(z), height, -1)
        rows *= scale_row
        rows += beta_row
        epilogues.finish(z, y, kept, images, 0)

    over_blocks(n, per_block, normalise)
    return y, FusedCache(BatchNormCache(x, gamma, inv_std, mean, variance), kept)


@register_fused(batchnorm_fused_backward, "numpy")
def batchnorm_backward_numpy(dy: Array, cache: FusedCache) -> tuple[Array, Array, Array]:
    """batchnorm_fused_backward: dy -> dx (N, H, W, C), dgamma (C,), dbeta (C,)."""
    (x, gamma, inv_std, mean, _), epilogue = cache
    if x.ndim != 4 or not len(x) or not x.dtype == gamma.dtype == dy.dtype:
        return batchnorm_fused_backward.reference(dy, cache)
    x = np.ascontiguousarray(x)
    n, height, width, _ = x.shape
    m, per_block = x.dtype.type(n * height * width), images_per_block(x[:1].nbytes)
    dx, mean_row = empty_like(x), tiled(mean, width)

    def sums(images: slice) -> tuple[Array, Array]:
        dz = dx[images]
        epilogues.gradient(dz, dy, epilogue, images, 0)
        centred = _centred(x, images, mean_row)
        np.multiply(centred, dz, out=centred)
        return column_sums(centred), column_sums(dz)

    parts = over_blocks(n, per_block, sums)
    dgamma: Array = np.sum([part for part, _ in parts], axis=0) * inv_std
    dbeta: Array = np.sum([part for _, part in parts], axis=0)
    scale = gamma * inv_std
    scale_row, shift_row, slope_row = (
        tiled(v, width) for v in (scale, dbeta * scale / m, dgamma * inv_std * scale / m)
    )

    def gradient(images: slice) -> None:
        slope = _centred(x, images, mean_row).reshape(-1, height, len(mean_row))
        slope *= slope_row
        slope += shift_row
        out = dx[images].reshape(slope.shape)
        out *= scale_row
        out -= slope

    over_blocks(n, per_block, gradient)
    return dx, dgamma, dbeta


def _centred(x: Array, images: slice, mean_row: Array) -> Array:
    """x − μ (images, H, W, C) in scratch."""
    some = x[images]
    centred = empty(some.shape, x.dtype)
    rows = len(some), x.shape[1], len(mean_row)
    np.subtract(some.reshape(rows), mean_row, out=centred.reshape(rows))
    return centred
