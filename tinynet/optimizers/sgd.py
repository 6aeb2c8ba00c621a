"""Gradient descent, plain and with momentum.  Report §2.3.3-4."""

from __future__ import annotations

from typing import Any, Unpack

from tinynet.backend import Array, Swappable, check_number
from tinynet.optimizers.base import Optimizer, Shared, update_rule

__all__ = ["GradientDescent", "SGD", "gradient_descent_update", "momentum_update"]


@update_rule
def gradient_descent_update(w: Array, g: Array, learning_rate: float) -> None:
    """One step against the gradient; changes w.  Report §2.3.3.

        w ← w - η g

    Source: the report, which takes g over one item, a batch or the whole training set.
    """
    w -= learning_rate * g


@update_rule
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
        **shared: Unpack[Shared],
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, decoupled=decoupled, **shared)
        check_number("momentum", momentum, 0, 1)
        if nesterov and not momentum:
            raise ValueError(
                "nesterov is True and momentum 0, want momentum to look ahead by, such as 0.9"
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
        rate = self.rate(name)
        return (rate, self.momentum, self.nesterov) if self.momentum else (rate,)


# The report's plain gradient descent is the same update; what differs is the batch, the whole set.
GradientDescent = SGD
