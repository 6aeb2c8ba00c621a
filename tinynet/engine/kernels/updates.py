"""What compiled weight updates share: the numbers that a kernel takes, and how it is registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinynet.backend import Array, Swappable, register, without_numba
from tinynet.optimizers import (
    adam_update,
    gradient_descent_update,
    momentum_update,
    rmsprop_update,
)


def gradient_descent_numbers(learning_rate: float) -> tuple[float, ...]:
    """(rate,)."""
    return (float(learning_rate),)


def momentum_numbers(learning_rate: float, momentum: float, nesterov: bool) -> tuple[float, ...]:
    """(rate, mu, nesterov), the last 0 or 1."""
    return float(learning_rate), float(momentum), float(nesterov)


def rmsprop_numbers(learning_rate: float, alpha: float, epsilon: float) -> tuple[float, ...]:
    """(rate, alpha, keep_v, epsilon)."""
    return float(learning_rate), float(alpha), 1.0 - alpha, float(epsilon)


def adam_numbers(
    learning_rate: float,
    beta: float,
    alpha: float,
    epsilon: float,
    corrections: tuple[float, float] = (1.0, 1.0),
) -> tuple[float, ...]:
    """(rate, beta, keep_m, alpha, keep_v, epsilon, v_correction)."""
    rate = float(learning_rate) / corrections[0]
    averages = float(beta), 1.0 - beta, float(alpha), 1.0 - alpha
    return rate, *averages, float(epsilon), float(corrections[1])


# rule -> how many arrays it takes, w first and the gradient last, and its kernels' numbers
RULES: dict[Swappable[..., None], tuple[int, Callable[..., tuple[float, ...]]]] = {
    gradient_descent_update: (2, gradient_descent_numbers),
    momentum_update: (3, momentum_numbers),
    rmsprop_update: (3, rmsprop_numbers),
    adam_update: (4, adam_numbers),
}


def register_update(
    rule: Swappable[..., None],
    kernels: str,
    run: Callable[[tuple[Array, ...], tuple[float, ...]], bool],
) -> None:
    """Have ``run(arrays, numbers)`` replace a rule; it returns False if it does not cover them."""
    count, numbers_of = RULES[rule]

    @register(rule, kernels)
    def update(*arguments: Any, **more: Any) -> None:
        if not run(arguments[:count], numbers_of(*arguments[count:], **more)):
            fallback = without_numba(rule) if kernels == "numba" else rule.reference
            fallback(*arguments, **more)
