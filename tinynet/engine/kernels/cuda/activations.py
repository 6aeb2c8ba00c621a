"""ReLU of CuPy's arrays, where it is a layer by itself; its kernels are in ``cast.cu``."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, load_library, register
from tinynet.engine.kernels.cuda.cast import over_all
from tinynet.engine.kernels.cuda.launch import plain
from tinynet.engine.kernels.cuda.source import REALS, kinds
from tinynet.layers.activations import relu_backward, relu_forward


@register(relu_forward, "cupy")
def relu_forward_cuda(x: Array, threshold: float = 0.0) -> tuple[Array, Array]:
    """relu_forward: x (any shape) -> y of its shape."""
    types = kinds(x)
    if types is None:
        return relu_forward.reference(x, threshold)
    xp, real = load_library("cupy"), x.dtype if x.dtype in REALS else np.dtype(np.float32)
    y, slope = xp.empty(x.shape, x.dtype), xp.empty(x.shape, np.bool_)
    over_all("relu_and_slope", types, plain(x), y, slope, numbers=(real.type(threshold),))
    return y, slope


@register(relu_backward, "cupy")
def relu_backward_cuda(dy: Array, cache: Array) -> Array:
    """relu_backward: dy (any shape) -> dx of its shape."""
    types = kinds(dy)
    if types is None or cache.dtype != np.bool_ or cache.shape != dy.shape:
        return relu_backward.reference(dy, cache)
    dx = load_library("cupy").empty(dy.shape, dy.dtype)
    over_all("times_slope", types, plain(dy), plain(cache), dx)
    return dx
