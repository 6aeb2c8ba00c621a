"""ShuffleNet v2: half of the channels pass by, then all are shuffled.  Report §3 (named there).

Source: Ma, Zhang, Zheng & Sun 2018, "ShuffleNet V2: practical guidelines for efficient CNN
architecture design", table 5 and figure 3 (c, d).
"""

from __future__ import annotations

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer, Shape
from tinynet.layers import (
    BatchNorm,
    ChannelShuffle,
    ChannelSlice,
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

STEM = 24  # filters of the first convolution
UNITS = (4, 8, 4)  # in stages 2, 3 and 4; the first of each halves height and width

# multiplier -> channels of stages 2, 3 and 4, and of the last convolution
CHANNELS = {
    0.5: (48, 96, 192, 1024),
    1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024),
    2.0: (244, 488, 976, 2048),
}
MOMENTUM = 0.9  # of batch norm's moving statistics


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
        head         average of each channel → dense

    A batch norm follows every convolution, a ReLU every one but the depthwise.

    num_classes   number of classes; the network returns that many logits
    input_shape   (H, W, C) of one image, of any size; (224, 224, 3) in the paper
    multiplier    0.5, 1.0, 1.5 or 2.0: which column of the paper's table
    width         scales that column's numbers of channels
    epsilon       batch norm's ε
    rng           generator for the starting weights: He normal, for the logits Glorot uniform
    Learned parameters at 1,000 classes: 1,366,792, 2,278,604, 3,503,624 and 7,393,996 for the four
    multipliers, as torchvision counts.
    Raises ValueError for another multiplier, and if width is not above 0.
    """
    if multiplier not in CHANNELS:
        raise ValueError(
            f"shufflenet_v2: multiplier is {multiplier}, want one of "
            f"{', '.join(map(str, CHANNELS))}; other sizes by width"
        )
    if width <= 0:
        raise ValueError(
            f"shufflenet_v2: width is {width}, want a number above 0; 1 is the paper's"
        )
    colours = image_shape("shufflenet_v2", input_shape)[2]
    *stage_channels, last = (_even(count, width) for count in CHANNELS[multiplier])
    channels = _even(STEM, width)

    stages: dict[str, Layer] = {
        "conv1": _convolution(colours, channels, 3, 2, epsilon, rng),
        "maxpool": MaxPool2D(3, 2, padding=1),
    }
    for stage, (count, units) in enumerate(zip(stage_channels, UNITS, strict=True), start=2):
        stages[f"stage{stage}"] = Sequential(
            unit1=halving_unit(channels, count, epsilon, rng=rng),
            **{f"unit{i}": unit(count, epsilon, rng=rng) for i in range(2, units + 1)},
        )
        channels = count
    stages["conv5"] = _convolution(channels, last, 1, 1, epsilon, rng)
    base = Sequential(**stages)
    representation_shape("shufflenet_v2", base, input_shape)

    head = Sequential(pool=GlobalAvgPool2D(), classes=Dense(last, num_classes, rng=rng))
    return Classifier(base, head)


def unit(channels: int, epsilon: float = 1e-5, *, rng: np.random.Generator) -> Sequential:
    """[x₁, x₂] ↦ shuffle [x₁, F(x₂)]; figure 3 (c).  The shape of x stays; channels is even."""
    half = channels // 2
    return Sequential(
        join=Concat(
            branch1=ChannelSlice(0, half),
            branch2=Sequential(
                split=ChannelSlice(half, channels),
                **_path(half, half, 1, epsilon, rng),
            ),
        ),
        shuffle=ChannelShuffle(2),
    )


def halving_unit(
    channels: int, filters: int, epsilon: float = 1e-5, *, rng: np.random.Generator
) -> Sequential:
    """x ↦ shuffle [G(x), F(x)], both with half of the filters and a stride of 2; figure 3 (d).

    (H, W, channels) becomes (⌈H/2⌉, ⌈W/2⌉, filters); filters is even.
    """
    half = filters // 2
    return Sequential(
        join=Concat(
            branch1=Sequential(
                conv2=_depthwise(channels, 2, rng),
                bn2=BatchNorm(channels, MOMENTUM, epsilon),
                conv3=Conv2D(channels, half, 1, bias=False, rng=rng, initializer=he_normal),
                bn3=BatchNorm(half, MOMENTUM, epsilon),
                relu3=ReLU(),
            ),
            branch2=Sequential(**_path(channels, half, 2, epsilon, rng)),
        ),
        shuffle=ChannelShuffle(2),
    )


def _path(
    channels: int, filters: int, stride: int, epsilon: float, rng: np.random.Generator
) -> dict[str, Layer]:
    """F: 1×1 → 3×3 depthwise → 1×1."""
    return {
        "conv1": Conv2D(channels, filters, 1, bias=False, rng=rng, initializer=he_normal),
        "bn1": BatchNorm(filters, MOMENTUM, epsilon),
        "relu1": ReLU(),
        "conv2": _depthwise(filters, stride, rng),
        "bn2": BatchNorm(filters, MOMENTUM, epsilon),
        "conv3": Conv2D(filters, filters, 1, bias=False, rng=rng, initializer=he_normal),
        "bn3": BatchNorm(filters, MOMENTUM, epsilon),
        "relu3": ReLU(),
    }


def _depthwise(channels: int, stride: int, rng: np.random.Generator) -> Conv2D:
    return Conv2D(
        channels,
        channels,
        3,
        stride,
        padding=1,
        groups=channels,
        bias=False,
        rng=rng,
        initializer=he_normal,
    )


def _convolution(
    channels: int,
    filters: int,
    kernel: int,
    stride: int,
    epsilon: float,
    rng: np.random.Generator,
) -> Sequential:
    return Sequential(
        conv=Conv2D(
            channels,
            filters,
            kernel,
            stride,
            padding=kernel // 2,
            bias=False,
            rng=rng,
            initializer=he_normal,
        ),
        bn=BatchNorm(filters, MOMENTUM, epsilon),
        relu=ReLU(),
    )


def _even(count: int, width: float) -> int:
    """So many times ``width``, an even number from 2: channels are split in halves."""
    return 2 * max(1, round(count * width / 2))
