"""Wrong backward passes of batch normalisation."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import EVAL, Mode, Shape
from tinynet.layers.batchnorm import (
    BatchNorm,
    BatchNormCache,
    FrozenBatchNormCache,
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_frozen_backward,
    batchnorm_frozen_forward,
)
from tinynet.testing.planted.bench import FunctionBench, Gradients, LayerBench


def scaled(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """x (N, …, C) away from 0, gamma (C,), beta (C,)."""
    c = shape[-1]
    return rng.standard_normal(shape) + 1, 1 + rng.random(c), rng.standard_normal(c)


def terms(dy: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """γ / √(σ² + ε), and the means over the batch of dy and of dy x̂."""
    axes = tuple(range(dy.ndim - 1))
    return cache.gamma * cache.inv_std, dy.mean(axis=axes), (dy * cache.x_hat).mean(axis=axes)


batchnorm = FunctionBench("batch norm", batchnorm_forward, batchnorm_backward, scaled, shape=(5, 3))


@batchnorm.plant()
def mean_term_dropped(dy: Array, cache: BatchNormCache) -> Gradients:
    """dx without the path through the batch's mean."""
    scale, _, along = terms(dy, cache)
    return scale * (dy - cache.x_hat * along), *batchnorm_backward(dy, cache)[1:]


@batchnorm.plant()
def variance_term_dropped(dy: Array, cache: BatchNormCache) -> Gradients:
    """dx without the path through the batch's variance."""
    scale, mean, _ = terms(dy, cache)
    return scale * (dy - mean), *batchnorm_backward(dy, cache)[1:]


@batchnorm.plant("darknet #1723 is about this order of steps")
def statistics_taken_for_constants(dy: Array, cache: BatchNormCache) -> Gradients:
    """Neither path: the gradient of the frozen layer, in training."""
    scale, _, _ = terms(dy, cache)
    return scale * dy, *batchnorm_backward(dy, cache)[1:]


@batchnorm.plant("MXNet #1053")
def mean_term_twice(dy: Array, cache: BatchNormCache) -> Gradients:
    """The path through the mean has a second term, divided by m once more."""
    scale, mean, along = terms(dy, cache)
    dx = scale * (dy - mean - mean / len(dy) - cache.x_hat * along)
    return dx, *batchnorm_backward(dy, cache)[1:]


@batchnorm.plant()
def m_minus_1_in_the_variance_term(dy: Array, cache: BatchNormCache) -> Gradients:
    """The unbiased variance's 1/(m - 1); the forward pass has 1/m."""
    scale, mean, along = terms(dy, cache)
    along = along * len(dy) / (len(dy) - 1)
    return scale * (dy - mean - cache.x_hat * along), *batchnorm_backward(dy, cache)[1:]


@batchnorm.plant("Chainer #4191, in batch renormalisation")
def epsilon_left_out(dy: Array, cache: BatchNormCache) -> Gradients:
    """1/σ for 1/√(σ² + ε)."""
    no_epsilon = cache._replace(inv_std=cache.variance**-0.5)
    return batchnorm_backward(dy, no_epsilon)


@batchnorm.plant("Knet #288: a test with γ = 1 did not see it")
def dx_without_gamma(dy: Array, cache: BatchNormCache) -> Gradients:
    """dx not multiplied by γ, which starts at 1."""
    dx, dgamma, dbeta = batchnorm_backward(dy, cache)
    return dx / cache.gamma, dgamma, dbeta


@batchnorm.plant("hidden from an upstream gradient of ones")
def any_factor(dy: Array, cache: BatchNormCache) -> Gradients:
    """7 times dx."""
    dx, dgamma, dbeta = batchnorm_backward(dy, cache)
    return 7 * dx, dgamma, dbeta


@batchnorm.plant()
def variance_for_its_root(dy: Array, cache: BatchNormCache) -> Gradients:
    """1/(σ² + ε) for its root in the variance's term."""
    scale, mean, along = terms(dy, cache)
    along = along * cache.inv_std
    return scale * (dy - mean - cache.x_hat * along), *batchnorm_backward(dy, cache)[1:]


