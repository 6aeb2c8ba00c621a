"""Wrong backward passes of the losses."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Shape
from tinynet.layers.activations import softmax_forward
from tinynet.losses import (
    CrossEntropy,
    SoftmaxCrossEntropy,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)
from tinynet.testing.planted.bench import FunctionBench, Gradients, LossBench


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


softmax_loss = LossBench("softmax cross-entropy", SoftmaxCrossEntropy, logits, (5, 3))
WEIGHTS = (0.5, 1.0, 3.0)


@softmax_loss.plant()
class NotDividedByN(SoftmaxCrossEntropy):
    """ŷ - y: the gradient of the sum, where the loss is the mean."""

    def backward(self, cache: Any) -> Array:
        """dz, N times too large."""
        return super().backward(cache) * len(cache[1])


@softmax_loss.plant()
class DividedByNTwice(SoftmaxCrossEntropy):
    """(ŷ - y) / N²: once here and once more."""

    def backward(self, cache: Any) -> Array:
        """dz, N times too small."""
        return super().backward(cache) / len(cache[1])


@softmax_loss.plant()
class DividedByEveryNumber(SoftmaxCrossEntropy):
    """(ŷ - y) / (N K): the mean over all numbers, not over the examples."""

    def backward(self, cache: Any) -> Array:
        """dz, K times too small."""
        probabilities, y, *_ = cache
        return (probabilities - y) / y.size


@softmax_loss.plant()
class TargetMinusPrediction(SoftmaxCrossEntropy):
    """(y - ŷ) / N."""

    def backward(self, cache: Any) -> Array:
        """dz with the other sign."""
        return -super().backward(cache)


@softmax_loss.plant()
class SoftmaxTwice(SoftmaxCrossEntropy):
    """softmax(ŷ) - y: the softmax is taken of probabilities."""

    def backward(self, cache: Any) -> Array:
        """dz of probabilities for logits."""
        probabilities, y, share, *_ = cache
        again, _ = softmax_forward(probabilities)
        return share[:, None] * (again - y)


@softmax_loss.plant()
class OnlyTheTrueClass(SoftmaxCrossEntropy):
    """The other classes' logits receive nothing."""

    def backward(self, cache: Any) -> Array:
        """dz of the true class."""
        return super().backward(cache) * (cache[1] > 0)


@softmax_loss.plant(label_smoothing=0.1)
class SmoothingLeftOut(SoftmaxCrossEntropy):
    """ŷ - y with hard labels, where the loss smooths them."""

    def backward(self, cache: Any) -> Array:
        """dz for hard labels."""
        probabilities, y, share, *_ = cache
        hard = y == y.max(axis=1, keepdims=True)
        return share[:, None] * (probabilities - hard)


@softmax_loss.plant("ConvE #55 smooths so", label_smoothing=0.1)
class SmoothingNotScaled(SoftmaxCrossEntropy):
    """The smoothed label has 1 / K added, where it is s / K."""

    def backward(self, cache: Any) -> Array:
        """dz for labels that sum to more than 1."""
        probabilities, y, share, *_ = cache
        classes, s = y.shape[1], self.label_smoothing
        return share[:, None] * (probabilities - (y + (1 - s) / classes))


@softmax_loss.plant(class_weight=WEIGHTS)
class WeightsLeftOut(SoftmaxCrossEntropy):
    """The weights of the classes are in the loss, not in its gradient."""

    def backward(self, cache: Any) -> Array:
        """dz with weights of 1."""
        probabilities, y, *_ = cache
        return (probabilities - y) / len(y)


@softmax_loss.plant(class_weight=WEIGHTS)
class WeightOfThePredictedClass(SoftmaxCrossEntropy):
    """Each example has the weight of the class that the network takes it for."""

    def backward(self, cache: Any) -> Array:
        """dz with the wrong example weights."""
        probabilities, y, *_ = cache
        weights = np.asarray(WEIGHTS)[probabilities.argmax(axis=1)]
        return weights[:, None] * (probabilities - y) / len(y)


@softmax_loss.plant(class_weight=WEIGHTS)
class WeightOfEachColumn(SoftmaxCrossEntropy):
    """Column j is multiplied by the weight of class j, not row i by its true class's."""

    def backward(self, cache: Any) -> Array:
        """dz weighted along the wrong axis."""
        probabilities, y, *_ = cache
        return np.asarray(WEIGHTS) * (probabilities - y) / len(y)


@softmax_loss.plant(class_weight=WEIGHTS)
class DividedByTheWeights(SoftmaxCrossEntropy):
    """Divided by the sum of the weights, where the loss divides by N."""

    def backward(self, cache: Any) -> Array:
        """dz of the weighted mean."""
        return super().backward(cache) / cache[2].sum()


