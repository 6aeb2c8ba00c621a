"""Adam: RMSProp along a smoothed gradient.  Report §2.3.4."""

from __future__ import annotations

from typing import Any, Unpack

from tinynet.backend import Array, Swappable, array_module
from tinynet.optimizers.base import Optimizer, Settings, Shared, above_zero, new_weight, update_rule

__all__ = ["Adam", "AdamW", "adam_update", "bias_corrections"]


@update_rule
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
    """Return the factors by which m and v fall short after ``step`` steps from 0.  See §2.3.4.

        c_m = 1 - (1 - β)^t,   c_v = 1 - (1 - α)^t

    Source: Kingma & Ba 2015, §3.  Not in the report.
    """
    return 1 - (1 - beta) ** step, 1 - (1 - alpha) ** step


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
        **settings: Unpack[Settings],
    ) -> None:
        super().__init__(learning_rate, **settings)
        self.beta = new_weight("beta_1", beta_1, "beta", beta)
        self.alpha = new_weight("beta_2", beta_2, "alpha", alpha)
        self.epsilon = above_zero("epsilon", epsilon)
        self.bias_correction = bias_correction

    @property
    def rule(self) -> Swappable[..., None]:
        return adam_update

    def numbers(self, name: str) -> tuple[Any, ...]:
        corrections = (1.0, 1.0)
        if self.bias_correction:
            corrections = bias_corrections(self._updates[name], self.beta, self.alpha)
        return self.rate(name), self.beta, self.alpha, self.epsilon, corrections


class AdamW(Adam):
    """Adam whose weights also shrink by a share η λ at each step, past the rule's scaling.

        w ← (1 − η λ) w,   then as ``Adam``

    weight_decay   λ
    decays         which parameters shrink, by dotted name; ``is_weight`` leaves out biases,
                   gammas and betas
    Source: Loshchilov & Hutter 2019, "Decoupled weight decay regularization".
    """

    def __init__(
        self,
        learning_rate: float = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        weight_decay: float = 0.01,
        **shared: Unpack[Shared],
    ) -> None:
        decay: dict[str, Any] = {"weight_decay": weight_decay, "decoupled": True}
        super().__init__(learning_rate, beta_1, beta_2, epsilon, **decay, **shared)
