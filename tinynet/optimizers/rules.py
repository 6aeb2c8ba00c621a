"""How gradients change the weights.  Report §2.3.3-4.

The functions are the recurrences: each changes its first arrays in place, w and what the rule
remembers of earlier steps, and nothing else. The classes keep that memory for each parameter;
what they share, ``step`` and weight decay, is in ``tinynet.optimizers.base``.
``g`` is the gradient of the batch's mean loss, of w's shape, as is whatever is remembered.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array, Swappable, array_module, swappable
from tinynet.optimizers.base import Optimizer, check_range
from tinynet.regularizers import Selection, any_parameter


@swappable
def gradient_descent_update(w: Array, g: Array, learning_rate: float) -> None:
    """One step against the gradient; changes w.  Report §2.3.3.

        w ← w - η g

    Source: the report, which takes g over one item, a batch or the whole training set.
    """
    w -= learning_rate * g


@swappable
def momentum_update(
    w: Array, velocity: Array, g: Array, learning_rate: float, momentum: float, nesterov: bool
) -> None:
    """One step along a running sum of gradients; changes w and the velocity u.  Report §2.3.4.

        u ← μ u + g
        w ← w - η u              (with Nesterov's look-ahead: w ← w - η (g + μ u))

    The report leaves momentum open. Sources: Qian 1999, "On the momentum term in gradient descent
    learning algorithms"; Sutskever et al. 2013, "On the importance of initialization and momentum
    in deep learning", eqs. 1-4. Theirs has η inside u; outside, as here and in PyTorch, a changed η
    acts at once. While η stays as it is the two are one.
    """
    velocity *= momentum
    velocity += g
    w -= learning_rate * (g + momentum * velocity if nesterov else velocity)


@swappable
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


@swappable
def adam_update(
    w: Array,
    m: Array,
    v: Array,
    g: Array,
    learning_rate: float,
    beta: float,
    alpha: float,
    epsilon: float,
    corrections: tuple[float, float] = (1.0, 1.0),
) -> None:
    """One step of RMSProp along a smoothed gradient; changes w, m and v.  Report §2.3.4.

        m ← β g + (1 - β) m
        v ← α g² + (1 - α) v
        w ← w - η (m / c_m) / (√(v / c_v) + ε)

    corrections   (c_m, c_v): (1, 1) is the report's form; see ``bias_corrections``
    Source: Kingma & Ba 2015, "Adam", algorithm 1.
    """
    m_correction, v_correction = corrections
    m *= 1 - beta
    m += beta * g
    v *= 1 - alpha
    v += alpha * g * g
    w -= (learning_rate / m_correction) * m / (array_module(v).sqrt(v / v_correction) + epsilon)


def bias_corrections(step: int, beta: float, alpha: float) -> tuple[float, float]:
    """What m and v of Adam lack after ``step`` steps, from 1, as they started at 0.  See §2.3.4.

        c_m = 1 - (1 - β)^t,   c_v = 1 - (1 - α)^t

    Source: Kingma & Ba 2015, §3.  Not in the report.
    """
    return 1 - (1 - beta) ** step, 1 - (1 - alpha) ** step


class SGD(Optimizer):
    """(Stochastic) gradient descent, with momentum if wanted.  Report §2.3.4.

        w ← w - η g,   or with momentum μ > 0:   u ← μ u + g,   w ← w - η u

    momentum   μ, 0 to 1: how much of the last step's velocity u is kept
    nesterov   True: w ← w - η (g + μ u), Nesterov's look-ahead
    The others are ``Optimizer``'s. g is the mean over the batch that the gradients were computed
    on: a batch of the whole training set makes this gradient descent, smaller ones stochastic.
    Raises ValueError for settings out of range, and for ``nesterov`` without momentum.
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        *,
        decoupled: bool = False,
        decays: Selection = any_parameter,
    ) -> None:
        super().__init__(
            learning_rate, weight_decay=weight_decay, decoupled=decoupled, decays=decays
        )
        check_range("momentum", momentum, 0, 1)
        if nesterov and not momentum:
            raise ValueError(
                "nesterov=True has nothing to look ahead by: give momentum, such as 0.9"
            )
        self.momentum = momentum
        self.nesterov = nesterov

    @property
    def slots(self) -> tuple[str, ...]:
        return ("velocity",) if self.momentum else ()

    @property
    def rule(self) -> Swappable[..., None]:
        return momentum_update if self.momentum else gradient_descent_update

    def numbers(self, name: str) -> tuple[Any, ...]:
        rate = float(self.learning_rate)
        return (rate, self.momentum, self.nesterov) if self.momentum else (rate,)


