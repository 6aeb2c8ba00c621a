"""The loss of a network with auxiliary classifiers.  Report §3.2.

It is used like the losses in ``tinynet.losses``, which has it, too.
"""

from __future__ import annotations

from typing import Any

from tinynet.backend import Array, check_instance, check_number
from tinynet.losses.base import Loss

__all__ = ["WithAuxiliary"]


class WithAuxiliary(Loss):
    """The loss of a network's own output, and a share of each auxiliary one's.  Report §3.2.

        L = L(z, y) + weight · Σ_k L(z_k, y)

    loss     L, of one output: SoftmaxCrossEntropy(), with its class weights and smoothing
    weight   from 0; 0.3 in the report and the paper (Szegedy et al. 2014, §5)
    A network gives its outputs as a tuple (z, z_1, …), in training; an array is a z alone.
    Raises TypeError if loss is not a loss, ValueError if weight is not a number from 0.
    """

    def __init__(self, loss: Loss, weight: float = 0.3) -> None:
        check_instance("WithAuxiliary: loss", loss, Loss, "a loss, such as SoftmaxCrossEntropy()")
        check_number("WithAuxiliary: weight", weight, 0)
        self.loss, self.weight = loss, float(weight)
        self.reduction = loss.reduction

    def check_labels(self, z: Any, y: Array) -> None:
        for output in z if isinstance(z, tuple) else (z,):
            self.loss.check_labels(output, y)

    def check_predictions(self, z: Any) -> None:
        for output in z if isinstance(z, tuple) else (z,):
            self.loss.check_predictions(output)

    def counted(self, y: Array) -> Array | None:
        return self.loss.counted(y)

    def weight_of(self, y: Array, sample_weight: Any = None) -> float:
        return self.loss.weight_of(y, sample_weight)

    def compute(self, z: Any, y: Array, sample_weight: Any = None) -> tuple[Array, Any]:
        """Return L, a scalar of z's dtype or its terms, and the cache for ``backward``.

        z   (N, K), or a tuple of such: the network's own output first
        y   labels, as the inner loss takes them
        """
        outputs = z if isinstance(z, tuple) else (z,)
        more = () if sample_weight is None else (sample_weight,)
        passes = [self.loss.compute(output, y, *more) for output in outputs]
        (value, _), *auxiliary = passes
        for auxiliary_value, _ in auxiliary:
            value = value + self.weight * auxiliary_value
        return value, (isinstance(z, tuple), [cache for _, cache in passes])

    def backward(self, cache: Any, dy: Any = None) -> Any:
        """(∂L/∂z, ∂L/∂z_1, …), each (N, K); for a z that was an array ∂L/∂z alone.

        ∂L/∂z_k = weight · ∂L(z_k, y)/∂z_k
        """
        is_tuple, caches = cache
        more = () if dy is None else (dy,)
        dz, *auxiliary = (self.loss.backward(inner, *more) for inner in caches)
        return (dz, *(self.weight * d for d in auxiliary)) if is_tuple else dz

    def probabilities(self, z: Any) -> Array:
        return self.loss.probabilities(z[0] if isinstance(z, tuple) else z)

    def __repr__(self) -> str:
        return f"WithAuxiliary({self.loss!r}, weight={self.weight:g})"
