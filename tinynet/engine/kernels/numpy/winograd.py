"""Winograd's convolution F(4, 3): four outputs of three taps by 6 multiplications instead of 12.

    y_i = Σ_j d_{i+j} g_j  (i = 0 … 3, j = 0 … 2)      y = Aᵀ [(G g) ⊙ (Bᵀ d)]

Where it comes from: two polynomials of degree 3 and 2 are multiplied by evaluating both at six
points, multiplying the values and interpolating. The points are 0, 1, −1, 2, −2 and ∞ (the leading
coefficient); Aᵀ evaluates the one, G the other, with the interpolation's denominators. That is a
polynomial product p = q g. The filter above is the transposed map, in which evaluation and
interpolation change places: hence Bᵀ, the transposed interpolation, for the input.

Everything is linear, so gradients are the transposed maps:

    ∂L/∂g = Gᵀ [(Bᵀ d) ⊙ (A ∂L/∂y)]

Sources: Winograd 1980, "Arithmetic complexity of computations"; Lavin & Gray 2015, "Fast
algorithms for convolutional neural networks", §4.

Rounding in float32 against float64, standard normal x, w and dz, relative to the largest number of
the result (z, dx or dw; 4 images of 16 × 16, 32 filters), root of the mean square and worst:

    C                 1        8        64       256      512
    rows       typical  1.6e-7   1.9e-7   2.3e-7   2.2e-7   2.2e-7
               worst    8e-7     1.5e-6   2.2e-6   3.0e-6   2.6e-6
    tiles      typical  3.7e-7   3.6e-7   4.1e-7   7.3e-7   6.5e-7
               worst    3.1e-6   4.3e-6   5.1e-6   1.0e-5   9.1e-6
"""

from __future__ import annotations

import math
import os
from functools import cached_property

import numpy as np
from numpy.lib.stride_tricks import as_strided

from tinynet.backend import Array
from tinynet.engine.kernels.numpy.strips import MARGIN, TILE, Frame, Strip, StripMemory, scratch
from tinynet.engine.memory import empty
from tinynet.engine.threads import column_sums, tiled

TAPS = 3
POINTS = 6  # TILE + TAPS − 1, also the inputs under a tile

B_T = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float64,  # filters are transformed once a call: exactly, then rounded
)
A_T = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ],
    np.float32,
)
A = np.ascontiguousarray(A_T.T)


def allowed() -> bool:
    """Whether kernels may use it: not with TINYNET_WINOGRAD=0, which keeps to plain sums.

    Raises ValueError for a value that is neither yes nor no.
    """
    setting = os.environ.get("TINYNET_WINOGRAD", "")
    choices = {"": True}
    choices |= dict.fromkeys(("1", "true", "yes", "on"), True)
    choices |= dict.fromkeys(("0", "false", "no", "off"), False)
    if setting.strip().lower() not in choices:
        raise ValueError(f"TINYNET_WINOGRAD is {setting!r}: unset it, or export 1 or 0")
    return choices[setting.strip().lower()]


def over_rows(g: Array, matrix: Array) -> Array:
    """matrix · g along the first axis: (m, ...) from g (n, ...) and matrix (m, n), in g's dtype."""
    result = matrix.astype(g.dtype) @ g.reshape(len(g), -1)
    return result.reshape(len(matrix), *g.shape[1:])


