"""The numbers that compiled weight updates take, from the arguments of a rule after its arrays."""

from __future__ import annotations


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