@batchnorm.plant()
def dgamma_of_x_not_normalised(dy: Array, cache: BatchNormCache) -> Gradients:
    """dγ = Σ dy (x - μ), where it is Σ dy x̂."""
    dx, dgamma, dbeta = batchnorm_backward(dy, cache)
    return dx, dgamma / cache.inv_std, dbeta


@batchnorm.plant()
def dgamma_of_the_output(dy: Array, cache: BatchNormCache) -> Gradients:
    """dγ = Σ dy y, with γ in it and without x̂ alone."""
    dx, dgamma, dbeta = batchnorm_backward(dy, cache)
    return dx, dgamma * cache.gamma, dbeta


@batchnorm.plant()
def dgamma_and_dbeta_swapped(dy: Array, cache: BatchNormCache) -> Gradients:
    """The two results in the wrong order."""
    dx, dgamma, dbeta = batchnorm_backward(dy, cache)
    return dx, dbeta, dgamma


@batchnorm.plant()
def dbeta_averaged(dy: Array, cache: BatchNormCache) -> Gradients:
    """dβ is the mean over the batch, where it is the sum."""
    dx, dgamma, dbeta = batchnorm_backward(dy, cache)
    return dx, dgamma, dbeta / len(dy)


@batchnorm.plant(shape=(3, 2, 2, 2))
def m_is_the_batch_alone(dy: Array, cache: BatchNormCache) -> Gradients:
    """For images m = N, where it is N · H · W."""
    x_hat, _, dgamma, dbeta = cache.x_hat, *batchnorm_backward(dy, cache)
    m = len(dy)
    dx = cache.gamma * cache.inv_std * (dy - dbeta / m - x_hat * (dgamma / m))
    return dx, dgamma, dbeta


@batchnorm.plant(shape=(3, 2, 2, 2))
def means_over_the_batch_alone(dy: Array, cache: BatchNormCache) -> Gradients:
    """For images the means are over axis 0 only: a mean for each pixel."""
    scale, x_hat = cache.gamma * cache.inv_std, cache.x_hat
    dx = scale * (dy - dy.mean(axis=0) - x_hat * (dy * x_hat).mean(axis=0))
    return dx, *batchnorm_backward(dy, cache)[1:]


