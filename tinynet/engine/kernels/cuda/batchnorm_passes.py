"""What starts the kernels of ``batchnorm.cu``: a pass over the data, or its end, each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tinynet.backend import Array, load_library
from tinynet.engine.kernels.cuda.channel_sums import real_dtype
from tinynet.engine.kernels.cuda.columns import FINISH, divide
from tinynet.engine.kernels.cuda.launch import THREADS, blocks, plain
from tinynet.engine.kernels.cuda.source import Definitions, function, kinds
from tinynet.engine.plan.epilogues import TAILS, Tail
from tinynet.layers.window import Pair


class Statistics(NamedTuple):
    """Of each channel, (C,)."""

    mean: Array
    variance: Array
    inv_std: Array


def covers(x: Array, *per_channel: Array) -> bool:
    """Whether the kernels here normalise x with γ and the like of these dtypes."""
    return bool(x.size) and all(kinds(x, a) is not None for a in per_channel)


def statistics(x: Array, epsilon: float) -> Statistics:
    """μ, σ² and 1 / √(σ² + ε) of each channel of x (..., C)."""
    xp, x, (rows, channels), dtype = load_library("cupy"), plain(x), flat(x), real_dtype(x)
    by = divide(rows, channels, x.itemsize, x)
    given = definitions(x, by.definitions)
    parts = xp.empty((3, by.parts, channels), dtype)
    sizes = np.int64(rows), np.int32(channels), np.int64(by.chunk)
    function("batchnorm", "batchnorm_moments", given)(by.grid, by.block, (x, parts, *sizes))
    found = Statistics(*(xp.empty(channels, dtype) for _ in range(3)))
    numbers = dtype.type(epsilon), np.int32(by.parts), np.int32(channels)
    finish = function("batchnorm", "batchnorm_statistics", given)
    finish(by.finish, FINISH, (x, parts, *found, *numbers))
    return found


def inverse_root(variance: Array, epsilon: float) -> Array:
    """1 / √(σ² + ε) (C,)."""
    inv_std = load_library("cupy").empty(variance.shape, variance.dtype)
    given = definitions(variance, divide(1, len(variance), variance.itemsize).definitions)
    arguments = plain(variance), inv_std, variance.dtype.type(epsilon), np.int32(len(variance))
    grid = (blocks(len(variance)),)
    function("batchnorm", "batchnorm_inv_std", given)(grid, (THREADS,), arguments)
    return inv_std


def normalise(
    x: Array, gamma: Array, beta: Array, mean: Array, inv_std: Array, kind: str = "none"
) -> tuple[Array, Tail]:
    """y = tail(γ (x − μ) / √(σ² + ε) + β), and what the tail's backward pass needs.

    kind   one of TAILS; "relu_pool" wants x (N, H, W, C) of 2 × 2 cells at least
    """
    xp, size, shape = load_library("cupy"), (x.shape[1], x.shape[2]), list(x.shape)
    if kind == "relu_pool":
        shape[1:3] = size[0] // 2, size[1] // 2
    y = xp.empty(shape, x.dtype)
    winner = xp.empty(shape if kind == "relu_pool" else 0, np.uint8)
    _apply(x, gamma, beta, mean, inv_std, y, y, winner, kind)
    of_pool = winner if kind == "relu_pool" else None
    return y, Tail(kind, y if kind == "relu" else None, of_pool, size)


def normalise_and_keep(
    x: Array, gamma: Array, beta: Array, mean: Array, inv_std: Array
) -> tuple[Array, Array]:
    """y = γ x̂ + β and x̂ = (x − μ) / √(σ² + ε), both the shape of x (..., C)."""
    xp = load_library("cupy")
    y, x_hat = xp.empty(x.shape, x.dtype), xp.empty(x.shape, x.dtype)
    _apply(x, gamma, beta, mean, inv_std, y, x_hat, xp.empty(0, np.uint8), "none", keep=True)
    return y, x_hat


def _apply(
    x: Array,
    gamma: Array,
    beta: Array,
    mean: Array,
    inv_std: Array,
    y: Array,
    x_hat: Array,
    winner: Array,
    kind: str,
    keep: bool = False,
) -> None:
    x, (rows, channels) = plain(x), flat(y)
    by = divide(rows, channels, x.itemsize, x, y, x_hat, winner)
    size = (x.shape[1], x.shape[2]) if kind == "relu_pool" else (1, 1)
    given = definitions(x, by.definitions, TAILS.index(kind), size, x_hat=keep)
    per_channel = map(plain, (gamma, beta, mean, inv_std))
    sizes = np.int64(rows), np.int32(channels), np.int64(by.chunk)
    kernel = function("batchnorm", "batchnorm_apply", given)
    kernel(by.grid, by.block, (x, *per_channel, y, x_hat, winner, *sizes))


def gradients(
    dy: Array,
    x: Array,
    gamma: Array,
    inv_std: Array,
    mean: Array | None,
    tail: Tail | None = None,
    frozen: bool = False,
) -> tuple[Array, Array, Array]:
    """dx (the shape of x), dgamma (C,), dbeta (C,).

    x        what was normalised; with ``mean`` None x̂
    frozen   True: no gradient leads through μ and σ²
    """
    xp, shape, (rows, channels), dtype = load_library("cupy"), x.shape, flat(x), real_dtype(x)
    dy, x, gamma, inv_std = map(plain, (dy, x, gamma, inv_std))
    y, winner, kind, size = dy, xp.empty(0, np.uint8), 0, (1, 1)
    if tail is not None and tail.y is not None:
        y, kind = plain(tail.y), 1
    elif tail is not None and tail.winner is not None:
        winner, kind, size = plain(tail.winner), 2, tail.size
    dx = xp.empty(shape, x.dtype)
    covered = rows if kind < 2 else len(x) * (-(-size[0] // 2)) * (-(-size[1] // 2))
    by = divide(covered, channels, x.itemsize, dy, x, y, winner, dx)
    given = definitions(x, by.definitions, kind, size, x_hat=mean is None, frozen=frozen)
    centre = inv_std if mean is None else plain(mean)
    sizes = np.int64(covered), np.int32(channels), np.int64(by.chunk)

    parts = xp.empty((2, by.parts, channels), dtype)
    kernel = function("batchnorm", "batchnorm_sums", given)
    kernel(by.grid, by.block, (dy, x, y, winner, centre, parts, *sizes))
    dgamma, dbeta = xp.empty(channels, dtype), xp.empty(channels, dtype)
    counts = np.int32(by.parts), np.int32(channels)
    kernel = function("batchnorm", "batchnorm_gradients", given)
    kernel(by.finish, FINISH, (parts, inv_std, dgamma, dbeta, *counts))
    given_all = dy, x, y, winner, gamma, centre, inv_std, dgamma, dbeta, dx, np.int64(rows)
    kernel = function("batchnorm", "batchnorm_input_gradient", given)
    kernel(by.grid, by.block, (*given_all, *sizes))
    return dx, dgamma, dbeta


def flat(x: Array) -> tuple[int, int]:
    """(rows, channels)."""
    return x.size // x.shape[-1], x.shape[-1]


def definitions(
    x: Array,
    columns: Definitions,
    tail: int = 0,
    size: Pair = (1, 1),
    x_hat: bool = False,
    frozen: bool = False,
) -> Definitions:
    """As ``batchnorm.cu`` asks for it; the size matters with a pool alone."""
    types = kinds(x)
    assert types is not None
    return (
        *(*types, *columns, ("TAIL", tail), ("HEIGHT", size[0]), ("WIDTH", size[1])),
        *(("X_HAT", int(x_hat)), ("FROZEN", int(frozen))),
    )
