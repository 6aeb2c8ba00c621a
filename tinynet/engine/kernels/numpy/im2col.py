"""Convolution by im2col: the taps of every window side by side in a row, then one matrix product.

The matrix A (window positions, kernel height · kernel width · C) is made by one copy a tap, and

    z = A w,   dw = Aᵀ dz,   dx = the same with dz for the input and the filters turned round

where w is seen as (kernel height · kernel width · C, K). A is made piece by piece, some images or
some rows of one image, so that it is never large, and anew in the backward pass: that costs less
than keeping nine copies of every activation. Where the stride is not 1, or there are few input
channels, the input gradient is made the other way round: dA = dz wᵀ, whose columns are added up
where their taps lie (col2im). For 1×1 filters at stride 1 A is the input itself, uncopied.
Source: Chellapilla, Puri & Simard 2006.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinynet.backend import Array
from tinynet.engine.threads import images_per_block, over_blocks, rows_per_strip, tiled
from tinynet.layers.window import Pair, Window

FEW_CHANNELS = 4  # input channels times this are few against the filters: col2im is then faster
RUN_CHANNELS = 4  # below, runs are too short to pay (measured at C = 1)
WEIGHT_SUMS = 16  # a block has a sum of dw of its own: so many blocks at most, for the memory


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


def images_at_a_time(window: Window, w: Array) -> int:
    """Images whose rows of A fill a block."""
    height, width = window.output_size
    return images_per_block(height * width * w[..., 0].size * w.itemsize)


def pieces(images: slice, window: Window, w: Array) -> Iterator[tuple[slice, slice, slice, Window]]:
    """(images, output rows, rows of the padded input, the window over these) for each piece of A.

    A piece is as many images as fill a block, or a strip of one image. All of w is read for every
    piece, so a strip is at least as large as w.
    """
    height, width = window.output_size
    at_a_time = images_at_a_time(window, w)
    strip = height
    if at_a_time == 1:
        strip = rows_per_strip(width * w[..., 0].size * w.itemsize, at_least=w.nbytes)
    s, reach = window.stride[0], (window.kernel[0] - 1) * window.dilation[0] + 1
    across = window.size[1] + sum(window.padding[1])
    for first in range(images.start, images.stop, at_a_time):
        some = slice(first, min(first + at_a_time, images.stop))
        for top in range(0, height, strip):
            bottom = min(top + strip, height)
            rows = slice(top * s, (bottom - 1) * s + reach)
            size = rows.stop - rows.start, across
            part = replace(window, size=size, padding=((0, 0), (0, 0)))
            yield some, slice(top, bottom), rows, part


def product(p: Array, w: Array, b: Array | None, window: Window) -> Array:
    """z (N, H', W', K) = A w + b, piece by piece, from the padded input p (N, ..., C)."""
    filters = w.shape[3]
    w_rows = w.reshape(-1, filters)
    row = None if b is None else tiled(b, window.output_size[1])
    z = np.empty((p.shape[0], *window.output_size, filters), p.dtype)

    def work(images: slice) -> None:
        for some, out_rows, rows, part in pieces(images, window, w):
            out = z[some, out_rows].reshape(-1, filters)
            np.matmul(window_matrix(p[some, rows], part), w_rows, out=out)
            if row is not None:
                out = out.reshape(-1, len(row))
                out += row

    over_blocks(len(p), images_at_a_time(window, w), work)
    return z


def weight_gradient(dz: Array, p: Array, w: Array, window: Window) -> Array:
    """dw (the shape of w) = Aᵀ dz, summed over the pieces."""
    filters = w.shape[3]

    def work(images: slice) -> Array:
        dw = np.zeros((w.size // filters, filters), w.dtype)
        for some, out_rows, rows, part in pieces(images, window, w):
            dw += window_matrix(p[some, rows], part).T @ dz[some, out_rows].reshape(-1, filters)
        return dw

    per_block = max(images_at_a_time(window, w), -(-len(p) // WEIGHT_SUMS))
    dw: Array = sum(over_blocks(len(p), per_block, work))  # type: ignore[assignment]
    return dw.reshape(w.shape)


def input_gradient(dz: Array, w: Array, window: Window, channels: int) -> Array:
    """dx (N, H, W, C) from dz (N, H', W', K), by the faster of two ways."""
    few = FEW_CHANNELS * channels <= w.shape[3] and window.kernel != (1, 1)
    if window.stride == (1, 1) and not few:
        turned = np.ascontiguousarray(w[::-1, ::-1].transpose(0, 1, 3, 2))
        padded, over = turned_window(dz, window)
        return product(np.ascontiguousarray(padded), turned, None, over)
    return _added(dz, w, window)


def _added(dz: Array, w: Array, window: Window) -> Array:
    """dx: the columns of dA = dz wᵀ, each added to the cells under its tap (col2im)."""
    rows, columns, channels, filters = w.shape
    (top, bottom), (left, right) = window.padding
    height, width = window.size
    dp = np.zeros((len(dz), height + top + bottom, width + left + right, channels), dz.dtype)
    w_rows = w.reshape(-1, filters)

    def work(images: slice) -> None:
        for some, out_rows, under, part in pieces(images, window, w):
            da = dz[some, out_rows].reshape(-1, filters) @ w_rows.T
            da = da.reshape(-1, *part.output_size, rows, columns, channels)
            for i, j, cells in part.taps():
                dp[some, under][cells] += da[:, :, :, i, j]

    over_blocks(len(dz), images_at_a_time(window, w), work)
    return window.crop(dp)


def turned_window(dz: Array, window: Window) -> tuple[Array, Window]:
    """dz, padded, and the window over it for filters turned round: at stride 1, dx as a product.

    Cell y of the input lies at tap i of output y + top − i·dilation. So dz is padded with
    (kernel − 1)·dilation − top before, and after by what brings the output to the input's size;
    a negative number cuts off.
    """
    dz_sides = []
    for n, out, k, d, (before, _) in zip(
        window.size, window.output_size, window.kernel, window.dilation, window.padding, strict=True
    ):
        reach = (k - 1) * d
        dz_sides.append((reach - before, n + before - out))
    padded = _pad_or_cut(dz, dz_sides)
    over = Window(padded.shape[1:3], window.kernel, (1, 1), window.dilation, ((0, 0), (0, 0)))
    return padded, over


def _pad_or_cut(x: Array, sides: list[Pair]) -> Array:
    """x (N, H, W, C) with zeros around it, or less of it where a side is negative."""
    keep = [
        slice(max(0, -a), n - max(0, -b)) for n, (a, b) in zip(x.shape[1:3], sides, strict=True)
    ]
    x = x[:, keep[0], keep[1]]
    grow = [(max(0, a), max(0, b)) for a, b in sides]
    return np.pad(x, ((0, 0), *grow, (0, 0))) if any(map(any, grow)) else x
