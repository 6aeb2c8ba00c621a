"""Wrong backward passes of local response normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Shape
from tinynet.layers.local_response import (
    LocalResponseNormCache,
    local_response_norm_backward,
    local_response_norm_forward,
)
from tinynet.testing.planted.bench import FunctionBench, Gradients


def strong(rng: np.random.Generator, shape: Shape) -> tuple[Any, ...]:
    """a, three channels to a sum, and constants by which the sum weighs as much as k."""
    return rng.standard_normal(shape), 3, 0.5, 0.75, 1.0


norm = FunctionBench(
    "local response norm",
    local_response_norm_forward,
    local_response_norm_backward,
    strong,
    (2, 5),
)


def direct(dy: Array, cache: LocalResponseNormCache) -> Array:
    """The numerator's part of da."""
    return dy * cache.s**-cache.beta


def across(dy: Array, cache: LocalResponseNormCache) -> Array:
    """The sums' part of da."""
    return local_response_norm_backward(dy, cache) - direct(dy, cache)


@norm.plant()
def sums_taken_for_constants(dy: Array, cache: LocalResponseNormCache) -> Gradients:
    """da = dy / s^β: the term through the sums is dropped."""
    return direct(dy, cache)


@norm.plant()
def own_sum_only(dy: Array, cache: LocalResponseNormCache) -> Gradients:
    """a_c is taken out of its own sum; it stands in its neighbours' too."""
    a, s, _, alpha, beta = cache
    return direct(dy, cache) - 2 * alpha * beta * a * (dy * a * s ** (-beta - 1))


@norm.plant()
def windows_to_one_side(dy: Array, cache: LocalResponseNormCache) -> Gradients:
    """The sum over c runs from j on: the neighbours before it are left out."""
    a, s, size, alpha, beta = cache
    v = dy * a * s ** (-beta - 1)
    total = v.copy()
    for step in range(1, size // 2 + 1):
        total[..., :-step] += v[..., step:]
    return direct(dy, cache) - 2 * alpha * beta * a * total


@norm.plant()
def factor_2_forgotten(dy: Array, cache: LocalResponseNormCache) -> Gradients:
    """The derivative of a² is taken for a."""
    return direct(dy, cache) + across(dy, cache) / 2


@norm.plant()
def alpha_by_the_size(dy: Array, cache: LocalResponseNormCache) -> Gradients:
    """α/size in the backward pass, as PyTorch has it; the forward pass has α."""
    return direct(dy, cache) + across(dy, cache) / cache.size


@norm.plant()
def exponent_not_lowered(dy: Array, cache: LocalResponseNormCache) -> Gradients:
    """s^(-β) in the second term, where the derivative has s^(-β-1)."""
    return direct(dy, cache) + across(dy * cache.s, cache)
