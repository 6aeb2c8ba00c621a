"""How each layer is written in ONNX: one function a layer, chosen by the layer's class.

A function takes the graph, the layer, the name of its input and the input's shape (ours, without
the batch) and returns the name of its output.  Inside the graph the channels, our last axis, are
axis 1, as ONNX wants them: an image is (N, C, H, W), a sequence (N, C, T), a flat input (N, F).

A layer of your own is added with ``@to_onnx.register``; what is written is its EVAL mode.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import numpy as np

from tinynet import layers
from tinynet.backend import Array, to_device
from tinynet.layer import Layer, Shape, join
from tinynet.layers.adaptive_pooling import adaptive_avg_pool2d_forward
from tinynet.layers.window import window_over
from tinynet.models.googlenet import GoogLeNet
from tinynet.train.reading import WeightsError

FORWARD = ("forward", "passes", "settings")  # what decides over a layer's forward pass
WIRINGS = {"series": "", "gate": "Mul", "sum": "Sum", "concat": "Concat", "mean": "Mean"}


class OnnxGraph:
    """Nodes and constants of a graph, and their names, each given once.

    Everything is float32, the type that every runtime has all operators for.
    """

    def __init__(self) -> None:
        self.onnx = imported()
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.path = ""  # dotted name of the layer in hand, which its nodes are named after
        self._names: dict[str, int] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output; returns that output's name."""
        name = self._unused(f"{self.path}/{operator}")
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Array | np.floating | Shape, name: str) -> str:
        """A constant in the graph: float32, or int64 for whole numbers; returns its name."""
        host = value if isinstance(value, np.floating | tuple) else to_device(value, "numpy")
        x = np.asarray(host)
        x = np.ascontiguousarray(x, np.int64 if x.dtype.kind in "iu" else np.float32)
        name = self._unused(f"{self.path}.{name}")
        self.constants.append(self.onnx.numpy_helper.from_array(x, name))
        return name

    def channels_first(self, x: str, rank: int) -> str:
        """Move the last of ``rank`` axes behind the batch: (N, H, W, C) -> (N, C, H, W)."""
        return self.add("Transpose", x, perm=(0, rank, *range(1, rank))) if rank > 1 else x

    def channels_last(self, x: str, rank: int) -> str:
        """Undo ``channels_first``."""
        return self.add("Transpose", x, perm=(0, *range(2, rank + 1), 1)) if rank > 1 else x

    def _unused(self, name: str) -> str:
        """``name`` without a dot or slash in front, and with a number if it was given before."""
        name = name.lstrip("./")
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return f"{name}_{count}" if count else name


def imported() -> Any:
    """The onnx package.  Raises WeightsError, with the command to install it, if it is missing."""
    try:
        import onnx
        import onnx.numpy_helper
    except ImportError as error:
        raise WeightsError(
            'onnx is not installed, which writes the file: python -m pip install "tinynet-dl[onnx]"'
        ) from error
    return onnx


def write(layer: Layer, graph: OnnxGraph, x: str, shape: Shape) -> str:
    """Append ``layer`` to ``graph``, on its tensor ``x``; returns the name of the output.

    Raises WeightsError for a layer without an ONNX form: one that is neither registered here nor a
    container, or that overrides the forward pass of the class that is.
    """
    # the class that states the form; Layer itself states an empty wiring
    stated = (k for k in type(layer).__mro__ if k in to_onnx.registry or "wiring" in vars(k))
    kind: Any = next(stated)
    parts = [part for part in FORWARD if hasattr(kind, part)]
    own = any(getattr(type(layer), part) is not getattr(kind, part) for part in parts)
    if not own and vars(layer).keys().isdisjoint(parts):
        if kind in to_onnx.registry:
            return to_onnx(layer, graph, x, shape)
        if kind.wiring in WIRINGS:
            return container(layer, graph, x, shape)
    derived = kind in to_onnx.registry or kind.wiring in WIRINGS
    why = ", since it overrides the forward pass of its class" if derived else ""
    raise WeightsError(
        f"{graph.path or 'the model'} ({type(layer).__name__}) has no ONNX form{why}: write one "
        "and register it with @tinynet.interop.onnx_layers.to_onnx.register"
    )


def container(layer: Layer, graph: OnnxGraph, x: str, shape: Shape) -> str:
    """Layers that are connected as the container's ``wiring`` says."""
    ends = []
    for name, part in layer.children().items():
        ends.append(inner(part, name, graph, x, shape))
        if layer.wiring == "series":
            x, shape = ends[-1], part.output_shape(shape)
    if layer.wiring == "series":
        return x
    if layer.wiring == "gate" and len(part.output_shape(shape)) < len(shape):
        # a gate for each channel of an image
        ends = [graph.add("Unsqueeze", *ends, graph.constant((2, 3), "axes"))]
    if layer.wiring == "gate" or (layer.wiring == "sum" and len(ends) == 1):
        ends.append(x)
    attributes = {"axis": 1} if layer.wiring == "concat" else {}
    return graph.add(WIRINGS[layer.wiring], *ends, **attributes)


