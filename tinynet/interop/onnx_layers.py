"""How each layer is written in ONNX: one function a layer, chosen by the layer's class.

A function takes the graph, the layer, the name of its input and the input's shape (ours, without
the batch) and returns the name of its output. Inside the graph an image is (N, C, H, W), so the
channels, our last axis, are axis 1; so are the numbers of a flat (N, F).

A layer of your own is added with ``@to_onnx.register``; what is written is its EVAL mode.
"""

from __future__ import annotations

from functools import singledispatch

import numpy as np

from tinynet.interop.errors import WeightsError
from tinynet.interop.onnx_graph import OnnxGraph
from tinynet.layer import Layer, Shape, join
from tinynet.layers import (
    AdaptiveAvgPool2D,
    AvgPool2D,
    BatchNorm,
    ChannelShuffle,
    ChannelSlice,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Gate,
    GlobalAvgPool2D,
    LocalResponseNorm,
    MaxPool2D,
    ReLU,
    ReLU6,
    Residual,
    Scale,
    Sequential,
    Sigmoid,
    Softmax,
    SumPool2D,
)
from tinynet.layers.adaptive_pooling import adaptive_avg_pool2d_forward
from tinynet.layers.window import Window, window_over
from tinynet.models.googlenet import GoogLeNet


@singledispatch
def to_onnx(layer: Layer, graph: OnnxGraph, x: str, shape: Shape) -> str:
    """Append ``layer`` to ``graph``, on its tensor ``x``; returns the name of the output.

    Raises WeightsError for a layer that no function here is registered for.
    """
    raise WeightsError(
        f"{graph.path or 'the model'} is a {type(layer).__name__}, which has no ONNX form: write "
        "one and register it with @tinynet.interop.onnx_layers.to_onnx.register"
    )


@to_onnx.register
def _(layer: Sequential, graph: OnnxGraph, x: str, shape: Shape) -> str:
    for name, part in layer.children().items():
        x = inner(part, name, graph, x, shape)
        shape = part.output_shape(shape)
    return x


@to_onnx.register
def _(layer: GoogLeNet, graph: OnnxGraph, x: str, shape: Shape) -> str:
    x = inner(layer.base, "base", graph, x, shape)  # the auxiliary heads are training's
    return inner(layer.head, "head", graph, x, layer.base.output_shape(shape))


@to_onnx.register
def _(layer: Residual, graph: OnnxGraph, x: str, shape: Shape) -> str:
    main = inner(layer.main, "main", graph, x, shape)
    skip = x if layer.skip is None else inner(layer.skip, "skip", graph, x, shape)
    return graph.add("Add", main, skip)


@to_onnx.register
def _(layer: Concat, graph: OnnxGraph, x: str, shape: Shape) -> str:
    branches = [inner(part, name, graph, x, shape) for name, part in layer.children().items()]
    return graph.add("Concat", *branches, axis=1)


@to_onnx.register
def _(layer: Gate, graph: OnnxGraph, x: str, shape: Shape) -> str:
    gate = inner(layer.path, "path", graph, x, shape)
    if len(layer.path.output_shape(shape)) < len(shape):  # (N, C) over an image
        gate = graph.add("Unsqueeze", gate, graph.whole_numbers((2, 3), "axes"))
    return graph.add("Mul", x, gate)


@to_onnx.register
def _(layer: Dense, graph: OnnxGraph, x: str, shape: Shape) -> str:
    w = graph.constant(layer.weight.value, "weight")
    if layer.bias is None:
        return graph.add("MatMul", x, w)
    return graph.add("Gemm", x, w, graph.constant(layer.bias.value, "bias"))


@to_onnx.register
def _(layer: Conv2D, graph: OnnxGraph, x: str, shape: Shape) -> str:
    filters = graph.constant(layer.weight.value.transpose(3, 2, 0, 1), "weight")
    bias = [] if layer.bias is None else [graph.constant(layer.bias.value, "bias")]
    window = window_over(
        (shape[0], shape[1]), layer.kernel_size, layer.stride, layer.padding, layer.dilation
    )
    return graph.add(
        "Conv",
        x,
        filters,
        *bias,
        kernel_shape=window.kernel,
        strides=window.stride,
        dilations=window.dilation,
        pads=sides(window),
        group=layer.groups,
    )


@to_onnx.register
def _(layer: MaxPool2D, graph: OnnxGraph, x: str, shape: Shape) -> str:
    window = window_over((shape[0], shape[1]), layer.pool_size, layer.stride, layer.padding)
    return graph.add(
        "MaxPool", x, kernel_shape=window.kernel, strides=window.stride, pads=sides(window)
    )


@to_onnx.register
def _(layer: AvgPool2D, graph: OnnxGraph, x: str, shape: Shape) -> str:
    return average(layer, graph, x, shape, count_padding=layer.count_padding)


@to_onnx.register
def _(layer: SumPool2D, graph: OnnxGraph, x: str, shape: Shape) -> str:
    mean = average(layer, graph, x, shape, count_padding=True)
    cells = layer.pool_size[0] * layer.pool_size[1]
    return graph.add("Mul", mean, graph.constant(np.float32(cells), "cells"))


