"""The parts that networks are built from.

A plan of them is written as the papers draw it:

    (96, 3)                      convolution → batch norm → ReLU: filters, kernel [, stride
                                 [, padding]]; without a padding ⌈size / stride⌉ is left
    ("max", 3, 2)                a layer of KINDS and its arguments, here a max-pool 3×3 / 2
    [plan, plan]                 one after the other
    {"a": plan, "b": plan}       side by side, their channels stacked in this order
    function                     of (parts, channels), returns the layer
"""

from __future__ import annotations

from bisect import bisect_left
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer, Shape
from tinynet.layers import (
    AvgPool2D,
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    GlobalAvgPool2D,
    LocalResponseNorm,
    MaxPool2D,
    ReLU,
    Sequential,
)
from tinynet.layers.window import Padding, Pair, pair
from tinynet.models.architecture import Architecture

SIDES = range(1, 1 << 40)  # of images
Layers = dict[str, Layer]
Plan = Any  # a tuple, a list, a dictionary or a function, as above

KINDS: dict[str, Any] = {"max": MaxPool2D, "average": AvgPool2D, "norm": LocalResponseNorm}


class Classifier(Sequential):
    """The base turns an image into a representation, the head turns that into class scores.

    base   layers from (H, W, C) to a representation
    head   layers from the representation to logits (num_classes,)
    Either can be replaced or frozen by itself, which is transfer learning (§2.5.6):
    ``model.base.freeze()``.
    architecture   name and settings, if a builder of ``tinynet.models`` made the network
    """

    def __init__(self, base: Layer, head: Layer) -> None:
        super().__init__(base=base, head=head)
        self.architecture: Architecture | None = None

    @property
    def base(self) -> Layer:
        """The convolutional base."""
        return self.layers[0]

    @property
    def head(self) -> Layer:
        """The layers after the base."""
        return self.layers[1]

    @head.setter
    def head(self, head: Layer) -> None:
        self.layers[1] = head


@dataclass(frozen=True)
class Parts:
    """Make the layers of one network, which have these settings in common.

    ``tinynet.models`` says what rng, width, epsilon and batch_norm are.
    """

    rng: np.random.Generator
    width: float = 1.0
    epsilon: float = 1e-5
    momentum: float = 0.9  # of batch norm's moving statistics
    batch_norm: bool = True
    bias: bool = False  # of convolutions, which need none before a batch norm with its β
    gamma: bool = True  # batch norms have the scale γ
    activation: type[Layer] = ReLU

    def scaled(self, filters: int, multiple: int = 1) -> int:
        """Return filters · width, rounded to a multiple, from one upwards."""
        return multiple * max(1, round(self.width * filters / multiple))

    def conv(
        self,
        channels: int,
        filters: int,
        kernel: int | Pair,
        stride: int = 1,
        padding: Padding | None = None,
        groups: int = 1,
    ) -> Conv2D:
        """Convolution; without a padding ⌈size / stride⌉ is left."""
        height, width = pair(kernel, "kernel_size")
        around = (height // 2, height // 2), (width // 2, width // 2)
        return Conv2D(
            channels,
            filters,
            kernel,
            stride,
            around if padding is None else padding,
            groups=groups,
            bias=self.bias,
            rng=self.rng,
            initializer=he_normal,
        )

    def norm(self, channels: int) -> BatchNorm:
        """Batch norm."""
        return BatchNorm(channels, self.momentum, self.epsilon, scale=self.gamma)

    def dense(self, inputs: int, outputs: int) -> Dense:
        """Dense layer before a ReLU."""
        return Dense(inputs, outputs, rng=self.rng, initializer=he_normal)

    def conv_bn_relu(
        self, names: str, channels: int, filters: int, *window: Any, **groups: int
    ) -> Layers:
        """Convolution → [batch norm] → [ReLU], under three names, or two without the ReLU."""
        conv, bn, *relu = names.split()
        layers: Layers = {conv: self.conv(channels, filters, *window, **groups)}
        if self.batch_norm:
            layers[bn] = self.norm(filters)
        return layers | {name: self.activation() for name in relu}

    def __call__(self, plan: Plan, channels: int) -> Layer:
        """Return the layer that ``plan`` describes, for an input of that many channels."""
        if callable(plan):
            return plan(self, channels)
        if isinstance(plan, dict):
            return Concat(**{name: self(branch, channels) for name, branch in plan.items()})
        if isinstance(plan, list):
            return Sequential(*self.in_turn(dict(enumerate(plan)), channels).values())
        kind, *arguments = plan
        if kind in KINDS:
            return KINDS[kind](*arguments)
        return self.unit(channels, self.scaled(kind), *arguments)

    def unit(self, channels: int, filters: int, *window: Any) -> Sequential:
        """Convolution → [batch norm] → ReLU."""
        return Sequential(**self.conv_bn_relu("conv bn relu", channels, filters, *window))

    def in_turn(self, plans: dict[Any, Plan], channels: int) -> dict[Any, Layer]:
        """Return the layers of named plans, each for the output of the one before."""
        layers = {}
        for name, plan in plans.items():
            layers[name] = self(plan, channels)
            channels = channels_after(layers[name], channels)
        return layers

    def classifier(
        self, base: Layers, input_shape: Shape, num_classes: int, keep_prob: float | None = None
    ) -> Classifier:
        """Return the base with the usual head: global average pool → [dropout] → dense."""
        representation = Sequential(**base)
        features = representation_shape(representation, input_shape)[-1]
        dropout = {} if keep_prob is None else {"dropout": Dropout(keep_prob)}
        classes = Dense(features, num_classes, rng=self.rng)
        head = Sequential(pool=GlobalAvgPool2D(), **dropout, classes=classes)
        return Classifier(representation, head)


def channels_after(layer: Layer, channels: int) -> int:
    """Return the channels of a layer's output, which do not depend on the image's size."""
    return layer.output_shape((99, 99, channels))[-1]


def representation_shape(base: Layer, input_shape: Shape) -> Shape:
    """Return the shape that the base turns one image into.

    Raises ValueError if the image is too small: the message names the layer at which its size
    runs out, and the smallest square that is large enough.
    """
    if fits(base, input_shape):
        return base.output_shape(input_shape)
    height, width, channels = input_shape
    side = 1 + bisect_left(SIDES, True, key=lambda n: fits(base, (n, n, channels)))
    if side > len(SIDES):  # no size is right: let the layer say what is wrong
        base.output_shape(input_shape)
    raise ValueError(
        f"an image of {height} × {width} is too small, its size runs out at "
        f"{first_misfit(base, input_shape)}: the smallest square that works is {side} × {side}"
    )


def fits(layer: Layer, input_shape: Shape) -> bool:
    """Return whether an input is large enough."""
    try:
        layer.output_shape(input_shape)
    except ValueError:
        return False
    return True


def first_misfit(base: Layer, input_shape: Shape) -> str:
    """Describe the first innermost layer that its input does not fit."""
    where = "its first layer"
    with suppress(ValueError):  # by the walk itself, on its way to the layer after that one
        for name, layer, shape in base.walk(input_shape):
            where = f"{name} ({layer!r}), whose input is {shape[0]} × {shape[1]}"
            layer.output_shape(shape)
    return where