def pixels(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """x from 0 to 4095, as a radiograph has it, gamma and beta: dx is small, since σ is large."""
    return 4095 * rng.random(shape), *scaled(rng, shape)[1:]


of_pixels = replace(batchnorm, layer="batch norm of 12-bit pixels", arguments=pixels, bugs=[])
of_pixels.plant()(mean_term_dropped)
of_pixels.plant()(variance_term_dropped)


@of_pixels.plant("needle's check passes small gradients")
def every_other_example_halved(dy: Array, cache: BatchNormCache) -> Gradients:
    """Half of the rows of dx are half as large as they should be."""
    dx, dgamma, dbeta = batchnorm_backward(dy, cache)
    dx[::2] /= 2
    return dx, dgamma, dbeta


def with_statistics(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """x, gamma and beta, a mean and a variance. The last two are lists: they are constants."""
    c = shape[-1]
    return *scaled(rng, shape), rng.standard_normal(c).tolist(), (0.5 + rng.random(c)).tolist()


@wraps(batchnorm_frozen_forward.reference)
def frozen_forward(
    x: Array, gamma: Array, beta: Array, mean: list[float], variance: list[float]
) -> tuple[Array, Any]:
    """``batchnorm_frozen_forward`` by constants."""
    return batchnorm_frozen_forward(x, gamma, beta, np.array(mean), np.array(variance))


frozen = FunctionBench(
    "frozen batch norm", frozen_forward, batchnorm_frozen_backward, with_statistics, (5, 3)
)


@frozen.plant("a frozen layer's gradient taken from training")
def batch_statistics_in_the_gradient(dy: Array, cache: FrozenBatchNormCache) -> Gradients:
    """The terms of mean and variance, which are constants here."""
    dx, dgamma, dbeta = batchnorm_frozen_backward(dy, cache)
    scale, m = cache.gamma * cache.inv_std, len(dy)
    return dx - scale * (dbeta + cache.x_hat * dgamma) / m, dgamma, dbeta


@frozen.plant()
def passes_unscaled(dy: Array, cache: FrozenBatchNormCache) -> Gradients:
    """dx = dy: a frozen layer is thought to do nothing."""
    return dy.copy(), *batchnorm_frozen_backward(dy, cache)[1:]


@frozen.plant()
def no_gradient_for_the_parameters(dy: Array, cache: FrozenBatchNormCache) -> Gradients:
    """dγ and dβ are zero, although only the statistics are frozen."""
    dx, dgamma, dbeta = batchnorm_frozen_backward(dy, cache)
    return dx, np.zeros_like(dgamma), np.zeros_like(dbeta)


layer = LayerBench(
    "batch norm layer", BatchNorm, lambda cls, rng, shape: cls(shape[-1]), (5, 3), Mode(train=True)
)


@layer.plant()
class MovingStatisticsInTheGradient(BatchNorm):
    """In training the gradient is scaled by the moving variance, not by the batch's."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx by the moving variance."""
        inv_std = (self.running_var + self.epsilon) ** -0.5
        return super().backward(dy, cache._replace(inv_std=inv_std))


@layer.plant()
class EpsilonOfAnotherLayer(BatchNorm):
    """The backward pass has its own ε, 1e-5, beside the forward pass's 1e-3."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx with another ε."""
        return super().backward(dy, cache._replace(inv_std=(cache.variance + 1e-5) ** -0.5))


@layer.plant()
class MovesItsStatisticsTwice(BatchNorm):
    """The backward pass moves the moving statistics once more."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx; another step of the moving mean."""
        self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * cache.mean
        return super().backward(dy, cache)


layer_outside_training = replace(layer, layer="batch norm outside training", mode=EVAL, bugs=[])


@layer_outside_training.plant()
class MovesItsStatistics(BatchNorm):
    """The moving statistics move outside training, so that validation changes the network."""

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        """y, and a step of the moving mean."""
        mean = x.reshape(-1, self.channels).mean(axis=0)
        y, cache = super().forward(x, mode)
        self.running_mean = self.momentum * self.running_mean + (1 - self.momentum) * mean
        return y, cache


@layer_outside_training.plant()
class GradientOfTraining(BatchNorm):
    """The backward pass is that of training, whatever the mode of the forward pass was."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx with the terms of the batch's statistics."""
        along, axes = dy * cache.x_hat, tuple(range(dy.ndim - 1))
        terms = dy.mean(axis=axes) + cache.x_hat * along.mean(axis=axes)
        return super().backward(dy, cache) - cache.gamma * cache.inv_std * terms


layer_without_scale = LayerBench(
    "batch norm without scale",
    BatchNorm,
    lambda cls, rng, shape: cls(shape[-1], scale=False),
    (5, 3),
    Mode(train=True),
)


@layer_without_scale.plant()
class BetaForgottenWithGamma(BatchNorm):
    """Where there is no gamma the layer returns early, and beta's gradient is left out too."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx, and nothing for beta."""
        return batchnorm_backward(dy, cache)[0]


@layer_without_scale.plant()
class BetaForGamma(BatchNorm):
    """Without gamma beta moves up to its place, and multiplies dx."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx times beta."""
        return super().backward(dy, cache._replace(gamma=self.beta.value))


@layer_without_scale.plant()
class StillMultiplies(BatchNorm):
    """γ is gone from the forward pass alone: dx is still multiplied by one, here 0.5."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx times a half."""
        return super().backward(dy, cache._replace(gamma=cache.gamma / 2))
