"""RMSProp: steps scaled by the recent size of the gradient.  Report §2.3.4."""

from __future__ import annotations

from typing import Any, Unpack

from tinynet.backend import Array, Swappable, array_module
from tinynet.optimizers.base import Optimizer, Settings, above_zero, new_weight, update_rule

__all__ = ["RMSProp", "rmsprop_update"]


@update_rule
def rmsprop_update(
    w: Array, v: Array, g: Array, learning_rate: float, alpha: float, epsilon: float
) -> None:
    """One step scaled by the gradient's recent size; changes w and v.  Report §2.3.4.

        v ← α g² + (1 - α) v
        w ← w - η g / (√v + ε)

    Source: Tieleman & Hinton 2012, lecture 6.5, "rmsprop".
    """
    v *= 1 - alpha
    v += alpha * g * g
    w -= learning_rate * g / (array_module(v).sqrt(v) + epsilon)


class RMSProp(Optimizer):
    """Steps scaled, weight by weight, by the recent size of the gradient.  Report §2.3.4.

        v ← ρ v + (1 - ρ) g²,   w ← w - η g / (√v + ε)

    rho       ρ, the field's form: the weight of the old average
    epsilon   ε, added to √v; the report's is 1e-6
    alpha     α, the report's form, the weight of the new term: if given, ρ = 1 - α and ``rho``
              is not looked at
    The others, and errors, are ``Optimizer``'s.
    """

    slots = ("v",)

    def __init__(
        self,
        learning_rate: float = 0.001,
        rho: float = 0.9,
        epsilon: float = 1e-8,
        *,
        alpha: float | None = None,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(learning_rate, **settings)
        self.alpha = new_weight("rho", rho, "alpha", alpha)
        self.epsilon = above_zero("epsilon", epsilon)

    @property
    def rule(self) -> Swappable[..., None]:
        return rmsprop_update

    def numbers(self, name: str) -> tuple[Any, ...]:
        return self.rate(name), self.alpha, self.epsilon
