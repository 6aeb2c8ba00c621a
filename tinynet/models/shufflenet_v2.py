"""ShuffleNet v2: half of the channels pass by, then all are shuffled.  Report §3 (named there).

Source: Ma, Zhang, Zheng & Sun 2018, "ShuffleNet V2: practical guidelines for efficient CNN
architecture design", table 5 and figure 3 (c, d).
"""

from __future__ import annotations

import numpy as np

from tinynet.layer import Shape
from tinynet.layers import ChannelShuffle, ChannelSlice, Concat, MaxPool2D, Sequential
from tinynet.models.architecture import architecture
from tinynet.models.parts import Classifier, Layers, Parts

STEM = 24  # filters of the first convolution
UNITS = (4, 8, 4)  # in stages 2, 3 and 4; the first of each halves height and width

# multiplier -> channels of stages 2, 3 and 4, and of the last convolution
CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}


@architecture
def shufflenet_v2(
    num_classes: int,
    input_shape: Shape,
    multiplier: float = 1.0,
    *,
    width: float = 1.0,
    epsilon: float = 1e-5,
    rng: np.random.Generator,
) -> Classifier:
    """A convolution and a pool, three stages of shuffled units, a convolution.  Report §3.

        unit         x = [x₁, x₂] ↦ shuffle [x₁, F(x₂)]
        first unit   x ↦ shuffle [G(x), F(x)], which halves height and width
                     F = 1×1 → 3×3 depthwise → 1×1,  G = 3×3 depthwise → 1×1
        base         convolution 3×3 / 2 → max-pool 3×3 / 2 → 4, 8 and 4 units → convolution 1×1
        head         global average pool → dense

    A batch norm follows every convolution, a ReLU every one but the depthwise.

    input_shape   of any size; (224, 224, 3) in the paper
    multiplier    0.5, 1.0, 1.5 or 2.0: which column of the paper's table
    width         scales that column, to even numbers: channels are split in halves
    Other arguments as in ``tinynet.models``.
    Parameters at 1,000 classes: 1,366,792, 2,278,604, 3,503,624 and 7,393,996 for the four
    multipliers, as torchvision counts.
    """
    if multiplier not in CHANNELS:
        known = ", ".join(map(str, CHANNELS))
        raise ValueError(f"multiplier is {multiplier}, want one of {known}; other sizes by width")
    parts = Parts(rng, width, epsilon)
    *counts, last = (parts.scaled(count, 2) for count in CHANNELS[multiplier])
    channels = parts.scaled(STEM, 2)

    base: Layers = {
        "conv1": parts.unit(input_shape[2], channels, 3, 2),
        "maxpool": MaxPool2D(3, 2, padding=1),
    }
    for stage, (count, units) in enumerate(zip(counts, UNITS, strict=True), start=2):
        base[f"stage{stage}"] = Sequential(
            unit1=halving_unit(parts, channels, count),
            **{f"unit{i}": unit(parts, count) for i in range(2, units + 1)},
        )
        channels = count
    base["conv5"] = parts.unit(channels, last, 1)
    return parts.classifier(base, input_shape, num_classes)


def unit(parts: Parts, channels: int) -> Sequential:
    """[x₁, x₂] ↦ shuffle [x₁, F(x₂)]; figure 3 (c).  The shape of x stays; channels is even."""
    half = channels // 2
    first = ChannelSlice(0, half)
    second = Sequential(split=ChannelSlice(half, channels), **path(parts, half, half, 1))
    return Sequential(join=Concat(branch1=first, branch2=second), shuffle=ChannelShuffle(2))


def halving_unit(parts: Parts, channels: int, filters: int) -> Sequential:
    """x ↦ shuffle [G(x), F(x)], each with half of the filters and a stride of 2; figure 3 (d)."""
    half = filters // 2
    g = parts.conv_bn_relu("conv2 bn2", channels, channels, 3, 2, groups=channels)
    g |= parts.conv_bn_relu("conv3 bn3 relu3", channels, half, 1)
    f = path(parts, channels, half, 2)
    join = Concat(branch1=Sequential(**g), branch2=Sequential(**f))
    return Sequential(join=join, shuffle=ChannelShuffle(2))


def path(parts: Parts, channels: int, filters: int, stride: int) -> Layers:
    """F: 1×1 → 3×3 depthwise → 1×1."""
    return (
        parts.conv_bn_relu("conv1 bn1 relu1", channels, filters, 1)
        | parts.conv_bn_relu("conv2 bn2", filters, filters, 3, stride, groups=filters)
        | parts.conv_bn_relu("conv3 bn3 relu3", filters, filters, 1)
    )
