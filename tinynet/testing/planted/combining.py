"""Wrong backward passes of layers made of layers, and of gating."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet import layers
from tinynet.backend import Array
from tinynet.layers import BatchNorm, Concat, Dense, Gate, Residual, Sequential, gate_backward
from tinynet.testing.planted.bench import LayerBench, backward, dx, pair, part


def dense(rng: np.random.Generator, n: int, outputs: int | None = None) -> Dense:
    return Dense(n, outputs or n, rng=rng)


def dense_sigmoid(rng: np.random.Generator, n: int, outputs: int | None = None) -> Sequential:
    return Sequential(dense(rng, n, outputs), layers.Sigmoid())


sequential = LayerBench(
    "sequential",
    (3, 4),
    Sequential,
    lambda cls, rng, s: cls(dense(rng, s[-1]), layers.Sigmoid(), dense(rng, s[-1])),
)


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


@sequential.wrong_backward
def stops_at_the_first_layer(layer: Any, dy: Array, cache: list[Any]) -> Array:
    """The gradient of the input is not passed on: dy of the first layer is returned."""
    dy = layer.layers[1].backward(layer.layers[2].backward(dy, cache[2]), cache[1])
    layer.layers[0].backward(dy, cache[0])
    return dy


sequential.wrong_backward(gradient_of_the_other_layer, "a loop's variable read after the loop")
sequential.plant(
    "skips a layer: The activation is left out on the way back.",
    backward(lambda s, dy, c: s.layers[0].backward(s.layers[2].backward(dy, c[2]), c[0])),
    "cache of the other layer: Both dense layers get the last one's cache.",
    backward(
        lambda s, dy, c: Sequential.backward(s, dy, [c[2]._replace(w=c[0].w), *c[1:]]),
    ),
)

identity = LayerBench(
    "residual",
    (3, 4),
    Residual,
    lambda cls, rng, s: cls(Sequential(dense(rng, s[-1]), BatchNorm(s[-1]))),
)
identity.plant(
    "shortcut forgotten: dx through the main path only: y = main(x) + x gives 1 more.",
    dx(lambda g, dy, c: g - dy),
    "shortcut only: dx = dy: the main path's part is computed, and lost.",
    dx(lambda g, dy, c: dy.copy()),
    "shortcut added in place: dy += dx of the main path, but others read dy.",
    backward(lambda r, dy, c: np.add(dy, r.main.backward(dy, c[0]), out=dy)),
)

projected = LayerBench(
    "residual, projected",
    (3, 4),
    Residual,
    lambda cls, rng, s: cls(dense_sigmoid(rng, s[-1]), skip=dense(rng, s[-1])),
)


@projected.wrong_backward
def projection_of_the_main_paths_gradient(layer: Any, dy: Array, cache: Any) -> Array:
    """The shortcut receives what came out of the main path, not dy."""
    dx = layer.main.backward(dy, cache[0])
    return dx + layer.skip.backward(dx, cache[1])


projected.plant(
    "projection taken for the identity: The shortcut has a layer; the gradient goes round it.",
    backward(lambda r, dy, c: r.main.backward(dy, c[0]) + dy),
    "half to each path: Each path receives half of dy.",
    backward(lambda r, dy, c: Residual.backward(r, dy / 2, c)),
)

concat = LayerBench(
    "concat",
    (3, 4),
    Concat,
    lambda cls, rng, s: cls(dense(rng, s[-1], 2), dense_sigmoid(rng, s[-1], 2)),
)


@concat.wrong_backward
def last_branch_only(layer: Any, dy: Array, cache: Any) -> Array:
    """= for +=: dx is that of the last branch."""
    first, last = layer.branches
    first.backward(dy[..., :2], cache[0][0])
    return last.backward(dy[..., 2:], cache[0][1])


concat.plant(
    "slices swapped: The branches take their channels of dy in the wrong order.",
    backward(lambda b, dy, c: Concat.backward(b, dy[..., [2, 3, 0, 1]], c)),
    "first slice for all: The start of the slice is not moved on.",
    backward(lambda b, dy, c: Concat.backward(b, dy[..., [0, 1, 0, 1]], c)),
    "branches averaged: dx is the mean over the branches, where it is the sum.",
    dx(lambda g, dy, c: g / 2),
)

gate = pair(
    "gate",
    (2, 2, 2, 3),
    "gate",
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
    lambda cls, rng, s: cls(Sequential(layers.GlobalAvgPool2D(), dense_sigmoid(rng, s[-1]))),
)
gate_layer.plant(
    "path forgotten: dx = dy g, the path's part computed and lost: gates taken for constants.",
    dx(lambda g, dy, c: gate_backward(dy, c[0])[0]),
    "path only: dx is what comes back through the path, without dy g.",
    dx(lambda g, dy, c: g - gate_backward(dy, c[0])[0]),
    "adds as a residual: dx = dy + the path's part, as if y were x + path(x).",
    dx(lambda g, dy, c: g + dy - gate_backward(dy, c[0])[0]),
    "input forgotten: The path receives Σ dy: not multiplied by x.",
    backward(
        lambda gate, dy, c: (
            gate_backward(dy, c[0])[0] + gate.path.backward(dy.sum(axis=(1, 2)), c[1])
        )
    ),
)
