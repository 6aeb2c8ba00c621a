"""DenseNet: every layer of a block sees the outputs of all layers before it.  See report §3.3.

Source: Huang, Liu, van der Maaten & Weinberger 2017, "Densely connected convolutional networks",
table 1.  The 169-layer network is the baseline of the MURA paper (the report's [1]).
"""

from __future__ import annotations

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer, Shape
from tinynet.layers import (
    AvgPool2D,
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Sequential,
)
from tinynet.models.architecture import architecture
from tinynet.models.classifier import Classifier
from tinynet.models.sizes import image_shape, representation_shape

GROWTH_RATE = 32  # k: channels that each layer of a block adds
STEM = 64  # filters of the first convolution, 2k
BOTTLENECK = 4  # a 1×1 convolution reduces to 4k channels before each 3×3
COMPRESSION = 0.5  # θ: share of the channels that a transition keeps
MOMENTUM = 0.9  # of batch norm's moving statistics

# layers in each dense block, with a transition between any two
DENSENET_121 = (6, 12, 24, 16)
DENSENET_169 = (6, 12, 32, 32)


@architecture
def densenet121(
    num_classes: int,
    input_shape: Shape,
    *,
    width: float = 1.0,
    epsilon: float = 1e-5,
    rng: np.random.Generator,
) -> Classifier:
    """DenseNet of 121 weight layers; arguments as in ``densenet169``."""
    return _dense_network(
        "densenet121", DENSENET_121, num_classes, input_shape, width, epsilon, rng
    )


@architecture
def densenet169(
    num_classes: int,
    input_shape: Shape,
    *,
    width: float = 1.0,
    epsilon: float = 1e-5,
    rng: np.random.Generator,
) -> Classifier:
    """DenseNet of 169 weight layers, of the kind BC: bottlenecks and compression.  See report §3.3.

        layer        x ↦ [x, F(x)],   F = (batch norm → ReLU → convolution) 1×1, then 3×3
        base         convolution 7×7 / 2 → max-pool 3×3 / 2 → four blocks of 6, 12, 32 and 32
                     layers, between two blocks a transition that halves channels, height and width
        head         average of each channel → dense

    Where ResNet adds its shortcut, DenseNet sets it beside: nothing is added up, so each layer
    reads the early features themselves, and needs to contribute few of its own (32).

    num_classes   number of classes; the network returns that many logits
    input_shape   (H, W, C) of one image, (224, 224, 3) in the paper
    width         scales all numbers of channels
    epsilon       batch norm's ε: 1e-5 in the original and in torchvision, 1.001e-5 in Keras
    rng           generator for the starting weights: He normal, for the logits Glorot uniform
    Parameters at 1,000 classes: 14,149,480 learned, as torchvision counts; 14,307,880 with the
    moving statistics, as Keras counts.
    Raises ValueError if H or W is too small (under 29), or width is not above 0.
    """
    return _dense_network(
        "densenet169", DENSENET_169, num_classes, input_shape, width, epsilon, rng
    )


def _dense_network(
    name: str,
    blocks: tuple[int, ...],
    num_classes: int,
    input_shape: Shape,
    width: float,
    epsilon: float,
    rng: np.random.Generator,
) -> Classifier:
    if width <= 0:
        raise ValueError(f"{name}: width is {width}, want a number above 0; 1 is the paper's")
    growth = max(1, round(GROWTH_RATE * width))
    channels = max(1, round(STEM * width))
    colours = image_shape(name, input_shape)[2]

    stages: dict[str, Layer] = {
        "conv0": Conv2D(
            colours, channels, 7, 2, padding=3, bias=False, rng=rng, initializer=he_normal
        ),
        "norm0": BatchNorm(channels, MOMENTUM, epsilon),
        "relu0": ReLU(),
        "pool0": MaxPool2D(3, 2, padding=1),
    }
    for number, layers in enumerate(blocks, start=1):
        stages[f"denseblock{number}"] = dense_block(channels, layers, growth, epsilon, rng=rng)
        channels += layers * growth
        if number < len(blocks):
            kept = int(channels * COMPRESSION)
            stages[f"transition{number}"] = transition(channels, kept, epsilon, rng=rng)
            channels = kept
    stages["norm5"] = BatchNorm(channels, MOMENTUM, epsilon)
    stages["relu5"] = ReLU()
    base = Sequential(**stages)
    representation_shape(name, base, input_shape)

    head = Sequential(pool=GlobalAvgPool2D(), classes=Dense(channels, num_classes, rng=rng))
    return Classifier(base, head)


def dense_block(
    channels: int, layers: int, growth: int, epsilon: float = 1e-5, *, rng: np.random.Generator
) -> Sequential:
    """A block of densely connected layers: each adds its ``growth`` channels to all before.

        x ↦ [x, F₁(x)] ↦ [x, F₁(x), F₂([x, F₁(x)])] ↦ …

    (H, W, channels) becomes (H, W, channels + layers · growth).
    """
    return Sequential(
        **{
            f"denselayer{number + 1}": dense_layer(
                channels + number * growth, growth, epsilon, rng=rng
            )
            for number in range(layers)
        }
    )


def dense_layer(
    channels: int, growth: int, epsilon: float = 1e-5, *, rng: np.random.Generator
) -> Concat:
    """One layer of a dense block: x ↦ [x, F(x)], the second of ``growth`` channels.

    Its 3×3 convolution would see every channel of the block; the 1×1 before it, the bottleneck,
    makes 4 · growth of them first.  (H, W, channels) becomes (H, W, channels + growth).
    """
    inner = BOTTLENECK * growth
    return Concat(
        identity=Sequential(),
        new=Sequential(
            norm1=BatchNorm(channels, MOMENTUM, epsilon),
            relu1=ReLU(),
            conv1=Conv2D(channels, inner, 1, bias=False, rng=rng, initializer=he_normal),
            norm2=BatchNorm(inner, MOMENTUM, epsilon),
            relu2=ReLU(),
            conv2=Conv2D(inner, growth, 3, padding=1, bias=False, rng=rng, initializer=he_normal),
        ),
    )


def transition(
    channels: int, kept: int, epsilon: float = 1e-5, *, rng: np.random.Generator
) -> Sequential:
    """Between two blocks: (H, W, channels) becomes (⌊H/2⌋, ⌊W/2⌋, kept)."""
    return Sequential(
        norm=BatchNorm(channels, MOMENTUM, epsilon),
        relu=ReLU(),
        conv=Conv2D(channels, kept, 1, bias=False, rng=rng, initializer=he_normal),
        pool=AvgPool2D(2),
    )
