"""Adagrad: steps scaled by the size of all gradients so far."""

from __future__ import annotations

from typing import Any, Unpack

from tinynet.backend import Array, Swappable, array_module
from tinynet.optimizers.base import Optimizer, Settings, above_zero, update_rule

__all__ = ["Adagrad", "adagrad_update"]


@update_rule
def adagrad_update(w: Array, v: Array, g: Array, learning_rate: float, epsilon: float) -> None:
    """One step scaled by the root of all squared gradients; changes w and v.

        v ← v + g²
        w ← w − η g / (√v + ε)

    Source: Duchi, Hazan & Singer 2011, "Adaptive subgradient methods", the diagonal form.
    """
    v += g * g
    w -= learning_rate * g / (array_module(v).sqrt(v) + epsilon)


class Adagrad(Optimizer):
    """Steps that shrink, weight by weight, with the squares of all gradients so far.

        v ← v + g²,   w ← w − η g / (√v + ε)

    epsilon   ε, added to √v
    The others, and errors, are ``Optimizer``'s.
    Source: Duchi, Hazan & Singer 2011.
    """

    slots = ("v",)

    def __init__(
        self,
        learning_rate: float = 0.01,
        epsilon: float = 1e-10,
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(learning_rate, **settings)
        self.epsilon = above_zero("epsilon", epsilon)

    @property
    def rule(self) -> Swappable[..., None]:
        return adagrad_update

    def numbers(self, name: str) -> tuple[Any, ...]:
        return self.rate(name), self.epsilon
