"""Wrong backward passes of batch normalisation and of local response normalisation."""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np

from tinynet import layers
from tinynet.backend import Array
from tinynet.layer import EVAL, Mode, Shape
from tinynet.layers import BatchNorm
from tinynet.testing.planted.bench import (
    FunctionBench,
    LayerBench,
    backward,
    dx,
    forward,
    pair,
    part,
    times,
    wrong,
    x_and,
)


def scaled(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """x (N, …, C) away from 0, gamma (C,), beta (C,)."""
    c = shape[-1]
    return rng.standard_normal(shape) + 1, 1 + rng.random(c), rng.standard_normal(c)


def pixels(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """x from 0 to 4095, as a radiograph has it: dx is small, since σ is large."""
    return 4095 * rng.random(shape), *scaled(rng, shape)[1:]


def dx_by(
    dy: Array,
    c: Any,
    mean: float = 1.0,
    variance: Any = 1.0,
    axes: tuple[int, ...] | None = None,
    m: float | None = None,
) -> Array:
    """dx = γ / √(σ² + ε) (dy − mean · Σ dy / m − variance · x̂ Σ dy x̂ / m): 1 and 1 are right.

    axes   of the sums; None: all but the channels
    m      what they are divided by; None: the number of terms
    """
    axes = tuple(range(dy.ndim - 1)) if axes is None else axes
    m = np.prod([dy.shape[axis] for axis in axes]) if m is None else m
    along = (dy * c.x_hat).sum(axis=axes) / m
    return c.gamma * c.inv_std * (dy - mean * dy.sum(axis=axes) / m - variance * c.x_hat * along)


dgamma, dbeta, da = map(part, ("dgamma", "dbeta", "da"))

batchnorm = pair("batch norm", (5, 3), "batchnorm", scaled)
of_pixels = batchnorm.using(layer="batch norm of 12-bit pixels", arguments=pixels, bugs=[])

for _bench in (batchnorm, of_pixels):
    _bench.plant(
        "mean term dropped: dx without the path through the batch's mean.",
        dx(lambda g, dy, c: dx_by(dy, c, mean=0)),
        "variance term dropped: dx without the path through the batch's variance.",
        dx(lambda g, dy, c: dx_by(dy, c, variance=0)),
    )
batchnorm.plant(
    "statistics taken for constants: Neither path: the gradient of the frozen layer, in "
    "training. [darknet #1723 is about this order of steps]",
    dx(lambda g, dy, c: dx_by(dy, c, mean=0, variance=0)),
    "mean term twice: The path through the mean has a second term, divided by m once more. "
    "[MXNet #1053]",
    dx(lambda g, dy, c: dx_by(dy, c, mean=1 + 1 / len(dy))),
    "m minus 1 in the variance term: The unbiased variance's 1/(m - 1); the forward pass has 1/m.",
    dx(lambda g, dy, c: dx_by(dy, c, variance=len(dy) / (len(dy) - 1))),
    "epsilon left out: 1/σ for 1/√(σ² + ε). [Chainer #4191, in batch renormalisation]",
    dx(lambda g, dy, c: g * c.variance**-0.5 / c.inv_std),
    "dx without gamma: dx not multiplied by γ, which starts at 1. [Knet #288: a test with γ = "
    "1 did not see it]",
    dx(lambda g, dy, c: g / c.gamma),
    "any factor: 7 times dx. [hidden from an upstream gradient of ones]",
    dx(lambda g, dy, c: 7 * g),
    "variance for its root: 1/(σ² + ε) for its root in the variance's term.",
    dx(lambda g, dy, c: dx_by(dy, c, variance=c.inv_std)),
    "dgamma of x not normalised: dγ = Σ dy (x - μ), where it is Σ dy x̂.",
    dgamma(lambda g, dy, c: g / c.inv_std),
    "dgamma of the output: dγ = Σ dy y, with γ in it and without x̂ alone.",
    dgamma(lambda g, dy, c: g * c.gamma),
    "dgamma and dbeta swapped: The two results in the wrong order.",
    wrong(
        dgamma=lambda g, dy, c: dy.sum(axis=0),
        dbeta=lambda g, dy, c: (dy * c.x_hat).sum(axis=0),
    ),
    "dbeta averaged: dβ is the mean over the batch, where it is the sum.",
    dbeta(lambda g, dy, c: g / len(dy)),
    "m is the batch alone: For images m = N, where it is N · H · W.",
    dx(lambda g, dy, c: dx_by(dy, c, m=len(dy)), shape=(3, 2, 2, 2)),
    "means over the batch alone: For images the means are over axis 0 only: a mean for each pixel.",
    dx(lambda g, dy, c: dx_by(dy, c, axes=(0,)), shape=(3, 2, 2, 2)),
)
of_pixels.plant(
    "every other example halved: Half of the rows of dx are half as large as they should be. "
    "[needle's check passes small gradients]",
    dx(times(np.s_[::2], 0.5)),
)


@wraps(layers.batchnorm_frozen_forward.reference)
def frozen_forward(
    x: Array, gamma: Array, beta: Array, mean: list[float], variance: list[float]
) -> tuple[Array, Any]:
    """The statistics are lists: they are constants, not differentiated."""
    return layers.batchnorm_frozen_forward(x, gamma, beta, np.array(mean), np.array(variance))


frozen = FunctionBench(
    "frozen batch norm",
    (5, 3),
    frozen_forward,
    layers.batchnorm_frozen_backward,
    lambda rng, shape: (
        *scaled(rng, shape),
        rng.standard_normal(shape[-1]).tolist(),
        (0.5 + rng.random(shape[-1])).tolist(),
    ),
)
frozen.plant(
    "batch statistics in the gradient: The terms of mean and variance, which are constants "
    "here. [a frozen layer's gradient taken from training]",
    dx(lambda g, dy, c: dx_by(dy, c)),
    "passes unscaled: dx = dy: a frozen layer is thought to do nothing.",
    dx(lambda g, dy, c: dy.copy()),
    "no gradient for the parameters: dγ and dβ are zero; only the statistics are frozen.",
    wrong(
        dgamma=lambda g, dy, c: 0 * g,
        dbeta=lambda g, dy, c: 0 * g,
    ),
)

# The layer. A wrong method is given it: (layer, x, mode) or (layer, dy, cache).
layer = LayerBench(
    "batch norm layer", (5, 3), BatchNorm, lambda cls, rng, shape: cls(shape[-1]), Mode(train=True)
)
outside_training = layer.using(layer="batch norm outside training", mode=EVAL, bugs=[])
without_scale = layer.using(
    layer="batch norm without scale",
    make=lambda cls, rng, shape: cls(shape[-1], scale=False),
    bugs=[],
)

layer.plant(
    "moving statistics in the gradient: In training dx has the moving variance, not the batch's.",
    backward(
        lambda layer, dy, c: (
            BatchNorm.backward(layer, dy, c)
            / c.inv_std
            / (layer.running_var + layer.epsilon) ** 0.5
        )
    ),
    "epsilon of another layer: The backward pass has ε = 1e-5, the forward pass 1e-3.",
    dx(lambda g, dy, c: g / c.inv_std / (c.variance + 1e-5) ** 0.5),
)


@layer.wrong_backward
def moves_its_statistics_twice(layer: BatchNorm, dy: Array, cache: Any) -> Array:
    """The backward pass moves the moving statistics once more."""
    layer.update_statistics(cache.x, cache.mean, cache.variance)
    return BatchNorm.backward(layer, dy, cache)


def moving_forward(layer: BatchNorm, x: Array, mode: Mode) -> tuple[Array, Any]:
    y, cache = BatchNorm.forward(layer, x, mode)
    layer.update_statistics(x, x.mean(axis=0), x.var(axis=0))
    return y, cache


outside_training.plant(
    "moves its statistics: The moving statistics move outside training: validation changes them.",
    forward(moving_forward),
    "gradient of training: The backward pass is that of training, whatever the mode.",
    dx(lambda g, dy, c: dx_by(dy, c)),
)
without_scale.plant(
    "beta forgotten with gamma: Without gamma the layer returns early, before beta's gradient.",
    backward(lambda layer, dy, c: layers.batchnorm_backward(dy, c)[0]),
    "beta for gamma: Without gamma beta moves up to its place, and multiplies dx.",
    backward(lambda layer, dy, c: BatchNorm.backward(layer, dy, c) * layer.beta.value),
    "still multiplies: γ is gone from the forward pass alone: dx is still multiplied by 0.5.",
    dx(lambda g, dy, c: g / 2),
)

# Of one image, or one vector, by itself.


def dx_within(
    dy: Array, c: Any, mean: float = 1, variance: float = 1, axes: tuple[int, ...] = (-1,)
) -> Array:
    """dx of group or layer norm, whose means are over ``axes`` of x̂; 1 and 1 are right."""
    g = (dy * c.gamma).reshape(c.x_hat.shape)
    along = c.x_hat * (g * c.x_hat).mean(axis=axes, keepdims=True)
    g = g - mean * g.mean(axis=axes, keepdims=True) - variance * along
    return (c.inv_std * g).reshape(dy.shape)


group_norm = pair(
    "group norm", (2, 2, 2, 4), "group_norm", lambda rng, shape: (*scaled(rng, shape), 2)
)
group_norm.plant(
    "variance term dropped: dx without the path through the group's variance.",
    dx(lambda g, dy, c: dx_within(dy, c, variance=0, axes=(1, 3))),
    "means over one channel: The means of each channel, where those of the whole group are meant.",
    dx(lambda g, dy, c: dx_within(dy, c, axes=(1,))),
)
layer_norm = pair("layer norm", (3, 4), "layer_norm", scaled)
layer_norm.plant(
    "mean term dropped: dx without the path through the vector's mean.",
    dx(lambda g, dy, c: dx_within(dy, c, mean=0)),
    "means over the batch: Those of batch norm, along axis 0.",
    dx(lambda g, dy, c: dx_within(dy, c, axes=(0,))),
)

# Local response normalisation: da has a direct part and one through the sums across channels.

# three channels to a sum, which weighs as much as k
local_response = pair(
    "local response norm", (2, 5), "local_response_norm", x_and(3, 0.5, 0.75, 1.0)
)


def direct(dy: Array, c: Any) -> Array:
    return dy * c.s**-c.beta


def across(v: Array, c: Any) -> Array:
    """The sums' part of da, from v_c, what stands under the sum over the windows."""
    return -2 * c.alpha * c.beta * c.a * v


def one_sided(dy: Array, c: Any) -> Array:
    v = dy * c.a * c.s ** (-c.beta - 1)
    total = v.copy()
    for step in range(1, c.size // 2 + 1):
        total[..., :-step] += v[..., step:]
    return total


local_response.plant(
    "sums taken for constants: da = dy / s^β: the term through the sums is dropped.",
    da(lambda g, dy, c: direct(dy, c)),
    "own sum only: a_c is taken out of the sum at c; it stands in its neighbours', too.",
    da(lambda g, dy, c: direct(dy, c) + across(dy * c.a * c.s ** (-c.beta - 1), c)),
    "windows to one side: The sum over c runs from j on: the neighbours before it are left out.",
    da(lambda g, dy, c: direct(dy, c) + across(one_sided(dy, c), c)),
    "factor 2 forgotten: The derivative of a² is taken for a.",
    da(lambda g, dy, c: (g + direct(dy, c)) / 2),
    "alpha by the size: α/size in the backward pass, as PyTorch has it; the forward pass has α.",
    da(lambda g, dy, c: direct(dy, c) + (g - direct(dy, c)) / c.size),
    "exponent not lowered: s^(-β) in the second term, where the derivative has s^(-β-1).",
    da(
        lambda g, dy, c: (
            direct(dy, c) + layers.local_response_norm_backward(dy * c.s, c) - direct(dy * c.s, c)
        )
    ),
)