# The report's plain gradient descent is the same update; what differs is the batch, the whole set.
GradientDescent = SGD


class RMSProp(Optimizer):
    """Steps scaled, weight by weight, by the recent size of the gradient.  Report §2.3.4.

        v ← ρ v + (1 - ρ) g²,   w ← w - η g / (√v + ε)

    rho       ρ, the field's form: the weight of the old average
    epsilon   ε, added to √v; the report's is 1e-6
    alpha     α, the report's form, the weight of the new term: if given, ρ = 1 - α and ``rho``
              is not looked at
    The others are ``Optimizer``'s.  Raises ValueError for settings out of range.
    """

    slots = ("v",)

    def __init__(
        self,
        learning_rate: float = 0.001,
        rho: float = 0.9,
        epsilon: float = 1e-8,
        *,
        alpha: float | None = None,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        decays: Selection = any_parameter,
    ) -> None:
        super().__init__(
            learning_rate, weight_decay=weight_decay, decoupled=decoupled, decays=decays
        )
        self.alpha = _new_weight("rho", rho, "alpha", alpha)
        self.epsilon = check_range("epsilon", epsilon, 0, np.inf)

    @property
    def rule(self) -> Swappable[..., None]:
        return rmsprop_update

    def numbers(self, name: str) -> tuple[Any, ...]:
        return float(self.learning_rate), self.alpha, self.epsilon


class Adam(Optimizer):
    """RMSProp along a smoothed gradient.  Report §2.3.4.

        m ← β₁ m + (1 - β₁) g,   v ← β₂ v + (1 - β₂) g²
        w ← w - η m̂ / (√v̂ + ε),   m̂ = m / (1 - β₁ᵗ),   v̂ = v / (1 - β₂ᵗ)

    beta_1, beta_2    the field's form: the weights of the old averages
    epsilon           ε, added to √v̂; the report's is 1e-6
    bias_correction   False: m̂ = m and v̂ = v, as in the report
    beta, alpha       the report's form, the weights of the new terms in m and in v: if given,
                      β₁ = 1 - β and β₂ = 1 - α, and ``beta_1``, ``beta_2`` are not looked at
    The others are ``Optimizer``'s; with ``decoupled=True`` this is AdamW. t counts the updates of
    one parameter, so that one unfrozen late starts as all the others did.
    Raises ValueError for settings out of range.
    """

    slots = ("m", "v")

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        bias_correction: bool = True,
        *,
        beta: float | None = None,
        alpha: float | None = None,
        weight_decay: float = 0.0,
        decoupled: bool = False,
        decays: Selection = any_parameter,
    ) -> None:
        super().__init__(
            learning_rate, weight_decay=weight_decay, decoupled=decoupled, decays=decays
        )
        self.beta = _new_weight("beta_1", beta_1, "beta", beta)
        self.alpha = _new_weight("beta_2", beta_2, "alpha", alpha)
        self.epsilon = check_range("epsilon", epsilon, 0, np.inf)
        self.bias_correction = bias_correction

    @property
    def rule(self) -> Swappable[..., None]:
        return adam_update

    def numbers(self, name: str) -> tuple[Any, ...]:
        corrections = (1.0, 1.0)
        if self.bias_correction:
            corrections = bias_corrections(self._updates[name], self.beta, self.alpha)
        return float(self.learning_rate), self.beta, self.alpha, self.epsilon, corrections


def _new_weight(old_name: str, old: float, new_name: str, new: float | None) -> float:
    """The weight, above 0, of the new term, given either weight of the moving average."""
    if new is None:
        if not 0 <= old < 1:
            raise ValueError(f"{old_name} is {old}, want 0 to 1, and below 1")
        return 1 - old
    if not 0 < new <= 1:
        raise ValueError(f"{new_name} is {new}, want above 0, up to 1")
    return new
