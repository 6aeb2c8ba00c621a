"""Winograd's convolution down and across: 4 × 4 outputs of 3 × 3 taps by 36 products, not 144.

F(4, 3) of ``winograd_matrices`` nested in itself, for tiles of six by six cells:

    V = Bᵀ x B,   U = G w Gᵀ,   M[a, b] = V[a, b] U[a, b],   z = Aᵀ M A

a quarter of the multiplications of a plain sum, for transforms that cost more than twice those of
``winograd_rows``: it pays where there are many channels. The images of a strip lie innermost but
for the channels, (row, column, image, channel): a cell is then a long run of numbers, and both
transforms are matrix products over whole runs. It rounds up to four times as coarsely as
``winograd_rows``, which has the figures.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinynet.backend import Array
from tinynet.engine.kernels.numpy.frame import MARGIN, Frame, Strip, scratch
from tinynet.engine.kernels.numpy.winograd_matrices import (
    A_T,
    B_T,
    POINTS,
    TILE,
    A,
    G,
    over_rows,
)
from tinynet.engine.memory import empty
from tinynet.engine.threads import column_sums, tiled

RUN = 512  # numbers of a cell, images · channels, from which on the transforms are fast
STRIP_BYTES = 12 << 20  # of V and M together
MOST_POSITIONS = 256  # tiles · images of a strip: from here on nothing is gained


class Tiles:
    """The memory for a strip and the steps on it; as ``winograd_rows.Rows``."""

    @staticmethod
    def transform_filters(w: Array) -> Array:
        """U (36, C, K) = G w Gᵀ, from w (3, 3, C, K)."""
        down = over_rows(w, G)
        both = over_rows(down.swapaxes(0, 1), G).swapaxes(0, 1)
        return np.ascontiguousarray(both).reshape(POINTS**2, *w.shape[2:])

    @staticmethod
    def strip_size(frame: Frame, n: int, channels: int, filters: int) -> tuple[int, int]:
        """(images, tiles) of a strip."""
        positions = STRIP_BYTES // (4 * POINTS**2 * (channels + filters))
        positions = max(1, min(MOST_POSITIONS, positions))
        images = max(RUN // min(channels, filters), positions // (frame.tiles * frame.across))
        images = min(n, max(1, images))
        return images, min(frame.tiles, max(1, positions // (images * frame.across)))

    def __init__(
        self,
        frame: Frame,
        left: int,
        images: int,
        rows: int,
        channels: int,
        filters: int,
        dtype: Any = np.float32,
        of: Any = None,
    ) -> None:
        self.frame, self.left, self.of = frame, left, of
        self.channels, self.filters, self.dtype = channels, filters, dtype
        self.width = frame.across * TILE + 2 * MARGIN
        self.flat = scratch(rows * self.width * images * channels, dtype)
        self.runs = POINTS * ((rows - MARGIN) // TILE) * images

    @cached_property
    def _half(self) -> Array:  # what is transformed one way
        if self.of is not None:
            return self.of._half
        return scratch(self.runs * self.width * max(self.channels, self.filters), self.dtype)

    @cached_property
    def _scratch(self) -> Array:  # of one size for most layers, so that it is found again
        if self.of is not None:
            return self.of._scratch
        size = POINTS * self.runs * self.frame.across * (self.channels + self.filters)
        return empty((max(size, STRIP_BYTES // 4),), self.dtype)

    @property
    def _v(self) -> Array:
        return self._scratch[: POINTS * self.runs * self.frame.across * self.channels]

    @property
    def _m(self) -> Array:
        return self._scratch[-POINTS * self.runs * self.frame.across * self.filters :]

    def cells(self, images: int, rows: int) -> Array:
        """(images, rows, width, C): where the padded input goes."""
        cells = _array(self.flat, rows, self.width, images, self.channels)
        return cells.transpose(2, 0, 1, 3)

    def transform_input(self, cells: Array, first: int, strip: Strip) -> Array:
        """V (36, positions, C) = Bᵀ x B, of the rows from ``first`` on."""
        return self._forth(B_T, cells, first, 0, strip, self._v)

    def transform_gradient(self, dz: Array, left: int, strip: Strip) -> Array:
        """dM (36, positions, K) = A dz Aᵀ, dz without its margins."""
        return self._forth(A, dz, MARGIN, left, strip, self._m)

    def _forth(
        self, matrix: Array, cells: Array, first: int, left: int, strip: Strip, to: Array
    ) -> Array:
        """(36, positions, channels): the matrix from the left and, transposed, from the right."""
        images, tiles, across, channels = len(cells), strip.tiles, self.frame.across, cells.shape[3]
        reach, run = matrix.shape[1], images * channels
        width = (across - 1) * TILE + reach
        rows = cells.transpose(1, 2, 0, 3)[first:, left : left + width]
        row, cell, _, item = rows.strides
        half = _array(self._half, POINTS, tiles, width * run)
        np.matmul(
            matrix,
            as_strided(rows, (tiles, reach, width * run), (TILE * row, row, item), writeable=False),
            out=half.swapaxes(0, 1),
        )
        both = _array(to, POINTS, POINTS, tiles, across, run)
        point, tile, _ = half.strides
        shape = POINTS, tiles, across, reach, run
        np.matmul(
            matrix,
            as_strided(half, shape, (point, tile, TILE * cell, cell, item), writeable=False),
            out=both.transpose(0, 2, 3, 1, 4),
        )
        return both.reshape(POINTS**2, -1, channels)

    def convolve(self, v: Array, u: Array, b: Array | None, strip: Strip) -> Array:
        """z (images, rows, columns, K) = Aᵀ M A, M = V U + b; the first W' of a row are meant."""
        images, tiles = strip.images.stop - strip.images.start, strip.tiles
        across, run = self.frame.across, images * self.filters
        m = _array(self._m, POINTS**2, v.shape[1], self.filters)
        np.matmul(v, u, out=m)
        if b is not None:  # M_11 has the factor 1 in all sixteen outputs
            bias = m[POINTS + 1].reshape(-1, run)
            bias += tiled(b, images)
        half = _array(self._half, POINTS, tiles, across, TILE, run)
        m = m.reshape(POINTS, POINTS, tiles, across, run)
        np.matmul(A_T, m.transpose(0, 2, 3, 1, 4), out=half)
        z = scratch(tiles * TILE * across * TILE * run, self.dtype).reshape(tiles, TILE, -1)
        np.matmul(A_T, half.reshape(POINTS, tiles, -1).swapaxes(0, 1), out=z)
        shape = tiles * TILE, across * TILE, images, self.filters
        return z.reshape(shape).transpose(2, 0, 1, 3)

    def filter_gradient_at_points(self, v: Array, dm: Array, before: Array | None) -> Array:
        """dU (36, C, K) = Vᵀ dM, added to that of the strips before."""
        du = empty((POINTS**2, self.channels, self.filters), self.dtype)
        np.matmul(v.transpose(0, 2, 1), dm, out=du)
        return du if before is None else np.add(before, du, out=before)

    def filter_gradient(self, du: Array) -> Array:
        """dw (3, 3, C, K) = Gᵀ dU G."""
        down = over_rows(du.reshape(POINTS, POINTS, *du.shape[1:]), G.T)
        return np.ascontiguousarray(over_rows(down.swapaxes(0, 1), G.T).swapaxes(0, 1))

    def bias_gradient(self, dm: Array) -> Array:
        """db (K,) = Σ dz: A adds up the sixteen cells of a tile in dM_11."""
        return column_sums(dm[POINTS + 1])


def _array(flat: Array, *shape: int) -> Array:
    return flat[: math.prod(shape)].reshape(shape)
