"""Layers that a training step runs as one operation, to spare trips to memory.  Report §3.1.

    conv2d_block      convolution → [ReLU → [max-pool 2×2]]
    batchnorm_block   batch norm  → [ReLU → [max-pool 2×2]]
    dense_block       a dense layer, whose gradients are added in place

The functions here are the references: what the single layers do, one after the other. Kernels
make the same of a piece of the image while it is in the processor's cache. What they keep for the
backward pass is less than the single layers keep: the block's input and output, and where there
is a pool one byte for each output, in place of the whole image before it.
"""

from __future__ import annotations

from typing import NamedTuple

from tinynet.backend import Array, array_module, swappable
from tinynet.layers.activations import relu_backward, relu_forward
from tinynet.layers.batchnorm import BatchNormCache, batchnorm_backward, batchnorm_forward
from tinynet.layers.conv import Conv2DCache, conv2d_backward, conv2d_forward
from tinynet.layers.dense import DenseCache, dense_backward
from tinynet.layers.pooling import MaxPoolCache, max_pool2d_backward, max_pool2d_forward
from tinynet.layers.window import Padding, Pair, Window, pair, window_over

TAILS = ("none", "relu", "relu_pool")  # what follows the convolution or the batch norm
NO_WINNER = 4  # the winner of a window whose four cells are all ≤ 0: ReLU stops its gradient


class Tail(NamedTuple):
    """What the backward pass needs of the ReLU and of the pool."""

    kind: str  # one of TAILS
    y: Array | None  # "relu": the output, > 0 where the slope is 1
    winner: Array | None  # "relu_pool": (N, H', W', C) uint8, 0 to 3 row by row, or NO_WINNER
    size: Pair  # (height, width) before the pool


class Conv2DBlockCache(NamedTuple):
    """What conv2d_block_backward needs."""

    x: Array  # (N, H, W, C)
    w: Array  # (kernel height, kernel width, C / groups, K)
    window: Window
    groups: int
    has_bias: bool
    tail: Tail


class BatchNormBlockCache(NamedTuple):
    """What batchnorm_block_backward needs, and the batch's statistics for the moving averages."""

    x: Array  # (N, H, W, C)
    gamma: Array  # (C,)
    inv_std: Array  # (C,) 1 / √(σ² + ε)
    mean: Array  # (C,) μ
    variance: Array  # (C,) σ²
    tail: Tail


@swappable
def conv2d_block_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
    tail: str = "none",
) -> tuple[Array, Conv2DBlockCache]:
    """Convolution, then ReLU and a max-pool 2×2 where ``tail`` says so.  Report §2.5.2, §2.2.2.

        z = conv2d(x, w) + b,   r = max{z, 0},   y[a, c] = max_ij r[2a + i, 2c + j]

    x     (N, H, W, C)
    w     (kernel height, kernel width, C / groups, K)
    b     (K,) or None
    tail  "none": y = z;  "relu": y = r;  "relu_pool": all three
    The others as in ``conv2d_forward``.
    Returns y (N, H', W', K), with "relu_pool" (N, ⌊H'/2⌋, ⌊W'/2⌋, K), and the cache.
    Raises ValueError as ``conv2d_forward``.
    """
    z, _ = conv2d_forward(x, w, b, stride, padding, dilation, groups)
    window = window_over(
        x.shape[1:3], w.shape[:2], pair(stride, "stride"), padding, pair(dilation, "dilation")
    )
    y, kept = tail_forward(z, tail)
    return y, Conv2DBlockCache(x, w, window, groups, b is not None, kept)


@swappable
def conv2d_block_backward(
    dy: Array, cache: Conv2DBlockCache, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """The chain rule through pool, ReLU and convolution.  Report §2.5.6.

    dy       the shape of y, ∂L/∂y
    need_dx  False for the first layer of a network, whose ∂L/∂x nobody uses
    Returns dx (N, H, W, C) or None, dw (the shape of w), db (K,) or None without a bias.
    """
    x, w, window, groups, has_bias, tail = cache
    dz = tail_backward(dy, tail)
    dx, dw, db = conv2d_backward(dz, Conv2DCache(window.pad(x), w, window, groups, has_bias))
    return dx if need_dx else None, dw, db


@swappable
def batchnorm_block_forward(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3, tail: str = "none"
) -> tuple[Array, BatchNormBlockCache]:
    """Batch norm, then ReLU and a max-pool 2×2 where ``tail`` says so.  Report §2.4.3.

        z = γ (x − μ) / √(σ² + ε) + β,   then as ``conv2d_block_forward``

    x (N, H, W, C); gamma, beta (C,); the others as in ``batchnorm_forward``.
    Returns y, of the shape of x or with "relu_pool" (N, ⌊H/2⌋, ⌊W/2⌋, C), and the cache.
    """
    z, cache = batchnorm_forward(x, gamma, beta, epsilon)
    y, kept = tail_forward(z, tail)
    return y, BatchNormBlockCache(x, gamma, cache.inv_std, cache.mean, cache.variance, kept)


@swappable
def batchnorm_block_backward(dy: Array, cache: BatchNormBlockCache) -> tuple[Array, Array, Array]:
    """The chain rule through pool, ReLU and batch norm.  Report §2.4.3.

    dy (the shape of y) ∂L/∂y.  Returns dx (N, H, W, C), dgamma (C,), dbeta (C,).
    """
    x, gamma, inv_std, mean, variance, tail = cache
    x_hat = (x - mean) * inv_std
    dz = tail_backward(dy, tail)
    return batchnorm_backward(dz, BatchNormCache(x_hat, gamma, inv_std, mean, variance))


@swappable
def dense_block_backward(
    dw: Array, db: Array | None, dz: Array, cache: DenseCache, need_dx: bool = True
) -> Array | None:
    """The chain rule through a dense layer, its gradients added to dw and db.  Report §2.3.2.

        dw ← dw + xᵀ dz,   db ← db + Σ_n dz_n,   dx = dz wᵀ

    dw       (n_in, n_out), the gradient so far; changed in place
    db       (n_out,), the same; None without a bias
    dz       (N, n_out), ∂L/∂z
    need_dx  False for the first layer of a network, whose ∂L/∂x nobody uses
    Returns dx (N, n_in) or None.
    """
    dx, more_dw, more_db = dense_backward(dz, cache)
    dw += more_dw
    if db is not None:
        db += more_db
    return dx if need_dx else None


def tail_forward(z: Array, tail: str) -> tuple[Array, Tail]:
    """ReLU and pool, or less, of z (N, H, W, C); y and what their backward pass needs."""
    if tail not in TAILS:
        raise ValueError(f"tail is {tail!r}, want one of {', '.join(TAILS)}")
    size = z.shape[1], z.shape[2]
    if tail == "none":
        return z, Tail(tail, None, None, size)
    r, _ = relu_forward(z)
    if tail == "relu":
        return r, Tail(tail, r, None, size)
    y, cache = max_pool2d_forward(r, 2)
    winner = array_module(y).where(y > 0, cache.winner, NO_WINNER).astype("uint8")
    return y, Tail(tail, None, winner, size)


def tail_backward(dy: Array, tail: Tail) -> Array:
    """∂L/∂z (N, H, W, C) from ∂L/∂y."""
    if tail.winner is not None:
        pool = window_over(tail.size, (2, 2), (2, 2))
        # NO_WINNER is no tap of the window: its gradient goes nowhere
        return max_pool2d_backward.reference(dy, MaxPoolCache(tail.winner, pool))
    return dy if tail.y is None else relu_backward(dy, tail.y > 0)
