"""Batch norm of CuPy's arrays, by itself and with a ReLU and a pool after it."""

from __future__ import annotations

from tinynet.backend import Array, register
from tinynet.engine.kernels.cuda.batchnorm_passes import (
    covers,
    gradients,
    inverse_root,
    normalise,
    normalise_and_keep,
    statistics,
)
from tinynet.engine.plan.epilogues import (
    TAILS,
    BatchNormBlockCache,
    batchnorm_block_backward,
    batchnorm_block_forward,
)
from tinynet.layers.batchnorm import (
    BatchNormCache,
    FrozenBatchNormCache,
    _check_scale,
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_frozen_backward,
    batchnorm_frozen_forward,
)
from tinynet.layers.window import window_over


@register(batchnorm_forward, "cupy")
def batchnorm_forward_cuda(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3
) -> tuple[Array, BatchNormCache]:
    """batchnorm_forward: x (..., C) -> y of its shape."""
    _check_scale(x, gamma, beta)
    if not covers(x, gamma, beta):
        return batchnorm_forward.reference(x, gamma, beta, epsilon)
    mean, variance, inv_std = statistics(x, epsilon)
    y, x_hat = normalise_and_keep(x, gamma, beta, mean, inv_std)
    return y, BatchNormCache(x_hat, gamma, inv_std, mean, variance)


@register(batchnorm_backward, "cupy")
def batchnorm_backward_cuda(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """batchnorm_backward: dy (..., C) -> dx of its shape, dgamma (C,), dbeta (C,)."""
    x_hat, gamma, inv_std = cache[:3]
    if not covers(x_hat, gamma, inv_std) or dy.dtype != x_hat.dtype:
        return batchnorm_backward.reference(dy, cache)
    return gradients(dy, x_hat, gamma, inv_std, mean=None)


@register(batchnorm_frozen_forward, "cupy")
def batchnorm_frozen_forward_cuda(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float = 1e-3
) -> tuple[Array, FrozenBatchNormCache]:
    """batchnorm_frozen_forward: x (..., C) -> y of its shape."""
    _check_scale(x, gamma, beta)
    if not covers(x, gamma, beta, mean, variance):
        return batchnorm_frozen_forward.reference(x, gamma, beta, mean, variance, epsilon)
    inv_std = inverse_root(variance, epsilon)
    y, x_hat = normalise_and_keep(x, gamma, beta, mean, inv_std)
    return y, FrozenBatchNormCache(x_hat, gamma, inv_std)


@register(batchnorm_frozen_backward, "cupy")
def batchnorm_frozen_backward_cuda(
    dy: Array, cache: FrozenBatchNormCache
) -> tuple[Array, Array, Array]:
    """batchnorm_frozen_backward: dy (..., C) -> dx of its shape, dgamma (C,), dbeta (C,)."""
    x_hat, gamma, inv_std = cache
    if not covers(x_hat, gamma, inv_std) or dy.dtype != x_hat.dtype:
        return batchnorm_frozen_backward.reference(dy, cache)
    return gradients(dy, x_hat, gamma, inv_std, mean=None, frozen=True)


@register(batchnorm_block_forward, "cupy")
def batchnorm_block_forward_cuda(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3, tail: str = "none"
) -> tuple[Array, BatchNormBlockCache]:
    """batchnorm_block_forward: x (N, H, W, C) -> y."""
    _check_scale(x, gamma, beta)
    if not covers(x, gamma, beta) or x.ndim != 4 or tail not in TAILS:
        return batchnorm_block_forward.reference(x, gamma, beta, epsilon, tail)
    if tail == "relu_pool":
        window_over((x.shape[1], x.shape[2]), (2, 2), (2, 2))  # ValueError for too small an image
    mean, variance, inv_std = statistics(x, epsilon)
    y, kept = normalise(x, gamma, beta, mean, inv_std, tail)
    return y, BatchNormBlockCache(x, gamma, inv_std, mean, variance, kept)


@register(batchnorm_block_backward, "cupy")
def batchnorm_block_backward_cuda(
    dy: Array, cache: BatchNormBlockCache
) -> tuple[Array, Array, Array]:
    """batchnorm_block_backward: dy -> dx (N, H, W, C), dgamma (C,), dbeta (C,)."""
    x, gamma, inv_std, mean, _, tail = cache
    if not covers(x, gamma, inv_std, mean) or dy.dtype != x.dtype:
        return batchnorm_block_backward.reference(dy, cache)
    return gradients(dy, x, gamma, inv_std, mean, tail)
