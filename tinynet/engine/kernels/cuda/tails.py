"""What follows a convolution, ReLU and max-pool 2×2: what starts the kernels of ``tails.cu``."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, load_library
from tinynet.engine.kernels.cuda.cast import relu, relu_gradient
from tinynet.engine.kernels.cuda.columns import LOAD, aligned
from tinynet.engine.kernels.cuda.launch import THREADS, blocks, plain
from tinynet.engine.kernels.cuda.source import Definitions, function, kinds
from tinynet.engine.plan.epilogues import TAILS, Tail, tail_backward, tail_forward
from tinynet.layers.window import Pair, window_over


def tail_forward_cuda(z: Array, tail: str) -> tuple[Array, Tail]:
    """``tail_forward`` of CuPy's z (N, H, W, C), float32, float64 or bfloat16.

    Returns y and what its backward pass needs.
    Raises ValueError for another tail, and where "relu_pool" finds no window of 2 × 2 cells.
    """
    if kinds(z) is None or not z.size or tail not in TAILS:
        return tail_forward(z, tail)
    size = z.shape[1], z.shape[2]
    if tail == "none":
        return z, Tail(tail, None, None, size)
    if tail == "relu":
        y = relu(z)
        return y, Tail(tail, y, None, size)
    y, winner = relu_pool(z)
    return y, Tail(tail, None, winner, size)


def tail_backward_cuda(dy: Array, tail: Tail) -> Array:
    """``tail_backward`` of CuPy's dy (the shape of y): ∂L/∂z (N, H, W, C).

    dy has the dtype of y, float32, float64 or bfloat16.
    """
    if kinds(dy) is None or not dy.size or (tail.y is not None and tail.y.dtype != dy.dtype):
        return tail_backward(dy, tail)
    if tail.winner is not None:
        return unpool(dy, tail.winner, tail.size)
    return dy if tail.y is None else relu_gradient(dy, tail.y)


def relu_pool(z: Array) -> tuple[Array, Array]:
    """ReLU, then max-pool 2×2, of z (N, H, W, C); z is in a dtype that ``kinds`` names.

    Returns y (N, ⌊H/2⌋, ⌊W/2⌋, C) and winner, of its shape: 0 to 3, row by row, or NO_WINNER.
    Raises ValueError if no window fits.
    """
    xp, z = load_library("cupy"), plain(z)
    n, height, width, channels = z.shape
    shape = n, *window_over((height, width), (2, 2), (2, 2)).output_size, channels
    y, winner = xp.empty(shape, z.dtype), xp.empty(shape, np.uint8)
    given, vec = definitions(z, (height, width), z, y, winner)
    kernel = function("tails", "relu_pool", given)
    kernel((blocks(y.size // vec),), (THREADS,), (z, y, winner, np.int32(n)))
    return y, winner


def unpool(dy: Array, winner: Array, size: Pair) -> Array:
    """∂L/∂z (N, *size, C) of ``relu_pool``: dy where the cell won, else 0.

    dy (N, H', W', C), in a dtype that ``kinds`` names; winner of its shape, uint8;
    size (height, width) of z, whose odd last row and column are 0.
    """
    dy, winner, n = plain(dy), plain(winner), len(dy)
    dz = load_library("cupy").empty((n, *size, dy.shape[3]), dy.dtype)
    given, vec = definitions(dy, size, dy, winner, dz)
    windows = n * (-(-size[0] // 2)) * (-(-size[1] // 2)) * dy.shape[3]
    kernel = function("tails", "unpool", given)
    kernel((blocks(windows // vec),), (THREADS,), (dy, winner, dz, np.int32(n)))
    return dz


def definitions(x: Array, size: Pair, *arrays: Array) -> tuple[Definitions, int]:
    """As ``tails.cu`` asks for it, and how many channels a thread takes of the arrays at a time."""
    types, channels, vec = kinds(x), x.shape[3], LOAD // x.itemsize
    assert types is not None
    if channels % vec or not all(map(aligned, arrays)):
        vec = 1
    sizes = ("CHANNELS", channels), ("HEIGHT", size[0]), ("WIDTH", size[1])
    return (*types, *sizes, ("VEC", vec)), vec
