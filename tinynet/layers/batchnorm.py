"""Batch normalisation.  Report §2.4.3."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import (
    Array,
    Output,
    array_module,
    backward_of,
    check_number,
    output_like,
    swappable,
)
from tinynet.layer import EVAL, Layer, Mode, Parameter, Shape, check_input

# fmt: off
__all__ = [
    "BatchNorm",
    "batchnorm_backward", "batchnorm_forward", "batchnorm_frozen_backward",
    "batchnorm_frozen_forward",
]
# fmt: on


class BatchNormCache(NamedTuple):
    """Cache for ``batchnorm_backward``, with the batch statistics that the moving averages take."""

    x: Array  # (N, C) or (N, H, W, C)
    gamma: Array  # (C,)
    inv_std: Array  # (C,) 1 / √(σ² + ε)
    mean: Array  # (C,) μ
    variance: Array  # (C,) σ²

    @property
    def output(self) -> Output:
        """The shape and dtype of x, what dy must be like."""
        return output_like(self.x, self.gamma, self.mean, self.inv_std)

    @property
    def x_hat(self) -> Array:
        """x̂ = (x − μ) / √(σ² + ε), the shape of x."""
        return (self.x - self.mean) * self.inv_std


class FrozenBatchNormCache(NamedTuple):
    """Cache for ``batchnorm_frozen_backward``."""

    x: Array  # (N, C) or (N, H, W, C)
    gamma: Array  # (C,)
    inv_std: Array  # (C,) 1 / √(σ² + ε)
    mean: Array  # (C,) μ

    @property
    def output(self) -> Output:
        """The shape and dtype of x, what dy must be like."""
        return output_like(self.x, self.gamma, self.mean, self.inv_std)

    @property
    def x_hat(self) -> Array:
        """x̂ = (x − μ) / √(σ² + ε), the shape of x."""
        return (self.x - self.mean) * self.inv_std


@swappable
def batchnorm_forward(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-3
) -> tuple[Array, BatchNormCache]:
    """Normalise each channel over the batch, then scale and shift it.  Report §2.4.3.

        μ = (1/m) Σ x_i      σ² = (1/m) Σ (x_i − μ)²
        x̂_i = (x_i − μ) / √(σ² + ε)      y_i = γ x̂_i + β

    x        (N, C): each neuron over the N examples, or (N, H, W, C): each channel over the
             m = N·H·W cells of the batch
    gamma    (C,)   scale γ, learned
    beta     (C,)   shift β, learned
    epsilon  ε, keeps the root away from 0
    Returns y (the shape of x) and the cache (x, γ, 1/√(σ² + ε), μ, σ²).
    Raises ValueError if gamma or beta is not (C,).
    Source: Ioffe & Szegedy 2015.
    """
    check_scale(x, gamma, beta)
    axes = tuple(range(x.ndim - 1))
    mean, centred = centre(x, axes)
    variance = (centred * centred).mean(axis=axes)
    inv_std = 1 / array_module(x).sqrt(variance + epsilon)
    x_hat = centred * inv_std
    mean = mean.reshape(gamma.shape)
    return gamma * x_hat + beta, BatchNormCache(x, gamma, inv_std, mean, variance)


@backward_of()
def batchnorm_backward(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """Gradients through the batch's own mean and variance.  Report §2.4.3 by §2.3.2.

    Every x_i moves its own x̂_i, the mean and the variance; the three paths add up to

        ∂L/∂x_i = (γ / √(σ² + ε)) (∂L/∂y_i − (1/m) Σ_k ∂L/∂y_k − x̂_i (1/m) Σ_k ∂L/∂y_k x̂_k)
        ∂L/∂γ = Σ_i ∂L/∂y_i x̂_i      ∂L/∂β = Σ_i ∂L/∂y_i

    dy (the shape of x) ∂L/∂y.  Returns dx (the shape of x), dgamma (C,), dbeta (C,).
    """
    x_hat, gamma, inv_std = cache.x_hat, cache.gamma, cache.inv_std
    axes = tuple(range(dy.ndim - 1))
    m = x_hat.size // x_hat.shape[-1]
    dgamma = (dy * x_hat).sum(axis=axes)
    dbeta = dy.sum(axis=axes)
    dx = gamma * inv_std * (dy - dbeta / m - x_hat * (dgamma / m))
    return dx, dgamma, dbeta


@swappable
def batchnorm_frozen_forward(
    x: Array, gamma: Array, beta: Array, mean: Array, variance: Array, epsilon: float = 1e-3
) -> tuple[Array, FrozenBatchNormCache]:
    """Normalise by given statistics: outside training, and when frozen.  Report §2.4.3.

        y = γ (x − μ) / √(σ² + ε) + β      with the moving averages for μ and σ²

    x (N, C) or (N, H, W, C); gamma, beta, mean, variance (C,).
    Returns y (the shape of x) and the cache (x, γ, 1/√(σ² + ε), μ).
    """
    check_scale(x, gamma, beta, mean, variance)
    inv_std = 1 / array_module(x).sqrt(variance + epsilon)
    x_hat = (x - mean) * inv_std
    return gamma * x_hat + beta, FrozenBatchNormCache(x, gamma, inv_std, mean)


@backward_of()
def batchnorm_frozen_backward(dy: Array, cache: FrozenBatchNormCache) -> tuple[Array, Array, Array]:
    """Gradients where the statistics are constants: no path leads through them.  Report §2.4.3.

        ∂L/∂x = ∂L/∂y γ / √(σ² + ε)      ∂L/∂γ = Σ ∂L/∂y x̂      ∂L/∂β = Σ ∂L/∂y

    dy (the shape of x) ∂L/∂y.  Returns dx (the shape of x), dgamma (C,), dbeta (C,).
    """
    axes = tuple(range(dy.ndim - 1))
    dx = dy * (cache.gamma * cache.inv_std)
    return dx, (dy * cache.x_hat).sum(axis=axes), dy.sum(axis=axes)


class BatchNorm(Layer):
    """Batch normalisation, per neuron for (N, C) and per channel for (N, H, W, C).  Report §2.4.3.

    channels   C
    momentum   share of the old value in the moving statistics. 0.9 has forgotten its start after
               some 50 steps, the report's (Keras's) 0.99 after 500: trained on 320 digits, a small
               network is right about 89% and 35% of others after 100 steps, its training loss the
               same. PyTorch's momentum is 1 − this
    epsilon    ε
    scale      False: there is no gamma, γ = 1, as before a ReLU layer, whose next weights can
               scale as well (the Inception networks of Keras)
    frozen_statistics   True: the moving statistics normalise in training too, and do not move
    Parameters: gamma (C,) from 1, unless scale is False, and beta (C,) from 0.
    Buffers: running_mean (C,) from 0, running_var (C,) from 1: moving averages of μ and σ² (with
    1/m; PyTorch's has 1/(m − 1)).
    """

    kind = "normalisation"
    per_image = True

    buffer_names = ("running_mean", "running_var")

    def __init__(
        self,
        channels: int,
        momentum: float = 0.9,
        epsilon: float = 1e-3,
        dtype: Any = "float32",
        *,
        scale: bool = True,
    ) -> None:
        check_number("BatchNorm: channels", channels, 1, whole=True)
        check_number("BatchNorm: momentum", momentum, 0, 1)
        if not check_number("BatchNorm: epsilon", epsilon) > 0:
            raise ValueError(f"BatchNorm: epsilon is {epsilon}, want a number above 0")
        self.channels, self.momentum, self.epsilon = channels, momentum, epsilon
        self.frozen_statistics = False
        self.gamma = Parameter(np.ones(channels, dtype)) if scale else None
        self.beta = Parameter(np.zeros(channels, dtype))
        self.running_mean: Array = np.zeros(channels, dtype)
        self.running_var: Array = np.ones(channels, dtype)

    def forward(
        self, x: Array, mode: Mode = EVAL
    ) -> tuple[Array, BatchNormCache | FrozenBatchNormCache]:
        leading = (None, None, None) if x.ndim == 4 else (None,)
        beta = self.beta.value
        check_input(self, x, (*leading, self.channels), beta)
        gamma = array_module(beta).ones_like(beta) if self.gamma is None else self.gamma.value
        if not mode.train or self.frozen_statistics:
            mean = self.running_mean.copy()  # the cache keeps it, and the moving average may move
            return batchnorm_frozen_forward(x, gamma, beta, mean, self.running_var, self.epsilon)
        self.check_batch(x)
        y, cache = batchnorm_forward(x, gamma, beta, self.epsilon)
        self.update_statistics(x, cache.mean, cache.variance)
        return y, cache

    def check_batch(self, x: Array) -> None:
        """Raise ValueError for an empty batch, which has no mean."""
        if not x.size:
            raise ValueError(
                f"{self!r}: a batch of shape {x.shape} has no numbers to normalise by, want at "
                "least one example"
            )

    def update_statistics(self, x: Array, mean: Array, variance: Array) -> None:
        """Move the moving statistics towards μ (C,) and σ² (C,) of a batch x.

        A batch of one number per channel, whose variance is 0 whatever it holds, moves nothing.
        """
        if x.size == self.channels:
            return
        old, new = self.momentum, 1 - self.momentum
        for kept, batch in ((self.running_mean, mean), (self.running_var, variance)):
            kept *= old
            kept += new * batch

    def backward(self, dy: Array, cache: BatchNormCache | FrozenBatchNormCache) -> Array:
        if isinstance(cache, BatchNormCache):
            dx, dgamma, dbeta = batchnorm_backward(dy, cache)
        else:
            dx, dgamma, dbeta = batchnorm_frozen_backward(dy, cache)
        if self.gamma is not None:
            self.gamma.grad += dgamma
        self.beta.grad += dbeta
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        if input_shape[-1:] != (self.channels,):
            raise ValueError(
                f"{self!r}: input shape is {input_shape}, want {self.channels} channels last"
            )
        return input_shape

    def __repr__(self) -> str:
        return f"BatchNorm({self.channels}{'' if self.gamma else ', scale=False'})"


def centre(x: Array, axes: int | tuple[int, ...]) -> tuple[Array, Array]:
    """μ over ``axes``, which it keeps, and x − μ."""
    mean = x.mean(axis=axes, keepdims=True)
    centred = x - mean
    missing = centred.mean(axis=axes, keepdims=True)  # what rounding took from a large mean
    return mean + missing, centred - missing


def check_scale(x: Array, gamma: Array, beta: Array, *statistics: Array) -> None:
    """Raise ValueError, with the shapes, unless all but x are (C,) for x (..., C)."""
    vectors = gamma, beta, *statistics
    if any(v.shape != x.shape[-1:] for v in vectors):
        shapes = [str(v.shape) for v in vectors]
        more = "" if len(shapes) < 3 else f", mean {shapes[2]} and variance {shapes[3]}"
        raise ValueError(
            f"batchnorm: gamma is {shapes[0]} and beta {shapes[1]}{more}, "
            f"want {x.shape[-1:]} for x of {x.shape}"
        )