def inner(layer: Layer, name: str, graph: OnnxGraph, x: str, shape: Shape) -> str:
    """A container's layer, whose nodes are named by its dotted path."""
    outer = graph.path
    graph.path = join(outer, name)
    y = write(layer, graph, x, shape)
    graph.path = outer
    return y


@singledispatch
def to_onnx(layer: Any, graph: OnnxGraph, x: str, shape: Shape) -> str:
    """The function of a layer's class; ``write`` calls it."""
    raise TypeError(f"{type(layer).__name__} has no ONNX form")


@to_onnx.register
def _(layer: GoogLeNet, graph: OnnxGraph, x: str, shape: Shape) -> str:
    x = inner(layer.base, "base", graph, x, shape)  # the auxiliary heads are training's
    return inner(layer.head, "head", graph, x, layer.base.output_shape(shape))


@to_onnx.register
def _(layer: layers.Dense, graph: OnnxGraph, x: str, shape: Shape) -> str:
    x = graph.channels_last(x, len(shape))
    y = graph.add("MatMul", x, graph.constant(layer.weight.value, "weight"))
    if layer.bias is not None:
        y = graph.add("Add", y, graph.constant(layer.bias.value, "bias"))
    return graph.channels_first(y, len(shape))


@to_onnx.register
def _(layer: layers.Conv2D, graph: OnnxGraph, x: str, shape: Shape) -> str:
    filters = graph.constant(layer.weight.value.transpose(3, 2, 0, 1), "weight")
    bias = [] if layer.bias is None else [graph.constant(layer.bias.value, "bias")]
    window = geometry(shape, layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    dilations = {"dilations": layer.dilation, "group": layer.groups}
    return graph.add("Conv", x, filters, *bias, **window, **dilations)


@to_onnx.register(layers.MaxPool2D)
@to_onnx.register(layers.AvgPool2D)
@to_onnx.register(layers.SumPool2D)
def pool(layer: Any, graph: OnnxGraph, x: str, shape: Shape) -> str:
    window = geometry(shape, layer.pool_size, layer.stride, layer.padding, layer.dilation)
    if isinstance(layer, layers.MaxPool2D):
        return graph.add("MaxPool", x, **window, dilations=layer.dilation)
    if layer.dilation != (1, 1):  # AveragePool has none before opset 19
        ones = graph.constant(np.ones((shape[2], 1, *layer.pool_size)), "ones")
        y = graph.add("Conv", x, ones, **window, dilations=layer.dilation, group=shape[2])
        if not isinstance(layer, layers.AvgPool2D):
            return y
        _, cache = layers.avg_pool2d_forward(np.zeros((1, *shape)), *layer.settings())
        return graph.add("Div", y, graph.constant(cache.n.transpose(0, 3, 1, 2), "cells"))
    count = not isinstance(layer, layers.AvgPool2D) or (
        layer.count_padding and layer.padding != "ceil"
    )
    y = graph.add("AveragePool", x, **window, count_include_pad=int(count))
    if isinstance(layer, layers.AvgPool2D):
        return y
    return graph.add("Mul", y, graph.constant(np.float32(np.prod(layer.pool_size)), "cells"))


@to_onnx.register(layers.GlobalAvgPool2D)
@to_onnx.register(layers.GlobalMaxPool2D)
def global_pool(layer: Any, graph: OnnxGraph, x: str, shape: Shape) -> str:
    largest = isinstance(layer, layers.GlobalMaxPool2D)
    return graph.add("Flatten", graph.add("GlobalMaxPool" if largest else "GlobalAveragePool", x))


@to_onnx.register
def _(layer: layers.AdaptiveAvgPool2D, graph: OnnxGraph, x: str, shape: Shape) -> str:
    # R X Cᵀ for each image and channel, with the layer's own matrices
    _, (rows, columns, _) = adaptive_avg_pool2d_forward(np.zeros((1, *shape)), layer.output_size)
    x = graph.add("MatMul", graph.constant(rows, "rows"), x)
    return graph.add("MatMul", x, graph.constant(columns.T, "columns"))


@to_onnx.register
def _(layer: layers.Flatten, graph: OnnxGraph, x: str, shape: Shape) -> str:
    return graph.add("Flatten", graph.channels_last(x, len(shape)))  # ours is in the order H, W, C


@to_onnx.register
def _(layer: layers.BatchNorm, graph: OnnxGraph, x: str, shape: Shape) -> str:
    arrays = {
        "gamma": np.ones(layer.channels) if layer.gamma is None else layer.gamma.value,
        "beta": layer.beta.value,
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
    }
    constants = [graph.constant(value, name) for name, value in arrays.items()]
    return graph.add("BatchNormalization", x, *constants, epsilon=layer.epsilon)


@to_onnx.register
def _(layer: layers.ReLU, graph: OnnxGraph, x: str, shape: Shape) -> str:
    if layer.threshold == 0:
        return graph.add("Relu", x)
    return graph.add("Max", x, graph.constant(np.float32(layer.threshold), "threshold"))


@to_onnx.register
def _(layer: layers.ReLU6, graph: OnnxGraph, x: str, shape: Shape) -> str:
    low, high = graph.constant(np.float32(0), "low"), graph.constant(np.float32(6), "high")
    return graph.add("Clip", x, low, high)


@to_onnx.register
def _(layer: layers.Sigmoid, graph: OnnxGraph, x: str, shape: Shape) -> str:
    return graph.add("Sigmoid", x)


@to_onnx.register
def _(layer: layers.Softmax, graph: OnnxGraph, x: str, shape: Shape) -> str:
    axis = layer.axis % (len(shape) + 1)
    return graph.add("Softmax", x, axis=1 if axis == len(shape) else axis + 1)


@to_onnx.register
def _(layer: layers.LeakyReLU, graph: OnnxGraph, x: str, shape: Shape) -> str:
    return graph.add("LeakyRelu", x, alpha=float(layer.slope))


@to_onnx.register
def _(layer: layers.Tanh, graph: OnnxGraph, x: str, shape: Shape) -> str:
    return graph.add("Tanh", x)


@to_onnx.register
def _(layer: layers.GELU, graph: OnnxGraph, x: str, shape: Shape) -> str:
    root, one, half = (
        graph.constant(np.float32(n), name)
        for name, n in (("root", 0.5**0.5), ("one", 1), ("half", 0.5))
    )
    below = graph.add("Add", graph.add("Erf", graph.add("Mul", x, root)), one)
    return graph.add("Mul", graph.add("Mul", x, half), below)


@to_onnx.register
def _(layer: layers.GroupNorm, graph: OnnxGraph, x: str, shape: Shape) -> str:
    groups = graph.add("Reshape", x, graph.constant((0, layer.groups, -1), "groups"))
    ones, zeros = np.ones(layer.groups), np.zeros(layer.groups)
    constants = graph.constant(ones, "ones"), graph.constant(zeros, "zeros")
    y = graph.add("InstanceNormalization", groups, *constants, epsilon=layer.epsilon)
    y = graph.add("Reshape", y, first(graph, shape))
    gamma, beta = (p.value[:, None, None] for p in (layer.gamma, layer.beta))
    y = graph.add("Mul", y, graph.constant(gamma, "gamma"))
    return graph.add("Add", y, graph.constant(beta, "beta"))


@to_onnx.register
def _(layer: layers.LayerNorm, graph: OnnxGraph, x: str, shape: Shape) -> str:
    x = graph.channels_last(x, len(shape))
    gamma, beta = (
        graph.constant(layer.gamma.value, "gamma"),
        graph.constant(layer.beta.value, "beta"),
    )
    y = graph.add("LayerNormalization", x, gamma, beta, axis=-1, epsilon=layer.epsilon)
    return graph.channels_first(y, len(shape))


@to_onnx.register
def _(layer: layers.Dropout, graph: OnnxGraph, x: str, shape: Shape) -> str:
    if layer.scale_at == "train" or layer.frozen_dropout:
        return x
    return graph.add("Mul", x, graph.constant(np.float32(layer.keep_prob), "keep_prob"))


@to_onnx.register
def _(layer: layers.LocalResponseNorm, graph: OnnxGraph, x: str, shape: Shape) -> str:
    image = len(shape) == 3  # runtimes take nothing else
    if not image:
        x = graph.add("Reshape", x, graph.constant((0, shape[-1], -1, 1), "as_image"))
    # ONNX divides alpha by the number of channels under the window, our form does not
    alpha = layer.alpha * layer.size
    y = graph.add("LRN", x, size=layer.size, alpha=alpha, beta=layer.beta, bias=layer.k)
    return y if image else graph.add("Reshape", y, first(graph, shape))


@to_onnx.register
def _(layer: layers.Scale, graph: OnnxGraph, x: str, shape: Shape) -> str:
    return graph.add("Mul", x, graph.constant(np.float32(layer.factor), "factor"))


@to_onnx.register
def _(layer: layers.ChannelSlice, graph: OnnxGraph, x: str, shape: Shape) -> str:
    bounds = {"start": layer.start, "stop": layer.stop, "axis": 1}
    return graph.add("Slice", x, *(graph.constant((n,), name) for name, n in bounds.items()))


@to_onnx.register
def _(layer: layers.ChannelShuffle, graph: OnnxGraph, x: str, shape: Shape) -> str:
    apart = (0, layer.groups, shape[-1] // layer.groups, -1)
    x = graph.add("Reshape", x, graph.constant(apart, "apart"))
    x = graph.add("Transpose", x, perm=(0, 2, 1, 3))
    return graph.add("Reshape", x, first(graph, shape))


def first(graph: OnnxGraph, shape: Shape) -> str:
    """A constant, the shape with its channels first; a 0 copies that axis, the batch."""
    return graph.constant((0, shape[-1], *shape[:-1]), "shape")


def geometry(shape: Shape, *window_of: Any) -> dict[str, Any]:
    """Attributes of a window over images, the padding in ONNX's order: top, left, bottom, right."""
    window = window_over((shape[0], shape[1]), *window_of)
    (top, bottom), (left, right) = window.padding
    return {
        "kernel_shape": window.kernel,
        "strides": window.stride,
        "pads": [top, left, bottom, right],
    }
