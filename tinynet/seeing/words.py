"""What a picture says of a layer: a few words and the kind of layer it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tinynet.layer import Layer, Shape

CONVOLUTION, DENSE, NORM, ACTIVATION = "convolution", "dense", "normalisation", "activation"
POOLING, SHAPE, OTHER = "pooling", "reshape, dropout", "other"
KINDS = (CONVOLUTION, DENSE, NORM, ACTIVATION, POOLING, SHAPE, OTHER)  # order of a legend
LONGEST = 30  # characters of the text of a layer that is not known here


def size(shape: Shape) -> str:
    """224 × 224 × 3."""
    return " × ".join(map(str, shape))


def quantity(n: int) -> str:
    """4.1 billion, 320 million, 12,345."""
    for unit, name in ((10**9, "billion"), (10**6, "million")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:,}"


def _convolution(layer: Any) -> str:
    rows, columns = layer.kernel_size
    depthwise = layer.groups == layer.in_channels > 1
    text = f"{'depthwise' if depthwise else 'conv'} {rows}×{columns}, {layer.out_channels}"
    if layer.groups > 1 and not depthwise:
        text += f", {layer.groups} groups"
    if max(layer.dilation) > 1:
        text += f", dilation {_pair(layer.dilation)}"
    return text + _stride(layer.stride)


def _pool(kind: str) -> Callable[[Any], str]:
    def text(layer: Any) -> str:
        rows, columns = layer.pool_size
        return f"{kind}-pool {rows}×{columns}{_stride(layer.stride)}"

    return text


def _stride(stride: tuple[int, int]) -> str:
    return "" if max(stride) == 1 else f", / {_pair(stride)}"


def _pair(numbers: tuple[int, int]) -> str:
    return str(numbers[0]) if numbers[0] == numbers[1] else f"{numbers[0]}×{numbers[1]}"


def _fixed(text: str) -> Callable[[Any], str]:
    return lambda layer: text


# class -> kind, words
WORDS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "Conv2D": (CONVOLUTION, _convolution),
    "Dense": (DENSE, lambda layer: f"dense, {layer.weight.shape[1]}"),
    "BatchNorm": (NORM, _fixed("batch norm")),
    "LocalResponseNorm": (NORM, _fixed("local response norm")),
    "ReLU": (ACTIVATION, _fixed("ReLU")),
    "ReLU6": (ACTIVATION, _fixed("ReLU6")),
    "Sigmoid": (ACTIVATION, _fixed("sigmoid")),
    "Softmax": (ACTIVATION, _fixed("softmax")),
    "MaxPool2D": (POOLING, _pool("max")),
    "AvgPool2D": (POOLING, _pool("average")),
    "SumPool2D": (POOLING, _pool("sum")),
    "AdaptiveAvgPool2D": (POOLING, lambda layer: "average to {}×{}".format(*layer.output_size)),
    "GlobalAvgPool2D": (POOLING, _fixed("global average")),
    "Flatten": (SHAPE, _fixed("flatten")),
    "Dropout": (SHAPE, lambda layer: f"dropout, keep {layer.keep_prob:g}"),
    "ChannelShuffle": (SHAPE, lambda layer: f"shuffle, {layer.groups} groups"),
    "ChannelSlice": (SHAPE, lambda layer: f"channels {layer.start}–{layer.stop - 1}"),
    "Scale": (SHAPE, lambda layer: f"scale by {layer.factor:g}"),
}
# what is drawn as a strip below the box before it; the others have a box of their own
STRIPS = {"BatchNorm", "LocalResponseNorm", "ReLU", "ReLU6", "Sigmoid", "Softmax", "Dropout"}
STRIPS |= {"ChannelShuffle", "Scale"}


def class_name(layer: Layer, names: Any = WORDS) -> str:
    """The layer's class, or that of its base classes that is in ``names``; otherwise its own."""
    known = [cls.__name__ for cls in type(layer).__mro__ if cls.__name__ in names]
    return known[0] if known else type(layer).__name__


def describe(layer: Layer) -> tuple[str, str]:
    """(words, kind) for one innermost layer: ("conv 3×3, 64, / 2", "convolution")."""
    name = class_name(layer)
    if name in WORDS:
        kind, words = WORDS[name]
        return words(layer), kind
    text = repr(layer)
    return (text if len(text) <= LONGEST else type(layer).__name__), OTHER
