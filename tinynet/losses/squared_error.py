"""Mean squared error: for outputs that are quantities, not classes."""

from __future__ import annotations

from typing import NamedTuple

from tinynet.backend import Array, swappable
from tinynet.losses.base import NumberLoss, Reduction, shares

__all__ = ["MeanSquaredError", "mean_squared_error_backward", "mean_squared_error_forward"]


class MeanSquaredErrorCache(NamedTuple):
    """Cache for ``mean_squared_error_backward``."""

    difference: Array  # the shape of z: z − y
    share: Array  # the shape of z: w / M, of a sum w


@swappable
def mean_squared_error_forward(
    predictions: Array,
    targets: Array,
    weights: Array | None = None,
    reduction: Reduction = "mean",
) -> tuple[Array, MeanSquaredErrorCache]:
    """Mean square of the differences, over all numbers.

        L = (1/M) Σ w (z − y)²      M numbers

    predictions   any shape   z
    targets       the shape   y
    weights       the shape   w; None: all 1
    reduction     "mean"; "sum": not divided by M; "none": the terms, of the shape of z
    Returns L, a scalar or the terms; cache (z − y, w / M).
    Raises ValueError for shapes that differ or an empty batch.
    """
    if predictions.shape != targets.shape or not predictions.size:
        raise ValueError(
            f"predictions are {predictions.shape} and targets {targets.shape}, want one target "
            "for each prediction, and at least one"
        )
    difference = predictions - targets.astype(predictions.real.dtype, copy=False)
    share = shares(weights, difference.shape, difference, reduction)
    losses = share * difference * difference
    value = losses if reduction == "none" else losses.sum()
    return value, MeanSquaredErrorCache(difference, share)


@swappable
def mean_squared_error_backward(cache: MeanSquaredErrorCache) -> Array:
    """∂L/∂z of the mean squared error.

        dz = 2 w (z − y) / M

    cache: (z − y, w / M).  Returns dz (the shape of z).
    """
    return 2 * cache.share * cache.difference


class MeanSquaredError(NumberLoss):
    """L = (1/M) Σ (z − y)², over all M numbers of a batch.

    z (N, K) with y (N, K), or z (N, 1) with y (N,); y holds any finite numbers.
    mean_over, ignore_index, reduction   see ``tinynet.losses.base.Loss``; ignore_index stands for
                                         a target that is not known
    """

    passes = mean_squared_error_forward, mean_squared_error_backward

    def probabilities(self, z: Array) -> Array:
        """Return the predictions z themselves: there are no classes."""
        return z
