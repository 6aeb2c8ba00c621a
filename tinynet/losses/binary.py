"""Binary cross-entropy on logits: every output is a yes or a no by itself."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinynet.backend import Array, array_module, check_array, swappable
from tinynet.losses.base import Loss, as_labels

__all__ = [
    "BinaryCrossEntropy",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_forward",
]


class BinaryCrossEntropyCache(NamedTuple):
    """Cache for ``binary_cross_entropy_backward``."""

    probabilities: Array  # the shape of z: σ(z)
    targets: Array  # the shape of z


@swappable
def binary_cross_entropy_forward(
    logits: Array, targets: Array
) -> tuple[Array, BinaryCrossEntropyCache]:
    """Mean cross-entropy of σ(z) and a target between 0 and 1, over all numbers of z.

        L = mean of −y log σ(z) − (1 − y) log(1 − σ(z))
          = mean of |z| |y − [z > 0]| + log(1 + e^(−|z|))      finite for all finite z

    logits    any shape   z
    targets   the shape   y, from 0 to 1
    Returns L, a scalar; cache (σ(z), y).
    Raises ValueError for shapes that differ or an empty batch.
    The second form is exact where σ(z) rounds to 0 or 1, and 0 for a right answer at z = ±∞.
    """
    if logits.shape != targets.shape or not logits.size:
        raise ValueError(
            f"logits are {logits.shape} and targets {targets.shape}, want one target for each "
            "logit, and at least one"
        )
    xp = array_module(logits, targets)
    y = targets.astype(logits.real.dtype, copy=False)
    positive = logits.real > 0
    size = xp.where(positive, logits, -logits)  # |z|
    wrong = xp.where(positive, 1 - y, y)  # share of the target on the other side of 0
    losses = xp.where(wrong == 0, 0, size) * wrong + xp.log1p(xp.exp(-size))
    return losses.mean(), BinaryCrossEntropyCache(0.5 * (1 + xp.tanh(0.5 * logits)), y)


@swappable
def binary_cross_entropy_backward(cache: BinaryCrossEntropyCache) -> Array:
    """∂L/∂z of the binary cross-entropy of σ(z).

        dz = (σ(z) − y) / (number of logits)

    cache   from ``binary_cross_entropy_forward``
    Returns dz (the shape of z).
    """
    probabilities, y = cache
    return (probabilities - y) / probabilities.size


class BinaryCrossEntropy(Loss):
    """Binary cross-entropy on logits, for one yes or no, or for several that may all be true.

        L = mean of −y log σ(z) − (1 − y) log(1 − σ(z))

    z (N, 1) with labels y (N,) of 0 or 1, or z (N, K) with y (N, K) from 0 to 1.
    """

    def __init__(self) -> None:
        super().__init__()

    def check_labels(self, z: Array, y: Array) -> None:
        check_array(self, "z", z)
        y = as_labels(y)
        if y.shape != z.shape and (z.ndim != 2 or z.shape != (*y.shape, 1)):
            raise ValueError(
                f"labels are {y.shape} for logits {z.shape}: want (N,) for (N, 1), or (N, K) both"
            )
        if not ((y >= 0) & (y <= 1)).all():
            raise ValueError(f"labels run from {y.min()} to {y.max()}, want 0 to 1")

    def compute(self, z: Array, y: Array) -> tuple[Array, Any]:
        return binary_cross_entropy_forward(z, array_module(z).asarray(y).reshape(z.shape))

    def backward(self, cache: Any) -> Array:
        """∂L/∂z, of the shape of z."""
        return binary_cross_entropy_backward(cache)

    def probabilities(self, z: Array) -> Array:
        """Return σ(z) (N, K); for z (N, 1) both classes\', (N, 2), so that metrics apply."""
        xp = array_module(z)
        p = 0.5 * (1 + xp.tanh(0.5 * z))
        return xp.concatenate([1 - p, p], axis=1) if z.shape[1] == 1 else p

    def __repr__(self) -> str:
        return "BinaryCrossEntropy()"
