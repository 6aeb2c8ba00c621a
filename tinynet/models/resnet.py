"""Residual networks of bottlenecks.  Report §3.3.

Source: He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition", Table 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer, Shape
from tinynet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
)
from tinynet.models.architecture import architecture
from tinynet.models.classifier import Classifier
from tinynet.models.sizes import image_shape, representation_shape

# stage     in the paper   filters of the 3×3   stride   bottlenecks in ResNet-50, -101, -152
STAGES = (
    ("layer1", "conv2_x", 64, 1, (3, 3, 3)),
    ("layer2", "conv3_x", 128, 2, (4, 4, 8)),
    ("layer3", "conv4_x", 256, 2, (6, 23, 36)),
    ("layer4", "conv5_x", 512, 2, (3, 3, 3)),
)
RESNET50, RESNET101, RESNET152 = zip(*(blocks for *_, blocks in STAGES), strict=True)
STEM = 64  # filters of the first convolution
EXPANSION = 4  # a bottleneck ends in so many times the filters of its 3×3
MOMENTUM = 0.9  # of the moving statistics
EPSILON = 1e-5  # torchvision's


@architecture
def resnet50(
    num_classes: int,
    input_shape: Shape,
    *,
    stride_in: str = "3x3",
    conv_bias: bool = False,
    epsilon: float = EPSILON,
    width: float = 1.0,
    zero_last_gamma: bool = False,
    rng: np.random.Generator,
) -> Classifier:
    """ResNet-50: 16 bottlenecks, 3 + 4 + 6 + 3.  Report §3.3.

        stem         convolution 7×7 / 2 → batch norm → ReLU → max-pool 3×3 / 2
        bottleneck   y = ReLU(F(x) + x);   F(x) + W_s x where the shape changes
                     F: 1×1 → 3×3 → 1×1 with four times the filters, a batch norm after each,
                     a ReLU after the first two;   W_s: a 1×1 convolution and a batch norm
        head         global average pool → dense

    num_classes      number of classes; the network returns that many logits
    input_shape      (H, W, C) of one image, of any size; the five strides of 2 round up
    stride_in        "3x3": the stride of a stage is in its first bottleneck's 3×3, as in the report
                     and in torchvision; "1x1": in the first 1×1, as in the paper and in Keras
    conv_bias        biases on the convolutions too, as in Keras; batch norm takes them out again
    epsilon          batch norm's ε; Keras has 1.001e-5
    width            scales every number of filters; 1 is the paper's
    zero_last_gamma  the last batch norm of each bottleneck starts with γ = 0, so that a bottleneck
                     with an identity shortcut starts as the identity (Goyal et al. 2017)
    rng              generator for the starting weights: He normal before a ReLU, Glorot uniform
                     for the logits
    Raises ValueError if input_shape is no image's, stride_in neither of the two, or width too
    small to leave a filter.
    25,557,032 parameters for 1000 classes and 3 channels, as torchvision; 25,583,592 with biases,
    25,636,712 as Keras counts them, with the moving statistics.
    """
    return residual_network(
        "resnet50",
        RESNET50,
        num_classes,
        input_shape,
        width,
        Parts(stride_in, conv_bias, epsilon, zero_last_gamma, rng),
    )


@architecture
def resnet101(
    num_classes: int,
    input_shape: Shape,
    *,
    stride_in: str = "3x3",
    conv_bias: bool = False,
    epsilon: float = EPSILON,
    width: float = 1.0,
    zero_last_gamma: bool = False,
    rng: np.random.Generator,
) -> Classifier:
    """ResNet-101: 33 bottlenecks, 3 + 4 + 23 + 3.  Report §3.3.

    Arguments and errors as in ``resnet50``.
    44,549,160 parameters; 44,707,176 as Keras has it, with biases and moving statistics.
    """
    return residual_network(
        "resnet101",
        RESNET101,
        num_classes,
        input_shape,
        width,
        Parts(stride_in, conv_bias, epsilon, zero_last_gamma, rng),
    )


@architecture
def resnet152(
    num_classes: int,
    input_shape: Shape,
    *,
    stride_in: str = "3x3",
    conv_bias: bool = False,
    epsilon: float = EPSILON,
    width: float = 1.0,
    zero_last_gamma: bool = False,
    rng: np.random.Generator,
) -> Classifier:
    """ResNet-152: 50 bottlenecks, 3 + 8 + 36 + 3.  Report §3.3 (the winner of ILSVRC 2015).

    Arguments and errors as in ``resnet50``.
    60,192,808 parameters; 60,419,944 as Keras has it, with biases and moving statistics.
    """
    return residual_network(
        "resnet152",
        RESNET152,
        num_classes,
        input_shape,
        width,
        Parts(stride_in, conv_bias, epsilon, zero_last_gamma, rng),
    )


@dataclass(frozen=True)
class Parts:
    """What the layers of one residual network have in common; ``resnet50`` has the meanings.

    gate   channels -> a layer behind a bottleneck's last batch norm; None: nothing
    """

    stride_in: str
    conv_bias: bool
    epsilon: float
    zero_last_gamma: bool
    rng: np.random.Generator
    gate: Callable[[int], Layer] | None = None

    def convolution(self, channels: int, filters: int, kernel: int, stride: int = 1) -> Conv2D:
        """A k × k convolution with the padding that leaves ⌈size / stride⌉."""
        return Conv2D(
            channels,
            filters,
            kernel,
            stride,
            padding=kernel // 2,
            bias=self.conv_bias,
            rng=self.rng,
            initializer=he_normal,
        )

    def batch_norm(self, channels: int) -> BatchNorm:
        """Batch norm with this network's ε."""
        return BatchNorm(channels, momentum=MOMENTUM, epsilon=self.epsilon)


