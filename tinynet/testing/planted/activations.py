"""Wrong backward passes of activation functions and of dropout."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import EVAL, Mode, Shape
from tinynet.layers.activations import (
    relu6_backward,
    relu6_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    softmax_backward,
    softmax_forward,
)
from tinynet.layers.combine import Sequential
from tinynet.layers.dropout import Dropout, DropoutCache, dropout_backward, dropout_forward
from tinynet.testing.planted.bench import FunctionBench, Gradients, LayerBench


def scores(rng: np.random.Generator, shape: Shape) -> tuple[Array]:
    """x, standard normal."""
    return (rng.standard_normal(shape),)


def keeping_x(forward: Callable[..., tuple[Array, Any]]) -> Callable[..., tuple[Array, Any]]:
    """The forward pass with (x, y, its own cache) for a cache."""

    @wraps(forward)
    def wrapped(x: Array, *args: Any) -> tuple[Array, Any]:
        y, cache = forward(x, *args)
        return y, (x, y, cache)

    return wrapped


relu = FunctionBench(
    "ReLU", keeping_x(relu_forward), lambda dy, c: relu_backward(dy, c[2]), scores, (3, 4)
)


def with_threshold(m: float) -> Callable[[np.random.Generator, Shape], tuple[Any, ...]]:
    """x, and m as a whole argument, which is not differentiated."""
    return lambda rng, shape: (rng.standard_normal(shape), m)


@relu.plant()
def everything_passes(dy: Array, cache: Any) -> Gradients:
    """dx = dy: no mask."""
    return dy.copy()


@relu.plant("guided backpropagation, taken for the gradient")
def mask_of_the_upstream_gradient(dy: Array, cache: Any) -> Gradients:
    """Stopped where dy < 0, in place of x < 0."""
    return dy * (dy > 0)


@relu.plant()
def only_the_negative_passes(dy: Array, cache: Any) -> Gradients:
    """The mask the wrong way round."""
    return dy * (cache[0] < 0)


@relu.plant()
def multiplied_by_the_output(dy: Array, cache: Any) -> Gradients:
    """dx = dy · y: the value where its slope belongs."""
    return dy * cache[1]


@relu.plant()
def leaks_backward_only(dy: Array, cache: Any) -> Gradients:
    """A slope of 0.01 below zero, which the forward pass does not have."""
    return np.where(cache[0] > 0, dy, 0.01 * dy)


@relu.plant(arguments=with_threshold(0.5))
def threshold_forgotten(dy: Array, cache: Any) -> Gradients:
    """x > 0, where the threshold m is 0.5."""
    return dy * (cache[0] > 0)


@relu.plant(arguments=with_threshold(-0.5))
def mask_of_the_output(dy: Array, cache: Any) -> Gradients:
    """y > 0 in place of x > m; the same only for m = 0, here it is -0.5."""
    return dy * (cache[1] > 0)


def below_within_and_above(rng: np.random.Generator, shape: Shape) -> tuple[Array]:
    """x around 3, spread over both kinks, 0 and 6."""
    return (3 + 4 * rng.standard_normal(shape),)


relu6 = FunctionBench(
    "ReLU6",
    keeping_x(relu6_forward),
    lambda dy, c: relu6_backward(dy, c[2]),
    below_within_and_above,
    (3, 4),
)


@relu6.plant()
def upper_kink_forgotten(dy: Array, cache: Any) -> Gradients:
    """x > 0, ReLU's mask: the gradient passes above 6 too."""
    return dy * (cache[0] > 0)


@relu6.plant()
def lower_kink_forgotten(dy: Array, cache: Any) -> Gradients:
    """x < 6: the gradient passes below 0 too."""
    return dy * (cache[0] < 6)


@relu6.plant()
def mask_of_the_clipped_output(dy: Array, cache: Any) -> Gradients:
    """y > 0 and y ≤ 6: y is never above 6, so the upper kink is lost."""
    return dy * ((cache[1] > 0) & (cache[1] <= 6))


@relu6.plant()
def gradient_clipped_too(dy: Array, cache: Any) -> Gradients:
    """min{max{dy, 0}, 6}: the forward pass's function on the gradient."""
    return np.clip(dy, 0, 6) * cache[2]


sigmoid = FunctionBench(
    "sigmoid", keeping_x(sigmoid_forward), lambda dy, c: sigmoid_backward(dy, c[2]), scores, (3, 4)
)


@sigmoid.plant()
def slope_at_the_output(dy: Array, cache: Any) -> Gradients:
    """σ'(y): the sigmoid is taken of its own output once more."""
    s = 1 / (1 + np.exp(-cache[1]))
    return dy * s * (1 - s)


@sigmoid.plant()
def formula_with_the_input(dy: Array, cache: Any) -> Gradients:
    """x (1 - x), where it is y (1 - y)."""
    return dy * cache[0] * (1 - cache[0])


@sigmoid.plant()
def slope_of_tanh(dy: Array, cache: Any) -> Gradients:
    """1 - y²."""
    return dy * (1 - cache[1] ** 2)


