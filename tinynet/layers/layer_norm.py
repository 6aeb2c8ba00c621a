"""Layer normalisation: each vector of features by itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array, array_module, backward_of, output_like, swappable
from tinynet.layer import EVAL, Layer, Mode, Parameter, Shape, check_features, check_input
from tinynet.layers.batchnorm import centre

__all__ = ["LayerNorm", "layer_norm_backward", "layer_norm_forward"]


class LayerNormCache(NamedTuple):
    """Cache for ``layer_norm_backward``."""

    x_hat: Array  # (..., C)
    gamma: Array  # (C,)
    inv_std: Array  # (..., 1)


@swappable
def layer_norm_forward(
    x: Array, gamma: Array, beta: Array, epsilon: float = 1e-5
) -> tuple[Array, LayerNormCache]:
    """Normalise each vector over its features, then scale and shift each feature.

        μ = (1/C) Σ_c x_c      σ² = (1/C) Σ_c (x_c − μ)²
        x̂ = (x − μ) / √(σ² + ε),   y = γ x̂ + β

    x            (..., C)   the last axis is the vector
    gamma, beta  (C,)       scale γ and shift β, learned
    epsilon      ε
    Returns y (..., C) and the cache (x̂, γ, 1/√(σ² + ε)).
    Raises ValueError if gamma or beta is not (C,).
    Source: Ba, Kiros & Hinton 2016, "Layer normalization".
    """
    if gamma.shape != x.shape[-1:] or beta.shape != x.shape[-1:]:
        raise ValueError(
            f"layer_norm: gamma is {gamma.shape} and beta {beta.shape}, "
            f"want {x.shape[-1:]} for x of {x.shape}"
        )
    _, centred = centre(x, -1)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    inv_std = 1 / array_module(x).sqrt(variance + epsilon)
    x_hat = centred * inv_std
    return gamma * x_hat + beta, LayerNormCache(x_hat, gamma, inv_std)


@backward_of(lambda cache: output_like(cache.x_hat, cache.gamma))
def layer_norm_backward(dy: Array, cache: LayerNormCache) -> tuple[Array, Array, Array]:
    """Gradients through each vector's own mean and variance.

        g = ∂L/∂y γ
        ∂L/∂x = (g − mean(g) − x̂ mean(g x̂)) / √(σ² + ε)      means over the vector
        ∂L/∂γ = Σ ∂L/∂y x̂      ∂L/∂β = Σ ∂L/∂y               sums over all vectors

    dy (..., C) ∂L/∂y.  Returns dx (..., C), dgamma (C,), dbeta (C,).
    """
    x_hat, gamma, inv_std = cache
    axes = tuple(range(dy.ndim - 1))
    g = dy * gamma
    across = x_hat * (g * x_hat).mean(axis=-1, keepdims=True)
    dx = inv_std * (g - g.mean(axis=-1, keepdims=True) - across)
    return dx, (dy * x_hat).sum(axis=axes), dy.sum(axis=axes)


class LayerNorm(Layer):
    """Each vector of ``channels`` features normalised.  Source: Ba, Kiros & Hinton 2016.

    channels   C, size of the last axis; at each cell of an image its channels are the vector
    epsilon    ε
    Input (N, ..., C), output the same shape.
    Parameters: gamma (C,) from 1, beta (C,) from 0.
    """

    kind = "normalisation"
    per_image = True

    def __init__(self, channels: int, epsilon: float = 1e-5, dtype: Any = "float32") -> None:
        self.channels, self.epsilon = channels, epsilon
        self.gamma = Parameter(np.ones(channels, dtype))
        self.beta = Parameter(np.zeros(channels, dtype))

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, LayerNormCache]:
        gamma, beta = self.gamma.value, self.beta.value
        check_input(self, x, (None, ..., self.channels), gamma)
        return layer_norm_forward(x, gamma, beta, self.epsilon)

    def backward(self, dy: Array, cache: LayerNormCache) -> Array:
        dx, dgamma, dbeta = layer_norm_backward(dy, cache)
        self.gamma.grad += dgamma
        self.beta.grad += dbeta
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        check_features(self, input_shape, self.channels)
        return input_shape

    def __repr__(self) -> str:
        return f"LayerNorm({self.channels})"
