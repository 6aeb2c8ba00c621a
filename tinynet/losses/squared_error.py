"""Mean squared error: for outputs that are quantities, not classes."""

from __future__ import annotations

from typing import Any

from tinynet.backend import Array, array_module, check_array, swappable
from tinynet.losses.base import Loss, as_labels

__all__ = ["MeanSquaredError", "mean_squared_error_backward", "mean_squared_error_forward"]


@swappable
def mean_squared_error_forward(predictions: Array, targets: Array) -> tuple[Array, Array]:
    """Mean square of the differences, over all numbers.

        L = (1/M) Σ (z − y)²      M numbers

    predictions   any shape   z
    targets       the shape   y
    Returns L, a scalar; cache: z − y, of the shape of z.
    Raises ValueError for shapes that differ or an empty batch.
    """
    if predictions.shape != targets.shape or not predictions.size:
        raise ValueError(
            f"predictions are {predictions.shape} and targets {targets.shape}, want one target "
            "for each prediction, and at least one"
        )
    difference = predictions - targets.astype(predictions.real.dtype, copy=False)
    return (difference * difference).mean(), difference


@swappable
def mean_squared_error_backward(cache: Array) -> Array:
    """∂L/∂z of the mean squared error.

        dz = 2 (z − y) / M

    cache: z − y.  Returns dz (the shape of z).
    """
    return cache * (2 / cache.size)


class MeanSquaredError(Loss):
    """L = (1/M) Σ (z − y)², over all M numbers of a batch.

    z (N, K) with y (N, K), or z (N, 1) with y (N,); y holds any finite numbers.
    """

    def __init__(self) -> None:
        super().__init__()

    def check_labels(self, z: Array, y: Array) -> None:
        check_array(self, "z", z)
        y = as_labels(y)
        if y.shape != z.shape and (z.ndim != 2 or z.shape != (*y.shape, 1)):
            raise ValueError(
                f"targets are {y.shape} for predictions {z.shape}: want the same shape, or (N,) "
                "for (N, 1)"
            )

    def compute(self, z: Array, y: Array) -> tuple[Array, Any]:
        return mean_squared_error_forward(z, array_module(z).asarray(y).reshape(z.shape))

    def backward(self, cache: Any) -> Array:
        """∂L/∂z, of the shape of z."""
        return mean_squared_error_backward(cache)

    def probabilities(self, z: Array) -> Array:
        """Return the predictions z themselves: there are no classes."""
        return z

    def __repr__(self) -> str:
        return "MeanSquaredError()"
