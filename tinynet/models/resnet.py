"""Residual networks: of bottlenecks, with gated channels, and small ones.  Report §3.3.

Sources: He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition", Table 1, and
§4.2 for the small ones; Hu, Shen, Albanie, Sun, Wu 2018, "Squeeze-and-Excitation Networks".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynet.layer import Layer, Shape
from tinynet.layers import (
    AvgPool2D,
    ChannelSlice,
    Concat,
    Dense,
    Gate,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Residual,
    Scale,
    Sequential,
    Sigmoid,
)
from tinynet.models.architecture import architecture, variant
from tinynet.models.parts import Classifier, Parts

# stage     filters of the 3×3, stride, bottlenecks in ResNet-50, -101, -152
STAGES = {
    "layer1": (64, 1, (3, 3, 3)),  # conv2_x in the paper
    "layer2": (128, 2, (4, 4, 8)),
    "layer3": (256, 2, (6, 23, 36)),
    "layer4": (512, 2, (3, 3, 3)),
}
RESNET50, RESNET101, RESNET152 = zip(*(blocks for *_, blocks in STAGES.values()), strict=True)
EXPANSION = 4  # a bottleneck ends in four times the filters of its 3×3


def resnet(
    blocks: Sequence[int],
    num_classes: int,
    input_shape: Shape,
    *,
    stride_in: str = "3x3",
    conv_bias: bool = False,
    epsilon: float = 1e-5,
    width: float = 1.0,
    zero_last_gamma: bool = False,
    reduction: int | None = None,
    rng: np.random.Generator,
) -> Classifier:
    """A residual network of bottlenecks; ResNet-152 won ILSVRC 2015.  Report §3.3.

        stem         convolution 7×7 / 2 → batch norm → ReLU → max-pool 3×3 / 2
        bottleneck   y = ReLU(F(x) + x);   F(x) + W_s x where the shape changes
                     F: 1×1 → 3×3 → 1×1 with four times the filters, a batch norm after each,
                     a ReLU after the first two;   W_s: a 1×1 convolution and a batch norm
        gated        y = ReLU(s ⊙ F(x) + x), squeeze and excitation: s weighs the channels of F(x)
        head         global average pool → dense

        network       bottlenecks           parameters at 1,000 classes
        resnet50      3 + 4 + 6 + 3 = 16    25,557,032 (torchvision)   25,636,712 (Keras)
        resnet101     3 + 4 + 23 + 3 = 33   44,549,160                 44,707,176
        resnet152     3 + 8 + 36 + 3 = 50   60,192,808                 60,419,944
        se_resnet50   as resnet50, gated    28,088,024 (timm)
        Keras's have biases on the convolutions and count the moving statistics

    input_shape      of any size; the five strides of 2 round up
    stride_in        "3x3": a stage's stride is in its first bottleneck's 3×3, as in the report,
                     torchvision and timm; "1x1": in the first 1×1, as in the paper and in Keras
    conv_bias        biases on the convolutions too, as in Keras; batch norm takes them out again
    epsilon          1e-5 in torchvision, 1.001e-5 in Keras
    zero_last_gamma  the last batch norm of each bottleneck starts with γ = 0, so that a bottleneck
                     with an identity shortcut starts as the identity (Goyal et al. 2017)
    reduction        None: no gates. A whole number, 16 in se_resnet50: the factor by which a gate
                     squeezes the channels, to 1 or more
    Other arguments as in ``tinynet.models``.
    """
    if stride_in not in ("3x3", "1x1"):
        raise ValueError(
            f"stride_in is {stride_in!r}, want '3x3' (the report, torchvision) or '1x1' (the "
            "paper, Keras)"
        )
    if reduction is not None and reduction < 1:
        raise ValueError(f"reduction is {reduction}, want a whole number from 1, or None")
    parts = Parts(rng, width, epsilon, bias=conv_bias)

    def bottleneck(channels: int, filters: int, stride: int = 1) -> Sequential:
        outputs = EXPANSION * filters
        first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
        main = parts.conv_bn_relu("conv1 bn1 relu1", channels, filters, 1, first)
        main |= parts.conv_bn_relu("conv2 bn2 relu2", filters, filters, 3, second)
        main |= parts.conv_bn_relu("conv3 bn3", filters, outputs, 1)
        if zero_last_gamma:
            main["bn3"].parameters()["gamma"].value[...] = 0
        if reduction is not None:
            main["se"] = squeeze_and_excitation(parts, outputs, reduction)
        skip = None
        if stride > 1 or channels != outputs:
            skip = Sequential(**parts.conv_bn_relu("conv bn", channels, outputs, 1, stride))
        return Sequential(residual=Residual(Sequential(**main), skip), relu=ReLU())

    channels = parts.scaled(64)
    base = parts.conv_bn_relu("conv1 bn1 relu", input_shape[2], channels, 7, 2)
    base["maxpool"] = MaxPool2D(3, 2, padding=1)
    for (stage, (filters, stride, _)), count in zip(STAGES.items(), blocks, strict=True):
        filters = parts.scaled(filters)
        first = bottleneck(channels, filters, stride)
        channels = EXPANSION * filters
        rest = [bottleneck(channels, filters) for _ in range(count - 1)]
        base[stage] = Sequential(first, *rest)
    return parts.classifier(base, input_shape, num_classes)


resnet50 = variant("resnet50", resnet, RESNET50)
resnet101 = variant("resnet101", resnet, RESNET101)
resnet152 = variant("resnet152", resnet, RESNET152)
se_resnet50 = variant("se_resnet50", resnet, RESNET50, reduction=16)


def squeeze_and_excitation(parts: Parts, channels: int, reduction: int) -> Gate:
    """y = s ⊙ x,   s = σ(W₂ ReLU(W₁ z + b₁) + b₂),   z_c = mean of x_c.  Report §3, §2.2.2."""
    squeezed = max(1, channels // reduction)
    return Gate(
        Sequential(
            squeeze=GlobalAvgPool2D(),
            fc1=parts.dense(channels, squeezed),
            relu=ReLU(),
            fc2=Dense(squeezed, channels, rng=parts.rng),
            sigmoid=Sigmoid(),
        )
    )


@architecture
def small_resnet(
    num_classes: int,
    input_shape: Shape,
    depth: int = 20,
    *,
    shortcuts: bool = True,
    projection: bool = False,
    filters: Sequence[int] = (16, 32, 64),
    batch_norm: bool = True,
    epsilon: float = 1e-5,
    zero_last_gamma: bool = False,
    rng: np.random.Generator,
) -> Classifier:
    """Small residual networks, and the plain ones to compare them with.  Report §3.3, Figure 7.

        base     3×3 convolution → a stage of n blocks for each entry of filters
        block    y = ReLU(F(x) + x),   F: 3×3 → batch norm → ReLU → 3×3 → batch norm
        plain    y = ReLU(F(x)): the same layers without the shortcut
        head     global average pool → dense

    Each stage but the first halves height and width, rounding up, by the stride of its first 3×3.

    input_shape      of any size; the paper's networks are for CIFAR-10's (32, 32, 3)
    depth            layers with weights, 2n · (stages) + 2; with three stages 8, 14, 20, 32, 44, …
    shortcuts        False: the plain network of the same depth, filters and parameters
    projection       how x meets F(x) where the shape changes. False: every second pixel of x, and
                     zeros for the new channels, without parameters (the paper's option A, which it
                     has for these networks). True: a 1×1 convolution W_s and a batch norm (B)
    filters          of each stage's convolutions
    zero_last_gamma  the last batch norm of each block starts with γ = 0 (Goyal et al. 2017)
    Other arguments as in ``tinynet.models``.
    Parameters for 10 classes, three channels and no projection: 0.27 million at depth 20, 0.85 at
    56, 1.7 at 110 (the paper's Table 6).
    Raises ValueError if a stage has fewer filters than the one before and no projection.
    """
    stages = len(filters)
    if stages < 1 or depth < 2 * stages + 2 or (depth - 2) % (2 * stages):
        raise ValueError(
            f"depth is {depth} with {stages} stages of filters, want at least one stage and depth "
            f"{2 * stages}·n + 2, such as {2 * stages + 2} or {6 * stages + 2}"
        )
    if zero_last_gamma and not batch_norm:
        raise ValueError("zero_last_gamma needs the γ of batch norm: set batch_norm=True")
    parts = Parts(rng, epsilon=epsilon, batch_norm=batch_norm, bias=not batch_norm)

    def block(channels: int, count: int, stride: int) -> Sequential:
        # the second is drawn first: changing that would change the weights of every seed
        second = parts.conv_bn_relu("conv2 bn2", count, count, 3)
        main = parts.conv_bn_relu("conv1 bn1 relu1", channels, count, 3, stride) | second
        if zero_last_gamma:
            main["bn2"].parameters()["gamma"].value[...] = 0
        if not shortcuts:
            return Sequential(main=Sequential(**main), relu=ReLU())
        skip: Layer | None = None
        if projection and (stride > 1 or channels != count):
            skip = Sequential(**parts.conv_bn_relu("conv bn", channels, count, 1, stride))
        elif stride > 1 or channels != count:
            skip = padded_identity(channels, count, stride)
        return Sequential(residual=Residual(Sequential(**main), skip), relu=ReLU())

    base = parts.conv_bn_relu("conv1 bn1 relu", input_shape[2], filters[0], 3)
    channels = filters[0]
    for stage, count in enumerate(filters, start=1):
        first = block(channels, count, 1 if stage == 1 else 2)
        rest = [block(count, count, 1) for _ in range((depth - 2) // (2 * stages) - 1)]
        base[f"layer{stage}"] = Sequential(first, *rest)
        channels = count
    return parts.classifier(base, input_shape, num_classes)


def padded_identity(channels: int, outputs: int, stride: int) -> Sequential:
    """A shortcut without parameters: pixels left out, channels of zeros added (option A).

        y[n, i, j, c] = x[n, stride·i, stride·j, c]  for c < channels,   0 for the new channels

    Raises ValueError if outputs is below channels: there is no way to leave channels out.
    """
    if outputs < channels:
        raise ValueError(
            f"a shortcut without parameters cannot end in {outputs} channels from {channels}: want "
            "no fewer filters from stage to stage, or projection=True"
        )
    zeros = []
    for start in range(channels, outputs, channels):  # at most as many as there are to copy
        count = min(channels, outputs - start)
        zeros.append(Sequential(ChannelSlice(0, count), Scale(0.0)))
    pixels = AvgPool2D(1, stride)  # the mean over a window of one pixel
    return Sequential(pixels=pixels, channels=Concat(Sequential(), *zeros))
