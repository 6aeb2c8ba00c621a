"""Small residual networks, and the plain ones to compare them with.  Report §3.3, Figure 7.

Source: He, Zhang, Ren, Sun 2015, "Deep Residual Learning for Image Recognition", §4.2: the
networks for CIFAR-10, with 6n + 2 layers of weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer, Shape
from tinynet.layers import (
    AvgPool2D,
    BatchNorm,
    ChannelSlice,
    Concat,
    Conv2D,
    Dense,
    GlobalAvgPool2D,
    ReLU,
    Residual,
    Scale,
    Sequential,
)
from tinynet.models.architecture import architecture
from tinynet.models.classifier import Classifier
from tinynet.models.sizes import image_shape, representation_shape


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
    """A 3×3 convolution, then a stage of n blocks of two for each entry of filters.  Report §3.3.

        block    y = ReLU(F(x) + x),   F: 3×3 → batch norm → ReLU → 3×3 → batch norm
        plain    y = ReLU(F(x)): the same layers without the shortcut
        head     global average pool → dense

    Each stage but the first halves height and width, rounding up, by the stride of its first 3×3.

    num_classes      number of classes; the network returns that many logits
    input_shape      (H, W, C) of one image, of any size
    depth            layers of weights, 2n · (stages) + 2: with three stages 8, 14, 20, 32, 44, 56…
    shortcuts        False: the plain network of the same depth, filters and parameters
    projection       how x meets F(x) where the shape changes. False: every second pixel of x, and
                     zeros for the new channels, without parameters (the paper's option A, which it
                     has for these networks). True: a 1×1 convolution W_s and a batch norm (B)
    filters          of each stage's convolutions
    batch_norm       False: none, and biases on the convolutions instead
    epsilon          batch norm's ε
    zero_last_gamma  the last batch norm of each block starts with γ = 0 (Goyal et al. 2017)
    rng              generator for the starting weights: He normal, and Glorot uniform for the
                     logits
    Raises ValueError if input_shape is no image's, depth not 2n · (stages) + 2, there are no
    filters, a stage has fewer filters than the one before and no projection, or zero_last_gamma is
    asked for without batch norm.
    For 10 classes, three channels and no projection 0.27 million parameters at depth 20, 0.85 at
    56, 1.7 at 110 (the paper's Table 6).
    """
    stages = len(filters)
    if stages < 1 or depth < 2 * stages + 2 or (depth - 2) % (2 * stages):
        raise ValueError(
            f"small_resnet: depth is {depth} with {stages} stages of filters, want at least one "
            f"stage and depth {2 * stages}·n + 2, such as {2 * stages + 2} or {6 * stages + 2}"
        )
    if zero_last_gamma and not batch_norm:
        raise ValueError("small_resnet: zero_last_gamma without batch norm, which has the γ")
    shape = image_shape("small_resnet", input_shape)

    def convolution(
        channels: int, count: int, kernel: int = 3, stride: int = 1
    ) -> dict[str, Layer]:
        conv = Conv2D(
            channels,
            count,
            kernel,
            stride,
            padding=kernel // 2,
            bias=not batch_norm,
            rng=rng,
            initializer=he_normal,
        )
        return {"conv": conv} | ({"bn": BatchNorm(count, 0.9, epsilon)} if batch_norm else {})

    def block(channels: int, count: int, stride: int) -> Sequential:
        last = convolution(count, count)
        if zero_last_gamma:
            last["bn"].gamma.value[...] = 0  # type: ignore[attr-defined]
        main = Sequential(
            **numbered(1, convolution(channels, count, stride=stride)),
            relu1=ReLU(),
            **numbered(2, last),
        )
        if not shortcuts:
            return Sequential(main=main, relu=ReLU())
        skip: Layer | None = None
        if stride > 1 or channels != count:
            skip = (
                Sequential(**convolution(channels, count, 1, stride))
                if projection
                else padded_identity(channels, count, stride)
            )
        return Sequential(residual=Residual(main, skip), relu=ReLU())

    base: dict[str, Layer] = {**numbered(1, convolution(shape[2], filters[0])), "relu": ReLU()}
    channels = filters[0]
    for stage, count in enumerate(filters, start=1):
        blocks = []
        for i in range((depth - 2) // (2 * stages)):
            blocks.append(block(channels, count, 2 if stage > 1 and i == 0 else 1))
            channels = count
        base[f"layer{stage}"] = Sequential(*blocks)
    representation = Sequential(**base)
    features = representation_shape("small_resnet", representation, shape)[-1]
    head = Sequential(pool=GlobalAvgPool2D(), classes=Dense(features, num_classes, rng=rng))
    return Classifier(representation, head)


def numbered(number: int, layers: dict[str, Layer]) -> dict[str, Layer]:
    """The layers with a number behind each name."""
    return {f"{name}{number}": layer for name, layer in layers.items()}


def padded_identity(channels: int, outputs: int, stride: int) -> Sequential:
    """A shortcut without parameters: pixels left out, channels of zeros added (option A).

        y[n, i, j, c] = x[n, stride·i, stride·j, c]  for c < channels,   0 for the new channels

    x (N, H, W, channels), y (N, ⌈H / stride⌉, ⌈W / stride⌉, outputs).
    Raises ValueError if outputs is below channels: there is no way to leave channels out.
    """
    if outputs < channels:
        raise ValueError(
            f"a shortcut without parameters cannot end in {outputs} channels from {channels}: want "
            "no fewer filters from stage to stage, or projection=True"
        )
    zeros = []
    for start in range(channels, outputs, channels):  # so many at a time as there are to copy
        count = min(channels, outputs - start)
        zeros.append(Sequential(ChannelSlice(0, count), Scale(0.0)))
    pixels = AvgPool2D(1, stride)  # the mean over a window of one pixel
    return Sequential(pixels=pixels, channels=Concat(Sequential(), *zeros))
