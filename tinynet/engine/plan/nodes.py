"""What a plan is made of: layers and fused operations that share a network's parameters.

    Plan                             one after the other
    PlannedResidual, PlannedConcat   a residual block of plans; branches of plans side by side
    FusedConv2D                      a convolution, its batch norm outside training, its epilogue
    FusedBatchNorm                   a batch norm in training, its epilogue
    FusedDense                       a dense layer in training

``build`` makes them of a network. The backward pass uses up a cache layer by layer, so that memory
is given back early; a plan's cache therefore serves one backward pass only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from tinynet.backend import Array, array_module, library_of
from tinynet.engine.memory import empty
from tinynet.engine.plan.epilogues import (
    batchnorm_fused_backward,
    batchnorm_fused_forward,
    conv2d_fused_backward,
    conv2d_fused_forward,
    dense_fused_backward,
)
from tinynet.engine.precision import added, in_float32, is_bfloat16
from tinynet.layer import EVAL, Layer, Mode, Shape, check_input
from tinynet.layers import (
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Residual,
)
from tinynet.layers.dense import dense_forward


class Planned(Layer):
    """A part of a plan that is not one of the network's own layers."""

    def run(self, x: Array, mode: Mode = EVAL) -> Array:
        """The output alone: every cache is dropped at once."""
        return self.forward(x, mode)[0]


class Plan(Planned):
    """Layers and fused operations, one after the other."""

    per_image = True

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.layers = list(layers)

    def children(self) -> dict[str, Layer]:
        """Layers by position."""
        return {str(i): layer for i, layer in enumerate(self.layers)}

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, list[Any]]:
        """The last layer's output, and every layer's cache."""
        caches = []
        for layer in self.layers:
            if supports_dtype(layer, x):
                x, cache = layer.forward(x, mode)
            else:
                x, cache = in_float32(layer.forward, x, mode)
            caches.append(cache)
        return x, caches

    def backward(self, dy: Array, cache: list[Any]) -> Array:
        """The chain rule from last to first; empties the list of caches."""
        for layer in reversed(self.layers):
            if supports_dtype(layer, dy):
                dy = layer.backward(dy, cache.pop())
            else:
                dy = in_float32(layer.backward, dy, cache.pop())
        return dy

    def output_shape(self, input_shape: Shape) -> Shape:
        """That of the last layer."""
        for layer in self.layers:
            input_shape = layer.output_shape(input_shape)
        return input_shape

    def run(self, x: Array, mode: Mode = EVAL) -> Array:
        """The last layer's output alone."""
        for layer in self.layers:
            if isinstance(layer, Planned):
                x = layer.run(x, mode)
            elif supports_dtype(layer, x):
                x = layer.forward(x, mode)[0]
            else:
                x = in_float32(lambda x, layer=layer: layer.forward(x, mode)[0], x)
        return x


class PlannedResidual(Planned):
    """A residual block of plans.  Report §3.3."""

    per_image = True

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

    def output_shape(self, input_shape: Shape) -> Shape:
        """That of the residual block."""
        return self.of.output_shape(input_shape)

    def run(self, x: Array, mode: Mode = EVAL) -> Array:
        """The sum alone."""
        y = self.main.run(x, mode)
        s = x if self.skip is None else self.skip.run(x, mode)
        self.of.check_same(y.shape[1:], s.shape[1:])
        return add(y, s)


class PlannedConcat(Planned):
    """Branches of plans, their channels stacked.  Report §3.2."""

    per_image = True

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

    def output_shape(self, input_shape: Shape) -> Shape:
        """That of the branches side by side."""
        return self.of.output_shape(input_shape)

    def run(self, x: Array, mode: Mode = EVAL) -> Array:
        """The outputs alone."""
        outputs = [branch.run(x, mode) for branch in self.branches]
        self.of.check_same([y.shape[1:] for y in outputs])
        return stack(outputs)


class Epilogue(NamedTuple):
    """The layers that are fused with the operation before them."""

    kind: str  # one of tinynet.engine.plan.epilogues.EPILOGUES
    layers: list[Layer]

    def output_shape(self, shape: Shape) -> Shape:
        """Of one output, from (H, W, C); raises the pool's ValueError if that is too small."""
        for layer in self.layers:
            shape = layer.output_shape(shape)
        return shape


