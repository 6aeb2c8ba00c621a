"""A residual network whose bottlenecks weigh their channels: squeeze and excitation.  Report §3.

The report names gating (end of chapter 3) and the sigmoid as its means (§2.2.2).
Source: Hu, Shen, Albanie, Sun, Wu 2018, "Squeeze-and-Excitation Networks", Table 1.
"""

from __future__ import annotations

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Shape
from tinynet.layers import Dense, Gate, GlobalAvgPool2D, ReLU, Sequential, Sigmoid
from tinynet.models.architecture import architecture
from tinynet.models.classifier import Classifier
from tinynet.models.resnet import EPSILON, RESNET50, Parts, residual_network


@architecture
def se_resnet50(
    num_classes: int,
    input_shape: Shape,
    *,
    reduction: int = 16,
    stride_in: str = "3x3",
    conv_bias: bool = False,
    epsilon: float = EPSILON,
    width: float = 1.0,
    zero_last_gamma: bool = False,
    rng: np.random.Generator,
) -> Classifier:
    """ResNet-50 with a gate on the main path of each bottleneck, before the sum.

        y = ReLU(s ⊙ F(x) + x),   s = σ(W₂ ReLU(W₁ z + b₁) + b₂),   z_c = mean over H, W of F(x)_c

    reduction   W₁ leaves that part of the channels; a whole number, from 1 channel up
    The other arguments and the errors are those of ``resnet50``. The paper's Table 1 is silent on
    the stride's place; "3x3" is timm's.
    Raises ValueError, besides, if reduction is below 1.
    28,088,024 parameters for 1000 classes and 3 channels, as timm's seresnet50, whose squeezing
    layers have biases as these do.
    """
    if reduction < 1:
        raise ValueError(f"se_resnet50: reduction is {reduction}, want a whole number from 1")
    parts = Parts(
        stride_in,
        conv_bias,
        epsilon,
        zero_last_gamma,
        rng,
        gate=lambda channels: squeeze_and_excitation(channels, reduction, rng),
    )
    return residual_network("se_resnet50", RESNET50, num_classes, input_shape, width, parts)


def squeeze_and_excitation(channels: int, reduction: int, rng: np.random.Generator) -> Gate:
    """y = x ⊙ σ(W₂ ReLU(W₁ z + b₁) + b₂) with z the means of x's channels.  x (N, H, W, C)."""
    squeezed = max(1, channels // reduction)
    return Gate(
        Sequential(
            squeeze=GlobalAvgPool2D(),
            fc1=Dense(channels, squeezed, rng=rng, initializer=he_normal),
            relu=ReLU(),
            fc2=Dense(squeezed, channels, rng=rng),
            sigmoid=Sigmoid(),
        )
    )