@sigmoid.plant()
def upstream_forgotten(dy: Array, cache: Any) -> Gradients:
    """y (1 - y) without dy: right for an upstream gradient of ones."""
    return cache[1] * (1 - cache[1])


softmax = FunctionBench("softmax", softmax_forward, softmax_backward, scores, (4, 4))


@softmax.plant()
def diagonal_only(dy: Array, y: Array) -> Gradients:
    """y (1 - y): the sigmoid's, without ∂y_i/∂x_j for i ≠ j."""
    return dy * y * (1 - y)


@softmax.plant()
def sign_off_the_diagonal(dy: Array, y: Array) -> Gradients:
    """+ y_i y_j, where it is - y_i y_j."""
    return y * (dy + (dy * y).sum(axis=-1, keepdims=True))


@softmax.plant()
def sum_over_the_batch(dy: Array, y: Array) -> Gradients:
    """Σ dy y taken along axis 0."""
    return y * (dy - (dy * y).sum(axis=0))


@softmax.plant()
def factor_y_forgotten(dy: Array, y: Array) -> Gradients:
    """dy - Σ dy y, not multiplied by y."""
    return dy - (dy * y).sum(axis=-1, keepdims=True)


@softmax.plant()
def sum_without_y(dy: Array, y: Array) -> Gradients:
    """y (dy - Σ dy): the sum is not weighted by y."""
    return y * (dy - dy.sum(axis=-1, keepdims=True))


@softmax.plant("hidden from an upstream gradient of ones")
def any_factor(dy: Array, y: Array) -> Gradients:
    """123 times the gradient."""
    return 123 * softmax_backward(dy, y)


@softmax.plant()
def combined_with_cross_entropy(dy: Array, y: Array) -> Gradients:
    """dx = dy: the softmax is thought to be in the loss's gradient already."""
    return dy.copy()


def masked(rng: np.random.Generator, shape: Shape) -> tuple[Any, ...]:
    """x, a mask that keeps 3 in 5, and the probability."""
    return rng.standard_normal(shape), rng.random(shape) < 0.6, 0.6


def unmasked(rng: np.random.Generator, shape: Shape) -> tuple[Any, ...]:
    """x, no mask, and the probability: outside training."""
    return rng.standard_normal(shape), None, 0.6


dropout = FunctionBench("dropout", dropout_forward, dropout_backward, masked, (3, 4))


@dropout.plant("numpy-ml #94")
def mask_forgotten(dy: Array, cache: DropoutCache) -> Gradients:
    """dx = dy / p, for the neurons that were removed too."""
    return dy * cache.scale


@dropout.plant()
def scaled_twice(dy: Array, cache: DropoutCache) -> Gradients:
    """Divided by p twice."""
    return dy * cache.mask * cache.scale**2


@dropout.plant()
def scale_forgotten(dy: Array, cache: DropoutCache) -> Gradients:
    """Not divided by p."""
    return dy * cache.mask


@dropout.plant()
def mask_inverted(dy: Array, cache: DropoutCache) -> Gradients:
    """The neurons that were removed receive the gradient."""
    assert cache.mask is not None
    return dy * ~cache.mask * cache.scale


@dropout.plant()
def scaled_by_the_other_probability(dy: Array, cache: DropoutCache) -> Gradients:
    """Divided by the probability of being removed."""
    return dy * cache.mask / (1 - 1 / cache.scale)


@dropout.plant(scale_at="test", arguments=unmasked)
def scale_outside_training_forgotten(dy: Array, cache: DropoutCache) -> Gradients:
    """dx = dy outside training, where y = p x."""
    return dy.copy()


TRAIN = Mode(train=True, rng=np.random.default_rng(1))
dropout_layer = LayerBench(
    "dropout layer", Dropout, lambda cls, rng, shape: cls(0.6), (3, 4), TRAIN
)
dropout_twice = LayerBench(
    "dropout applied twice",
    Dropout,
    lambda cls, rng, shape: Sequential(*[cls(0.6)] * 2),
    (3, 4),
    TRAIN,
)


@dropout_layer.plant()
class DrawsAnotherMask(Dropout):
    """The backward pass draws a mask of its own."""

    rng = np.random.default_rng(5)

    def backward(self, dy: Array, cache: DropoutCache) -> Array:
        """dx by a fresh mask."""
        return dy * (self.rng.random(dy.shape) < self.keep_prob) * cache.scale


@dropout_layer.plant()
@dropout_twice.plant()
class KeepsItsMask(Dropout):
    """The mask is kept on the layer, where the next forward pass replaces it."""

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, DropoutCache]:
        """y, and the mask on the layer."""
        y, self.cache = super().forward(x, mode)
        return y, self.cache

    def backward(self, dy: Array, cache: DropoutCache) -> Array:
        """dx by the latest mask."""
        return dropout_backward(dy, self.cache)


@dropout_layer.plant()
class DrawsOutsideTheMode(Dropout):
    """The mask comes from a generator of the layer's own, so that no run can be repeated."""

    rng = np.random.default_rng(6)

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, DropoutCache]:
        """y by a mask of the layer's own generator."""
        return dropout_forward(x, self.rng.random(x.shape) < self.keep_prob, self.keep_prob)
