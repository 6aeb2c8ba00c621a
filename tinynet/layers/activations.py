"""Activation functions.  Report §2.2.2; their derivatives by §2.3.2."""

from __future__ import annotations

from importlib import import_module
from math import pi
from typing import Any, NamedTuple

from tinynet.backend import (
    Array,
    Output,
    array_module,
    backward_of,
    library_of,
    output_like,
    swappable,
)
from tinynet.layer import Shape, Stateless

# fmt: off
__all__ = [
    "ReLU", "ReLU6", "Sigmoid", "Softmax",
    "relu6_backward", "relu6_forward", "relu_backward", "relu_forward", "sigmoid_backward",
    "sigmoid_forward", "softmax_backward", "softmax_forward",
    "LeakyReLU", "leaky_relu_backward", "leaky_relu_forward",
    "Tanh", "tanh_backward", "tanh_forward",
    "GELU", "gelu_backward", "gelu_forward",
]
# fmt: on


@swappable
def relu_forward(x: Array, threshold: float = 0.0) -> tuple[Array, Array]:
    """Linear above the threshold m, constant below it.  Report §2.2.2, "ReLU".

        f(x) = max{x, m}

    x           any shape
    threshold   m, 0 in nearly all networks
    Returns y (the shape of x); cache: where x > m, booleans of the shape of x.
    """
    return array_module(x).maximum(x, threshold), x > threshold


@backward_of(output_like)
def relu_backward(dy: Array, cache: Array) -> Array:
    """Pass the gradient where the slope is 1, stop it where it is 0.  Report §2.2.2.

        ∂L/∂x = ∂L/∂y · (1 if x > m else 0)

    At x = m, where no derivative exists, the slope of the left side, 0, is taken.
    dy (any shape) ∂L/∂y.  Returns dx (the shape of dy).
    """
    return dy * cache


@swappable
def relu6_forward(x: Array) -> tuple[Array, Array]:
    """ReLU clipped at 6, so that no output needs a large range of numbers.  Report §2.2.2.

        f(x) = min{max{x, 0}, 6}

    x (any shape).
    Returns y (the shape of x); cache: where 0 < x < 6, booleans of the shape of x.
    Source: Krizhevsky 2010, "Convolutional Deep Belief Networks on CIFAR-10"; MobileNet's
    activation (Howard et al. 2017).
    """
    xp = array_module(x)
    return xp.minimum(xp.maximum(x, 0), 6), (x > 0) & (x < 6)


@backward_of(output_like)
def relu6_backward(dy: Array, cache: Array) -> Array:
    """Pass the gradient between the two kinks, stop it elsewhere.  Report §2.2.2.

        ∂L/∂x = ∂L/∂y · (1 if 0 < x < 6 else 0)

    At x = 0 and at x = 6, where no derivative exists, the slope of the flat side, 0, is taken.
    dy (any shape) ∂L/∂y.  Returns dx (the shape of dy).
    """
    return dy * cache


@swappable
def sigmoid_forward(x: Array) -> tuple[Array, Array]:
    """Squash each number into (0, 1): the one-dimensional softmax.  Report §2.2.2, "Sigmoid".

        σ(x) = eˣ / (1 + eˣ)

    x (any shape). Computed as (1 + tanh(x/2)) / 2, the same function, which cannot overflow.
    Returns y (the shape of x); cache: y.
    """
    y = 0.5 * (1 + array_module(x).tanh(0.5 * x))
    return y, y


@backward_of(output_like)
def sigmoid_backward(dy: Array, cache: Array) -> Array:
    """Chain rule with dσ/dx = σ (1 − σ).  Report §2.2.2, §2.3.2.

    dy (any shape) ∂L/∂y; cache: y.  Returns dx (the shape of dy).
    """
    y = cache
    return dy * y * (1 - y)


class SoftmaxCache(NamedTuple):
    """Cache for ``softmax_backward``."""

    y: Array  # the shape of x
    axis: int

    @property
    def output(self) -> Output:
        """What dy must be like."""
        return output_like(self.y)


