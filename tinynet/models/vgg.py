"""Very deep networks of 3×3 convolutions.  Report §3.1, §5.3, A.1.

Source: Simonyan & Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", Table 1, configurations D and E.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from tinynet.layer import Layer, Shape
from tinynet.layers import Dense, Dropout, Flatten, MaxPool2D, ReLU, Sequential
from tinynet.models.architecture import architecture, variant
from tinynet.models.parts import Classifier, Layers, Parts, representation_shape

FILTERS = (64, 128, 256, 512, 512)  # of each block's convolutions
VGG16 = (2, 2, 3, 3, 3)  # convolutions in each block
VGG19 = (2, 2, 4, 4, 4)


def vgg(
    counts: Sequence[int],
    num_classes: int,
    input_shape: Shape,
    *,
    batch_norm: bool = False,
    hidden: int = 4096,
    keep_prob: float = 0.5,
    epsilon: float = 1e-5,
    width: float = 1.0,
    rng: np.random.Generator,
) -> Classifier:
    """Five blocks of 3×3 convolutions, and three dense layers.  Report §3.1.

        block   (convolution 3×3 same → [batch norm] → ReLU) two to four times → max-pool 2×2
        head    flatten → (dense → ReLU → dropout) twice → dense

        network   convolutions         parameters at 1,000 classes, 224 × 224 × 3, as published
        vgg16     2 + 2 + 3 + 3 + 3    138,357,544
        vgg19     2 + 2 + 4 + 4 + 4    143,667,240

    input_shape   H and W from 32: each block halves them, rounding down
    batch_norm    not in the paper (§2.4.3)
    rng           the paper started its deep networks from a trained shallow one, and notes that
                  Glorot's rule makes that unnecessary
    Other arguments as in ``tinynet.models``.
    """
    parts = Parts(rng, width, epsilon, batch_norm=batch_norm, bias=not batch_norm)
    base: Layers = {}
    channels = input_shape[2]
    for number, (filters, count) in enumerate(zip(FILTERS, counts, strict=True), start=1):
        block: Layers = {}
        for i in range(1, count + 1):
            names = f"conv{i} bn{i} relu{i}"
            block |= parts.conv_bn_relu(names, channels, parts.scaled(filters), 3, 1, "same")
            channels = parts.scaled(filters)
        base[f"block{number}"] = Sequential(**block, pool=MaxPool2D(2))
    representation = Sequential(**base)
    features = prod(representation_shape(representation, input_shape))
    head = Sequential(
        flatten=Flatten(),
        fc1=parts.dense(features, hidden),
        relu1=ReLU(),
        dropout1=Dropout(keep_prob),
        fc2=parts.dense(hidden, hidden),
        relu2=ReLU(),
        dropout2=Dropout(keep_prob),
        classes=Dense(hidden, num_classes, rng=rng),
    )
    return Classifier(representation, head)


vgg16 = variant("vgg16", vgg, VGG16)
vgg19 = variant("vgg19", vgg, VGG19)


@architecture
def vgg_like(
    num_classes: int,
    input_shape: Shape,
    filters: Sequence[int] = (32, 64, 128, 256),
    hidden: int = 256,
    *,
    batch_norm: bool = False,
    keep_prob: float = 0.5,
    rng: np.random.Generator,
) -> Classifier:
    """Blocks of two 3×3 convolutions and a max-pool, then two dense layers.  Report §3.1, §5.3.

        block    (convolution 3×3 same → [batch norm] → ReLU) twice → max-pool 2×2
        head     flatten → dense → ReLU → dropout → dense

    input_shape   each block halves H and W, rounding down
    filters       filters of each block's convolutions, one entry a block
    rng           He normal before a ReLU, where Glorot's variance would halve (He et al. 2015)
    Other arguments as in ``tinynet.models``.
    """
    parts = Parts(rng, 1.0, 1e-3, batch_norm=batch_norm, bias=not batch_norm)
    base: list[Layer] = []
    channels = input_shape[2]
    for count in filters:
        for _ in range(2):
            base += parts.conv_bn_relu("conv bn relu", channels, count, 3, 1, "same").values()
            channels = count
        base.append(MaxPool2D(2))
    representation = Sequential(*base)
    features = prod(representation_shape(representation, input_shape))
    head = Sequential(
        Flatten(),
        parts.dense(features, hidden),
        ReLU(),
        Dropout(keep_prob),
        Dense(hidden, num_classes, rng=rng),
    )
    return Classifier(representation, head)
