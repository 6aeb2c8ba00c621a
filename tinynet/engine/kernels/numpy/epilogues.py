"""ReLU and pool of some images or rows while they are in the cache, and their gradients.

Where a window's maximum lies is found by two comparisons, of neighbours in a row and of the two
rows, each true only if strictly greater: among equal cells the first, row by row, wins.
"""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array
from tinynet.engine.memory import empty
from tinynet.engine.plan.epilogues import EPILOGUES, NO_EPILOGUE, NO_WINNER, EpilogueCache
from tinynet.layers.window import Pair, window_over


def empty_output(
    n: int, size: Pair, filters: int, epilogue: str, dtype: np.dtype
) -> tuple[Array, EpilogueCache]:
    """Uninitialised y for z (n, *size, filters), and the cache of the epilogue that fills it.

    Raises ValueError for another epilogue, and if z is too small for the pool.
    """
    if epilogue not in EPILOGUES:
        raise ValueError(f"epilogue is {epilogue!r}, want one of {', '.join(EPILOGUES)}")
    if epilogue != "relu_pool":
        y = empty((n, *size, filters), dtype)
        return y, EpilogueCache("relu", y) if epilogue == "relu" else NO_EPILOGUE
    shape = n, *window_over(size, (2, 2), (2, 2)).output_size, filters
    return empty(shape, dtype), EpilogueCache(epilogue, None, empty(shape, np.uint8), size)


def finish(z: Array, y: Array, epilogue: EpilogueCache, images: slice, first: int) -> None:
    """Write the part of y, and of the winners, that follows from z.

    z       (images, rows, W', K) from row ``first`` on, an even number; it may be changed
    """
    if epilogue.winner is None:
        out = y[images, first : first + z.shape[1]]
        if epilogue.y is None:
            out[...] = z
        else:  # an array of zeros: NumPy compares with a number at a third of the speed
            np.maximum(z, np.zeros(z.shape[2:], z.dtype), out=out)
        return
    rows, columns = z.shape[1] // 2, z.shape[2] // 2
    if rows and columns:
        pooled = images, slice(first // 2, first // 2 + rows)
        _pool(z[:, : 2 * rows, : 2 * columns], y[pooled], epilogue.winner[pooled])


def _pool(z: Array, y: Array, winner: Array) -> None:
    """y = max{0, the largest of each 2 × 2 cells}, and which of the four it is, or NO_WINNER."""
    shape = z.shape[0], z.shape[1], y.shape[2], z.shape[3]
    largest, is_right = empty(shape, z.dtype), empty(shape, bool)
    np.maximum(z[:, :, 0::2], z[:, :, 1::2], out=largest)
    np.greater(z[:, :, 1::2], z[:, :, 0::2], out=is_right)
    upper, lower = largest[:, 0::2], largest[:, 1::2]
    upper_right, lower_right = is_right[:, 0::2], is_right[:, 1::2]
    is_lower = np.greater(lower, upper)

    # winner = 2 · is_lower + is_right of the row that won; on bytes, without branches
    np.not_equal(upper_right, lower_right, out=lower_right)
    np.logical_and(lower_right, is_lower, out=lower_right)
    np.not_equal(upper_right, lower_right, out=upper_right)
    np.add(is_lower, is_lower, out=winner, dtype=np.uint8)
    winner += upper_right

    np.maximum(upper, lower, out=y)
    np.maximum(y, np.zeros(y.shape[2:], y.dtype), out=y)
    alive = y > 0
    winner *= alive
    np.logical_not(alive, out=alive)
    winner += alive.view(np.uint8) * np.uint8(NO_WINNER)


def gradient(dz: Array, dy: Array, epilogue: EpilogueCache, images: slice, first: int) -> None:
    """dz (images, rows, W', K) = ∂L/∂z from row ``first`` on, an even number."""
    rows = slice(first, first + dz.shape[1])
    if epilogue.winner is None:
        if epilogue.y is None:
            dz[...] = dy[images, rows]
        else:
            np.multiply(dy[images, rows], epilogue.y[images, rows] > 0, out=dz)
        return
    pooled = slice(first // 2, (first + dz.shape[1]) // 2)
    height, width = 2 * (pooled.stop - pooled.start), 2 * epilogue.winner.shape[2]
    dz[:, height:] = 0  # an odd row or column at the end is under no window
    dz[:, :, width:] = 0
    _unpool(dz[:, :height, :width], dy[images, pooled], epilogue.winner[images, pooled])


def _unpool(dz: Array, dy: Array, winner: Array) -> None:
    """Each gradient to the cell that won, 0 to the other three.

    What goes to the right or down is taken out of the gradient, the rest goes left or up.
    """
    lower, right = empty(dy.shape, dy.dtype), empty(dy.shape, dy.dtype)
    upper = np.multiply(dy, winner < NO_WINNER)
    np.multiply(upper, winner >> 1, out=lower)
    upper -= lower
    np.copyto(right, winner & 1)
    for row, part in ((0, upper), (1, lower)):
        cells = dz[:, row::2]
        np.multiply(part, right, out=cells[:, :, 1::2])
        np.subtract(part, cells[:, :, 1::2], out=cells[:, :, 0::2])
