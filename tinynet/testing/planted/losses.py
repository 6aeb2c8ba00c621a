"""Wrong backward passes of the losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Shape
from tinynet.layers import softmax_forward
from tinynet.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    MeanSquaredError,
    SoftmaxCrossEntropy,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from tinynet.testing.planted.bench import FunctionBench, LossBench, dz, part, times

WEIGHTS = (0.5, 1.0, 3.0)


def logits(rng: np.random.Generator, shape: Shape) -> tuple[Array, Array]:
    """z (N, K), and integer labels (N,)."""
    return rng.standard_normal(shape), rng.integers(0, shape[1], shape[0])


def probabilities(rng: np.random.Generator, shape: Shape) -> tuple[Array, Array]:
    """Rows (N, K) that sum to 1, none of them near 0, and integer labels (N,)."""
    p = rng.random(shape) + 0.2
    return p / p.sum(axis=1, keepdims=True), rng.integers(0, shape[1], shape[0])


def soft_labels(rng: np.random.Generator, shape: Shape) -> tuple[Array, Array]:
    """z (N, K), and labels (N, K) that are distributions."""
    return rng.standard_normal(shape), probabilities(rng, shape)[0]


def some_unlabelled(rng: np.random.Generator, shape: Shape) -> tuple[Array, Array]:
    """z (N, K), and one-hot labels of which the first row is all 0."""
    y = np.eye(shape[1], dtype=int)[rng.integers(0, shape[1], shape[0])]
    y[0] = 0
    return rng.standard_normal(shape), y


def likeliest(y: Array) -> Array:
    return y == y.max(axis=1, keepdims=True)


def with_hard_labels(g: Array, c: Any) -> Array:
    return c.share[:, None] * (c.probabilities - likeliest(c.y))


def weights_of_the_predicted(c: Any) -> Array:
    return np.asarray(WEIGHTS)[c.probabilities.argmax(axis=1), None]


softmax_loss = LossBench("softmax cross-entropy", (5, 3), SoftmaxCrossEntropy, logits)
large_batch = softmax_loss.using(layer="softmax cross-entropy, batch of 64", shape=(64, 3), bugs=[])
weighted = softmax_loss.using(class_weight=WEIGHTS)

softmax_loss.plant(
    "not divided by n: ŷ - y: the gradient of the sum, where the loss is the mean.",
    dz(lambda g, c: g * len(g)),
    "divided by n twice: (ŷ - y) / N²: once here and once more.",
    dz(lambda g, c: g / len(g)),
    "divided by every number: (ŷ - y) / (N K): the mean over all numbers, not over the examples.",
    dz(lambda g, c: g / g.shape[1]),
    "target minus prediction: (y - ŷ) / N.",
    dz(lambda g, c: -g),
    "softmax twice: softmax(ŷ) - y: the softmax is taken of probabilities.",
    dz(lambda g, c: c.share[:, None] * (softmax_forward(c.probabilities)[0] - c.y)),
    "only the true class: The other classes' logits receive nothing.",
    dz(lambda g, c: g * (c.y > 0)),
)
for _bench, _smoothing in ((softmax_loss, 0.1), (large_batch, 0.05)):
    _bench.plant(
        "smoothing left out: ŷ - y with hard labels, where the loss smooths them.",
        dz(with_hard_labels, label_smoothing=_smoothing),
        "weights left out: The weights of the classes are in the loss, not in its gradient.",
        dz(lambda g, c: (c.probabilities - c.y) / len(g), class_weight=WEIGHTS),
    )
softmax_loss.plant(
    "smoothing not scaled: The smoothed label has 1 / K added, where it is s / K. [ConvE #55 "
    "smooths so]",
    dz(lambda g, c: g - c.share[:, None] * (1 - 0.1) / g.shape[1], label_smoothing=0.1),
)
weighted.plant(
    "weight of the predicted class: Each example has the weight of the class predicted for it.",
    dz(lambda g, c: (c.probabilities - c.y) / len(g) * weights_of_the_predicted(c)),
    "weight of each column: Column j has the weight of class j, not row i that of its true class.",
    dz(lambda g, c: np.asarray(WEIGHTS) * (c.probabilities - c.y) / len(g)),
    "divided by the weights: Divided by the sum of the weights, where the loss divides by N.",
    dz(lambda g, c: g / c.share.sum()),
    "divided by the batch: Divided by N, where the loss divides by the sum of the weights.",
    dz(lambda g, c: g * c.y.sum() / len(g), mean_over="weights"),
)
softmax_loss.plant(
    "ignored examples counted: Divided by N, where the mean is over those that are not ignored.",
    dz(lambda g, c: g * c.y.sum() / len(g), ignore_index=0),
    "hard labels: Labels that are distributions are replaced by their likeliest class.",
    dz(with_hard_labels, arguments=soft_labels),
)
large_batch.plant(
    "last example left out: range(N - 1): the last example's logits receive nothing.",
    dz(times(-1, 0), arguments=soft_labels),
)

function = FunctionBench(
    "softmax cross-entropy, function",
    (4, 3),
    softmax_cross_entropy_forward,
    lambda dy, cache: dy * softmax_cross_entropy_backward(cache),
    some_unlabelled,
)
function.plant(
    "labels thought to sum to 1: ŷ - y for a row of labels all 0: ŷ Σ y - y is 0 there. "
    "[TensorFlow #60314]",
    part("dlogits")(lambda g, dy, c: dy * c.share[:, None] * (c.probabilities - c.y)),
    "upstream left out: The loss is thought to be the last function there is: dy is not used.",
    part("dlogits")(lambda g, dy, c: g / dy),
)

# Of probabilities: the cache is (ŷ, y, w / N, minimum).

plain_loss = LossBench("cross-entropy", (5, 3), CrossEntropy, probabilities)
plain_loss.plant(
    "gradient of the logits: ŷ - y, the gradient of the logits, for an input of probabilities.",
    dz(lambda g, c: (c[0] - c[1]) * c[2][:, None]),
    "sum over the batch: -y / ŷ, not divided by N.",
    dz(lambda g, c: g * len(g)),
    "binary form: -y / ŷ + (1 - y) / (1 - ŷ), where the loss has only the first term.",
    dz(lambda g, c: g + (1 - c[1]) / (1 - c[0]) * c[2][:, None]),
    "log left out: -y: the derivative of Σ y ŷ, without the logarithm's 1 / ŷ.",
    dz(lambda g, c: g * c[0]),
    "only the labelled class: Smoothed labels have a term for each class; the small are left out.",
    dz(lambda g, c: g * likeliest(c[1]), label_smoothing=0.2),
    "slope below the clip: ŷ below the minimum count as the minimum; the gradient goes on.",
    dz(lambda g, c: -c[1] / c[0] * c[2][:, None], minimum=0.3),
    "weights squared: The weights of the classes are in the loss and once more in its gradient.",
    dz(lambda g, c: g * c[2][:, None] * len(g), class_weight=WEIGHTS),
)

# With a term for each number.


def some_unknown(rng: np.random.Generator, shape: Shape) -> tuple[Array, Array]:
    """z (N, K), and labels of that shape from 0 to 1, -1 where they are not known."""
    y = rng.random(shape)
    return rng.standard_normal(shape), np.where(y < 0.4, -1, y)


binary = LossBench(
    "binary cross-entropy", (4, 3), BinaryCrossEntropy, some_unknown, options={"ignore_index": -1}
)
binary.plant(
    "slope of the sigmoid left in: (σ - y) σ (1 - σ): the gradient of a square behind a sigmoid.",
    dz(lambda g, c: g * c.probabilities * (1 - c.probabilities)),
    "unknown labels pull: The gradient of what the loss ignores goes on, towards 0.",
    dz(lambda g, c: (c.probabilities - c.targets) * c.share.max()),
)
squares = LossBench("mean squared error", (4, 3), MeanSquaredError, soft_labels)
squares.plant(
    "factor 2 forgotten: (z - y) / M.",
    dz(lambda g, c: g / 2),
    "divided by the batch: 2 (z - y) / N, where the mean is over all M = N K numbers.",
    dz(lambda g, c: g * g.shape[1]),
)
