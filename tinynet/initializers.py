"""Starting weights.  Report §2.3.6.

All take the shape of the weights, (in, out) for a dense layer and (kernel height, kernel width,
channels / groups, filters) for a convolution, and a generator, and draw on the CPU: the same
generator gives the same weights whatever library they are moved to afterwards.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinynet.backend import Array, checked

Shape = tuple[int, ...]


@checked
def fans(shape: Shape) -> tuple[int, int]:
    """Number of inputs to, and of outputs from, one neuron with weights of this shape.

    (in, out) for a dense layer; for filters (h, w, c, f), where each neuron sees a receptive
    field of h·w places, h·w·c and h·w·f.
    Raises ValueError for a shape with fewer than two dimensions, or with a size below 1.
    """
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(
            f"weights of shape {tuple(shape)} have no fan-in and fan-out: want (in, out) or "
            "(kernel height, kernel width, channels / groups, filters), each at least 1"
        )
    *receptive_field, inputs, outputs = shape
    places = math.prod(receptive_field)
    return places * inputs, places * outputs


@checked
def glorot_uniform(shape: Shape, rng: np.random.Generator, dtype: Any = "float32") -> Array:
    """Uniform with one variance that suits the forward and the backward pass.  Report §2.3.6.

        w ~ U[-a, a],   a = √(6 / (fan_in + fan_out))

    Returns an array of ``shape``.  The default, as in Keras; the plainer rule that the report
    and the paper also give is ``fan_in_uniform``.
    Source: Glorot & Bengio 2010, "Understanding the difficulty of training deep feedforward
    neural networks", eq. 16.
    """
    fan_in, fan_out = fans(shape)
    limit = math.sqrt(6 / (fan_in + fan_out))
    return _uniform(limit, shape, rng, dtype)


@checked
def fan_in_uniform(shape: Shape, rng: np.random.Generator, dtype: Any = "float32") -> Array:
    """Uniform with a limit set by the number of inputs n alone.  Report §2.3.6.

        w ~ U[-1/√n, 1/√n]

    Returns an array of ``shape``.  Its variance, 1 / (3n), shrinks the signal from layer to layer.
    Source: Glorot & Bengio 2010, eq. 1, there the common heuristic that theirs improves on.
    """
    fan_in, _ = fans(shape)
    return _uniform(1 / math.sqrt(fan_in), shape, rng, dtype)


@checked
def he_normal(shape: Shape, rng: np.random.Generator, dtype: Any = "float32") -> Array:
    """Normal with the variance that ReLU, which zeroes half its inputs, needs.  See report §2.3.6.

        w ~ N(0, 2 / fan_in)

    Returns an array of ``shape``.  Not truncated, as in the paper; Keras truncates its own.
    Source: He et al. 2015, "Delving deep into rectifiers", eq. 10.  Not in the report.
    """
    fan_in, _ = fans(shape)
    return (math.sqrt(2 / fan_in) * rng.standard_normal(shape)).astype(dtype)


@checked
def zeros(shape: Shape, rng: np.random.Generator | None = None, dtype: Any = "float32") -> Array:
    """All zero, as biases start.  Report §2.3.6.

    ``rng`` is not used: it is there so that all initialisers are called alike.
    """
    return np.zeros(shape, dtype)


def _uniform(limit: float, shape: Shape, rng: np.random.Generator, dtype: Any) -> Array:
    return rng.uniform(-limit, limit, shape).astype(dtype)
