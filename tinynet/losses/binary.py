"""Binary cross-entropy on logits: every output is a yes or a no by itself."""

from __future__ import annotations

from typing import NamedTuple

from tinynet.backend import Array, array_module, swappable
from tinynet.losses.base import NumberLoss, Reduction, as_labels, shares

__all__ = [
    "BinaryCrossEntropy",
    "binary_cross_entropy_backward",
    "binary_cross_entropy_forward",
]


class BinaryCrossEntropyCache(NamedTuple):
    """Cache for ``binary_cross_entropy_backward``."""

    probabilities: Array  # the shape of z: σ(z)
    targets: Array  # the shape of z
    share: Array  # the shape of z: w / M, of a sum w


@swappable
def binary_cross_entropy_forward(
    logits: Array,
    targets: Array,
    weights: Array | None = None,
    reduction: Reduction = "mean",
) -> tuple[Array, BinaryCrossEntropyCache]:
    """Mean cross-entropy of σ(z) and a target between 0 and 1, over all numbers of z.

        L = mean of w times −y log σ(z) − (1 − y) log(1 − σ(z))
          = mean of w times |z| |y − [z > 0]| + log(1 + e^(−|z|))      finite for all finite z

    logits    any shape   z
    targets   the shape   y, from 0 to 1
    weights   the shape   w; None: all 1
    reduction "mean"; "sum"; "none": the terms, of the shape of z
    Returns L, a scalar or the terms; cache (σ(z), y, w / M) with M the number of logits.
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
    share = shares(weights, logits.shape, y, reduction)
    value = share * losses if reduction == "none" else (share * losses).sum()
    return value, BinaryCrossEntropyCache(0.5 * (1 + xp.tanh(0.5 * logits)), y, share)


@swappable
def binary_cross_entropy_backward(cache: BinaryCrossEntropyCache) -> Array:
    """∂L/∂z of the binary cross-entropy of σ(z).

        dz = w (σ(z) − y) / M      M logits

    cache   from ``binary_cross_entropy_forward``
    Returns dz (the shape of z).
    """
    probabilities, y, share = cache
    return share * (probabilities - y)


class BinaryCrossEntropy(NumberLoss):
    """Binary cross-entropy on logits, for one yes or no, or for several that may all be true.

        L = mean of −y log σ(z) − (1 − y) log(1 − σ(z))

    z (N, 1) with labels y (N,) of 0 or 1, or z (N, K) with y (N, K) from 0 to 1.
    mean_over, ignore_index, reduction   see ``tinynet.losses.base.Loss``
    """

    passes = binary_cross_entropy_forward, binary_cross_entropy_backward

    def check_labels(self, z: Array, y: Array) -> None:
        super().check_labels(z, y)
        y = as_labels(y)
        counted = self.counted(y)
        if not ((y >= 0) & (y <= 1) | (False if counted is None else ~counted)).all():
            raise ValueError(f"labels run from {y.min()} to {y.max()}, want 0 to 1")

    def probabilities(self, z: Array) -> Array:
        """Return σ(z) (N, K); for z (N, 1) both classes', (N, 2), so that metrics apply."""
        xp = array_module(z)
        p = 0.5 * (1 + xp.tanh(0.5 * z))
        return xp.concatenate([1 - p, p], axis=1) if z.shape[1] == 1 else p
