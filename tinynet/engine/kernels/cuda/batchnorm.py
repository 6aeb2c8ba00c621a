"""Batch norm of CuPy's arrays with its epilogue: launchers of ``batchnorm.cu``."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, load_library, register
from tinynet.engine.kernels.cuda.columns import FINISH, divide, real_dtype
from tinynet.engine.kernels.cuda.launch import THREADS, blocks, contiguous
from tinynet.engine.kernels.cuda.source import Definitions, dtype_macros, function
from tinynet.engine.plan.epilogues import (
    EPILOGUES,
    NO_EPILOGUE,
    EpilogueCache,
    FusedCache,
    batchnorm_fused_backward,
    batchnorm_fused_forward,
    register_fused,
)
from tinynet.layers.batchnorm import (
    BatchNormCache,
    FrozenBatchNormCache,
    batchnorm_frozen_backward,
    batchnorm_frozen_forward,
    check_scale,
)
from tinynet.layers.window import Pair, window_over


@register_fused(batchnorm_fused_forward, "cuda")
def batchnorm_forward_cuda(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3, epilogue: str = "none"
) -> tuple[Array, FusedCache]:
    """batchnorm_fused_forward: x (..., C) -> y."""
    check_scale(x, gamma, beta)
    fits = epilogue in EPILOGUES[:2] or (epilogue == "relu_pool" and x.ndim == 4)
    if not covers(x, gamma, beta) or not fits:
        return batchnorm_fused_forward.reference(x, gamma, beta, epsilon, epilogue)
    if epilogue == "relu_pool":
        window_over((x.shape[1], x.shape[2]), (2, 2), (2, 2))  # ValueError for too small an image
    mean, variance, inv_std, missing = statistics(x, epsilon)
    y, kept = normalise(x, gamma, beta, mean, inv_std, missing, epilogue)
    return y, FusedCache(BatchNormCache(x, gamma, inv_std, mean, variance), kept)


@register_fused(batchnorm_fused_backward, "cuda")
def batchnorm_backward_cuda(dy: Array, cache: FusedCache) -> tuple[Array, Array, Array]:
    """batchnorm_fused_backward: dy -> dx (the shape of x), dgamma (C,), dbeta (C,)."""
    (x, gamma, inv_std, mean, _), epilogue = cache
    if not covers(x, gamma, inv_std, mean) or dy.dtype != x.dtype:
        return batchnorm_fused_backward.reference(dy, cache)
    return gradients(dy, x, gamma, inv_std, mean, epilogue)


@register(batchnorm_frozen_forward, "cuda")
def batchnorm_frozen_forward_cuda(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float = 1e-3
) -> tuple[Array, FrozenBatchNormCache]:
    """batchnorm_frozen_forward: x (..., C) -> y of its shape."""
    check_scale(x, gamma, beta, mean, variance)
    if not covers(x, gamma, beta, mean, variance):
        return batchnorm_frozen_forward.reference(x, gamma, beta, mean, variance, epsilon)
    inv_std = inverse_root(variance, epsilon)
    y, _ = normalise(x, gamma, beta, mean, inv_std, load_library("cupy").zeros_like(mean))
    return y, FrozenBatchNormCache(x, gamma, inv_std, mean)


@register(batchnorm_frozen_backward, "cuda")
def batchnorm_frozen_backward_cuda(
    dy: Array, cache: FrozenBatchNormCache
) -> tuple[Array, Array, Array]:
    """batchnorm_frozen_backward: dy (..., C) -> dx of its shape, dgamma (C,), dbeta (C,)."""
    x, gamma, inv_std, mean = cache
    if not covers(x, gamma, inv_std, mean) or dy.dtype != x.dtype:
        return batchnorm_frozen_backward.reference(dy, cache)
    return gradients(dy, x, gamma, inv_std, mean, frozen=True)


def covers(x: Array, *per_channel: Array) -> bool:
    """Whether the kernels here normalise x with γ and the like of these dtypes."""
    return bool(x.size) and all(dtype_macros(x, a) is not None for a in per_channel)


def statistics(x: Array, epsilon: float) -> list[Array]:
    """μ, σ², 1 / √(σ² + ε) and what μ lost to rounding, (C,), of each channel of x (..., C)."""
    xp, x, (rows, channels), dtype = load_library("cupy"), contiguous(x), flat(x), real_dtype(x)
    by = divide(rows, channels, x.itemsize, x)
    given = definitions(x, by.definitions)
    parts = xp.empty((3, by.parts, channels), dtype)
    sizes = np.int64(rows), np.int32(channels), np.int64(by.chunk)
    function("batchnorm", "batchnorm_moments", given)(by.grid, by.block, (x, parts, *sizes))
    found = [xp.empty(channels, dtype) for _ in range(4)]
    numbers = dtype.type(epsilon), np.int32(by.parts), np.int32(channels)
    finish = function("batchnorm", "batchnorm_statistics", given)
    finish(by.finish, FINISH, (x, parts, *found, *numbers))
    return found


def inverse_root(variance: Array, epsilon: float) -> Array:
    """1 / √(σ² + ε) (C,)."""
    inv_std = load_library("cupy").empty(variance.shape, variance.dtype)
    given = definitions(variance, divide(1, len(variance), variance.itemsize).definitions)
    arguments = contiguous(variance), inv_std, variance.dtype.type(epsilon), np.int32(len(variance))
    grid = (blocks(len(variance)),)
    function("batchnorm", "batchnorm_inv_std", given)(grid, (THREADS,), arguments)
    return inv_std


def normalise(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inv_std: Array,
    missing: Array,
    epilogue: str = "none",
) -> tuple[Array, EpilogueCache]:
    """y = epilogue(γ (x − μ) / √(σ² + ε) + β), and the epilogue's cache.

    missing    μ − mean
    epilogue   one of EPILOGUES; "relu_pool" wants x (N, H, W, C) of 2 × 2 cells at least
    """
    xp, shape, size = load_library("cupy"), list(x.shape), (1, 1)
    if epilogue == "relu_pool":
        size = x.shape[1], x.shape[2]
        shape[1:3] = size[0] // 2, size[1] // 2
    y = xp.empty(shape, x.dtype)
    winner = xp.empty(shape if epilogue == "relu_pool" else 0, np.uint8)
    x, (rows, channels) = contiguous(x), flat(y)
    by = divide(rows, channels, x.itemsize, x, y, winner)
    given = definitions(x, by.definitions, EPILOGUES.index(epilogue), size)
    per_channel = map(contiguous, (gamma, beta, mean, inv_std, missing))
    sizes = np.int64(rows), np.int32(channels), np.int64(by.chunk)
    kernel = function("batchnorm", "batchnorm_apply", given)
    kernel(by.grid, by.block, (x, *per_channel, y, winner, *sizes))
    if epilogue == "relu_pool":
        return y, EpilogueCache(epilogue, None, winner, size)
    return y, EpilogueCache(epilogue, y if epilogue == "relu" else None)


def gradients(
    dy: Array,
    x: Array,
    gamma: Array,
    inv_std: Array,
    mean: Array,
    epilogue: EpilogueCache = NO_EPILOGUE,
    frozen: bool = False,
) -> tuple[Array, Array, Array]:
    """dx (the shape of x), dgamma (C,), dbeta (C,).

    frozen   True: no gradient leads through μ and σ²
    """
    xp, shape, (rows, channels), dtype = load_library("cupy"), x.shape, flat(x), real_dtype(x)
    dy, x, gamma, inv_std, mean = map(contiguous, (dy, x, gamma, inv_std, mean))
    y, winner, kind, size, covered = dy, xp.empty(0, np.uint8), 0, (1, 1), rows
    if epilogue.y is not None:
        y, kind = contiguous(epilogue.y), 1
    elif epilogue.winner is not None:
        winner, kind, size = contiguous(epilogue.winner), 2, epilogue.size
        covered = len(x) * (-(-size[0] // 2)) * (-(-size[1] // 2))
    dx = xp.empty(shape, x.dtype)
    by = divide(covered, channels, x.itemsize, dy, x, y, winner, dx)
    given = definitions(x, by.definitions, kind, size, frozen)
    sizes = np.int64(covered), np.int32(channels), np.int64(by.chunk)

    parts = xp.empty((2, by.parts, channels), dtype)
    kernel = function("batchnorm", "batchnorm_sums", given)
    kernel(by.grid, by.block, (dy, x, y, winner, mean, parts, *sizes))
    dgamma, dbeta = xp.empty(channels, dtype), xp.empty(channels, dtype)
    counts = np.int32(by.parts), np.int32(channels)
    kernel = function("batchnorm", "batchnorm_gradients", given)
    kernel(by.finish, FINISH, (parts, inv_std, dgamma, dbeta, *counts))
    given_all = dy, x, y, winner, gamma, mean, inv_std, dgamma, dbeta, dx, np.int64(rows)
    kernel = function("batchnorm", "batchnorm_input_gradient", given)
    kernel(by.grid, by.block, (*given_all, *sizes))
    return dx, dgamma, dbeta


def flat(x: Array) -> tuple[int, int]:
    """(rows, channels)."""
    return x.size // x.shape[-1], x.shape[-1]


def definitions(
    x: Array, columns: Definitions, epilogue: int = 0, size: Pair = (1, 1), frozen: bool = False
) -> Definitions:
    """The macros of ``batchnorm.cu``; the size matters with a pool only."""
    types = dtype_macros(x)
    assert types is not None
    sizes = ("HEIGHT", size[0]), ("WIDTH", size[1])
    return (*types, *columns, ("EPILOGUE", epilogue), *sizes, ("FROZEN", int(frozen)))
