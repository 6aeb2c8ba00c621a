"""DenseNet: every layer of a block sees the outputs of all layers before it.  See report §3.3.

Source: Huang, Liu, van der Maaten & Weinberger 2017, "Densely connected convolutional networks",
table 1.  The 169-layer network is the baseline of the MURA paper (the report's [1]).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynet.layer import Shape
from tinynet.layers import AvgPool2D, Concat, MaxPool2D, ReLU, Sequential
from tinynet.models.architecture import variant
from tinynet.models.parts import Classifier, Parts

GROWTH_RATE = 32  # k: channels that each layer of a block adds
STEM = 64  # filters of the first convolution, 2k
BOTTLENECK = 4  # a 1×1 convolution reduces to 4k channels before each 3×3
COMPRESSION = 0.5  # θ: share of the channels that a transition keeps


def densenet(
    blocks: Sequence[int],
    num_classes: int,
    input_shape: Shape,
    *,
    width: float = 1.0,
    epsilon: float = 1e-5,
    rng: np.random.Generator,
) -> Classifier:
    """DenseNet of the kind BC: bottlenecks and compression.  See report §3.3.

        layer        x ↦ [x, F(x)],   F = (batch norm → ReLU → convolution) 1×1, then 3×3
        base         convolution 7×7 / 2 → max-pool 3×3 / 2 → four blocks of layers, between two
                     blocks a transition that halves channels, height and width
        head         global average pool → dense

        network       layers of the blocks   parameters at 1,000 classes, with moving statistics
        densenet121   6, 12, 24, 16          7,978,856 (torchvision)     8,062,504 (Keras)
        densenet169   6, 12, 32, 32          14,149,480                  14,307,880

    Where ResNet adds its shortcut, DenseNet concatenates it: nothing is added up, so each layer
    reads the early features themselves, and need contribute only 32 channels.

    input_shape   H and W from 29; (224, 224, 3) in the paper
    epsilon       1e-5 in the original and in torchvision, 1.001e-5 in Keras
    Other arguments as in ``tinynet.models``.
    """
    parts = Parts(rng, width, epsilon)
    growth, channels = parts.scaled(GROWTH_RATE), parts.scaled(STEM)
    base = parts.conv_bn_relu("conv0 norm0 relu0", input_shape[2], channels, 7, 2)
    base["pool0"] = MaxPool2D(3, 2, padding=1)
    for number, layers in enumerate(blocks, start=1):
        base[f"denseblock{number}"] = dense_block(parts, channels, layers, growth)
        channels += layers * growth
        if number < len(blocks):
            kept = int(channels * COMPRESSION)
            base[f"transition{number}"] = transition(parts, channels, kept)
            channels = kept
    base |= {"norm5": parts.norm(channels), "relu5": ReLU()}
    return parts.classifier(base, input_shape, num_classes)


densenet121 = variant("densenet121", densenet, (6, 12, 24, 16))
densenet169 = variant("densenet169", densenet, (6, 12, 32, 32))


def dense_block(parts: Parts, channels: int, layers: int, growth: int) -> Sequential:
    """x ↦ [x, F₁(x)] ↦ [x, F₁(x), F₂([x, F₁(x)])] ↦ …"""
    inputs = [channels + i * growth for i in range(layers)]
    return Sequential(
        **{f"denselayer{i}": dense_layer(parts, c, growth) for i, c in enumerate(inputs, start=1)}
    )


def dense_layer(parts: Parts, channels: int, growth: int) -> Concat:
    """x ↦ [x, F(x)]; the 1×1 is a bottleneck, without which the 3×3 would see every channel."""
    inner = BOTTLENECK * growth
    new = {"norm1": parts.norm(channels), "relu1": ReLU(), "conv1": parts.conv(channels, inner, 1)}
    new |= {"norm2": parts.norm(inner), "relu2": ReLU(), "conv2": parts.conv(inner, growth, 3)}
    return Concat(identity=Sequential(), new=Sequential(**new))


def transition(parts: Parts, channels: int, kept: int) -> Sequential:
    """Between two blocks: (H, W, channels) becomes (⌊H/2⌋, ⌊W/2⌋, kept)."""
    return Sequential(
        norm=parts.norm(channels),
        relu=ReLU(),
        conv=parts.conv(channels, kept, 1),
        pool=AvgPool2D(2),
    )