class WinogradRows(StripMemory):
    """Winograd's convolution down the columns of an image, an ordinary one along its rows.

    F(4, 3) is applied to the rows of a tile, four output rows from six input rows:

        V_a = Σ_i Bᵀ[a, i] x[row i]                  six rows from six, whole rows at a time
        M_a[u] = Σ_j V_a[u + j] U_a[j],  U = G w     a matrix product for each of the six
        z[row i] = Σ_a Aᵀ[i, a] M_a

    That halves the multiplications, and a row is so long that the transforms are matrix products
    too. A window of three cells of V_a is 3C numbers in one run of memory. So, for the windows that
    start at every third cell, V_a as it lies is the matrix of im2col, and nothing is gathered.

    Rows lie in memory ``pitch`` cells apart, so close that the padding right of one row is the
    padding left of the next; the few windows across that seam give results that are dropped.
    """

    STRIP_BYTES = 1 << 22
    LEAST_POSITIONS = 1024  # cells of a strip at least, so that filters are worth reading

    @staticmethod
    def transform_filters(w: Array) -> Array:
        """U (6, 3C, K) = G w, from w (3, 3, C, K)."""
        return over_rows(w, G).reshape(POINTS, -1, w.shape[3])

    @staticmethod
    def strip_size(frame: Frame, n: int, channels: int, filters: int) -> tuple[int, int]:
        """(images, tiles) of a strip whose V and M fill STRIP_BYTES."""
        positions = max(
            WinogradRows.LEAST_POSITIONS,
            WinogradRows.STRIP_BYTES // (4 * POINTS * (channels + filters)),
        )
        tiles = max(1, positions // frame.pitch)
        if tiles >= frame.tiles:
            return min(n, tiles // frame.tiles), frame.tiles
        return 1, -(-frame.tiles // -(-frame.tiles // tiles))  # strips of nearly equal height

    def allocate(self, images: int, rows: int) -> None:
        """Make room for the padded input of a strip."""
        self.flat = scratch(images * rows * self.frame.pitch * self.channels, self.dtype)
        self.positions = images * ((rows - MARGIN) // TILE) * self.frame.pitch + TAPS - 1
        self.products = POINTS * self.positions

    def cells(self, images: int, rows: int) -> Array:
        """(images, rows, pitch, C): where the padded input goes."""
        shape = images, rows, self.frame.pitch, self.channels
        return self.flat[: math.prod(shape)].reshape(shape)

    def transform_input(self, cells: Array, first: int, strip: Strip) -> Array:
        """V (6, positions + 2, C), of the rows from ``first`` on; the last two cells are 0."""
        positions = len(cells) * strip.tiles * self.frame.pitch
        v = self._v.reshape(POINTS, self.positions, -1)[:, : positions + TAPS - 1]
        v[:, positions:] = 0
        np.matmul(B_T, self._tiles(cells, first, 0, strip, POINTS), out=self._rows(v, strip))
        return v

    def convolve(self, v: Array, u: Array, b: Array | None, strip: Strip) -> Array:
        """z (images, rows, pitch, K) = Aᵀ M, M = V U + b; of each row the first W' are meant."""
        pitch, filters = self.frame.pitch, self.filters
        positions, run = v.shape[1] - (TAPS - 1), TAPS * self.channels
        m = self._m.reshape(POINTS, self.positions, -1)[:, :positions]
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
        positions = len(dz) * strip.tiles * self.frame.pitch
        dm = self._m.reshape(POINTS, self.positions, -1)[:, :positions]
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


class WinogradTiles(StripMemory):
    """Winograd's convolution down and across: 4 × 4 outputs of 3 × 3 taps by 36 products, not 144.

    F(4, 3) nested in itself, for tiles of six by six cells:

        V = Bᵀ x B,   U = G w Gᵀ,   M[a, b] = V[a, b] U[a, b],   z = Aᵀ M A

    a quarter of the multiplications of a plain sum, for transforms that cost more than twice those
    of ``WinogradRows``: it pays where there are many channels. The images of a strip lie innermost
    but for the channels, (row, column, image, channel): a cell is then a long run of numbers, and
    both transforms are matrix products over whole runs.
    """

    STRIP_BYTES = 12 << 20
    RUN = 512  # numbers of a cell, images · channels, from which on the transforms are fast
    MOST_POSITIONS = 256  # tiles · images of a strip: from here on nothing is gained

    @staticmethod
    def transform_filters(w: Array) -> Array:
        """U (36, C, K) = G w Gᵀ, from w (3, 3, C, K)."""
        down = over_rows(w, G)
        both = over_rows(down.swapaxes(0, 1), G).swapaxes(0, 1)
        return np.ascontiguousarray(both).reshape(POINTS**2, *w.shape[2:])

    @staticmethod
    def strip_size(frame: Frame, n: int, channels: int, filters: int) -> tuple[int, int]:
        """(images, tiles) of a strip."""
        positions = WinogradTiles.STRIP_BYTES // (4 * POINTS**2 * (channels + filters))
        positions = max(1, min(WinogradTiles.MOST_POSITIONS, positions))
        images = max(
            WinogradTiles.RUN // min(channels, filters), positions // (frame.tiles * frame.across)
        )
        images = min(n, max(1, images))
        return images, min(frame.tiles, max(1, positions // (images * frame.across)))

    def allocate(self, images: int, rows: int) -> None:
        """Make room for the padded input of a strip."""
        self.width = self.frame.across * TILE + 2 * MARGIN
        self.flat = scratch(rows * self.width * images * self.channels, self.dtype)
        self.runs = POINTS * ((rows - MARGIN) // TILE) * images
        self.products = POINTS * self.runs * self.frame.across

    @cached_property
    def _half(self) -> Array:  # what is transformed one way
        if self.of is not None:
            return self.of._half
        return scratch(self.runs * self.width * max(self.channels, self.filters), self.dtype)

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
