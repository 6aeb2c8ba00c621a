"""Wrong backward passes of gating, and of multiplication by a fixed number."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Layer, Shape
from tinynet.layers.activations import Sigmoid
from tinynet.layers.combine import Sequential
from tinynet.layers.dense import Dense
from tinynet.layers.gate import Gate, GateCache, gate_backward, gate_forward
from tinynet.layers.pooling import GlobalAvgPool2D
from tinynet.layers.scale import scale_backward, scale_forward
from tinynet.testing.planted.bench import FunctionBench, Gradients, LayerBench


def a_gate_each_channel(rng: np.random.Generator, shape: Shape) -> tuple[Array, Array]:
    """x (N, H, W, C) and gates (N, C)."""
    return rng.standard_normal(shape), rng.random((shape[0], shape[3]))


def by_a_fifth(rng: np.random.Generator, shape: Shape) -> tuple[Array, float]:
    """x, and the factor."""
    return rng.standard_normal(shape), 0.2


def _excited(cls: type[Gate], rng: np.random.Generator, shape: Shape) -> Layer:
    n = shape[-1]
    return cls(Sequential(GlobalAvgPool2D(), Dense(n, n, rng=rng), Sigmoid()))


product = FunctionBench("gate", gate_forward, gate_backward, a_gate_each_channel, (2, 2, 2, 3))
layer = LayerBench("gate layer", Gate, _excited, shape=(2, 2, 2, 3))
scale = FunctionBench("scale", scale_forward, scale_backward, by_a_fifth, (3, 4))


@product.plant()
def gate_left_open(dy: Array, cache: GateCache) -> Gradients:
    """dx = dy: the gradient is not gated."""
    return dy.copy(), gate_backward(dy, cache)[1]


@product.plant()
def mean_over_the_cells(dy: Array, cache: GateCache) -> Gradients:
    """dg is the mean over the cells that a gate acts on, where it is the sum."""
    return gate_backward(dy, cache)[0], (dy * cache.x).mean(axis=(1, 2))


@product.plant()
def gate_of_the_output(dy: Array, cache: GateCache) -> Gradients:
    """dg = Σ dy y: the output, gated already, where the input belongs."""
    return gate_backward(dy, cache)[0], gate_backward(dy, cache)[1] * cache.g


@product.plant()
def gates_of_the_other_example(dy: Array, cache: GateCache) -> Gradients:
    """dx of the first example's gates for all: they are thought to be shared."""
    return dy * cache.g[0], gate_backward(dy, cache)[1]


@layer.plant()
class PathForgotten(Gate):
    """dx = dy g, the path's part computed and lost: the gates are taken for constants."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx without the path's part."""
        dx, dg = gate_backward(dy, cache[0])
        self.path.backward(dg, cache[1])
        return dx


@layer.plant()
class PathOnly(Gate):
    """dx is what comes back through the path, without dy g."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx without the product's part."""
        return self.path.backward(gate_backward(dy, cache[0])[1], cache[1])


@layer.plant()
class AddsAsAResidual(Gate):
    """dx = dy + the path's part, as if y were x + path(x)."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx of a sum."""
        return dy + self.path.backward(gate_backward(dy, cache[0])[1], cache[1])


@layer.plant()
class InputForgotten(Gate):
    """The path receives Σ dy: not multiplied by x."""

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx with the path's part of another gradient."""
        dx, _ = gate_backward(dy, cache[0])
        return dx + self.path.backward(dy.sum(axis=(1, 2)), cache[1])


@scale.plant()
def factor_forgotten(dy: Array, factor: float) -> Gradients:
    """dx = dy."""
    return dy.copy()


@scale.plant()
def divided_by_the_factor(dy: Array, factor: float) -> Gradients:
    """The factor is undone on the way back."""
    return dy / factor


@scale.plant()
def scaled_twice(dy: Array, factor: float) -> Gradients:
    """Once here, once where the branches are added."""
    return dy * factor**2
