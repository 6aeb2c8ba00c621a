"""Convolution, in the way that ``conv_ways`` chooses.

Apart from the strips, each way has the same three functions: ``product``, ``weight_gradient`` and
``input_gradient``.
"""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register
from tinynet.engine.kernels.numpy import conv_strips
from tinynet.engine.kernels.numpy.conv_ways import strip_way, way_for
from tinynet.engine.kernels.numpy.frame import fill
from tinynet.engine.memory import empty
from tinynet.engine.plan.epilogues import Tail
from tinynet.engine.threads import column_sums, images_per_block, over_blocks
from tinynet.layers.conv import Conv2DCache, _check_shapes, conv2d_backward, conv2d_forward
from tinynet.layers.window import Padding, Pair, Window, pair, window_over


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
    p, chosen = _padded(x, window), strip_way(x, w, groups, window)
    if chosen is not None:
        z, _ = conv_strips.forward(*chosen, x, w, b, "none")
    else:
        z = way_for(w, groups).product(p, w, b, window)
    return z, Conv2DCache(p, w, window, groups, b is not None)


@register(conv2d_backward, "numpy")
def conv2d_backward_blocks(dz: Array, cache: Conv2DCache) -> tuple[Array, Array, Array | None]:
    """conv2d_backward: dz (N, H', W', K) -> dx, dw, db."""
    p, w, window, groups, has_bias = cache
    if not p.dtype == w.dtype == dz.dtype or not len(p):
        return conv2d_backward.reference(dz, cache)
    x = window.crop(p)
    chosen = strip_way(x, w, groups, window, need_dx=True)
    if chosen is not None:
        none = Tail("none", None, None, window.output_size)
        dx, dw, db = conv_strips.backward(*chosen, dz, x, w, none, need_dx=True)
        return dx, dw, db if has_bias else None  # type: ignore[return-value]
    way, dz = way_for(w, groups), np.ascontiguousarray(dz)
    dw = way.weight_gradient(dz, np.ascontiguousarray(p), w, window)
    dx = way.input_gradient(dz, w, window, p.shape[3])
    return dx, dw, _bias_gradient(dz) if has_bias else None


def _padded(x: Array, window: Window) -> Array:
    """x (N, H, W, C) with zeros around it, in one piece of memory."""
    (top, bottom), (left, right) = window.padding
    if not top + bottom + left + right:
        return np.ascontiguousarray(x)
    n, height, width, channels = x.shape
    p = empty((n, height + top + bottom, width + left + right, channels), x.dtype)
    fill(p, x, -top, left)
    return p


def _bias_gradient(dz: Array) -> Array:
    """db (K,) from dz (N, H', W', K)."""
    per_block = images_per_block(dz[:1].nbytes)
    db: Array = np.sum(over_blocks(len(dz), per_block, lambda n: column_sums(dz[n])), axis=0)
    return db
