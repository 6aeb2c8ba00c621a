"""A network rewritten for speed: runs of its layers become blocks, one operation each.

    convolution → ReLU → max-pool 2×2        one ``conv2d_block``
    batch norm → ReLU → max-pool 2×2         one ``batchnorm_block`` (in training)
    convolution → batch norm → …             one ``conv2d_block`` outside training: the batch norm
                                             only scales and shifts then, and so can the filters

A plan shares the parameters and statistics of the network that it was made of, and computes the
same numbers to rounding. It is made anew for every step, which costs microseconds a layer, so that
a network may be changed, frozen or unfrozen at any time. ``Sequential``, ``Residual`` and
``Concat`` are looked into; a layer that writes its own forward pass is run as it is.

A plan's cache is used up by its backward pass, layer by layer, so that memory is given back as
early as can be. That is why a plan is no replacement for the network itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from tinynet.backend import Array, array_module, library_of
from tinynet.blocks import (
    batchnorm_block_backward,
    batchnorm_block_forward,
    conv2d_block_backward,
    conv2d_block_forward,
)
from tinynet.layer import EVAL, Layer, Mode, Shape, check_input
from tinynet.layers import BatchNorm, Concat, Conv2D, MaxPool2D, ReLU, Residual, Sequential
from tinynet.workspace import empty


class Plan(Layer):
    """Layers and blocks, one after the other."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)

    def children(self) -> dict[str, Layer]:
        """Layers by position."""
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, list[Any]]:
        """The last layer's output, and the caches of all."""
        caches = []
        for layer in self.layers:
            x, cache = layer.forward(x, mode)
            caches.append(cache)
        return x, caches

    def backward(self, dy: Array, cache: list[Any]) -> Array:
        """The chain rule from last to first; empties the list of caches."""
        for layer in reversed(self.layers):
            dy = layer.backward(dy, cache.pop())
        return dy

    def run(self, x: Array, mode: Mode = EVAL) -> Array:
        """The output alone: every cache is dropped at once."""
        for layer in self.layers:
            parts = isinstance(layer, Plan | Sum | Stack)
            x = layer.run(x, mode) if parts else layer.forward(x, mode)[0]  # type: ignore[attr-defined]
        return x


class Sum(Layer):
    """A residual block of plans.  Report §3.3."""

    def __init__(self, of: Residual, main: Plan, skip: Plan | None) -> None:
        self.of, self.main, self.skip = of, main, skip

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, tuple[Any, Any]]:
        """The sum of both paths."""
        y, main_cache = self.main.forward(x, mode)
        s, skip_cache = (x, None) if self.skip is None else self.skip.forward(x, mode)
        self.of.check_same(y.shape[1:], s.shape[1:])
        return add(y, s), (main_cache, skip_cache)

    def backward(self, dy: Array, cache: tuple[Any, Any]) -> Array:
        """The sum of the gradients that come back by each path."""
        main_cache, skip_cache = cache
        dx = self.main.backward(dy, main_cache)
        return add(dx, dy if self.skip is None else self.skip.backward(dy, skip_cache))

    def run(self, x: Array, mode: Mode = EVAL) -> Array:
        """The sum alone."""
        y = self.main.run(x, mode)
        s = x if self.skip is None else self.skip.run(x, mode)
        self.of.check_same(y.shape[1:], s.shape[1:])
        return add(y, s)


class Stack(Layer):
    """Branches of plans, their channels stacked.  Report §3.2."""

    def __init__(self, of: Concat, branches: Sequence[Plan]) -> None:
        self.of, self.branches = of, list(branches)

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, tuple[list[Any], list[int]]]:
        """The branches' outputs, stacked along the last axis."""
        passes = [branch.forward(x, mode) for branch in self.branches]
        outputs = [y for y, _ in passes]
        self.of.check_same([y.shape[1:] for y in outputs])
        y = stack(outputs)
        return y, ([cache for _, cache in passes], [part.shape[-1] for part in outputs])

    def backward(self, dy: Array, cache: tuple[list[Any], list[int]]) -> Array:
        """Each branch takes its channels of dy back; the input's gradients add up."""
        caches, widths = cache
        start = sum(widths)
        dx: Array | None = None
        for branch, width in zip(reversed(self.branches), reversed(widths), strict=True):
            start -= width
            part = branch.backward(dy[..., start : start + width], caches.pop())
            dx = part if dx is None else add(dx, part)
        assert dx is not None  # a Concat has at least one branch
        return dx

    def run(self, x: Array, mode: Mode = EVAL) -> Array:
        """The outputs alone."""
        outputs = [branch.run(x, mode) for branch in self.branches]
        self.of.check_same([y.shape[1:] for y in outputs])
        return stack(outputs)


