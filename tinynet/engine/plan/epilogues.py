"""Operations that a training step fuses, to spare trips to memory.  Report §3.1.

    conv2d_fused      convolution → [ReLU → [max-pool 2×2]]
    batchnorm_fused   batch norm  → [ReLU → [max-pool 2×2]]
    dense_fused       a dense layer, whose gradients are added in place

What follows the convolution or the batch norm is its *epilogue*. The functions here are the
references: what the single layers do, one after the other. Kernels do the same to a piece of the
image while it is in the processor's cache. The cache is the operation's and the epilogue's: the
input and the output, and with a pool one byte for each output instead of the image before it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, NamedTuple, TypeAlias

from tinynet.backend import (
    Array,
    Output,
    Swappable,
    array_module,
    backward_of,
    check_gradient,
    register,
    swappable,
)
from tinynet.layers.activations import relu_backward, relu_forward
from tinynet.layers.batchnorm import batchnorm_backward, batchnorm_forward
from tinynet.layers.conv import conv2d_backward, conv2d_forward
from tinynet.layers.dense import DenseCache, check_bias, dense_backward
from tinynet.layers.pooling import MaxPoolCache, max_pool2d_backward, max_pool2d_forward
from tinynet.layers.window import Padding, Pair, window_over

EPILOGUES = ("none", "relu", "relu_pool")
NO_WINNER = 4  # the winner of a window whose four cells are all ≤ 0: ReLU stops its gradient


class EpilogueCache(NamedTuple):
    """What the backward pass needs of the ReLU and of the pool."""

    kind: str  # one of EPILOGUES
    y: Array | None = None  # "relu": the output, > 0 where the slope is 1
    winner: Array | None = None  # "relu_pool": (N, H', W', C) uint8, 0 to 3 row by row, NO_WINNER
    size: Pair = (0, 0)  # "relu_pool": (height, width) before the pool


NO_EPILOGUE = EpilogueCache("none")


class FusedCache(NamedTuple):
    """The operation's own cache, and its epilogue's."""

    operation: Any  # Conv2DCache or BatchNormCache
    epilogue: EpilogueCache

    @property
    def output(self) -> Output:
        """What dy must be like: y, with a pool smaller than the operation's output."""
        shape, dtype = self.operation.output
        kept = self.epilogue.winner if self.epilogue.y is None else self.epilogue.y
        return Output(shape if kept is None else kept.shape, dtype)


@swappable
def conv2d_fused_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
    epilogue: str = "none",
) -> tuple[Array, FusedCache]:
    """Convolution, then ReLU and a max-pool 2×2 as ``epilogue`` says.  Report §2.5.2, §2.2.2.

        z = conv2d(x, w) + b,   r = max{z, 0},   y[a, c] = max_ij r[2a + i, 2c + j]

    epilogue  "none": y = z;  "relu": y = r;  "relu_pool": all three
    The other arguments as in ``conv2d_forward``.
    Returns y (N, H', W', K), with "relu_pool" (N, ⌊H'/2⌋, ⌊W'/2⌋, K), and both caches.
    Raises ValueError as ``conv2d_forward``, and for another epilogue.
    """
    z, cache = conv2d_forward.reference(x, w, b, stride, padding, dilation, groups)
    y, kept = epilogue_forward(z, epilogue)
    return y, FusedCache(cache, kept)