@to_onnx.register
def _(layer: GlobalAvgPool2D, graph: OnnxGraph, x: str, shape: Shape) -> str:
    return graph.add("Flatten", graph.add("GlobalAveragePool", x))


@to_onnx.register
def _(layer: AdaptiveAvgPool2D, graph: OnnxGraph, x: str, shape: Shape) -> str:
    # R X Cᵀ for each image and channel, with the layer's own matrices
    _, (rows, columns) = adaptive_avg_pool2d_forward(np.zeros((1, *shape)), layer.output_size)
    x = graph.add("MatMul", graph.constant(rows, "rows"), x)
    return graph.add("MatMul", x, graph.constant(columns.T, "columns"))


@to_onnx.register
def _(layer: Flatten, graph: OnnxGraph, x: str, shape: Shape) -> str:
    if len(shape) == 3:  # ours is flattened in the order H, W, C
        x = graph.add("Transpose", x, perm=(0, 2, 3, 1))
    return graph.add("Flatten", x)


@to_onnx.register
def _(layer: BatchNorm, graph: OnnxGraph, x: str, shape: Shape) -> str:
    ones = np.ones(layer.channels, np.float32)
    gamma = ones if layer.gamma is None else layer.gamma.value
    arrays = {
        "gamma": gamma,
        "beta": layer.beta.value,
        "running_mean": layer.running_mean,
        "running_var": layer.running_var,
    }
    constants = [graph.constant(value, name) for name, value in arrays.items()]
    return graph.add("BatchNormalization", x, *constants, epsilon=layer.epsilon)


@to_onnx.register
def _(layer: ReLU, graph: OnnxGraph, x: str, shape: Shape) -> str:
    if layer.threshold == 0:
        return graph.add("Relu", x)
    return graph.add("Max", x, graph.constant(np.float32(layer.threshold), "threshold"))


@to_onnx.register
def _(layer: ReLU6, graph: OnnxGraph, x: str, shape: Shape) -> str:
    low, high = graph.constant(np.float32(0), "low"), graph.constant(np.float32(6), "high")
    return graph.add("Clip", x, low, high)


@to_onnx.register
def _(layer: Sigmoid, graph: OnnxGraph, x: str, shape: Shape) -> str:
    return graph.add("Sigmoid", x)


@to_onnx.register
def _(layer: Softmax, graph: OnnxGraph, x: str, shape: Shape) -> str:
    return graph.add("Softmax", x, axis=1)


@to_onnx.register
def _(layer: Dropout, graph: OnnxGraph, x: str, shape: Shape) -> str:
    if layer.scale_at == "train" or layer.frozen_dropout:
        return x
    return graph.add("Mul", x, graph.constant(np.float32(layer.keep_prob), "keep_prob"))


@to_onnx.register
def _(layer: LocalResponseNorm, graph: OnnxGraph, x: str, shape: Shape) -> str:
    # ONNX divides alpha by the number of channels under the window, our form does not
    return graph.add(
        "LRN", x, size=layer.size, alpha=layer.alpha * layer.size, beta=layer.beta, bias=layer.k
    )


@to_onnx.register
def _(layer: Scale, graph: OnnxGraph, x: str, shape: Shape) -> str:
    return graph.add("Mul", x, graph.constant(np.float32(layer.factor), "factor"))


@to_onnx.register
def _(layer: ChannelSlice, graph: OnnxGraph, x: str, shape: Shape) -> str:
    bounds = [
        graph.whole_numbers((n,), name)
        for n, name in ((layer.start, "start"), (layer.stop, "stop"), (1, "axis"))
    ]
    return graph.add("Slice", x, *bounds)


@to_onnx.register
def _(layer: ChannelShuffle, graph: OnnxGraph, x: str, shape: Shape) -> str:
    # a 0 in a shape copies that axis: the batch
    height, width, channels = shape
    apart = (0, layer.groups, channels // layer.groups, height, width)
    x = graph.add("Reshape", x, graph.whole_numbers(apart, "apart"))
    x = graph.add("Transpose", x, perm=(0, 2, 1, 3, 4))
    return graph.add("Reshape", x, graph.whole_numbers((0, channels, height, width), "together"))


def inner(layer: Layer, name: str, graph: OnnxGraph, x: str, shape: Shape) -> str:
    """A container's layer, whose nodes are named by its dotted path."""
    outer = graph.path
    graph.path = join(outer, name)
    y = to_onnx(layer, graph, x, shape)
    graph.path = outer
    return y


def average(
    layer: AvgPool2D | SumPool2D, graph: OnnxGraph, x: str, shape: Shape, count_padding: bool
) -> str:
    """The mean under each window."""
    window = window_over((shape[0], shape[1]), layer.pool_size, layer.stride, layer.padding)
    return graph.add(
        "AveragePool",
        x,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=sides(window),
        count_include_pad=int(count_padding),
    )


def sides(window: Window) -> list[int]:
    """Padding in ONNX's order: top, left, bottom, right."""
    (top, bottom), (left, right) = window.padding
    return [top, left, bottom, right]