class Tail(NamedTuple):
    """ReLU and pool, as far as there are any, of a block."""

    kind: str  # one of tinynet.blocks.TAILS
    layers: list[Layer]

    def check(self, shape: Shape) -> None:
        """Raise the pool's ValueError if ``shape`` (H, W, C) is too small for it."""
        for layer in self.layers:
            layer.output_shape(shape)


class ConvBlock(Layer):
    """A convolution with what follows it.

    norm      outside training, the batch norm after it
    need_dx   False: the first layer of a network, ∂L/∂x is not computed
    """

    def __init__(self, conv: Conv2D, tail: Tail, norm: BatchNorm | None = None) -> None:
        self.conv, self.tail, self.norm = conv, tail, norm
        self.need_dx = True
        self.w, self.b = folded(conv, norm)

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        """y, as conv2d_block_forward."""
        conv = self.conv
        check_input(conv, x, (None, None, None, conv.in_channels), conv.weight.value)
        self.tail.check(conv.output_shape(x.shape[1:]))
        where = conv.stride, conv.padding, conv.dilation, conv.groups
        return conv2d_block_forward(x, self.w, self.b, *where, self.tail.kind)

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx, or nothing where nobody needs it; adds to the gradients of weight and bias."""
        dx, dw, db = conv2d_block_backward(dy, cache, self.need_dx)
        self.conv.weight.grad += dw
        if self.conv.bias is not None:
            self.conv.bias.grad += db
        return dx  # type: ignore[return-value]


class BatchNormBlock(Layer):
    """A batch norm with what follows it, in training."""

    def __init__(self, norm: BatchNorm, tail: Tail) -> None:
        self.norm, self.tail = norm, tail

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        """y, as batchnorm_block_forward; the moving statistics take a step."""
        norm, beta = self.norm, self.norm.beta.value
        check_input(norm, x, (None, None, None, norm.channels), beta)
        gamma = array_module(beta).ones_like(beta) if norm.gamma is None else norm.gamma.value
        self.tail.check(x.shape[1:])
        y, cache = batchnorm_block_forward(x, gamma, beta, norm.epsilon, self.tail.kind)
        norm.update_statistics(cache.mean, cache.variance)
        return y, cache

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx; adds to the gradients of gamma, if there is one, and beta."""
        dx, dgamma, dbeta = batchnorm_block_backward(dy, cache)
        if self.norm.gamma is not None:
            self.norm.gamma.grad += dgamma
        self.norm.beta.grad += dbeta
        return dx


def training_plans(model: Layer) -> tuple[Plan, Plan]:
    """The plans of a training step: up to the first trainable parameter, and from there on.

        y = rest(r),  r = before(x);   ∂L/∂r is needed by nothing  (§2.5.6)

    ``before`` is for ``run``. The backward pass of ``rest`` returns nothing of use: ∂L/∂r is left
    out where its first layer is a convolution. Only plain ``Sequential`` layers are cut in two:
    there alone is it plain which layer comes before which.
    """
    before, rest = without_gradient(model)
    plan = Plan(_blocks(rest, training=True))
    if plan.layers and isinstance(plan.layers[0], ConvBlock):
        plan.layers[0].need_dx = False
    return Plan(_blocks(before, training=True)), plan


def without_gradient(model: Layer) -> tuple[list[Layer], list[Layer]]:
    """A network's layers before the first trainable parameter, and the rest.  Report §2.5.6."""
    layers = in_sequence(model)
    count = 0
    while count < len(layers) and not any(
        parameter.trainable for parameter in layers[count].parameters().values()
    ):
        count += 1
    return layers[:count], layers[count:]