@backward_of()
def conv2d_fused_backward(
    dy: Array, cache: FusedCache, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """The chain rule through pool, ReLU and convolution.  Report §2.5.6.

    dy       the shape of y, ∂L/∂y
    need_dx  False for the first layer of a network, whose ∂L/∂x is not needed
    Returns dx (N, H, W, C) or None, dw (the shape of w), db (K,) or None without a bias.
    """
    conv, epilogue = cache
    dx, dw, db = conv2d_backward.reference(epilogue_backward(dy, epilogue), conv)
    return dx if need_dx else None, dw, db


@swappable
def batchnorm_fused_forward(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3, epilogue: str = "none"
) -> tuple[Array, FusedCache]:
    """Batch norm, then ReLU and a max-pool 2×2 as ``epilogue`` says.  Report §2.4.3.

        z = γ (x − μ) / √(σ² + ε) + β,   then as ``conv2d_fused_forward``

    x (N, H, W, C), with "none" also (N, C); the other arguments as in ``batchnorm_forward``.
    Returns y, of the shape of x or with "relu_pool" (N, ⌊H/2⌋, ⌊W/2⌋, C), and both caches.
    """
    z, cache = batchnorm_forward.reference(x, gamma, beta, epsilon)
    y, kept = epilogue_forward(z, epilogue)
    return y, FusedCache(cache, kept)


@backward_of()
def batchnorm_fused_backward(dy: Array, cache: FusedCache) -> tuple[Array, Array, Array]:
    """The chain rule through pool, ReLU and batch norm.  Report §2.4.3.

    dy (the shape of y) ∂L/∂y.  Returns dx (the shape of x), dgamma (C,), dbeta (C,).
    """
    norm, epilogue = cache
    gradients: tuple[Array, Array, Array] = batchnorm_backward.reference(
        epilogue_backward(dy, epilogue), norm
    )
    return gradients


def _check_dense(
    name: str, dw: Array, db: Array | None, dz: Array, cache: DenseCache, need_dx: bool = True
) -> None:
    check_gradient(name, dz, cache.output)
    if dw.shape != cache.w.shape:
        raise ValueError(f"{name}: dw is {dw.shape}, want {cache.w.shape}, as w")
    check_bias(name, db, cache.w)


@partial(swappable, check=_check_dense)
def dense_fused_backward(
    dw: Array, db: Array | None, dz: Array, cache: DenseCache, need_dx: bool = True
) -> Array | None:
    """The chain rule through a dense layer, its gradients added to dw and db.  Report §2.3.2.

        dw ← dw + xᵀ dz,   db ← db + Σ_n dz_n,   dx = dz wᵀ

    dw       (n_in, n_out), the gradient so far; changed in place
    db       (n_out,), the same; None without a bias
    dz       (N, n_out), ∂L/∂z
    need_dx  False for the first layer of a network, whose ∂L/∂x is not needed
    Returns dx (N, n_in) or None.
    """
    dx, more_dw, more_db = dense_backward(dz, cache)
    dw += more_dw
    if db is not None:
        db += more_db
    return dx if need_dx else None


def epilogue_forward(z: Array, epilogue: str) -> tuple[Array, EpilogueCache]:
    """Return y, what the epilogue makes of z (N, H, W, C), and its cache.

    Raises ValueError for another epilogue, and if no 2×2 window of the pool fits.
    """
    if epilogue not in EPILOGUES:
        raise ValueError(f"epilogue is {epilogue!r}, want one of {', '.join(EPILOGUES)}")
    if epilogue == "none":
        return z, NO_EPILOGUE
    r, _ = relu_forward(z)
    if epilogue == "relu":
        return r, EpilogueCache(epilogue, r)
    y, cache = max_pool2d_forward(r, 2)
    winner = array_module(y).where(y > 0, cache.winner, NO_WINNER).astype("uint8")
    return y, EpilogueCache(epilogue, None, winner, z.shape[1:3])


def epilogue_backward(dy: Array, epilogue: EpilogueCache) -> Array:
    """∂L/∂z (N, H, W, C) from ∂L/∂y."""
    if epilogue.winner is not None:
        pool = window_over(epilogue.size, (2, 2), (2, 2))
        # NO_WINNER is not a tap of the window: its gradient goes nowhere
        dz: Array = max_pool2d_backward.reference(dy, MaxPoolCache(epilogue.winner, pool))
        return dz
    return dy if epilogue.y is None else relu_backward(dy, epilogue.y > 0)


Kernel: TypeAlias = Callable[..., Any]


def register_fused(fused: Swappable[..., Any], kernels: str) -> Callable[[Kernel], Kernel]:
    """Decorator: a kernel for ``fused`` and, without an epilogue, for its layer's function.

    fused   conv2d_fused_forward or _backward, batchnorm_fused_forward or _backward
    """

    def put(kernel: Kernel) -> Kernel:
        register(fused, kernels)(kernel)
        single: Swappable[..., Any]
        if fused in (conv2d_fused_forward, batchnorm_fused_forward):
            single = conv2d_forward if fused is conv2d_fused_forward else batchnorm_forward

            @wraps(single.reference)
            def alone(*arguments: Any, **more: Any) -> Any:
                y, (cache, _) = kernel(*arguments, **more)
                return y, cache

        else:
            single = conv2d_backward if fused is conv2d_fused_backward else batchnorm_backward

            @wraps(single.reference)
            def alone(dy: Array, cache: Any) -> Any:
                return kernel(dy, FusedCache(cache, NO_EPILOGUE))

        register(single, kernels)(alone)
        return kernel

    return put
