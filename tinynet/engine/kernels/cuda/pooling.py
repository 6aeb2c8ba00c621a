"""Max pooling of CuPy's arrays: launchers of ``pooling.cu``."""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np

from tinynet.backend import Array, load_library, register
from tinynet.engine.kernels.cuda.launch import THREADS, blocks, contiguous
from tinynet.engine.kernels.cuda.source import Definitions, dtype_macros, function, window_macros
from tinynet.layers.pooling import (
    MaxPoolCache,
    max_pool2d_backward,
    max_pool2d_forward,
    pool_window,
)
from tinynet.layers.window import Window

MOST_TAPS = 256  # that a byte tells apart


@register(max_pool2d_forward, "cuda")
@wraps(max_pool2d_forward.reference, assigned=())
def max_pool2d_forward_cuda(x: Array, *how: Any) -> tuple[Array, MaxPoolCache]:
    """max_pool2d_forward: x (N, H, W, C) -> y (N, H', W', C)."""
    window = pool_window(x, *how)
    if dtype_macros(x) is None or window.kernel[0] * window.kernel[1] > MOST_TAPS or not x.size:
        return max_pool2d_forward.reference(x, *how)
    xp, shape = load_library("cupy"), (len(x), *window.output_size, x.shape[3])
    y, winner = xp.empty(shape, x.dtype), xp.empty(shape, np.uint8)
    kernel = function("pooling", "max_pool2d_forward", definitions(window, x))
    kernel((blocks(y.size),), (THREADS,), (contiguous(x), y, winner, np.int32(len(x))))
    return y, MaxPoolCache(winner, window)


@register(max_pool2d_backward, "cuda")
def max_pool2d_backward_cuda(dy: Array, cache: MaxPoolCache) -> Array:
    """max_pool2d_backward: dy (N, H', W', C) -> dx (N, H, W, C)."""
    winner, window = cache
    if dtype_macros(dy) is None or winner.dtype != np.uint8 or not dy.size:
        return max_pool2d_backward.reference(dy, cache)
    shape = len(dy), *window.size, dy.shape[3]
    dx = load_library("cupy").empty(shape, dy.dtype)
    kernel = function("pooling", "max_pool2d_backward", definitions(window, dy))
    given = contiguous(dy), contiguous(winner), dx, np.int32(len(dy))
    kernel((blocks(dx.size),), (THREADS,), given)
    return dx


def definitions(window: Window, x: Array) -> Definitions:
    """The geometry, as ``pooling.cu`` asks for it, over images of x's dtype and channels."""
    types = dtype_macros(x)
    assert types is not None
    return (*types, ("CHANNELS", x.shape[3]), *window_macros(window))
