"""Wrong backward passes of the fully-connected layer, and wrong bookkeeping around right formulas.

Most of the latter no difference quotient can see: with a single forward and backward pass of a
single layer the numbers are right.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Layer, Mode, Shape
from tinynet.layers import Dense, Dropout, ReLU, Sequential, Sigmoid, dense_backward
from tinynet.testing.planted.bench import (
    LayerBench,
    backward,
    db,
    dw,
    dx,
    forward,
    pair,
    part,
    times,
    wrong,
)


def square(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
    """x (N, n), w (n, n), b (n,): square, so that a transposed w keeps its shape."""
    n = shape[1]
    return rng.standard_normal(shape), rng.standard_normal((n, n)), rng.standard_normal(n)


def product_in(dtype: str) -> Callable[..., Array]:
    return lambda g, dz, c: (c.x.astype(dtype).T @ dz.astype(dtype)).astype(g.dtype)


dense = pair("dense", (3, 4), "dense", square)
dense.plant(
    "dw transposed: dw = dzᵀ x, the transpose; a square w hides it from the shape.",
    dw(lambda g, dz, c: dz.T @ c.x),
    "dw of the wrong array: dw = xᵀ x: the input stands where the upstream gradient belongs.",
    dw(lambda g, dz, c: c.x.T @ c.x),
    "dw averaged: dw divided by N, although the loss has taken its mean over the batch already.",
    dw(lambda g, dz, c: g / len(dz)),
    "dx by w not transposed: dx = dz w, where it is dz wᵀ.",
    dx(lambda g, dz, c: dz @ c.w),
    "db averaged: db is the mean over the batch, where it is the sum.",
    db(lambda g, dz, c: g / len(dz)),
    "db of the first example: db = dz[0]: right for a batch of one, never summed.",
    db(lambda g, dz, c: dz[0].copy()),
    "db along the wrong axis: db summed over the neurons; if N is their number, the shape fits.",
    db(lambda g, dz, c: dz.sum(axis=1), shape=(4, 4)),
    "db forgotten: db is left at zero.",
    db(lambda g, dz, c: 0 * g),
    "last example dropped: dw sums over all examples but the last: range(N - 1).",
    dw(lambda g, dz, c: c.x[:-1].T @ dz[:-1]),
    "gradient clipped: dw clipped to [-1, 1] in the backward pass, out of sight of the optimiser.",
    dw(lambda g, dz, c: np.clip(g, -1, 1)),
    "weight decay in the gradient only: dw + 0.01 w, a penalty that the forward pass lacks.",
    dw(lambda g, dz, c: g + 0.01 * c.w),
    "sign of dx: dx with the other sign.",
    dx(lambda g, dz, c: -g),
    "one weight off by a thousandth: One element of 1,024 of dw is 0.1% too large.",
    dw(times((-1, 0), 1.001), shape=(4, 32)),
    "one weight doubled: One element of 1,024 of dw is counted twice.",
    dw(times((-1, 0), 2), shape=(4, 32)),
    "dw in half precision: dw multiplied out in float16 and cast back: right dtype, three digits.",
    dw(product_in("float16"), shape=(8, 8)),
    "dw in single precision: dw multiplied out in float32 and cast back: seven digits are right.",
    dw(product_in("float32"), shape=(8, 8)),
    "dx in another dtype: dx is float32, whatever x is.",
    dx(lambda g, dz, c: g.astype("float32")),
    "dw one row short: dw lacks its last row, as if the bias were among the weights.",
    dw(lambda g, dz, c: g[:-1]),
)

# Bookkeeping.

dense_layer = LayerBench(
    "dense layer", (3, 4), Dense, lambda cls, rng, shape: cls(shape[-1], 3, rng=rng)
)
relu_layer = LayerBench("ReLU layer", (3, 4), ReLU, lambda cls, rng, shape: cls())
TRAIN = Mode(train=True, rng=np.random.default_rng(1))
dropout_layer = LayerBench(
    "dropout layer", (3, 4), Dropout, lambda cls, rng, shape: cls(0.6), TRAIN
)


def _one_layer_twice(cls: type[Dense], rng: np.random.Generator, shape: Shape) -> Layer:
    layer = cls(shape[-1], shape[-1], rng=rng)
    return Sequential(layer, Sigmoid(), layer)


dense_twice = dense_layer.using(layer="dense layer applied twice", make=_one_layer_twice, bugs=[])
dropout_twice = dropout_layer.using(
    layer="dropout applied twice",
    make=lambda cls, rng, shape: Sequential(*[cls(0.6)] * 2),
    bugs=[],
)


def overwrites_its_gradients(layer: Any, dy: Array, cache: Any) -> Array:
    """= for +=: a second application, or a second batch, loses the first one's gradient."""
    dx, layer.weight.grad[...], layer.bias.grad[...] = dense_backward(dy, cache)
    return dx


