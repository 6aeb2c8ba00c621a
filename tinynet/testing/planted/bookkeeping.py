"""Layers whose formulas are right and whose bookkeeping is not.

Most of these no difference quotient can see: with a single forward and backward pass of a single
layer the numbers are right.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import EVAL, Layer, Mode, Shape
from tinynet.layers.activations import ReLU, Sigmoid
from tinynet.layers.combine import Sequential
from tinynet.layers.dense import Dense, DenseCache, dense_backward
from tinynet.testing.planted.bench import LayerBench

dense = LayerBench(
    "dense layer", Dense, lambda cls, rng, shape: cls(shape[-1], 3, rng=rng), shape=(3, 4)
)


def _one_layer_twice(cls: type[Dense], rng: np.random.Generator, shape: Shape) -> Layer:
    layer = cls(shape[-1], shape[-1], rng=rng)
    return Sequential(layer, Sigmoid(), layer)


applied_twice = LayerBench("dense layer applied twice", Dense, _one_layer_twice, shape=(3, 4))


@dense.plant()
@applied_twice.plant("nnabla #532, for shared variables")
class OverwritesItsGradients(Dense):
    """= for +=: a second application, or a second batch, loses the first one's gradient."""

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx; sets the gradients."""
        dx, self.weight.grad[...], db = dense_backward(dy, cache)
        assert self.bias is not None
        self.bias.grad[...] = db
        return dx


@dense.plant()
class AddsToOneGradientOnly(Dense):
    """The weight's gradient is added, the bias's is set."""

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx; sets the gradient of the bias."""
        dx, dw, db = dense_backward(dy, cache)
        self.weight.grad += dw
        assert self.bias is not None
        self.bias.grad[...] = db
        return dx


@dense.plant()
class AddsItsGradientTwice(Dense):
    """The gradient of the weight is added here and by a helper as well."""

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx; adds dw twice."""
        self.weight.grad += dense_backward(dy, cache)[1]
        return super().backward(dy, cache)


@dense.plant()
class ForgetsItsBias(Dense):
    """The bias is a parameter, and backward adds nothing to its gradient."""

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx; adds dw only."""
        dx, dw, _ = dense_backward(dy, cache)
        self.weight.grad += dw
        return dx


@dense.plant()
@applied_twice.plant()
class KeepsItsInput(Dense):
    """The input is kept on the layer, where the next forward pass replaces it."""

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, DenseCache]:
        """z, and the input on the layer."""
        self.x = x
        return super().forward(x, mode)

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx; dw by the latest input."""
        return super().backward(dy, cache._replace(x=self.x))


@dense.plant()
class TakesItsStepAtOnce(Dense):
    """The weights are updated inside the backward pass, while others may still read them."""

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx, then a step of gradient descent."""
        dx = super().backward(dy, cache)
        self.weight.value -= 0.01 * self.weight.grad
        return dx


@dense.plant()
class ScalesItsUpstreamInPlace(Dense):
    """dy is divided by N in place: whoever else reads it gets the wrong one."""

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx; modifies dy."""
        dx = super().backward(dy, cache)
        dy /= len(dy)
        return dx


@dense.plant("Chainer #2062, in max pooling")
class UsesUpItsCache(Dense):
    """The backward pass works in the cache's memory: a second one finds other numbers."""

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, DenseCache]:
        """z, and a copy of x in the cache."""
        z, cache = super().forward(x, mode)
        return z, cache._replace(x=x.copy())

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx; modifies the cache."""
        dx = super().backward(dy, cache)
        cache.x[...] = 0
        return dx


@dense.plant()
class NoGradientWhereFrozen(Dense):
    """A layer that is not trained stops the gradient of the layers below, too."""

    def __init__(self, in_features: int, out_features: int, *, rng: np.random.Generator) -> None:
        super().__init__(in_features, out_features, rng=rng)
        self.weight.trainable = False

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx, zero where frozen."""
        dx = super().backward(dy, cache)
        return dx if self.weight.trainable else np.zeros_like(dx)


@dense.plant()
class KeepsItsFirstGradient(Dense):
    """The weight's gradient is computed in the first backward pass and used again ever after."""

    first: Array | None = None

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx; dw of the first call."""
        dx, dw, db = dense_backward(dy, cache)
        self.first = dw if self.first is None else self.first
        self.weight.grad += self.first
        assert self.bias is not None
        self.bias.grad += db
        return dx


@dense.plant()
class BorrowsItsUpstream(Dense):
    """dy is doubled in place and halved again: read-only arrays refuse, threads see both."""

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx; writes to dy and puts it back."""
        dy *= 2
        dx = super().backward(dy / 2, cache)
        dy /= 2
        return dx


@dense.plant()
class ReusesTheMemoryOfDx(Dense):
    """dx is written to one buffer at every call: the next call changes the last one's result."""

    buffer: Array | None = None

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx in a buffer of the layer."""
        dx = super().backward(dy, cache)
        if self.buffer is None or self.buffer.shape != dx.shape or self.buffer.dtype != dx.dtype:
            self.buffer = np.empty_like(dx)
        self.buffer[...] = dx
        return self.buffer


@dense.plant()
class ReusesTheMemoryOfItsOutput(Dense):
    """z is written to one buffer at every call: a second application changes the first one's."""

    buffer: Array | None = None

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, DenseCache]:
        """z in a buffer of the layer."""
        z, cache = super().forward(x, mode)
        if self.buffer is None or self.buffer.shape != z.shape or self.buffer.dtype != z.dtype:
            self.buffer = np.empty_like(z)
        self.buffer[...] = z
        return self.buffer, cache


@dense.plant()
class PromotesItsGradient(Dense):
    """The gradient of the input is float64 for a float32 layer, and so is all before it."""

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx in float64."""
        return super().backward(dy, cache) * np.float64(1)


@dense.plant()
class DeclaresItsInputsShape(Dense):
    """output_shape gives the input's shape."""

    def output_shape(self, input_shape: Shape) -> Shape:
        """The shape of the input, wrongly."""
        return input_shape


@dense.plant()
class DropsPrecision(Dense):
    """The gradient of the input is float32 for a float64 layer."""

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        """dx in float32."""
        return super().backward(dy, cache).astype("float32")


relu = LayerBench("ReLU layer", ReLU, lambda cls, rng, shape: cls(), shape=(3, 4))


@relu.plant("in-place activations, where the input is read again")
class RectifiesInPlace(ReLU):
    """The forward pass writes its output over the input."""

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Array]:
        """y in the memory of x."""
        cache = x > self.threshold
        np.maximum(x, self.threshold, out=x)
        return x, cache


@relu.plant()
class MasksInPlace(ReLU):
    """The backward pass zeroes dy itself."""

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx in the memory of dy."""
        dy[~cache] = 0
        return dy


@relu.plant()
class KeepsItsMask(ReLU):
    """The mask is kept on the layer, where the next forward pass replaces it."""

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Array]:
        """y, and the mask on the layer."""
        y, self.mask = super().forward(x, mode)
        return y, self.mask

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx by the latest mask."""
        return dy * self.mask


@relu.plant()
class ReliesOnContiguousMemory(ReLU):
    """dy is read as it lies in memory, which is another order for a view."""

    def backward(self, dy: Array, cache: Array) -> Array:
        """dx of a dy taken to be contiguous."""
        steps = np.cumprod([1, *dy.shape[:0:-1]])[::-1] * dy.itemsize
        return np.lib.stride_tricks.as_strided(dy, dy.shape, tuple(steps)) * cache
