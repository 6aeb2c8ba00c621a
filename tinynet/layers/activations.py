"""Activation functions.  Report §2.2.2; their derivatives by §2.3.2."""

from __future__ import annotations

from tinynet.backend import Array, array_module, swappable
from tinynet.layer import EVAL, Layer, Mode, Shape


@swappable
def relu_forward(x: Array, threshold: float = 0.0) -> tuple[Array, Array]:
    """Linear above the threshold m, constant below it.  Report §2.2.2, "ReLU".

        f(x) = max{x, m}

    x           any shape
    threshold   m, 0 in nearly all networks
    Returns y (the shape of x); cache: where x > m, booleans of the shape of x.
    """
    return array_module(x).maximum(x, threshold), x > threshold


@swappable
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


@swappable
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


@swappable
def sigmoid_backward(dy: Array, cache: Array) -> Array:
    """Chain rule with dσ/dx = σ (1 − σ).  Report §2.2.2, §2.3.2.

    dy (any shape) ∂L/∂y; cache: y.  Returns dx (the shape of dy).
    """
    y = cache
    return dy * y * (1 - y)


@swappable
def softmax_forward(x: Array) -> tuple[Array, Array]:
    """Turn each vector of scores into a probability distribution.  Report §2.2.2, "Softmax".

        y_j = e^{x_j} / Σ_k e^{x_k}

    x   (..., n)   scores; the last axis is the vector
    The largest score is subtracted first, which cancels in the fraction and prevents overflow.
    Returns y (..., n), each vector in [0, 1] with sum 1; cache: y.
    """
    e = array_module(x).exp(x - x.real.max(axis=-1, keepdims=True))
    y = e / e.sum(axis=-1, keepdims=True)
    return y, y


@swappable
def softmax_backward(dy: Array, cache: Array) -> Array:
    """Every output depends on every score.  Report §2.3.2.

        ∂y_j/∂x_j = y_j (1 − y_j),   ∂y_i/∂x_j = −y_i y_j  (i ≠ j)
        so  ∂L/∂x_j = y_j (∂L/∂y_j − Σ_i ∂L/∂y_i y_i)

    dy (..., n) ∂L/∂y; cache: y.  Returns dx (..., n).
    """
    y = cache
    return y * (dy - (dy * y).sum(axis=-1, keepdims=True))


class Elementwise(Layer):
    """Base of layers without parameters whose output has the shape of their input."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input."""
        return input_shape


class ReLU(Elementwise):
    """f(x) = max{x, m}.  Report §2.2.2.  ``threshold`` is m."""

    kind = "activation"
    per_image = True

    def __init__(self, threshold: float = 0.0) -> None:
        self.threshold = threshold

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Array]:
        """y (the shape of x)."""
        return relu_forward(x, self.threshold)

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx (the shape of dy)."""
        return relu_backward(dy, cache)

    def __repr__(self) -> str:
        return f"ReLU({self.threshold:g})" if self.threshold else "ReLU()"


class ReLU6(Elementwise):
    """f(x) = min{max{x, 0}, 6}.  Report §2.2.2; MobileNet's (Howard et al. 2017)."""

    kind = "activation"
    per_image = True

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Array]:
        """y (the shape of x), in [0, 6]."""
        return relu6_forward(x)

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx (the shape of dy)."""
        return relu6_backward(dy, cache)


class Sigmoid(Elementwise):
    """σ(x) = eˣ / (1 + eˣ).  Report §2.2.2."""

    kind = "activation"
    per_image = True

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Array]:
        """y (the shape of x)."""
        return sigmoid_forward(x)

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx (the shape of dy)."""
        return sigmoid_backward(dy, cache)


class Softmax(Elementwise):
    """Probabilities over the last axis.  Report §2.2.2."""

    kind = "activation"

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Array]:
        """y (..., n) from scores x (..., n)."""
        return softmax_forward(x)

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx (..., n) from dy (..., n)."""
        return softmax_backward(dy, cache)