@swappable
def softmax_forward(x: Array, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """Turn each vector of scores into a probability distribution.  Report §2.2.2, "Softmax".

        y_j = e^{x_j} / Σ_k e^{x_k}

    x      any shape   scores
    axis   along which the vectors lie; the last, (..., n), by default
    The largest score is subtracted first, which cancels in the fraction and prevents overflow.
    Returns y (the shape of x), each vector in [0, 1] with sum 1; cache (y, axis).
    """
    e = array_module(x).exp(x - x.real.max(axis=axis, keepdims=True))
    y = e / e.sum(axis=axis, keepdims=True)
    return y, SoftmaxCache(y, axis)


@backward_of()
def softmax_backward(dy: Array, cache: SoftmaxCache) -> Array:
    """Every output depends on every score.  Report §2.3.2.

        ∂y_j/∂x_j = y_j (1 − y_j),   ∂y_i/∂x_j = −y_i y_j  (i ≠ j)
        so  ∂L/∂x_j = y_j (∂L/∂y_j − Σ_i ∂L/∂y_i y_i)

    dy (the shape of y) ∂L/∂y.  Returns dx (the shape of y).
    """
    y, axis = cache
    return y * (dy - (dy * y).sum(axis=axis, keepdims=True))


@swappable
def leaky_relu_forward(x: Array, slope: float = 0.01) -> tuple[Array, Array]:
    """ReLU with a small slope below 0, so that no neuron stops learning.

        f(x) = x if x > 0 else s x

    x      any shape
    slope  s
    Returns y (the shape of x); cache: the slope at each x, of its shape: 1 or s.
    Source: Maas, Hannun & Ng 2013, "Rectifier nonlinearities improve neural network acoustic
    models".
    """
    slopes = array_module(x).where(x > 0, 1.0, slope).astype(x.real.dtype)
    return x * slopes, slopes


@backward_of(output_like)
def leaky_relu_backward(dy: Array, cache: Array) -> Array:
    """Scale the gradient by the slope; at x = 0 by s, that of the left side.

        ∂L/∂x = ∂L/∂y · (1 if x > 0 else s)

    dy (any shape) ∂L/∂y; cache: the slopes.  Returns dx (the shape of dy).
    """
    return dy * cache


@swappable
def tanh_forward(x: Array) -> tuple[Array, Array]:
    """Squash each number into (−1, 1): a sigmoid that is 0 at 0.

        tanh(x) = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ) = 2 σ(2x) − 1

    x (any shape).  Returns y (the shape of x); cache: y.
    Source: LeCun, Bottou, Orr & Müller 1998, "Efficient BackProp", §4.4.
    """
    y = array_module(x).tanh(x)
    return y, y


@backward_of(output_like)
def tanh_backward(dy: Array, cache: Array) -> Array:
    """Chain rule with d tanh(x)/dx = 1 − tanh²(x).

    dy (any shape) ∂L/∂y; cache: y.  Returns dx (the shape of dy).
    """
    return dy * (1 - cache * cache)


@swappable
def gelu_forward(x: Array) -> tuple[Array, tuple[Array, Array]]:
    """Weight each number by the share of a normal distribution that lies below it.

        f(x) = x Φ(x),   Φ(x) = (1 + erf(x / √2)) / 2,   without the loss of digits below 0

    x (any shape).  Returns y (the shape of x); cache (x, Φ(x)), both of the shape of x.
    Source: Hendrycks & Gimpel 2016, "Gaussian error linear units"; Φ exactly, not by tanh.
    """
    below = _normal_share(x)
    return x * below, (x, below)


@backward_of(lambda cache: output_like(cache[0]))
def gelu_backward(dy: Array, cache: tuple[Array, Array]) -> Array:
    """Product rule: dΦ/dx is the normal density.

        ∂L/∂x = ∂L/∂y (Φ(x) + x e^(−x²/2) / √(2π))

    dy (any shape) ∂L/∂y; cache (x, Φ(x)).  Returns dx (the shape of dy).
    """
    x, below = cache
    density = array_module(x).exp(-0.5 * x * x) * (2 * pi) ** -0.5
    return dy * (below + x * density)


def _normal_share(x: Array) -> Array:
    scipy = "cupyx.scipy" if library_of(x) == "cupy" else "scipy"  # NumPy itself has no Φ
    return import_module(f"{scipy}.special").ndtr(x)


class ReLU(Stateless):
    """f(x) = max{x, m}.  Report §2.2.2.  ``threshold`` is m."""

    kind = "activation"
    per_image = True
    passes = relu_forward, relu_backward

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def settings(self) -> tuple[Any, ...]:
        return (self.threshold,)

    def __repr__(self) -> str:
        return f"ReLU({self.threshold:g})" if self.threshold else "ReLU()"


class ReLU6(Stateless):
    """f(x) = min{max{x, 0}, 6}.  Report §2.2.2; MobileNet's (Howard et al. 2017)."""

    kind = "activation"
    per_image = True
    passes = relu6_forward, relu6_backward


class Sigmoid(Stateless):
    """σ(x) = eˣ / (1 + eˣ).  Report §2.2.2."""

    kind = "activation"
    per_image = True
    passes = sigmoid_forward, sigmoid_backward


class Softmax(Stateless):
    """Probabilities over one axis.  Report §2.2.2.

    axis   of the input (N, ...), from its front or its end; the last by default. Not the first:
           the batch's examples are no alternatives
    """

    kind = "activation"
    per_image = True
    passes = softmax_forward, softmax_backward

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis
        if axis == 0:
            raise ValueError("Softmax: axis is 0, the batch; want one within an example")

    def settings(self) -> tuple[Any, ...]:
        return (self.axis,)

    def check(self, x: Array) -> None:
        self.output_shape(x.shape[1:])

    def output_shape(self, input_shape: Shape) -> Shape:
        if not -len(input_shape) <= self.axis <= len(input_shape):
            raise ValueError(
                f"{self!r}: the input has {len(input_shape)} axes after the batch's, want one of "
                "them as axis"
            )
        return input_shape

    def __repr__(self) -> str:
        return "Softmax()" if self.axis == -1 else f"Softmax(axis={self.axis})"


class LeakyReLU(Stateless):
    """f(x) = x if x > 0 else s x.  ``slope`` is s.  Source: Maas, Hannun & Ng 2013."""

    kind = "activation"
    per_image = True
    passes = leaky_relu_forward, leaky_relu_backward

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = slope

    def settings(self) -> tuple[Any, ...]:
        return (self.slope,)


class Tanh(Stateless):
    """tanh(x) = (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ), between −1 and 1."""

    kind = "activation"
    per_image = True
    passes = tanh_forward, tanh_backward


class GELU(Stateless):
    """f(x) = x Φ(x), Φ the normal distribution function.  Source: Hendrycks & Gimpel 2016."""

    kind = "activation"
    per_image = True
    passes = gelu_forward, gelu_backward
