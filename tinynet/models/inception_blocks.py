"""Inception blocks from a plan, and the stem that two networks share.  Report §3.4.

A plan is written as the paper's figures are drawn:

    (96, 3)                         a convolution: filters, kernel [, stride [, padding]]
    "average", "max"                a pool: the mean of 3×3 at stride 1; the largest of 3×3 / 2
    [plan, plan]                    one after the other
    {"a": plan, "b": plan}          side by side, channels stacked in this order

Source: Szegedy, Ioffe, Vanhoucke, Alemi 2016, "Inception-v4, Inception-ResNet and the Impact of
Residual Connections on Learning".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer
from tinynet.layers import AvgPool2D, BatchNorm, Concat, Conv2D, MaxPool2D, ReLU, Sequential
from tinynet.layers.window import Padding, Pair, whole_numbers

Plan = Any  # a tuple, a text, a list or a dictionary, as above

MOMENTUM = 0.99  # of the moving statistics
EPSILON = 1e-3  # batch norm's ε in the weights that were released, in Keras and in timm
V = "valid"  # the figures' mark for a convolution without padding

ROW_7, COLUMN_7 = (1, 7), (7, 1)  # 7×7, factorised
ROW_3, COLUMN_3 = (1, 3), (3, 1)  # 3×3, factorised

# Figure 3: 299 × 299 × 3 becomes 35 × 35 × 384.
STEM: Plan = [
    (32, 3, 2, V),
    (32, 3, 1, V),
    (64, 3),
    {"maxpool": "max", "conv": (96, 3, 2, V)},
    {
        "branch0": [(64, 1), (96, 3, 1, V)],
        "branch1": [(64, 1), (64, ROW_7), (64, COLUMN_7), (96, 3, 1, V)],
    },
    {"conv": (192, 3, 2, V), "maxpool": "max"},
]


@dataclass(frozen=True)
class Builder:
    """Makes layers from plans; this is what the layers of one network have in common.

    width             scales every number of filters
    batch_norm_scale  whether batch norms have a gamma
    epsilon           batch norm's ε
    rng               generator for the starting weights
    """

    width: float
    batch_norm_scale: bool
    epsilon: float
    rng: np.random.Generator

    def __call__(self, plan: Plan, channels: int) -> Layer:
        """The layer that ``plan`` describes, for an input of so many channels."""
        if isinstance(plan, tuple):
            return self.convolution(channels, *plan)
        if isinstance(plan, str):
            return {"average": AvgPool2D(3, 1, "same"), "max": MaxPool2D(3, 2)}[plan]
        if isinstance(plan, dict):
            return Concat(**{name: self(branch, channels) for name, branch in plan.items()})
        layers: list[Layer] = []
        for part in plan:
            layers.append(self(part, channels))
            channels = channels_after(layers[-1], channels)
        return Sequential(*layers)

    def convolution(
        self,
        channels: int,
        filters: int,
        kernel: int | Pair,
        stride: int = 1,
        padding: Padding = "same",
    ) -> Sequential:
        """ReLU(batch norm(convolution of x)); batch norm has the shift, so there is no bias."""
        count = self.scaled(filters)
        return Sequential(
            conv=Conv2D(
                channels,
                count,
                kernel,
                stride,
                padding,
                bias=False,
                rng=self.rng,
                initializer=he_normal,
            ),
            bn=BatchNorm(count, MOMENTUM, self.epsilon, scale=self.batch_norm_scale),
            relu=ReLU(),
        )

    def scaled(self, filters: int) -> int:
        """So many times ``width``, a whole number from 1."""
        return max(1, round(self.width * filters))


def channels_after(layer: Layer, channels: int) -> int:
    """Channels of a layer's output, whatever the image's size."""
    if isinstance(layer, Conv2D):
        return layer.out_channels
    if isinstance(layer, Concat):
        return sum(channels_after(branch, channels) for branch in layer.branches)
    if isinstance(layer, Sequential):
        for inner in layer.layers:
            channels = channels_after(inner, channels)
    return channels


def turned(plan: Plan) -> Plan:
    """The plan with every 1×n convolution as n×1, and the reverse."""
    if isinstance(plan, list):
        return [turned(part) for part in plan]
    if isinstance(plan, dict):
        return {name: turned(branch) for name, branch in plan.items()}
    if isinstance(plan, tuple) and isinstance(plan[1], tuple):
        return (plan[0], plan[1][::-1], *plan[2:])
    return plan


def with_turned(block: Plan, branch: str) -> Plan:
    """The block with one branch turned: the figures draw some the other way round."""
    return {**block, branch: turned(block[branch])}


STEM_AS_DRAWN: Plan = [*STEM[:4], with_turned(STEM[4], "branch1"), STEM[5]]


def check_settings(name: str, repeats: Sequence[int], width: float) -> tuple[int, int, int]:
    """The numbers of blocks A, B and C.

    name   of the architecture, for the message
    Raises ValueError if repeats are not three whole numbers from 0, or width is not above 0.
    """
    counts = whole_numbers(repeats)
    if counts is None or len(counts) != 3 or min(counts) < 0:
        raise ValueError(
            f"{name}: repeats is {repeats!r}, want three whole numbers from 0, "
            "how many blocks A, B and C there are"
        )
    if width <= 0:
        raise ValueError(f"{name}: width is {width}, want a number above 0; 1 is the paper's")
    return counts[0], counts[1], counts[2]
