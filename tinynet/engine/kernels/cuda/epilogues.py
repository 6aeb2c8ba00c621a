"""ReLU and max-pool 2×2 after a convolution: launchers of ``epilogues.cu``."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, load_library
from tinynet.engine.kernels.cuda.columns import LOAD, is_aligned
from tinynet.engine.kernels.cuda.elementwise import relu, relu_gradient
from tinynet.engine.kernels.cuda.launch import THREADS, blocks, contiguous
from tinynet.engine.kernels.cuda.source import Definitions, dtype_macros, function
from tinynet.engine.plan.epilogues import (
    EPILOGUES,
    NO_EPILOGUE,
    EpilogueCache,
    epilogue_backward,
    epilogue_forward,
)
from tinynet.layers.window import Pair, window_over


def epilogue_forward_cuda(z: Array, epilogue: str) -> tuple[Array, EpilogueCache]:
    """``epilogue_forward`` of CuPy's z (N, H, W, C), float32, float64 or bfloat16.

    Returns y and the epilogue's cache.
    Raises ValueError for another epilogue, and if "relu_pool" finds no window of 2 × 2 cells.
    """
    if dtype_macros(z) is None or not z.size or epilogue not in EPILOGUES:
        return epilogue_forward(z, epilogue)
    if epilogue == "none":
        return z, NO_EPILOGUE
    if epilogue == "relu":
        y = relu(z)
        return y, EpilogueCache(epilogue, y)
    y, winner = relu_pool(z)
    return y, EpilogueCache(epilogue, None, winner, (z.shape[1], z.shape[2]))


def epilogue_backward_cuda(dy: Array, epilogue: EpilogueCache) -> Array:
    """``epilogue_backward`` of CuPy's dy (the shape of y): ∂L/∂z (N, H, W, C).

    dy has the dtype of y, float32, float64 or bfloat16.
    """
    if (
        dtype_macros(dy) is None
        or not dy.size
        or (epilogue.y is not None and epilogue.y.dtype != dy.dtype)
    ):
        return epilogue_backward(dy, epilogue)
    if epilogue.winner is not None:
        return unpool(dy, epilogue.winner, epilogue.size)
    return dy if epilogue.y is None else relu_gradient(dy, epilogue.y)


def relu_pool(z: Array) -> tuple[Array, Array]:
    """ReLU, then max-pool 2×2, of z (N, H, W, C); z is in a dtype that ``dtype_macros`` names.

    Returns y (N, ⌊H/2⌋, ⌊W/2⌋, C) and winner, of its shape: 0 to 3, row by row, or NO_WINNER.
    Raises ValueError if no window fits.
    """
    xp, z = load_library("cupy"), contiguous(z)
    n, height, width, channels = z.shape
    shape = n, *window_over((height, width), (2, 2), (2, 2)).output_size, channels
    y, winner = xp.empty(shape, z.dtype), xp.empty(shape, np.uint8)
    given, vec = definitions(z, (height, width), z, y, winner)
    kernel = function("epilogues", "relu_pool", given)
    kernel((blocks(y.size // vec),), (THREADS,), (z, y, winner, np.int32(n)))
    return y, winner


def unpool(dy: Array, winner: Array, size: Pair) -> Array:
    """∂L/∂z (N, *size, C) of ``relu_pool``: dy where the cell won, else 0.

    dy (N, H', W', C), in a dtype that ``dtype_macros`` names; winner of its shape, uint8;
    size (height, width) of z, whose odd last row and column are 0.
    """
    dy, winner, n = contiguous(dy), contiguous(winner), len(dy)
    dz = load_library("cupy").empty((n, *size, dy.shape[3]), dy.dtype)
    given, vec = definitions(dy, size, dy, winner, dz)
    windows = n * (-(-size[0] // 2)) * (-(-size[1] // 2)) * dy.shape[3]
    kernel = function("epilogues", "unpool", given)
    kernel((blocks(windows // vec),), (THREADS,), (dy, winner, dz, np.int32(n)))
    return dz


def definitions(x: Array, size: Pair, *arrays: Array) -> tuple[Definitions, int]:
    """The macros of ``epilogues.cu``, and the number of channels that a thread takes at a time."""
    types, channels, vec = dtype_macros(x), x.shape[3], LOAD // x.itemsize
    assert types is not None
    if channels % vec or not all(map(is_aligned, arrays)):
        vec = 1
    sizes = ("CHANNELS", channels), ("HEIGHT", size[0]), ("WIDTH", size[1])
    return (*types, *sizes, ("VEC", vec)), vec
