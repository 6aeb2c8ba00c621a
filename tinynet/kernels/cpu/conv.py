"""Convolution: im2col for dense filters, bundles of groups for grouped ones, sums for depthwise.

Each way has the same three functions: ``product``, ``weight_gradient`` and ``input_gradient``.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np

from tinynet.backend import Array, register
from tinynet.kernels.cpu import depthwise, grouped, im2col
from tinynet.kernels.cpu.threads import column_sums, images_per_block, over_blocks
from tinynet.layers.conv import Conv2DCache, _check_shapes, conv2d_backward, conv2d_forward
from tinynet.layers.window import Padding, Pair, pair, window_over


def way_for(w: Array, groups: int) -> ModuleType:
    """What convolves with filters w (kernel height, kernel width, C / groups, K)."""
    if groups == 1:
        return im2col
    return depthwise if w.shape[2] == 1 else grouped


@register(conv2d_forward, "numpy")
def conv2d_forward_blocks(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Array, Conv2DCache]:
    """conv2d_forward: x (N, H, W, C), w (kh, kw, C / groups, K) -> z (N, H', W', K)."""
    _check_shapes(x, w, groups)
    if x.dtype != w.dtype or not len(x):
        return conv2d_forward.reference(x, w, b, stride, padding, dilation, groups)
    window = window_over(
        x.shape[1:3], w.shape[:2], pair(stride, "stride"), padding, pair(dilation, "dilation")
    )
    p = np.ascontiguousarray(window.pad(x))
    z = way_for(w, groups).product(p, w, b, window)
    return z, Conv2DCache(p, w, window, groups, b is not None)


@register(conv2d_backward, "numpy")
def conv2d_backward_blocks(dz: Array, cache: Conv2DCache) -> tuple[Array, Array, Array | None]:
    """conv2d_backward: dz (N, H', W', K) -> dx, dw, db."""
    p, w, window, groups, has_bias = cache
    if not p.dtype == w.dtype == dz.dtype or not len(p):
        return conv2d_backward.reference(dz, cache)
    way, dz = way_for(w, groups), np.ascontiguousarray(dz)
    dw = way.weight_gradient(dz, np.ascontiguousarray(p), w, window)
    dx = way.input_gradient(dz, w, window, p.shape[3])
    return dx, dw, _bias_gradient(dz) if has_bias else None


def _bias_gradient(dz: Array) -> Array:
    """db (K,) from dz (N, H', W', K)."""
    per_block = images_per_block(dz[:1].nbytes)
    db: Array = np.sum(over_blocks(len(dz), per_block, lambda n: column_sums(dz[n])), axis=0)
    return db
