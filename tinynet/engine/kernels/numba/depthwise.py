"""Depthwise convolution with one filter a channel, in loops over the channels.

    z[y, x, c] = Σ_ij p[y·stride + i·dilation, x·stride + j·dilation, c] w[i, j, c] + b[c]

Three taps of a row are taken together, which spares trips to the sums in the first-level cache.
The functions are those of ``kernels.numpy.depthwise``, which takes what is not covered here.
Source: Howard et al. 2017, "MobileNets".
"""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array
from tinynet.engine.kernels.numba.arrays import covered, seen
from tinynet.engine.kernels.numba.channel_sums import FEW, fold
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numpy import depthwise
from tinynet.engine.memory import empty
from tinynet.engine.threads import images_per_block, over_blocks, over_shares
from tinynet.layers.window import Pair, Window


def covers(w: Array, channels: int, *arrays: Array) -> bool:
    """Whether w (kh, kw, 1, K) is one filter a channel, and ``covered`` takes all arrays."""
    return w.shape[2:] == (1, channels) and covered(w, *arrays)


@compiled
def _product(p: Array, w: Array, b: Array, stride: Pair, dilation: Pair, z: Array) -> None:
    """z (n, H', W', C) from p (n, ..., C), w (kh, kw, C) and b (C,)."""
    rows, columns, channels = w.shape
    for n in range(z.shape[0]):
        for y in range(z.shape[1]):
            for x in range(z.shape[2]):
                for c in range(channels):
                    z[n, y, x, c] = b[c]
            for i in range(rows):
                r = y * stride[0] + i * dilation[0]
                for j in range(0, columns - 2, 3):
                    w0, w1, w2 = w[i, j], w[i, j + 1], w[i, j + 2]
                    for x in range(z.shape[2]):
                        at = x * stride[1] + j * dilation[1]
                        p0, p1 = p[n, r, at], p[n, r, at + dilation[1]]
                        p2 = p[n, r, at + 2 * dilation[1]]
                        for c in range(channels):
                            z[n, y, x, c] += p0[c] * w0[c] + p1[c] * w1[c] + p2[c] * w2[c]
                for j in range(columns - columns % 3, columns):
                    for x in range(z.shape[2]):
                        at = x * stride[1] + j * dilation[1]
                        for c in range(channels):
                            z[n, y, x, c] += p[n, r, at, c] * w[i, j, c]


def product(p: Array, w: Array, b: Array | None, window: Window) -> Array:
    """z (N, H', W', C) from the padded input p (N, ..., C) and w (kh, kw, 1, C)."""
    if not covers(w, p.shape[3], p, *(() if b is None else (b,))):
        return depthwise.product(p, w, b, window)
    z = empty((len(p), *window.output_size, p.shape[3]), p.dtype)
    p, w, b = seen(p), seen(w)[:, :, 0], np.zeros(p.shape[3], p.dtype) if b is None else seen(b)

    def work(images: slice) -> None:
        _product(p[images], w, b, window.stride, window.dilation, z[images])

    over_shares(len(p), work)
    return z


@compiled
def _weight_gradient(dz: Array, p: Array, stride: Pair, dilation: Pair, dw: Array) -> None:
    """dw (kh, kw, C) float64: Σ dz times the cells under each tap, four cells at a time."""
    rows, columns, channels = dw.shape
    height, width = dz.shape[1:3]
    sums = np.zeros((rows, columns, channels), dz.dtype)
    dw[:] = 0
    cells = 0
    for n in range(dz.shape[0]):
        for y in range(height):
            for i in range(rows):
                r = y * stride[0] + i * dilation[0]
                for j in range(columns):
                    s, left = sums[i, j], j * dilation[1]
                    for x in range(0, width - 3, 4):
                        at = x * stride[1] + left
                        g0, g1, g2, g3 = (
                            dz[n, y, x],
                            dz[n, y, x + 1],
                            dz[n, y, x + 2],
                            dz[n, y, x + 3],
                        )
                        p0, p1 = p[n, r, at], p[n, r, at + stride[1]]
                        p2, p3 = p[n, r, at + 2 * stride[1]], p[n, r, at + 3 * stride[1]]
                        for c in range(channels):
                            s[c] += g0[c] * p0[c] + g1[c] * p1[c] + g2[c] * p2[c] + g3[c] * p3[c]
                    for x in range(width - width % 4, width):
                        at = x * stride[1] + left
                        for c in range(channels):
                            s[c] += dz[n, y, x, c] * p[n, r, at, c]
            cells += width
            if cells >= FEW:
                cells = 0
                fold(sums.reshape(-1), dw.reshape(-1))
    fold(sums.reshape(-1), dw.reshape(-1))


def weight_gradient(dz: Array, p: Array, w: Array, window: Window) -> Array:
    """dw (kh, kw, 1, C): Σ dz times the cells under each tap."""
    if not covers(w, p.shape[3], p, dz):
        return depthwise.weight_gradient(dz, p, w, window)
    dz, p = seen(dz), seen(p)

    def work(images: slice) -> Array:
        part = np.empty((*window.kernel, p.shape[3]))
        _weight_gradient(dz[images], p[images], window.stride, window.dilation, part)
        return part

    parts = over_blocks(len(p), images_per_block(p[:1].nbytes), work)
    dw: Array = np.sum(parts, axis=0).astype(w.dtype).reshape(w.shape)
    return dw


@compiled
def _input_gradient(
    dz: Array, w: Array, stride: Pair, dilation: Pair, before: Pair, dx: Array
) -> None:
    """dx (n, H, W, C): each dz times each tap's weights, added to the cell under the tap."""
    rows, columns, channels = w.shape
    dx[:] = 0
    for n in range(dz.shape[0]):
        for y in range(dz.shape[1]):
            for i in range(rows):
                r = y * stride[0] + i * dilation[0] - before[0]
                if r < 0 or r >= dx.shape[1]:
                    continue
                for j in range(columns):
                    left = j * dilation[1] - before[1]
                    for x in range(dz.shape[2]):
                        at = x * stride[1] + left
                        if 0 <= at < dx.shape[2]:
                            for c in range(channels):
                                dx[n, r, at, c] += dz[n, y, x, c] * w[i, j, c]


def input_gradient(dz: Array, w: Array, window: Window, channels: int) -> Array:
    """dx (N, H, W, C) from dz (N, H', W', C)."""
    if not covers(w, channels, dz):
        return depthwise.input_gradient(dz, w, window, channels)
    dx = empty((len(dz), *window.size, channels), dz.dtype)
    dz, w = seen(dz), seen(w)[:, :, 0]
    before = window.padding[0][0], window.padding[1][0]

    def work(images: slice) -> None:
        _input_gradient(dz[images], w, window.stride, window.dilation, before, dx[images])

    over_shares(len(dz), work)
    return dx
