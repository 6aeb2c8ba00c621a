"""Winograd's convolution down the columns of an image, an ordinary one along its rows.

F(4, 3) is applied to the rows of a tile, four output rows from six input rows:

    V_a = Σ_i Bᵀ[a, i] x[row i]                  six rows from six, whole rows at a time
    M_a[u] = Σ_j V_a[u + j] U_a[j],  U = G w     a matrix product for each of the six
    z[row i] = Σ_a Aᵀ[i, a] M_a

That halves the multiplications, and a row is so long that the transforms are matrix products too.
A window of three cells of V_a is 3C numbers in one run of memory. So, for the windows that start
at every third cell, V_a as it lies is the matrix of im2col, and nothing is gathered.

Rows lie in memory ``pitch`` cells apart, so close that the padding right of one row is the padding
left of the next; the few windows across that seam give results that are dropped.

Rounding in float32 against float64, standard normal x, w and dz, relative to the largest number of
the result (z, dx or dw; 4 images of 16 × 16, 32 filters), root of the mean square and worst:

    C                 1        8        64       256      512
    here       typical  1.6e-7   1.9e-7   2.3e-7   2.2e-7   2.2e-7
               worst    8e-7     1.5e-6   2.2e-6   3.0e-6   2.6e-6
    winograd_  typical  3.7e-7   3.6e-7   4.1e-7   7.3e-7   6.5e-7
    tiles      worst    3.1e-6   4.3e-6   5.1e-6   1.0e-5   9.1e-6
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
    TAPS,
    TILE,
    A,
    G,
    over_rows,
)
from tinynet.engine.memory import empty
from tinynet.engine.threads import column_sums, tiled

STRIP_BYTES = 1 << 22  # of V and M together
LEAST_POSITIONS = 1024  # but so many cells, so that filters are worth reading


class Rows:
    """The memory for a strip, some tiles of rows of some images, and the steps on it.

    frame       the geometry
    left        cells of padding left of a row
    images      of a strip, at most
    rows        of input held for an image, at most: 4 · tiles and some
    channels, filters   C and K of this direction: for the input's gradient the other way round
    of          the memory of the other direction, whose scratch this one uses too
    """

    @staticmethod
    def transform_filters(w: Array) -> Array:
        """U (6, 3C, K) = G w, from w (3, 3, C, K)."""
        return over_rows(w, G).reshape(POINTS, -1, w.shape[3])

    @staticmethod
    def strip_size(frame: Frame, n: int, channels: int, filters: int) -> tuple[int, int]:
        """(images, tiles) of a strip whose V and M fill STRIP_BYTES."""
        positions = max(LEAST_POSITIONS, STRIP_BYTES // (4 * POINTS * (channels + filters)))
        tiles = max(1, positions // frame.pitch)
        if tiles >= frame.tiles:
            return min(n, tiles // frame.tiles), frame.tiles
        return 1, -(-frame.tiles // -(-frame.tiles // tiles))  # strips of nearly equal height

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
        self.flat = scratch(images * rows * frame.pitch * channels, dtype)
        self.positions = images * ((rows - MARGIN) // TILE) * frame.pitch + TAPS - 1

    @cached_property
    def _scratch(self) -> Array:  # of one size for most layers, so that it is found again
        if self.of is not None:
            return self.of._scratch
        size = POINTS * self.positions * (self.channels + self.filters)
        return empty((max(size, STRIP_BYTES // 4),), self.dtype)

    @property
    def _v(self) -> Array:
        shape = POINTS, self.positions, self.channels
        return self._scratch[: math.prod(shape)].reshape(shape)

    @property
    def _m(self) -> Array:
        shape = POINTS, self.positions, self.filters
        return self._scratch[-math.prod(shape) :].reshape(shape)

    def cells(self, images: int, rows: int) -> Array:
        """(images, rows, pitch, C): where the padded input goes."""
        shape = images, rows, self.frame.pitch, self.channels
        return self.flat[: math.prod(shape)].reshape(shape)

    def transform_input(self, cells: Array, first: int, strip: Strip) -> Array:
        """V (6, positions + 2, C), of the rows from ``first`` on; the last two cells are 0."""
        positions = len(cells) * strip.tiles * self.frame.pitch
        v = self._v[:, : positions + TAPS - 1]
        v[:, positions:] = 0
        np.matmul(B_T, self._tiles(cells, first, 0, strip, POINTS), out=self._rows(v, strip))
        return v

    def convolve(self, v: Array, u: Array, b: Array | None, strip: Strip) -> Array:
        """z (images, rows, pitch, K) = Aᵀ M, M = V U + b; of each row the first W' are meant."""
        pitch, filters = self.frame.pitch, self.filters
        positions, run = v.shape[1] - (TAPS - 1), TAPS * self.channels
        m = self._m[:, :positions]
        for phase in range(TAPS):
            count = -(-(positions - phase) // TAPS)
            windows = as_strided(
                v[:, phase:],
                (POINTS, count, run),
                (v.strides[0], run * v.itemsize, v.itemsize),
                writeable=False,
            )
            np.matmul(windows, u, out=m[:, phase::TAPS])
        if b is not None:  # M_1 has the factor 1 in all four outputs
            bias = m[1].reshape(-1, pitch * filters)
            bias += tiled(b, pitch)
        rows = self._rows(m, strip)
        shape = *rows.shape[:2], TILE, pitch * filters
        z = scratch(math.prod(shape), self.dtype).reshape(shape)
        np.matmul(A_T, rows, out=z)
        return z.reshape(len(z), -1, pitch, filters)

    def transform_gradient(self, dz: Array, left: int, strip: Strip) -> Array:
        """dM (6, positions, K) = A dz, dz without its margins."""
        dm = self._m[:, : len(dz) * strip.tiles * self.frame.pitch]
        np.matmul(A, self._tiles(dz, MARGIN, left, strip, TILE), out=self._rows(dm, strip))
        return dm

    def filter_gradient_at_points(self, v: Array, dm: Array, before: Array | None) -> Array:
        """dU (6, 3, C, K) = Vᵀ dM, added to that of the strips before."""
        du = empty((POINTS, TAPS, self.channels, self.filters), self.dtype)
        for j in range(TAPS):
            np.matmul(v[:, j : j + dm.shape[1]].transpose(0, 2, 1), dm, out=du[:, j])
        return du if before is None else np.add(before, du, out=before)

    def filter_gradient(self, du: Array) -> Array:
        """dw (3, 3, C, K) = Gᵀ dU."""
        return over_rows(du, G.T)

    def bias_gradient(self, dm: Array) -> Array:
        """db (K,) = Σ dz: A adds up the four rows of a tile in dM_1."""
        return column_sums(dm[1])

    def _tiles(self, cells: Array, first: int, left: int, strip: Strip, rows: int) -> Array:
        """(images, tiles, rows, pitch·C): a window of ``rows`` rows every four.

        From row ``first`` and cell ``left`` on. To be read only: windows overlap, and a row from
        ``left`` on ends in the next.
        """
        image, row, _, item = cells.strides
        shape = len(cells), strip.tiles, rows, cells.shape[2] * cells.shape[3]
        strides = image, TILE * row, row, item
        return as_strided(cells[:, first:, left:], shape, strides, writeable=False)

    def _rows(self, v: Array, strip: Strip) -> Array:
        """(images, tiles, 6, pitch·C): v (6, positions, C) with the points inside."""
        point, cell, item = v.strides
        row, images = cell * self.frame.pitch, strip.images.stop - strip.images.start
        shape = images, strip.tiles, POINTS, self.frame.pitch * v.shape[2]
        return as_strided(v, shape, (strip.tiles * row, row, point, item))