dense_layer.wrong_backward(overwrites_its_gradients)
dense_twice.wrong_backward(overwrites_its_gradients, "nnabla #532, for shared variables")


@dense_layer.wrong_backward
def adds_to_one_gradient_only(layer: Any, dy: Array, cache: Any) -> Array:
    """The weight's gradient is added, the bias's is set."""
    dx, dw, layer.bias.grad[...] = dense_backward(dy, cache)
    layer.weight.grad += dw
    return dx


@dense_layer.wrong_backward
def adds_its_gradient_twice(layer: Any, dy: Array, cache: Any) -> Array:
    """The gradient of the weight is added here and by a helper as well."""
    layer.weight.grad += dense_backward(dy, cache)[1]
    return Dense.backward(layer, dy, cache)


@dense_layer.wrong_backward
def forgets_its_bias(layer: Any, dy: Array, cache: Any) -> Array:
    """The bias is a parameter, and backward adds nothing to its gradient."""
    dx, dw, _ = dense_backward(dy, cache)
    layer.weight.grad += dw
    return dx


@dense_layer.wrong_backward
def takes_its_step_at_once(layer: Any, dy: Array, cache: Any) -> Array:
    """The weights are updated inside the backward pass, while others may still read them."""
    dx = Dense.backward(layer, dy, cache)
    layer.weight.value -= 0.01 * layer.weight.grad
    return dx


@dense_layer.wrong_backward
def scales_its_upstream_in_place(layer: Any, dy: Array, cache: Any) -> Array:
    """dy is divided by N in place: whoever else reads it gets the wrong one."""
    dx = Dense.backward(layer, dy, cache)
    dy /= len(dy)
    return dx


@dense_layer.wrong_backward
def keeps_its_first_gradient(layer: Any, dy: Array, cache: Any) -> Array:
    """The weight's gradient is computed in the first backward pass and used again ever after."""
    dx, dw, db = dense_backward(dy, cache)
    layer.weight.grad += vars(layer).setdefault("first", dw)
    layer.bias.grad += db
    return dx


@dense_layer.wrong_backward
def borrows_its_upstream(layer: Any, dy: Array, cache: Any) -> Array:
    """dy is doubled in place and halved again: read-only arrays refuse, threads see both."""
    dy *= 2
    dx = Dense.backward(layer, dy / 2, cache)
    dy /= 2
    return dx


def _keep_the_cache(bench: LayerBench, what: str) -> None:
    def forward(layer: Any, x: Array, mode: Mode) -> tuple[Array, Any]:
        y, layer.kept = bench.right.forward(layer, x, mode)
        return y, layer.kept

    bench.plant(
        f"keeps its {what}: The {what} is kept on the layer; the next forward pass replaces it.",
        wrong(
            forward=forward,
            backward=lambda layer, dy, c: bench.right.backward(layer, dy, layer.kept),
        ),
    )


_keep_the_cache(dense_layer, "input")
_keep_the_cache(dense_twice, "input")
_keep_the_cache(relu_layer, "mask")
_keep_the_cache(dropout_layer, "mask")
_keep_the_cache(dropout_twice, "mask")


def _frozen(cls: type[Dense], rng: np.random.Generator, shape: Shape) -> Layer:
    layer = cls(shape[-1], 3, rng=rng)
    layer.freeze()
    return layer


dense_layer.plant(
    "no gradient where frozen: A layer that is not trained stops the gradient of those below.",
    backward(
        lambda layer, dy, c: Dense.backward(layer, dy, c) * layer.weight.trainable, make=_frozen
    ),
    "promotes its gradient: dx is float64 for a float32 layer, and so is all before it.",
    dx(lambda g, dy, c: g * np.float64(1)),
    "drops precision: dx is float32 for a float64 layer.",
    dx(lambda g, dy, c: g.astype("float32")),
    "declares its inputs shape: output_shape gives the input's shape.",
    part("output_shape")(lambda layer, input_shape: input_shape),
)


def in_one_buffer(layer: Any, a: Array) -> Array:
    """``a`` in an array of the layer, which is used again."""
    buffer = vars(layer).setdefault("buffers_of_shape", {})
    buffer = buffer.setdefault((a.shape, a.dtype), np.empty_like(a))
    buffer[...] = a
    return buffer


