"""Dropout and scaling of CuPy's arrays: launchers of ``dropout.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array, library_of, load_library, output_like, register
from tinynet.engine.gpu.random import DeviceRandom, drawn_mask, is_philox
from tinynet.engine.kernels.cuda.launch import THREADS, blocks, contiguous
from tinynet.engine.kernels.cuda.source import dtype_macros, function
from tinynet.layers.dropout import (
    DropoutCache,
    _check,
    dropout_backward,
    dropout_forward,
    dropout_mask,
)
from tinynet.layers.scale import ScaleCache, scale_backward, scale_forward


@register(dropout_mask, "cuda")
def dropout_mask_cuda(x: Array, rng: Any, keep_prob: float) -> Array:
    """dropout_mask: booleans of the shape of x, of NumPy's own draws."""
    if isinstance(rng, DeviceRandom):
        return rng.random_mask(x.shape, keep_prob)
    if is_philox(rng):
        return drawn_mask(rng, x.shape, keep_prob)
    mask: Array = dropout_mask.reference(x, rng, keep_prob)
    return mask


@register(dropout_forward, "cuda")
def dropout_forward_cuda(
    x: Array, mask: Array | None, keep_prob: float, scale_at: str = "train"
) -> tuple[Array, DropoutCache]:
    """dropout_forward: x (any shape) -> y (the shape of x)."""
    _check(keep_prob, scale_at)
    if mask is None:
        scale = keep_prob if scale_at == "test" else 1.0
    else:
        scale = 1.0 / keep_prob if scale_at == "train" else 1.0
    y = product(x, mask, scale)
    if y is None:
        return dropout_forward.reference(x, mask, keep_prob, scale_at)
    return y, DropoutCache(mask, scale, x.shape)


@register(dropout_backward, "cuda")
def dropout_backward_cuda(dy: Array, cache: DropoutCache) -> Array:
    """dropout_backward: dy (any shape) -> dx (the shape of dy)."""
    dx = product(dy, cache.mask, cache.scale)
    return dropout_backward.reference(dy, cache) if dx is None else dx


@register(scale_forward, "cuda")
def scale_forward_cuda(x: Array, factor: float) -> tuple[Array, ScaleCache]:
    """scale_forward: x (any shape) -> y (the shape of x)."""
    y = product(x, None, factor)
    if y is None:
        return scale_forward.reference(x, factor)
    return y, ScaleCache(factor, output_like(y))


@register(scale_backward, "cuda")
def scale_backward_cuda(dy: Array, cache: ScaleCache) -> Array:
    """scale_backward: dy (any shape) -> dx (the shape of dy)."""
    dx = product(dy, None, cache.factor)
    return scale_backward.reference(dy, cache) if dx is None else dx


def product(x: Array, mask: Array | None, scale: float) -> Array | None:
    """x · mask · scale; None where no kernel covers the arrays."""
    given = dtype_macros(x)
    if given is None or not x.size:
        return None
    if mask is not None:
        fits = library_of(mask) == "cupy" and mask.dtype == np.bool_ and mask.shape == x.shape
        if not fits:
            return None
    y = load_library("cupy").empty(x.shape, x.dtype)
    factor = np.float64(scale) if x.dtype == np.float64 else np.float32(scale)
    arrays = (contiguous(x),) if mask is None else (contiguous(x), contiguous(mask))
    kernel = function("dropout", "scaled" if mask is None else "dropped_out", given)
    kernel((blocks(x.size),), (THREADS,), (*arrays, y, factor, np.int64(x.size)))
    return y
