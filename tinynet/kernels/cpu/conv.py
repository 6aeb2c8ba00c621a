"""Convolution by im2col: the taps of every window side by side in a row, then one matrix product.

For a block of images the matrix A (window positions, kernel height · kernel width · C) is made by
one copy a tap, and

    z = A w,   dw = Aᵀ dz,   dx = the same with dz for the input and the filters turned round

where w is seen as (kernel height · kernel width · C, K). A is made anew in the backward pass:
that costs less than keeping nine copies of every activation. Where the stride is not 1, or there
are few input channels, the input gradient is made the other way round: dA = dz wᵀ, whose columns
are added up where their taps lie (col2im). Grouped convolutions go to the reference.
Source: Chellapilla, Puri & Simard 2006.
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinynet.backend import Array, register
from tinynet.kernels.cpu.threads import column_sums, images_per_block, over_blocks, tiled
from tinynet.layers.conv import Conv2DCache, _check_shapes, conv2d_backward, conv2d_forward
from tinynet.layers.window import Padding, Pair, Window, pair, window_over

FEW_CHANNELS = 4  # input channels times this are few against the filters: col2im is then faster
RUN_CHANNELS = 4  # below, runs are too short to pay (measured at C = 1)


def window_matrix(p: Array, window: Window) -> Array:
    """A (N·H'·W', kernel height · kernel width · C) from the padded input p (N, ..., C)."""
    n, channels = p.shape[0], p.shape[3]
    (rows, columns), (s_h, s_w), d_h = window.kernel, window.stride, window.dilation[0]
    if rows == columns == 1 and window.stride == (1, 1):
        return p.reshape(-1, channels)
    a = np.empty((n, *window.output_size, rows, columns * channels), p.dtype)
    if window.dilation[1] == 1 and channels >= RUN_CHANNELS:
        # the taps of one kernel row lie side by side in p too: copied in one run, 3 to 4 times
        # as fast as tap by tap; the view overlaps itself and is only read
        image, row, column, item = p.strides
        a[...] = as_strided(
            p, a.shape, (image, row * s_h, column * s_w, row * d_h, item), writeable=False
        )
    else:
        taps = a.reshape(*a.shape[:4], columns, channels)
        for i, j, cells in window.taps():
            taps[:, :, :, i, j] = p[cells]
    return a.reshape(-1, rows * columns * channels)


def images_at_a_time(window: Window, channels: int, itemsize: int) -> int:
    """Images whose rows of A fill a block."""
    (height, width), (rows, columns) = window.output_size, window.kernel
    return images_per_block(height * width * rows * columns * channels * itemsize)


@register(conv2d_forward, "numpy")
def conv2d_forward_im2col(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Array, Conv2DCache]:
    """conv2d_forward for groups = 1: x (N, H, W, C), w (kh, kw, C, K) -> z (N, H', W', K)."""
    _check_shapes(x, w, groups)
    if groups != 1 or x.dtype != w.dtype or not len(x):
        return conv2d_forward.reference(x, w, b, stride, padding, dilation, groups)
    window = window_over(
        x.shape[1:3], w.shape[:2], pair(stride, "stride"), padding, pair(dilation, "dilation")
    )
    p = np.ascontiguousarray(window.pad(x))
    return _product(p, w, b, window), Conv2DCache(p, w, window, groups, b is not None)


def _product(p: Array, w: Array, b: Array | None, window: Window) -> Array:
    """z (N, H', W', K) = A w + b, block by block."""
    filters = w.shape[3]
    w_rows = w.reshape(-1, filters)
    row = None if b is None else tiled(b, window.output_size[1])
    z = np.empty((p.shape[0], *window.output_size, filters), p.dtype)

    def work(images: slice) -> None:
        out = z[images].reshape(-1, filters)
        np.matmul(window_matrix(p[images], window), w_rows, out=out)
        if row is not None:
            out = out.reshape(-1, len(row))
            out += row

    over_blocks(p.shape[0], images_at_a_time(window, p.shape[3], p.itemsize), work)
    return z


@register(conv2d_backward, "numpy")
def conv2d_backward_im2col(dz: Array, cache: Conv2DCache) -> tuple[Array, Array, Array | None]:
    """conv2d_backward for groups = 1: dz (N, H', W', K) -> dx, dw, db."""
    p, w, window, groups, has_bias = cache
    if groups != 1 or not p.dtype == w.dtype == dz.dtype or not len(p):
        return conv2d_backward.reference(dz, cache)
    filters = w.shape[3]

    def work(images: slice) -> tuple[Array, Array | None]:
        rows = dz[images].reshape(-1, filters)
        dw = window_matrix(p[images], window).T @ rows
        return dw, column_sums(rows) if has_bias else None

    parts = over_blocks(p.shape[0], images_at_a_time(window, p.shape[3], p.itemsize), work)
    dw = sum(part for part, _ in parts).reshape(w.shape)  # type: ignore[union-attr]
    db = sum(part for _, part in parts if part is not None) if has_bias else None
    turned = window.stride == (1, 1) and FEW_CHANNELS * w.shape[2] > filters
    dx = _input_gradient_turned(dz, w, window) if turned else _input_gradient_added(dz, w, window)
    return dx, dw, db  # type: ignore[return-value]


def _input_gradient_added(dz: Array, w: Array, window: Window) -> Array:
    """dx: the columns of dA = dz wᵀ, each added to the cells under its tap (col2im)."""
    rows, columns, channels, filters = w.shape
    (top, bottom), (left, right) = window.padding
    height, width = window.size
    dp = np.zeros((len(dz), height + top + bottom, width + left + right, channels), dz.dtype)

    def work(images: slice) -> None:
        da = dz[images].reshape(-1, filters) @ w.reshape(-1, filters).T
        da = da.reshape(-1, *window.output_size, rows, columns, channels)
        for i, j, cells in window.taps():
            dp[images][cells] += da[:, :, :, i, j]

    over_blocks(len(dz), images_at_a_time(window, channels, dz.itemsize), work)
    return window.crop(dp)


def _input_gradient_turned(dz: Array, w: Array, window: Window) -> Array:
    """dx: a convolution of dz, padded, with the filters turned round and C, K exchanged.

    Cell y of the input lies at tap i of output y + top − i·dilation. So dz is padded with
    (kernel − 1)·dilation − top before, and after by what brings the output to the input's size;
    a negative number cuts off.
    """
    turned = np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))
    dz_sides = []
    for n, out, k, d, (before, _) in zip(
        window.size, window.output_size, window.kernel, window.dilation, window.padding, strict=True
    ):
        reach = (k - 1) * d
        dz_sides.append((reach - before, n + before - out))
    padded = _pad_or_cut(dz, dz_sides)
    over = Window(padded.shape[1:3], window.kernel, (1, 1), window.dilation, ((0, 0), (0, 0)))
    return _product(padded, turned, None, over)


def _pad_or_cut(x: Array, sides: list[Pair]) -> Array:
    """x (N, H, W, C) with zeros around it, or less of it where a side is negative."""
    keep = [
        slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(x.shape[1:3], sides, strict=True)
    ]
    x = x[:, keep[0], keep[1]]
    grow = [(max(0, a), max(0, b)) for a, b in sides]
    return np.pad(x, ((0, 0), *grow, (0, 0))) if any(map(any, grow)) else x