relu_layer.plant(
    "reuses the memory of dx: dx is in one buffer at every call: the next changes the last result.",
    backward(lambda layer, dy, mask: in_one_buffer(layer, dy * mask)),
    "masks in place: The backward pass zeroes dy itself.",
    backward(lambda layer, dy, mask: np.multiply(dy, mask, out=dy)),
    "reuses the memory of its output: y is in one buffer at every call: the next changes it.",
    forward(lambda layer, x, mode: (in_one_buffer(layer, np.maximum(x, 0)), x > 0)),
    "rectifies in place: The forward pass writes its output over the input. [in-place "
    "activations, where the input is read again]",
    forward(lambda layer, x, mode: (np.maximum(x, 0, out=x), x > 0)),
)


@relu_layer.wrong_backward
def uses_up_its_cache(layer: Any, dy: Array, mask: Array) -> Array:
    """The backward pass works in the cache's memory: a second one finds other numbers."""
    dx = dy * mask
    mask[...] = False
    return dx


@relu_layer.wrong_backward
def relies_on_contiguous_memory(layer: Any, dy: Array, mask: Array) -> Array:
    """dy is read as it lies in memory, which is another order for a view."""
    steps = np.cumprod([1, *dy.shape[:0:-1]])[::-1] * dy.itemsize
    return np.lib.stride_tricks.as_strided(dy, dy.shape, tuple(steps)) * mask


relu_layer.plant(
    "reads dy in the order of memory: A transposed dy, as a product hands it back, is scrambled.",
    backward(lambda layer, dy, mask: dy.ravel(order="K").reshape(dy.shape) * mask),
    "takes strides for positive: A dy that was flipped is read from its end.",
    backward(
        lambda layer, dy, mask: (
            dy[tuple(slice(None, None, s < 0 and -1 or 1) for s in dy.strides)] * mask
        )
    ),
    "takes a broadcast dy for a mean: Strides of 0, as of y.sum(), are divided by the size.",
    backward(lambda layer, dy, mask: dy * mask / (1 if any(dy.strides) else dy.size)),
    "adds an epsilon to dy: dx = (dy + 1e-12) mask, which no difference of float64 shows.",
    backward(lambda layer, dy, mask: (dy + 1e-12) * mask),
    "divides by dy: dx = dy² / dy, which is NaN where dy is 0.",
    backward(lambda layer, dy, mask: dy * dy / dy * mask),
    "clips far out: dx is held to [-1000, 1000], which a usual dy never reaches.",
    backward(lambda layer, dy, mask: np.clip(dy * mask, -1e3, 1e3)),
    "drops what is small: What is below 1e-5 is set to 0.",
    backward(lambda layer, dy, mask: np.where(abs(dy) < 1e-5, 0, dy) * mask),
)


def _remembered(layer: Any, key: Any, value: Any) -> Any:
    return vars(layer).setdefault("remembered", {}).setdefault(key, value)


def _with_input(layer: Any, dy: Array, c: Any, x: Array) -> Array:
    return Dense.backward(layer, dy, c._replace(x=x))


def _forward_and_norm(layer: Any, x: Array, mode: Mode) -> tuple[Array, Any]:
    layer.norm, layer.examples = np.linalg.norm(x), len(x)
    return Dense.forward(layer, x, mode)


dense_layer.plant(
    "keeps its input by shape: Another batch of the same shape gets the first one's gradient.",
    backward(
        lambda layer, dy, c: _with_input(layer, dy, c, _remembered(layer, c.x.shape, c.x.copy()))
    ),
    "keeps its input by identity: An array whose values were replaced is taken for the old one.",
    backward(
        lambda layer, dy, c: _with_input(
            layer, dy, c, _remembered(layer, id(c.x), (c.x, c.x.copy()))[1]
        )
    ),
    "keeps the norm of its input: The norm is that of the last forward pass, in any order.",
    wrong(
        forward=_forward_and_norm,
        backward=lambda layer, dy, c: Dense.backward(
            layer, dy * (layer.norm / np.linalg.norm(c.x)), c
        ),
    ),
    "keeps the number of examples: N is that of the last forward pass, as of a last batch.",
    wrong(
        forward=_forward_and_norm,
        backward=lambda layer, dy, c: Dense.backward(layer, dy * (layer.examples / len(dy)), c),
    ),
)

dropout_layer.plant(
    "draws another mask: The backward pass draws a fresh mask.",
    wrong(
        rng=np.random.default_rng(5),
        backward=lambda layer, dy, c: dy * (layer.rng.random(dy.shape) < 0.6) * c.scale,
    ),
    "draws outside the mode: The mask comes from a generator inside the layer: no run repeats.",
    wrong(
        rng=np.random.default_rng(6),
        forward=lambda layer, x, mode: Dropout.forward(layer, x, Mode(train=True, rng=layer.rng)),
    ),
)
