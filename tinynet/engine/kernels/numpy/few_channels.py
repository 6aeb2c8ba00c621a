"""A 3 × 3 convolution of few channels, as a network's first layer has, by im2col on planes.

Each channel is a plane by itself, its rows ``pitch`` cells apart. The 9C rows of A, one a tap and
channel, are then copies of whole pieces of a plane, and z = Aᵀ w. Exact, in any dtype.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinynet.backend import Array
from tinynet.engine.kernels.numpy.strips import MARGIN, Frame, Strip, StripMemory, scratch
from tinynet.engine.kernels.numpy.winograd import TAPS, WinogradRows
from tinynet.engine.threads import column_sums, tiled

MOST_CHANNELS = 4
STRIP_POSITIONS = 8192  # cells of z in a strip


class FewChannels(StripMemory):
    """The memory for a strip and the steps on it.

    It does not convolve dz to dx: what convolves to few channels has many.
    """

    BACK = WinogradRows  # holds dz, as its own memory would

    @staticmethod
    def transform_filters(w: Array) -> Array:
        """w as (9C, K)."""
        return w.reshape(-1, w.shape[3])

    @staticmethod
    def strip_size(frame: Frame, n: int, channels: int, filters: int) -> tuple[int, int]:
        """(images, tiles) of a strip."""
        tiles = max(1, STRIP_POSITIONS // (4 * frame.pitch))
        return max(1, min(n, tiles // frame.tiles)), min(frame.tiles, tiles)

    def allocate(self, images: int, rows: int) -> None:
        """Make room for the padded input of a strip, and for A."""
        size = images * rows * self.frame.pitch
        # a window at the end of a row reaches into the next, and at the end of all two cells on
        self.flat = scratch(size * self.channels + TAPS - 1, self.dtype)
        self.a = scratch(TAPS * TAPS * size * self.channels, self.dtype)

    def cells(self, images: int, rows: int) -> Array:
        """(images, rows, pitch, C): where the padded input goes; in memory, the channels first."""
        shape = self.channels, images, rows, self.frame.pitch
        self.flat[math.prod(shape) :] = 0
        return self.flat[: math.prod(shape)].reshape(shape).transpose(1, 2, 3, 0)

    def transform_input(self, cells: Array, first: int, strip: Strip) -> Array:
        """A (9C, images, positions of an image), of the rows from ``first`` on."""
        images, pitch = len(cells), self.frame.pitch
        positions = strip.tiles * 4 * pitch
        shape = TAPS, TAPS, self.channels, images, positions
        a = self.a[: math.prod(shape)].reshape(shape)
        image, row, cell, plane = cells.strides
        taps = as_strided(cells[:, first:], shape, (row, cell, plane, image, cell), writeable=False)
        np.copyto(a, taps)
        return a.reshape(-1, images, positions)

    def convolve(self, v: Array, u: Array, b: Array | None, strip: Strip) -> Array:
        """z (images, rows, pitch, K) = Aᵀ w + b; of each row the first W' are meant."""
        pitch = self.frame.pitch
        size = v.shape[1] * v.shape[2] * self.filters
        z = scratch(size, self.dtype).reshape(-1, self.filters)
        np.matmul(v.reshape(len(v), -1).T, u, out=z)
        if b is not None:
            rows = z.reshape(-1, pitch * self.filters)
            rows += tiled(b, pitch)
        return z.reshape(v.shape[1], -1, pitch, self.filters)

    def transform_gradient(self, dz: Array, left: int, strip: Strip) -> Array:
        """dz (images, positions of an image, K) without its margins."""
        image, _, cell, item = dz.strides
        shape = len(dz), strip.tiles * 4 * self.frame.pitch, self.filters
        strides = image, cell, item
        return as_strided(dz[:, MARGIN:, left:], shape, strides, writeable=False)

    def filter_gradient_at_points(self, v: Array, dm: Array, before: Array | None) -> Array:
        """dw (9C, K) = A dz, added to that of the strips before."""
        du = 0 if before is None else before
        for image, dz in enumerate(dm):
            du = du + v[:, image] @ dz
        return du  # type: ignore[return-value]

    def filter_gradient(self, du: Array) -> Array:
        """dw (3, 3, C, K)."""
        return du.reshape(TAPS, TAPS, self.channels, self.filters)

    def bias_gradient(self, dm: Array) -> Array:
        """db (K,) = Σ dz."""
        db: Array = sum(column_sums(dz) for dz in dm)  # type: ignore[assignment]
        return db
