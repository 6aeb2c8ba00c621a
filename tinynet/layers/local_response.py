"""Local response normalisation: neighbouring channels compete.  Report §2.4.3, §3 (AlexNet)."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinynet.backend import Array, backward_of, output_like, swappable
from tinynet.layer import Stateless

__all__ = ["LocalResponseNorm", "local_response_norm_backward", "local_response_norm_forward"]


class LocalResponseNormCache(NamedTuple):
    """Cache for ``local_response_norm_backward``."""

    a: Array  # (..., C) the input
    s: Array  # (..., C) k + α Σ a²
    size: int
    alpha: float
    beta: float


@swappable
def local_response_norm_forward(
    a: Array, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
) -> tuple[Array, LocalResponseNormCache]:
    """Divide each number by the strength of its neighbours among the channels.  Report §2.4.3.

        s_c = k + α Σ_{|j − c| ≤ ⌊size/2⌋} a_j²      b_c = a_c / s_c^β

    a            (..., C)   the last axis is the channels; beyond its ends there is nothing to sum
    size         odd, how many neighbouring channels are summed
    alpha, beta  α, β
    k            > 0
    Returns b (the shape of a) and the cache (a, s, size, α, β).
    Raises ValueError unless size is odd and k > 0.
    Source: Krizhevsky, Sutskever & Hinton 2012, §3.3. The sum is not divided by the size; PyTorch
    divides it, so its alpha is size times this one.
    """
    _check_settings(size, k)
    s = k + alpha * _sum_over_neighbours(a * a, size)
    return a * s**-beta, LocalResponseNormCache(a, s, size, alpha, beta)


@backward_of(lambda cache: output_like(cache.a))
def local_response_norm_backward(dy: Array, cache: LocalResponseNormCache) -> Array:
    """Every a_j stands in its own numerator and in the sums of its neighbours.  Report §2.4.3.

        ∂b_c/∂a_j = [c = j] s_c^(−β) − 2αβ a_j a_c s_c^(−β−1)      |j − c| ≤ ⌊size/2⌋
        so  ∂L/∂a_j = ∂L/∂b_j s_j^(−β) − 2αβ a_j Σ_{|c − j| ≤ ⌊size/2⌋} ∂L/∂b_c a_c s_c^(−β−1)

    dy (..., C) ∂L/∂b.  Returns da (the shape of dy).
    """
    a, s, size, alpha, beta = cache
    direct = dy * s**-beta
    across = _sum_over_neighbours(direct * a / s, size)
    return direct - 2 * alpha * beta * a * across


def _sum_over_neighbours(v: Array, size: int) -> Array:
    """Σ_{|j − c| ≤ ⌊size/2⌋} v_j for every c: (..., C)."""
    total = v.copy()
    for step in range(1, min(size // 2, v.shape[-1] - 1) + 1):
        total[..., step:] += v[..., :-step]
        total[..., :-step] += v[..., step:]
    return total


def _check_settings(size: int, k: float) -> None:
    if size < 1 or size % 2 == 0 or k <= 0:
        raise ValueError(
            f"local response norm: size is {size} and k {k}, want an odd size, as many channels on "
            "each side, and k > 0"
        )


class LocalResponseNorm(Stateless):
    """b_c = a_c / (k + α Σ_{|j − c| ≤ ⌊size/2⌋} a_j²)^β over the channels.  Report §2.4.3, §3.

    size, alpha, beta, k   as in local_response_norm_forward; the defaults are AlexNet's
    Input (..., C), output the same shape.  PyTorch's alpha is size times this one.
    Source: Krizhevsky, Sutskever & Hinton 2012.
    """

    kind = "normalisation"
    per_image = True
    passes = local_response_norm_forward, local_response_norm_backward

    def __init__(
        self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, k: float = 2.0
    ) -> None:
        _check_settings(size, k)
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def settings(self) -> tuple[Any, ...]:
        return self.size, self.alpha, self.beta, self.k

    def __repr__(self) -> str:
        return f"LocalResponseNorm({self.size})"
