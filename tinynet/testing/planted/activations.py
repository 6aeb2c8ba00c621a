"""Wrong backward passes of activation functions, dropout, channel moves and scaling."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet import layers
from tinynet.backend import Array
from tinynet.layer import Shape
from tinynet.testing.planted.bench import dx, pair, times, x_and

relu = pair("ReLU", (3, 4), "relu", x_and(), keep_x=True)
relu.plant(
    "everything passes: dx = dy: no mask.",
    dx(lambda g, dy, c: dy.copy()),
    "mask of the upstream gradient: Stopped where dy < 0, in place of x < 0. [guided "
    "backpropagation, taken for the gradient]",
    dx(lambda g, dy, c: dy * (dy > 0)),
    "only the negative passes: The mask the wrong way round.",
    dx(lambda g, dy, c: dy * (c.x < 0)),
    "multiplied by the output: dx = dy · y: the value where its slope belongs.",
    dx(lambda g, dy, c: dy * c.y),
    "leaks backward only: A slope of 0.01 below zero, which the forward pass does not have.",
    dx(lambda g, dy, c: np.where(c.x > 0, dy, 0.01 * dy)),
    "threshold forgotten: x > 0, where the threshold m is 0.5.",
    dx(lambda g, dy, c: dy * (c.x > 0), arguments=x_and(0.5)),
    "mask of the output: y > 0 in place of x > m; the same only for m = 0, here it is -0.5.",
    dx(lambda g, dy, c: dy * (c.y > 0), arguments=x_and(-0.5)),
)


def around_3(rng: np.random.Generator, shape: Shape) -> tuple[Array]:
    """x over both kinks, 0 and 6."""
    return (3 + 4 * rng.standard_normal(shape),)


relu6 = pair("ReLU6", (3, 4), "relu6", around_3, keep_x=True)
relu6.plant(
    "upper kink forgotten: x > 0: dy passes above 6, too.",
    dx(lambda g, dy, c: dy * (c.x > 0)),
    "lower kink forgotten: x < 6: the gradient passes below 0 too.",
    dx(lambda g, dy, c: dy * (c.x < 6)),
    "mask of the clipped output: 0 < y ≤ 6: y is never above 6, so the upper kink is lost.",
    dx(lambda g, dy, c: dy * ((c.y > 0) & (c.y <= 6))),
    "gradient clipped too: min{max{dy, 0}, 6}: the forward pass's function on the gradient.",
    dx(lambda g, dy, c: np.clip(dy, 0, 6) * c.cache),
)

sigmoid = pair("sigmoid", (3, 4), "sigmoid", x_and(), keep_x=True)
sigmoid.plant(
    "slope at the output: σ'(y): the sigmoid is taken of its output once more.",
    dx(lambda g, dy, c: dy * np.exp(-c.y) / (1 + np.exp(-c.y)) ** 2),
    "formula with the input: x (1 - x), where it is y (1 - y).",
    dx(lambda g, dy, c: dy * c.x * (1 - c.x)),
    "slope of tanh: 1 - y².",
    dx(lambda g, dy, c: dy * (1 - c.y**2)),
    "upstream forgotten: y (1 - y) without dy: right for an upstream gradient of ones.",
    dx(lambda g, dy, c: c.y * (1 - c.y)),
)

leaky_relu = pair("leaky ReLU", (3, 4), "leaky_relu", x_and(0.1), keep_x=True)
leaky_relu.plant(
    "stops below 0: The gradient of ReLU: 0 below 0, where the slope is s.",
    dx(lambda g, dy, c: dy * (c.x > 0)),
    "slope by the gradient: s where dy < 0, in place of x < 0.",
    dx(lambda g, dy, c: np.where(dy > 0, dy, 0.1 * dy)),
)

tanh = pair("tanh", (3, 4), "tanh", x_and(), keep_x=True)
tanh.plant(
    "slope of the sigmoid: y (1 - y), where it is 1 - y².",
    dx(lambda g, dy, c: dy * c.y * (1 - c.y)),
    "slope at the output: 1 - tanh²(y): tanh is taken of its output once more.",
    dx(lambda g, dy, c: dy * (1 - np.tanh(c.y) ** 2)),
)

gelu = pair("GELU", (3, 4), "gelu", x_and(), keep_x=True)
gelu.plant(
    "density forgotten: Φ(x) alone: the second term of the product rule is dropped.",
    dx(lambda g, dy, c: dy * c.cache[1]),
    "density without its factor: e^(-x²/2), not divided by √(2π).",
    dx(lambda g, dy, c: dy * (c.cache[1] + c.x * np.exp(-(c.x**2) / 2))),
)

softmax = pair("softmax", (4, 4), "softmax", x_and())
softmax.plant(
    "diagonal only: y (1 - y): the sigmoid's, without ∂y_i/∂x_j for i ≠ j.",
    dx(lambda g, dy, c: dy * c.y * (1 - c.y)),
    "sign off the diagonal: + y_i y_j, where it is - y_i y_j.",
    dx(lambda g, dy, c: c.y * (dy + (dy * c.y).sum(axis=-1, keepdims=True))),
    "sum over the batch: Σ dy y taken along axis 0.",
    dx(lambda g, dy, c: c.y * (dy - (dy * c.y).sum(axis=0))),
    "sum over the last axis: Σ dy y taken along the rows, where the vectors are the columns.",
    dx(
        lambda g, dy, c: c.y * (dy - (dy * c.y).sum(axis=-1, keepdims=True)),
        arguments=x_and(0),
    ),
    "factor y forgotten: dy - Σ dy y, not multiplied by y.",
    dx(lambda g, dy, c: g / c.y),
    "sum without y: y (dy - Σ dy): the sum is not weighted by y.",
    dx(lambda g, dy, c: c.y * (dy - dy.sum(axis=-1, keepdims=True))),
    "any factor: 123 times the gradient. [hidden from an upstream gradient of ones]",
    dx(lambda g, dy, c: 123 * g),
    "combined with cross entropy: dx = dy: the softmax is thought to be in the loss's gradient.",
    dx(lambda g, dy, c: dy.copy()),
)


def masked(rng: np.random.Generator, shape: Shape) -> tuple[Any, ...]:
    """x, a mask that keeps 3 in 5, and the probability."""
    return rng.standard_normal(shape), rng.random(shape) < 0.6, 0.6


dropout = pair("dropout", (3, 4), "dropout", masked)
dropout.plant(
    "mask forgotten: dx = dy / p, for the neurons that were removed too. [numpy-ml #94]",
    dx(lambda g, dy, c: dy * c.scale),
    "scaled twice: Divided by p twice.",
    dx(lambda g, dy, c: g * c.scale),
    "scale forgotten: Not divided by p.",
    dx(lambda g, dy, c: dy * c.mask),
    "mask inverted: The removed neurons receive dy.",
    dx(lambda g, dy, c: dy * ~c.mask * c.scale),
    "scaled by the other probability: Divided by the probability of being removed.",
    dx(lambda g, dy, c: dy * c.mask / (1 - 1 / c.scale)),
    "scale outside training forgotten: dx = dy outside training, where y = p x.",
    dx(lambda g, dy, c: dy.copy(), scale_at="test", arguments=x_and(None, 0.6)),
)

scale = pair("scale", (3, 4), "scale", x_and(0.2))
scale.plant(
    "factor forgotten: dx = dy.",
    dx(lambda g, dy, c: dy.copy()),
    "divided by the factor: It is undone backwards.",
    dx(lambda g, dy, c: dy / c.factor),
    "scaled twice: Once here, once where the branches are added.",
    dx(lambda g, dy, c: g * c.factor),
)

shuffle = pair("channel shuffle", (1, 2, 2, 6), "channel_shuffle", x_and(2))
shuffle.plant(
    "not inverted: Shuffled with g groups once more: its own inverse only for C = g².",
    dx(lambda g, dy, c: layers.channel_shuffle_forward(dy, c.groups)[0]),
    "left where it is: dx = dy: the channels are not moved back.",
    dx(lambda g, dy, c: dy.copy()),
    "order reversed: The channels in the reverse order for the inverse of their permutation.",
    dx(lambda g, dy, c: dy[..., ::-1].copy()),
)


def all_but_the_ends(rng: np.random.Generator, shape: Shape) -> tuple[Any, ...]:
    """x, from its second channel to the one before the last."""
    return rng.standard_normal(shape), 1, shape[-1] - 1


slicing = pair("channel slice", (1, 2, 2, 4), "channel_slice", all_but_the_ends)
slicing.plant(
    "placed at 0: The gradient goes to the first channels, wherever the slice began.",
    dx(lambda g, dy, c: np.roll(g, -c.start, axis=-1)),
    "last channel lost: stop is taken for the last channel, less one.",
    dx(times((..., -2), 0)),
    "others not 0: The channels left out receive the nearest one's gradient, as if padded by it.",
    dx(lambda g, dy, c: dy[..., np.clip(np.arange(c.channels) - 1, 0, dy.shape[-1] - 1)]),
)