class FusedConv2D(Planned):
    """A convolution with what follows it.

    norm      outside training, the batch norm after it
    need_dx   False: the first layer of a network, ∂L/∂x is not computed
    """

    per_image = True

    def __init__(self, conv: Conv2D, epilogue: Epilogue, norm: BatchNorm | None = None) -> None:
        self.conv, self.epilogue, self.norm = conv, epilogue, norm
        self.need_dx = True
        self.w, self.b = folded(conv, norm)

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        """y, as conv2d_fused_forward."""
        conv = self.conv
        check_input(conv, x, (None, None, None, conv.in_channels), _expected(x, conv.weight.value))
        self.output_shape(x.shape[1:])  # raises ValueError for too small an image
        geometry = conv.stride, conv.padding, conv.dilation, conv.groups
        return conv2d_fused_forward(x, self.w, self.b, *geometry, self.epilogue.kind)

    def backward(self, dy: Array, cache: Any) -> Array:
        """Return dx, or None if it is not needed; adds to the gradients of weight and bias."""
        dx, dw, db = conv2d_fused_backward(dy, cache, self.need_dx)
        self.conv.weight.grad += dw
        if self.conv.bias is not None:
            self.conv.bias.grad += db
        return dx  # type: ignore[return-value]

    def output_shape(self, input_shape: Shape) -> Shape:
        """(H, W, C) -> what the convolution and its epilogue leave."""
        return self.epilogue.output_shape(self.conv.output_shape(input_shape))


class FusedBatchNorm(Planned):
    """A batch norm with what follows it, in training."""

    def __init__(self, norm: BatchNorm, epilogue: Epilogue) -> None:
        self.norm, self.epilogue = norm, epilogue

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        """y, as batchnorm_fused_forward; the moving statistics take a step."""
        norm, beta = self.norm, self.norm.beta.value
        check_input(norm, x, (None, None, None, norm.channels), _expected(x, beta))
        gamma = array_module(beta).ones_like(beta) if norm.gamma is None else norm.gamma.value
        norm.check_batch(x)
        self.output_shape(x.shape[1:])
        y, cache = batchnorm_fused_forward(x, gamma, beta, norm.epsilon, self.epilogue.kind)
        norm.update_statistics(x, cache[0].mean, cache[0].variance)
        return y, cache

    def backward(self, dy: Array, cache: Any) -> Array:
        """dx; adds to the gradients of gamma, if there is one, and beta."""
        dx, dgamma, dbeta = batchnorm_fused_backward(dy, cache)
        if self.norm.gamma is not None:
            self.norm.gamma.grad += dgamma
        self.norm.beta.grad += dbeta
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        """(H, W, C) -> what the epilogue leaves."""
        return self.epilogue.output_shape(input_shape)


class FusedDense(Planned):
    """A dense layer; in the backward pass its gradients are added where they are kept.

    need_dx   as ``FusedConv2D``'s
    """

    def __init__(self, dense: Dense) -> None:
        self.dense = dense
        self.need_dx = True

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        """z (N, ..., n_out), as the layer's."""
        weight, bias = self.dense.weight.value, self.dense.bias
        check_input(self.dense, x, (None, ..., self.dense.in_features), _expected(x, weight))
        return dense_forward(x, weight, None if bias is None else bias.value)

    def backward(self, dy: Array, cache: Any) -> Array:
        """Return dx, or None if it is not needed; adds to the gradients of weight and bias."""
        weight, bias = self.dense.weight, self.dense.bias
        db = None if bias is None else bias.grad
        dx = dense_fused_backward(weight.grad, db, dy, cache, self.need_dx)
        return dx  # type: ignore[return-value]

    def output_shape(self, input_shape: Shape) -> Shape:
        """(..., n_in) -> (..., n_out)."""
        return self.dense.output_shape(input_shape)


def supports_dtype(layer: Layer, x: Any) -> bool:
    """Return True if the layer has kernels for activations of x's dtype."""
    if isinstance(x, tuple) or not is_bfloat16(x):
        return True
    return isinstance(layer, Planned) or "bfloat16" in layer.promise("dtypes")


def _expected(x: Array, w: Array) -> Array | None:
    """The array whose dtype and library x must have; None where x is stored in bfloat16."""
    return None if is_bfloat16(x) else w


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
        return added(a, b)
    return np.add(a, b, out=empty(a.shape, np.result_type(a, b)))


def stack(parts: list[Array]) -> Array:
    """Arrays side by side along the last axis, in the step's workspace."""
    if library_of(parts[0]) != "numpy":
        xp = array_module(*parts)
        if is_bfloat16(parts[0]):  # CuPy moves numbers of two bytes, whatever they mean
            bits = [part.view(np.uint16) for part in parts]
            return cast(Array, xp.concatenate(bits, axis=-1).view(parts[0].dtype))
        return cast(Array, xp.concatenate(parts, axis=-1))
    shape = (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
    return np.concatenate(parts, axis=-1, out=empty(shape, np.result_type(*parts)))