def bottleneck(parts: Parts, channels: int, filters: int, stride: int) -> Sequential:
    """y = ReLU(F(x) + x), or ReLU(F(x) + W_s x) where F changes the shape.  Report §3.3.

    channels, filters   of x, and of the 3×3; F ends in 4 · filters
    stride              of F, and of W_s
    """
    outputs = EXPANSION * filters
    first, second = (stride, 1) if parts.stride_in == "1x1" else (1, stride)
    main: dict[str, Layer] = {
        "conv1": parts.convolution(channels, filters, 1, first),
        "bn1": parts.batch_norm(filters),
        "relu1": ReLU(),
        "conv2": parts.convolution(filters, filters, 3, second),
        "bn2": parts.batch_norm(filters),
        "relu2": ReLU(),
        "conv3": parts.convolution(filters, outputs, 1),
        "bn3": (last := parts.batch_norm(outputs)),
    }
    if parts.zero_last_gamma:
        assert last.gamma is not None  # a batch norm has a scale unless told not to
        last.gamma.value[...] = 0
    if parts.gate is not None:
        main["se"] = parts.gate(outputs)
    skip = None
    if stride > 1 or channels != outputs:
        skip = Sequential(
            conv=parts.convolution(channels, outputs, 1, stride), bn=parts.batch_norm(outputs)
        )
    return Sequential(residual=Residual(Sequential(**main), skip), relu=ReLU())


def residual_network(
    name: str,
    blocks: Sequence[int],
    num_classes: int,
    input_shape: Shape,
    width: float,
    parts: Parts,
) -> Classifier:
    """Stem, four stages of ``blocks`` bottlenecks each, and the head.

    Raises ValueError as ``resnet50`` says; ``name`` is for the message.
    """
    if parts.stride_in not in ("3x3", "1x1"):
        raise ValueError(
            f"{name}: stride_in is {parts.stride_in!r}, want '3x3' (the report, torchvision) or "
            "'1x1' (the paper, Keras)"
        )
    if width <= 0:
        raise ValueError(f"{name}: width is {width}, want a number above 0; 1 is the paper's")
    shape = image_shape(name, input_shape)
    channels = scaled(STEM, width)
    base: dict[str, Layer] = {
        "conv1": parts.convolution(shape[2], channels, 7, 2),
        "bn1": parts.batch_norm(channels),
        "relu": ReLU(),
        "maxpool": MaxPool2D(3, 2, padding=1),
    }
    for (stage, _, filters, stride, _), count in zip(STAGES, blocks, strict=True):
        planes = scaled(filters, width)
        layers = []
        for i in range(count):
            layers.append(bottleneck(parts, channels, planes, stride if i == 0 else 1))
            channels = EXPANSION * planes
        base[stage] = Sequential(*layers)
    representation = Sequential(**base)
    features = representation_shape(name, representation, shape)[-1]
    head = Sequential(pool=GlobalAvgPool2D(), classes=Dense(features, num_classes, rng=parts.rng))
    return Classifier(representation, head)


def scaled(filters: int, width: float) -> int:
    """So many times ``width``, a whole number from 1."""
    return max(1, round(width * filters))
