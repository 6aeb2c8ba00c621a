"""Group normalisation: what batch norm does, for each image by itself."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array, Output, array_module, backward_of, output_like, swappable
from tinynet.layer import EVAL, Layer, Mode, Parameter, Shape, check_input
from tinynet.layers.batchnorm import centre
from tinynet.layers.conv import check_image_shape

__all__ = ["GroupNorm", "group_norm_backward", "group_norm_forward"]


class GroupNormCache(NamedTuple):
    """Cache for ``group_norm_backward``."""

    x_hat: Array  # (N, H·W, G, C/G)
    gamma: Array  # (C,)
    inv_std: Array  # (N, 1, G, 1)
    output: Output  # (N, H, W, C), what dy must be like


@swappable
def group_norm_forward(
    x: Array, gamma: Array, beta: Array, groups: int, epsilon: float = 1e-5
) -> tuple[Array, GroupNormCache]:
    """Normalise each group of channels of each image, then scale and shift each channel.

        x̂ = (x − μ) / √(σ² + ε),   y = γ x̂ + β

    μ and σ² are taken over the H·W cells and C/G channels of one group of one image: the batch
    plays no part, so training and prediction compute the same.

    x        (N, H, W, C)
    gamma    (C,)   scale γ, learned
    beta     (C,)   shift β, learned
    groups   G, a divisor of C
    epsilon  ε
    Returns y (N, H, W, C) and the cache (x̂, γ, 1/√(σ² + ε)).
    Raises ValueError if the shapes do not belong together or G does not divide C.
    Source: Wu & He 2018, "Group normalization".
    """
    channels = x.shape[-1]
    if x.ndim != 4 or gamma.shape != (channels,) or beta.shape != (channels,):
        raise ValueError(
            f"group_norm: x is {x.shape}, gamma {gamma.shape} and beta {beta.shape}, "
            "want (N, H, W, C), (C,) and (C,)"
        )
    _check_groups("group_norm", channels, groups)
    cells = x.reshape(len(x), -1, groups, channels // groups)
    _, centred = centre(cells, (1, 3))
    variance = (centred * centred).mean(axis=(1, 3), keepdims=True)
    inv_std = 1 / array_module(x).sqrt(variance + epsilon)
    x_hat = centred * inv_std
    y = gamma * x_hat.reshape(x.shape) + beta
    return y, GroupNormCache(x_hat, gamma, inv_std, output_like(y, x, gamma))


@backward_of()
def group_norm_backward(dy: Array, cache: GroupNormCache) -> tuple[Array, Array, Array]:
    """Gradients through each group's own mean and variance, as in batch norm.

        g = ∂L/∂y γ
        ∂L/∂x_i = (g_i − mean(g) − x̂_i mean(g x̂)) / √(σ² + ε)      means over the group
        ∂L/∂γ = Σ ∂L/∂y x̂      ∂L/∂β = Σ ∂L/∂y

    dy (N, H, W, C) ∂L/∂y.  Returns dx (N, H, W, C), dgamma (C,), dbeta (C,).
    """
    x_hat, gamma, inv_std, _ = cache
    dgamma = (dy * x_hat.reshape(dy.shape)).sum(axis=(0, 1, 2))
    dbeta = dy.sum(axis=(0, 1, 2))
    g = (dy * gamma).reshape(x_hat.shape)
    across = x_hat * (g * x_hat).mean(axis=(1, 3), keepdims=True)
    dx = inv_std * (g - g.mean(axis=(1, 3), keepdims=True) - across)
    return dx.reshape(dy.shape), dgamma, dbeta


class GroupNorm(Layer):
    """Each group of channels of each image normalised.  Source: Wu & He 2018.

    groups     G, a divisor of the channels C; 1 normalises an image as a whole
    channels   C
    epsilon    ε
    Input (N, H, W, C), output the same shape.
    Parameters: gamma (C,) from 1, beta (C,) from 0.
    """

    kind = "normalisation"
    per_image = True

    def __init__(
        self, groups: int, channels: int, epsilon: float = 1e-5, dtype: Any = "float32"
    ) -> None:
        _check_groups("GroupNorm", channels, groups)
        self.groups, self.channels, self.epsilon = groups, channels, epsilon
        self.gamma = Parameter(np.ones(channels, dtype))
        self.beta = Parameter(np.zeros(channels, dtype))

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, GroupNormCache]:
        gamma, beta = self.gamma.value, self.beta.value
        check_input(self, x, (None, None, None, self.channels), gamma)
        return group_norm_forward(x, gamma, beta, self.groups, self.epsilon)

    def backward(self, dy: Array, cache: GroupNormCache) -> Array:
        dx, dgamma, dbeta = group_norm_backward(dy, cache)
        self.gamma.grad += dgamma
        self.beta.grad += dbeta
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        check_image_shape(self, input_shape, self.channels)
        return input_shape

    def __repr__(self) -> str:
        return f"GroupNorm({self.groups}, {self.channels})"


def _check_groups(name: str, channels: int, groups: int) -> None:
    if groups < 1 or channels % groups:
        raise ValueError(f"{name}: groups is {groups}, want a divisor of the {channels} channels")
