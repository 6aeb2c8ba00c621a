"""Penalties on large weights, added to the loss.  Report §2.4.2.

The report leaves the section open. Sources: Krogh & Hertz 1992, "A simple weight decay can
improve generalization" (L2); Tibshirani 1996, "Regression shrinkage and selection via the lasso"
(L1, which drives weights to exactly 0).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tinynet.backend import Array, Checked, array_module, check_number, checked
from tinynet.layer import Parameter

Selection = Callable[[str], bool]


def is_weight(name: str) -> bool:
    """Return True for the dotted name of a weight: not a bias, gamma or beta."""
    return name.rsplit(".", 1)[-1] == "weight"


def any_parameter(name: str) -> bool:
    """True of every name: weights, biases, gammas and betas."""
    return True


@checked
def l1_penalty(w: Array, strength: float) -> Any:
    """R = λ Σ |w|, a scalar, for λ = ``strength`` and w of any shape.  Report §2.4.2."""
    return strength * _total(abs(w))


@checked
def l1_gradient(w: Array, strength: float) -> Array:
    """∂R/∂w = λ sign(w), of w's shape; at w = 0, where R has a kink, 0.  Report §2.4.2."""
    return strength * array_module(w).sign(w)


@checked
def l2_penalty(w: Array, strength: float) -> Any:
    """R = (λ/2) Σ w², a scalar, for λ = ``strength`` and w of any shape.  Report §2.4.2."""
    return strength / 2 * _total(w * w)


@checked
def l2_gradient(w: Array, strength: float) -> Array:
    """∂R/∂w = λ w, of w's shape.  Report §2.4.2."""
    return strength * w


def _total(x: Array) -> Any:
    """Σ x; of float16, whose sums overflow, in float32."""
    return x.sum(dtype=np.promote_types(x.dtype, np.float32))


class Regularizer(Checked, ABC):
    """A penalty over a model's parameters: a number for the loss, and its gradient.

    strength   λ >= 0
    applies    which parameters are penalised, by dotted name; weights alone by default
    Raises ValueError for a negative strength.
    """

    def __init__(self, strength: float, *, applies: Selection = is_weight) -> None:
        check_number("strength", strength, 0)
        self.strength = strength
        self.applies = applies

    def penalty(self, parameters: Mapping[str, Parameter]) -> Any:
        """R summed over the penalised parameters, to be added to the loss that is shown."""
        return sum((self.penalty_of(p.value) for p in self._chosen(parameters)), start=0.0)

    def add_gradients(self, parameters: Mapping[str, Parameter]) -> None:
        """Add ∂R/∂w to the gradient of each penalised parameter.

        Call it once a step, between the backward pass and the optimiser's step.
        """
        for parameter in self._chosen(parameters):
            parameter.grad += self.gradient_of(parameter.value)

    @abstractmethod
    def penalty_of(self, w: Array) -> Any:
        """Return R of one array, a scalar."""

    @abstractmethod
    def gradient_of(self, w: Array) -> Array:
        """∂R/∂w of one array."""

    def _chosen(self, parameters: Mapping[str, Parameter]) -> Iterator[Parameter]:
        return (p for name, p in parameters.items() if self.applies(name))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(strength={self.strength})"


class L1(Regularizer):
    """R = λ Σ |w|.  Report §2.4.2."""

    def penalty_of(self, w: Array) -> Any:
        return l1_penalty(w, self.strength)

    def gradient_of(self, w: Array) -> Array:
        return l1_gradient(w, self.strength)


class L2(Regularizer):
    """R = (λ/2) Σ w², with the half, so that the gradient is λ w.  Report §2.4.2.

    In plain SGD the same as ``SGD(weight_decay=λ)``; Keras' ``l2(s)`` has no half: λ = 2 s.
    """

    def penalty_of(self, w: Array) -> Any:
        return l2_penalty(w, self.strength)

    def gradient_of(self, w: Array) -> Array:
        return l2_gradient(w, self.strength)