def inference_plan(model: Layer) -> Plan:
    """The plan of a network outside training, for ``run``; made for the weights as they are now."""
    return Plan(_blocks(in_sequence(model), training=False))


def folded(conv: Conv2D, norm: BatchNorm | None) -> tuple[Array, Array | None]:
    """Filters and bias of a convolution that does its batch norm's work too.  Report §2.4.3.

    γ (w x + b − μ) / √(σ² + ε) + β = (s w) x + (s (b − μ) + β),   s = γ / √(σ² + ε)
    """
    w, b = conv.weight.value, None if conv.bias is None else conv.bias.value
    if norm is None:
        return w, b
    beta = norm.beta.value
    s = (1 if norm.gamma is None else norm.gamma.value) / array_module(beta).sqrt(
        norm.running_var + beta.dtype.type(norm.epsilon)
    )
    return w * s, s * ((0 if b is None else b) - norm.running_mean) + beta


def add(a: Array, b: Array) -> Array:
    """a + b, in the step's workspace."""
    if library_of(a) != "numpy":
        return a + b
    return np.add(a, b, out=empty(a.shape, np.result_type(a, b)))


def stack(parts: list[Array]) -> Array:
    """Arrays side by side along the last axis, in the step's workspace."""
    if library_of(parts[0]) != "numpy":
        return cast(Array, array_module(*parts).concatenate(parts, axis=-1))
    shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
    return np.concatenate(parts, axis=-1, out=empty(shape, np.result_type(*parts)))


def _blocks(layers: list[Layer], training: bool) -> list[Layer]:
    """Layers in sequence, the longest runs that make a block first."""
    planned: list[Layer] = []
    at = 0
    while at < len(layers):
        layer, rest = layers[at], layers[at + 1 :]
        if type(layer) is Conv2D:
            norm = rest[0] if not training and rest and type(rest[0]) is BatchNorm else None
            tail = _tail(rest[1:] if norm else rest)
            planned.append(ConvBlock(layer, tail, norm))
            at += 1 + bool(norm) + len(tail.layers)
        elif type(layer) is BatchNorm and training and _normalises_images(layer, planned):
            tail = _tail(rest)
            planned.append(BatchNormBlock(layer, tail))
            at += 1 + len(tail.layers)
        else:
            planned.append(_inside(layer, training))
            at += 1
    return planned


def _tail(layers: list[Layer]) -> Tail:
    """What follows a convolution or batch norm and can join its block."""
    if not layers or type(layers[0]) is not ReLU or layers[0].threshold:
        return Tail("none", [])
    if len(layers) > 1 and _halves(layers[1]):
        return Tail("relu_pool", layers[:2])
    return Tail("relu", layers[:1])


def _halves(layer: Layer) -> bool:
    """Whether this is a max-pool 2×2 without padding."""
    return (
        type(layer) is MaxPool2D
        and layer.pool_size == layer.stride == (2, 2)
        and layer.padding in ("valid", 0)
    )


def _normalises_images(norm: BatchNorm, before: list[Layer]) -> bool:
    """Whether a batch norm gets (N, H, W, C), and uses the batch's own statistics."""
    return not norm.frozen_statistics and bool(before) and isinstance(before[-1], ConvBlock)


def _inside(layer: Layer, training: bool) -> Layer:
    """A container of plans, or the layer itself."""
    if type(layer) is Residual:
        skip = None if layer.skip is None else _plan(layer.skip, training)
        return Sum(layer, _plan(layer.main, training), skip)
    if type(layer) is Concat:
        return Stack(layer, [_plan(branch, training) for branch in layer.branches])
    return layer


def _plan(layer: Layer, training: bool) -> Plan:
    return Plan(_blocks(in_sequence(layer), training))


def in_sequence(layer: Layer) -> list[Layer]:
    """The layers that a plain ``Sequential`` runs one after the other, from inside out."""
    kind = type(layer)
    if not isinstance(layer, Sequential) or (kind.forward, kind.backward) != (
        Sequential.forward,
        Sequential.backward,
    ):
        return [layer]
    return [inner for child in layer.layers for inner in in_sequence(child)]
