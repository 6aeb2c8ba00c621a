"""Cross-entropy, of probabilities and of logits.  Report §2.3.1-2.

Two forms of one loss. ``CrossEntropy`` takes probabilities, as the report writes it, behind a
softmax layer. ``SoftmaxCrossEntropy`` takes logits and contains the softmax: the same number, but
exact where a probability underflows to 0, with the report's short gradient, ŷ - y.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array, array_module, check_number, swappable
from tinynet.losses.base import Loss, Reduction, one_hot, shares

__all__ = [
    "CrossEntropy",
    "SoftmaxCrossEntropy",
    "cross_entropy_backward",
    "cross_entropy_forward",
    "softmax_cross_entropy_backward",
    "softmax_cross_entropy_forward",
]


class SoftmaxCrossEntropyCache(NamedTuple):
    """Cache for ``softmax_cross_entropy_backward``."""

    probabilities: Array  # (N, K) ŷ
    y: Array  # (N, K)
    share: Array  # (N,) w / N, of a sum w


@swappable
def cross_entropy_forward(
    probabilities: Array,
    targets: Array,
    weights: Array | None = None,
    minimum: float = 0.0,
    reduction: Reduction = "mean",
) -> tuple[Array, Any]:
    """Mean cross-entropy of probabilities.  Report §2.3.1.

        L_i = -Σ_j y_ij log ŷ_ij,   L = (1/N) Σ_i w_i L_i

    probabilities   (N, K)              ŷ, rows that sum to 1
    targets         (N,) or (N, K)      integer labels, or y: one-hot, or any distribution
    weights         (N,)                w, the weight of each example; None: all 1
    minimum         ŷ counts as at least this much; 0 (the default) is exact: a true class of
                    probability 0 costs infinity
    reduction       "mean"; "sum": Σ_i w_i L_i; "none": the terms w_i L_i, (N,)
    Returns L, a scalar or (N,); cache (ŷ, y, w / N, minimum).
    Raises ValueError for shapes that do not belong together or labels out of range.
    """
    xp = array_module(probabilities, targets, weights)
    y = one_hot(targets, probabilities)
    clipped = xp.where(probabilities.real < minimum, minimum, probabilities)
    # A class with y = 0 has no term: 0 log 0 is 0 here, not NaN.
    with np.errstate(divide="ignore"):
        losses = -xp.sum(y * xp.log(xp.where(y == 0, 1, clipped)), axis=1)
    share = shares(weights, y.shape[:1], y, reduction)
    losses = share * losses
    value = losses if reduction == "none" else losses.sum()
    return value, (probabilities, y, share, minimum)


@swappable
def cross_entropy_backward(cache: Any) -> Array:
    """∂L/∂ŷ of the cross-entropy of probabilities.  Report §2.3.2.

        dŷ_ij = -(w_i / N) y_ij / ŷ_ij,   and 0 where ŷ_ij < minimum

    cache   from ``cross_entropy_forward``
    Returns dŷ (N, K); -∞ where a true class has probability 0.
    """
    probabilities, y, share, minimum = cache
    xp = array_module(probabilities)
    moves = (y != 0) & (probabilities >= minimum)
    with np.errstate(divide="ignore"):
        return xp.where(moves, -share[:, None] * y / xp.where(moves, probabilities, 1), 0)


@swappable
def softmax_cross_entropy_forward(
    logits: Array,
    targets: Array,
    weights: Array | None = None,
    reduction: Reduction = "mean",
) -> tuple[Array, SoftmaxCrossEntropyCache]:
    """Mean cross-entropy of softmax(logits).  Report §2.3.1-2.

        log ŷ_ij = z_ij - log Σ_k exp z_ik
        L_i = -Σ_j y_ij log ŷ_ij,   L = (1/N) Σ_i w_i L_i

    logits    (N, K)           z
    targets   (N,) or (N, K)   integer labels, or y: one-hot, or any distribution
    weights   (N,)             w, the weight of each example; None: all 1
    reduction "mean"; "sum": Σ_i w_i L_i; "none": the terms w_i L_i, (N,)
    Returns L, a scalar or (N,); cache (ŷ, y, w / N).
    Finite for all finite logits: the largest of a row is subtracted first, which leaves ŷ as it is.
    A logit of -∞ takes its class out; the loss is infinite only if that class is the true one.
    Raises ValueError for shapes that do not belong together or labels out of range.
    """
    xp = array_module(logits, targets, weights)
    y = one_hot(targets, logits)
    shifted, exponentials, total = _exponentials(logits)
    # A class with y = 0 has no term, even if it is masked by a logit of -inf.
    share = shares(weights, y.shape[:1], y, reduction)
    losses = -share * xp.sum(y * xp.where(y == 0, 0, shifted - xp.log(total)), axis=1)
    value = losses if reduction == "none" else losses.sum()
    return value, SoftmaxCrossEntropyCache(exponentials / total, y, share)


@swappable
def softmax_cross_entropy_backward(cache: SoftmaxCrossEntropyCache) -> Array:
    """∂L/∂z of the cross-entropy of softmax(z).  Report §2.3.2.

        dz_ij = (w_i / N) (ŷ_ij Σ_k y_ik - y_ij),   which is (ŷ - y) / N for y that sum to 1

    cache   from ``softmax_cross_entropy_forward``
    Returns dz (N, K).
    """
    probabilities, y, share = cache
    return share[:, None] * (probabilities * y.sum(axis=1, keepdims=True) - y)


def _exponentials(logits: Array) -> tuple[Array, Array, Array]:
    """z minus its row's largest, the exponentials of that, and each row's sum of them."""
    xp = array_module(logits)
    shifted = logits - logits.real.max(axis=1, keepdims=True)
    exponentials = xp.exp(shifted)
    return shifted, exponentials, exponentials.sum(axis=1, keepdims=True)


class CrossEntropy(Loss):
    """Cross-entropy of probabilities, as the report writes it.  Report §2.3.1.

        L = (1/N) Σ_i w_i L_i,   L_i = -Σ_j y'_ij log ŷ_ij

    All settings but one are those of ``tinynet.losses.base.Loss``.
    minimum   probabilities count as at least this much. With 0, the default, nothing is clipped,
              and a true class of probability 0 gives an infinite loss, which a float32 softmax
              reaches at logits 104 apart; SoftmaxCrossEntropy has no such limit.
    Raises ValueError for settings out of range.
    """

    passes = cross_entropy_forward, cross_entropy_backward

    def __init__(
        self,
        class_weight: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
        *,
        minimum: float = 0.0,
        **settings: Any,
    ) -> None:
        super().__init__(class_weight, label_smoothing, **settings)
        if not check_number("minimum", minimum) < 1 or minimum < 0:
            raise ValueError(f"minimum is {minimum}, want a probability: at least 0, below 1")
        self.minimum = minimum

    def check_predictions(self, z: Array) -> None:
        if (z.real < 0).any():
            raise ValueError(
                f"probabilities go down to {float(z.real.min()):.3g}, want 0 to 1: end the model "
                "with Softmax(), or use SoftmaxCrossEntropy, which takes logits"
            )

    def compute(self, z: Array, y: Array, sample_weight: Any = None) -> tuple[Array, Any]:
        targets, weights = self.targets(z, y, sample_weight)
        return cross_entropy_forward(z, targets, weights, self.minimum, self.reduction)

    def probabilities(self, z: Array) -> Array:
        return z


class SoftmaxCrossEntropy(Loss):
    """Cross-entropy of softmax(logits), finite and exact for all finite logits.  Report §2.3.1-2.

        L = (1/N) Σ_i w_i L_i,   L_i = -Σ_j y'_ij log softmax(z_i)_j

    Its settings are those of ``tinynet.losses.base.Loss``.
    Raises ValueError for settings out of range.
    """

    passes = softmax_cross_entropy_forward, softmax_cross_entropy_backward

    def probabilities(self, z: Array) -> Array:
        _, exponentials, total = _exponentials(z)
        return exponentials / total
