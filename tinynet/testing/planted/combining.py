"""Wrong backward passes of layers made of layers, and of gating."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet import layers
from tinynet.backend import Array
from tinynet.layers import (
    BatchNorm,
    Concat,
    Dense,
    Gate,
    GlobalAvgPool2D,
    Residual,
    Sequential,
    Sigmoid,
    gate_backward,
)
from tinynet.testing.planted.bench import FunctionBench, LayerBench, backward, dx, part


def dense(rng: np.random.Generator, n: int, outputs: int | None = None) -> Dense:
    return Dense(n, outputs or n, rng=rng)


sequential = LayerBench(
    "sequential",
    (3, 4),
    Sequential,
    lambda cls, rng, shape: cls(dense(rng, shape[-1]), Sigmoid(), dense(rng, shape[-1])),
)


@sequential.wrong_backward
def skips_a_layer(layer: Any, dy: Array, cache: list[Any]) -> Array:
    """The activation is left out on the way back."""
    return layer.layers[0].backward(layer.layers[2].backward(dy, cache[2]), cache[0])


@sequential.wrong_backward
def goes_forwards(layer: Any, dy: Array, cache: list[Any]) -> Array:
    """The gradient flows from the first layer to the last."""
    for inner, inner_cache in zip(layer.layers, cache, strict=True):
        dy = inner.backward(dy, inner_cache)
    return dy


def gradient_of_the_other_layer(layer: Any, dy: Array, cache: list[Any]) -> Array:
    """The first layer's gradient is added to the last layer's parameter."""
    first, last = layer.layers[0].weight.grad, layer.layers[2].weight.grad
    kept = first.copy()
    dx = Sequential.backward(layer, dy, cache)
    last += first - kept
    first[...] = kept
    return dx


sequential.wrong_backward(gradient_of_the_other_layer, "a loop's variable read after the loop")
sequential.plant(
    "cache of the other layer: Both dense layers get the last one's cache.",
    backward(
        lambda layer, dy, cache: Sequential.backward(
            layer, dy, [cache[2]._replace(w=cache[0].w), *cache[1:]]
        )
    ),
)


@sequential.wrong_backward
def stops_at_the_first_layer(layer: Any, dy: Array, cache: list[Any]) -> Array:
    """The gradient of the input is not passed on: dy of the first layer is returned."""
    dy = layer.layers[1].backward(layer.layers[2].backward(dy, cache[2]), cache[1])
    layer.layers[0].backward(dy, cache[0])
    return dy


identity = LayerBench(
    "residual",
    (3, 4),
    Residual,
    lambda cls, rng, shape: cls(Sequential(dense(rng, shape[-1]), BatchNorm(shape[-1]))),
)
identity.plant(
    "shortcut forgotten: dx through the main path only: y = main(x) + x gives 1 more.",
    dx(lambda g, dy, cache: g - dy),
    "shortcut only: dx = dy: the main path's part is computed, and lost.",
    dx(lambda g, dy, cache: dy.copy()),
)


@identity.wrong_backward
def shortcut_added_in_place(layer: Any, dy: Array, cache: Any) -> Array:
    """dy += dx of the main path, but others read dy."""
    dy += layer.main.backward(dy, cache[0])
    return dy


projected = LayerBench(
    "residual, projected",
    (3, 4),
    Residual,
    lambda cls, rng, shape: cls(
        Sequential(dense(rng, shape[-1]), Sigmoid()), skip=dense(rng, shape[-1])
    ),
)
projected.plant(
    "projection taken for the identity: The shortcut has a layer; the gradient goes round it.",
    backward(lambda layer, dy, cache: layer.main.backward(dy, cache[0]) + dy),
)


@projected.wrong_backward
def projection_of_the_main_paths_gradient(layer: Any, dy: Array, cache: Any) -> Array:
    """The shortcut receives what came out of the main path, not dy."""
    dx = layer.main.backward(dy, cache[0])
    return dx + layer.skip.backward(dx, cache[1])


projected.plant(
    "half to each path: Each path receives half of dy.",
    backward(lambda layer, dy, cache: Residual.backward(layer, dy / 2, cache)),
)

concat = LayerBench(
    "concat",
    (3, 4),
    Concat,
    lambda cls, rng, shape: cls(
        dense(rng, shape[-1], 2), Sequential(dense(rng, shape[-1], 2), Sigmoid())
    ),
)


@concat.wrong_backward
def last_branch_only(layer: Any, dy: Array, cache: Any) -> Array:
    """= for +=: dx is that of the last branch."""
    first, last = layer.branches
    first.backward(dy[..., :2], cache[0][0])
    return last.backward(dy[..., 2:], cache[0][1])


concat.plant(
    "slices swapped: The branches take their channels of dy in the wrong order.",
    backward(lambda layer, dy, cache: Concat.backward(layer, np.roll(dy, 2, axis=-1), cache)),
    "first slice for all: The start of the slice is not moved on.",
    backward(lambda layer, dy, cache: Concat.backward(layer, dy[..., [0, 1, 0, 1]], cache)),
    "branches averaged: dx is the mean over the branches, where it is the sum.",
    dx(lambda g, dy, cache: g / 2),
)

gate = FunctionBench(
    "gate",
    (2, 2, 2, 3),
    layers.gate_forward,
    gate_backward,
    lambda rng, shape: (rng.standard_normal(shape), rng.random((shape[0], shape[3]))),
)
gate.plant(
    "gate left open: dx = dy: the gradient is not gated.",
    dx(lambda g, dy, c: dy.copy()),
    "gates of the other example: dx by the first example's gates, thought to be shared.",
    dx(lambda g, dy, c: dy * c.g[0]),
    "mean over the cells: dg is the mean over the cells that a gate acts on, where it is the sum.",
    part("dg")(lambda g, dy, c: (dy * c.x).mean(axis=(1, 2))),
    "gate of the output: dg = Σ dy y: the output, gated already, where the input belongs.",
    part("dg")(lambda g, dy, c: g * c.g),
)

gate_layer = LayerBench(
    "gate layer",
    (2, 2, 2, 3),
    Gate,
    lambda cls, rng, shape: cls(Sequential(GlobalAvgPool2D(), dense(rng, shape[-1]), Sigmoid())),
)
gate_layer.plant(
    "path forgotten: dx = dy g, the path's part computed and lost: gates taken for constants.",
    dx(lambda g, dy, cache: gate_backward(dy, cache[0])[0]),
    "path only: dx is what comes back through the path, without dy g.",
    dx(lambda g, dy, cache: g - gate_backward(dy, cache[0])[0]),
    "adds as a residual: dx = dy + the path's part, as if y were x + path(x).",
    dx(lambda g, dy, cache: g + dy - gate_backward(dy, cache[0])[0]),
    "input forgotten: The path receives Σ dy: not multiplied by x.",
    backward(
        lambda layer, dy, cache: (
            gate_backward(dy, cache[0])[0] + layer.path.backward(dy.sum(axis=(1, 2)), cache[1])
        )
    ),
)
