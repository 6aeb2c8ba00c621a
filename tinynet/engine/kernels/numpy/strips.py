"""How a batch is cut into strips for a 3 × 3 convolution: tiles of four rows of some images.

A strip is what a thread works on while it is in the cache. Strips are cut by the shapes alone, so
that the number of threads changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array
from tinynet.engine.memory import empty
from tinynet.layers.window import Pair, Window

TILE = 4  # rows of a tile; even, so that no 2 × 2 pool lies across two strips
MARGIN = 2  # rows of dz held above and below a strip: the input's gradient sees so far


@dataclass(frozen=True)
class Frame:
    """The geometry of a 3 × 3 convolution with at most 2 cells of padding on a side.

    size, output_size   (height, width) of x and of z
    top, left           padding above and left of x
    top_back, left_back the same of dz where it is convolved to dx
    pitch               cells from one row to the next where rows share their padding
    tiles, across       tiles that cover x and z, down and across
    """

    size: Pair
    output_size: Pair
    top: int
    left: int
    top_back: int
    left_back: int
    pitch: int
    tiles: int
    across: int


def frame_of(window: Window) -> Frame | None:
    """The frame, or None unless the window is 3 × 3 at stride 1, padded by at most MARGIN."""
    (top, bottom), (left, right) = window.padding
    contiguous = window.kernel == (3, 3) and window.stride == window.dilation == (1, 1)
    if not contiguous or max(top, bottom, left, right) > MARGIN:
        return None
    size, output_size = window.size, window.output_size
    return Frame(
        size,
        output_size,
        top,
        left,
        MARGIN - top,
        MARGIN - left,
        max(size[1] + max(left, right), output_size[1] + MARGIN - min(left, right)),
        -(-max(size[0], output_size[0]) // TILE),
        -(-max(size[1], output_size[1]) // TILE),
    )


class Strip(NamedTuple):
    """Tiles ``start`` to ``stop`` of some images."""

    images: slice
    start: int
    stop: int

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return self.stop - self.start


def strips(n: int, frame: Frame, images: int, tiles: int) -> list[Strip]:
    """All strips of n images, each of ``images`` images and ``tiles`` tiles or fewer."""
    return [
        Strip(slice(some, min(some + images, n)), start, min(start + tiles, frame.tiles))
        for some in range(0, n, images)
        for start in range(0, frame.tiles, tiles)
    ]


class StripMemory:
    """The memory for a strip, which subclasses convolve: the base of the three algorithms.

    frame       the geometry
    left        cells of padding left of a row
    images      of a strip, at most
    rows        of input held for an image, at most: 4 · tiles and some
    channels, filters   C and K of this direction: for the input's gradient the other way round
    of          the memory of the other direction, whose scratch this one uses too
    """

    BACK: Any = None  # the class that convolves dz to dx, if not this one
    STRIP_BYTES = 0  # of V and M together
    products: int  # rows of V and of M, at all points together

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
        self.allocate(images, rows)

    def allocate(self, images: int, rows: int) -> None:
        """Make room for the padded input of a strip."""
        raise NotImplementedError

    @cached_property
    def _scratch(self) -> Array:  # of one size for most layers, so that it is found again
        if self.of is not None:
            return self.of._scratch
        size = self.products * (self.channels + self.filters)
        return empty((max(size, self.STRIP_BYTES // 4),), self.dtype)

    @property
    def _v(self) -> Array:
        return self._scratch[: self.products * self.channels]

    @property
    def _m(self) -> Array:
        return self._scratch[-self.products * self.filters :]


def scratch(size: int, dtype: Any) -> Array:
    """Uninitialised memory for ``size`` numbers, (size,).

    Rounded up to a power of two, so that strips of other layers find it in the workspace again.
    """
    return empty((1 << (size - 1).bit_length(),), dtype)[:size]


def fill(cells: Array, x: Array, first: int, left: int) -> None:
    """cells (n, rows, width, C) = the rows of x (n, H, W, C) from ``first`` on, with 0 around them.

    first   may be negative: rows above the image
    left    cells of zeros left of a row
    """
    inside = rows_inside(cells, x.shape[1], first, left, x.shape[2])
    inside[...] = x[:, max(0, first) : max(0, first) + inside.shape[1]]


def rows_inside(cells: Array, height: int, first: int, left: int, width: int) -> Array:
    """The part of ``cells`` that is inside an image, after setting all around it to 0."""
    top = min(max(0, -first), cells.shape[1])
    bottom = max(top, min(cells.shape[1], height - first))
    cells[:, :top] = 0
    cells[:, bottom:] = 0
    cells[:, :, :left] = 0
    cells[:, :, left + width :] = 0
    return cells[:, top:bottom, left : left + width]