@softmax_loss.plant(class_weight=WEIGHTS, mean_over="weights")
class DividedByTheBatch(SoftmaxCrossEntropy):
    """Divided by N, where the loss divides by the sum of the weights."""

    def backward(self, cache: Any) -> Array:
        """dz of the plain mean."""
        _, y, *_ = cache
        return super().backward(cache) * y.sum() / len(y)


@softmax_loss.plant(arguments=soft_labels)
class HardLabels(SoftmaxCrossEntropy):
    """Labels that are distributions are replaced by their likeliest class."""

    def backward(self, cache: Any) -> Array:
        """dz for hard labels."""
        probabilities, y, share, *_ = cache
        return share[:, None] * (probabilities - (y == y.max(axis=1, keepdims=True)))


def some_unlabelled(rng: np.random.Generator, shape: Shape) -> tuple[Array, Array]:
    """z (N, K), and one-hot labels of which the first row is all 0."""
    y = np.eye(shape[1], dtype=int)[rng.integers(0, shape[1], shape[0])]
    y[0] = 0
    return rng.standard_normal(shape), y


function = FunctionBench(
    "softmax cross-entropy, function",
    softmax_cross_entropy_forward,
    lambda dy, cache: dy * softmax_cross_entropy_backward(cache),
    some_unlabelled,
    shape=(4, 3),
)


@function.plant("TensorFlow #60314")
def labels_thought_to_sum_to_1(dy: Array, cache: Any) -> Gradients:
    """ŷ - y for a row of labels that is all 0: it is ŷ Σ y - y, which is 0 there."""
    probabilities, y, share, *_ = cache
    return dy * share[:, None] * (probabilities - y)


@function.plant()
def upstream_left_out(dy: Array, cache: Any) -> Gradients:
    """The loss is thought to be the last function there is: dy is not used."""
    return softmax_cross_entropy_backward(cache)


large_batch = LossBench("softmax cross-entropy, batch of 64", SoftmaxCrossEntropy, logits, (64, 3))
large_batch.plant(label_smoothing=0.05)(SmoothingLeftOut)
large_batch.plant(class_weight=WEIGHTS)(WeightsLeftOut)


@large_batch.plant(arguments=soft_labels)
class LastExampleLeftOut(SoftmaxCrossEntropy):
    """range(N - 1): the last example's logits receive nothing."""

    def backward(self, cache: Any) -> Array:
        """dz without its last row."""
        dz = super().backward(cache)
        dz[-1] = 0
        return dz


plain_loss = LossBench("cross-entropy", CrossEntropy, probabilities, (5, 3))


@plain_loss.plant()
class GradientOfTheLogits(CrossEntropy):
    """ŷ - y, the gradient of the logits, for an input of probabilities."""

    def backward(self, cache: Any) -> Array:
        """dŷ as if it were dz."""
        probabilities, y, share, _ = cache
        return share[:, None] * (probabilities - y)


@plain_loss.plant()
class SumOverTheBatch(CrossEntropy):
    """-y / ŷ, not divided by N."""

    def backward(self, cache: Any) -> Array:
        """dŷ, N times too large."""
        return super().backward(cache) * len(cache[1])


@plain_loss.plant()
class BinaryForm(CrossEntropy):
    """-y / ŷ + (1 - y) / (1 - ŷ), where the loss has only the first term."""

    def backward(self, cache: Any) -> Array:
        """dŷ of the binary cross-entropy."""
        probabilities, y, share, _ = cache
        return super().backward(cache) + share[:, None] * (1 - y) / (1 - probabilities)


@plain_loss.plant()
class LogLeftOut(CrossEntropy):
    """-y: the derivative of Σ y ŷ, without the logarithm's 1 / ŷ."""

    def backward(self, cache: Any) -> Array:
        """dŷ without 1 / ŷ."""
        _, y, share, _ = cache
        return -share[:, None] * y


@plain_loss.plant(label_smoothing=0.2)
class OnlyTheLabelledClass(CrossEntropy):
    """Smoothed labels have a term for each class; all but the largest are left out."""

    def backward(self, cache: Any) -> Array:
        """dŷ of one class."""
        y = cache[1]
        return super().backward(cache) * (y == y.max(axis=1, keepdims=True))


@plain_loss.plant(minimum=0.3)
class SlopeBelowTheClip(CrossEntropy):
    """Probabilities below the minimum count as the minimum; the gradient goes on all the same."""

    def backward(self, cache: Any) -> Array:
        """dŷ as if nothing were clipped."""
        probabilities, y, share, _ = cache
        return -share[:, None] * y / probabilities


@plain_loss.plant(class_weight=WEIGHTS)
class WeightsSquared(CrossEntropy):
    """The weights of the classes are applied in the loss and once more in the gradient."""

    def backward(self, cache: Any) -> Array:
        """dŷ weighted twice."""
        _, _, share, _ = cache
        return super().backward(cache) * share[:, None] * len(share)
