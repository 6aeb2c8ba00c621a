"""Very deep networks of 3×3 convolutions.  Report §3.1, A.1.

Source: Simonyan & Zisserman 2014, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", Table 1, configurations D and E.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer, Shape
from tinynet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sequential
from tinynet.models.architecture import architecture
from tinynet.models.classifier import Classifier
from tinynet.models.sizes import image_shape, representation_shape

# block    filters   convolutions in D (VGG16), E (VGG19)
BLOCKS = (
    ("block1", 64, (2, 2)),
    ("block2", 128, (2, 2)),
    ("block3", 256, (3, 4)),
    ("block4", 512, (3, 4)),
    ("block5", 512, (3, 4)),
)
VGG16, VGG19 = zip(*(counts for *_, counts in BLOCKS), strict=True)
HIDDEN = 4096  # neurons of each hidden dense layer
MOMENTUM = 0.9  # of the moving statistics, where there are any
EPSILON = 1e-5  # torchvision's


@architecture
def vgg16(
    num_classes: int,
    input_shape: Shape,
    *,
    batch_norm: bool = False,
    hidden: int = HIDDEN,
    keep_prob: float = 0.5,
    epsilon: float = EPSILON,
    width: float = 1.0,
    rng: np.random.Generator,
) -> Classifier:
    """VGG16: 13 convolutions, 2 + 2 + 3 + 3 + 3, and 3 dense layers.  Report §3.1.

        block   (convolution 3×3 same → [batch norm] → ReLU) twice or thrice → max-pool 2×2
        head    flatten → (dense → ReLU → dropout) twice → dense

    num_classes   number of classes; the network returns that many logits
    input_shape   (H, W, C) of one image, H and W from 32: each block halves them, rounding down
    batch_norm    normalise before each ReLU of the base, whose convolutions then have no bias
                  (§2.4.3); not in the paper
    hidden        neurons of each of the two hidden dense layers
    keep_prob     dropout's probability of keeping a hidden neuron
    epsilon       batch norm's ε
    width         scales every number of filters; 1 is the paper's
    rng           generator for the starting weights: He normal before a ReLU, Glorot uniform for
                  the logits. The paper started its deep networks from a trained shallow one, and
                  notes that Glorot's rule does without
    Raises ValueError if input_shape is no image's or too small, or width not above 0.
    138,357,544 parameters for 1000 classes and 224 × 224 × 3, as published.
    """
    return vgg(
        "vgg16", VGG16, num_classes, input_shape, batch_norm, hidden, keep_prob, epsilon, width, rng
    )


@architecture
def vgg19(
    num_classes: int,
    input_shape: Shape,
    *,
    batch_norm: bool = False,
    hidden: int = HIDDEN,
    keep_prob: float = 0.5,
    epsilon: float = EPSILON,
    width: float = 1.0,
    rng: np.random.Generator,
) -> Classifier:
    """VGG19: 16 convolutions, 2 + 2 + 4 + 4 + 4, and 3 dense layers.  Report §3.1.

    Arguments and errors as in ``vgg16``.
    143,667,240 parameters for 1000 classes and 224 × 224 × 3, as published.
    """
    return vgg(
        "vgg19", VGG19, num_classes, input_shape, batch_norm, hidden, keep_prob, epsilon, width, rng
    )


def vgg(
    name: str,
    counts: Sequence[int],
    num_classes: int,
    input_shape: Shape,
    batch_norm: bool,
    hidden: int,
    keep_prob: float,
    epsilon: float,
    width: float,
    rng: np.random.Generator,
) -> Classifier:
    """Five blocks with so many convolutions each, and the head.

    Raises ValueError as ``vgg16`` says; ``name`` is for the message.
    """
    if width <= 0:
        raise ValueError(f"{name}: width is {width}, want a number above 0; 1 is the paper's")

    def block(channels: int, filters: int, count: int) -> Sequential:
        layers: dict[str, Layer] = {}
        for i in range(1, count + 1):
            layers[f"conv{i}"] = Conv2D(
                channels,
                filters,
                3,
                padding="same",
                bias=not batch_norm,
                rng=rng,
                initializer=he_normal,
            )
            if batch_norm:
                layers[f"bn{i}"] = BatchNorm(filters, momentum=MOMENTUM, epsilon=epsilon)
            layers[f"relu{i}"] = ReLU()
            channels = filters
        return Sequential(**layers, pool=MaxPool2D(2))

    shape = image_shape(name, input_shape)
    channels, blocks = shape[2], {}
    for (place, filters, _), count in zip(BLOCKS, counts, strict=True):
        filters = max(1, round(width * filters))
        blocks[place] = block(channels, filters, count)
        channels = filters
    base = Sequential(**blocks)
    features = prod(representation_shape(name, base, shape))
    head = Sequential(
        flatten=Flatten(),
        fc1=Dense(features, hidden, rng=rng, initializer=he_normal),
        relu1=ReLU(),
        dropout1=Dropout(keep_prob),
        fc2=Dense(hidden, hidden, rng=rng, initializer=he_normal),
        relu2=ReLU(),
        dropout2=Dropout(keep_prob),
        classes=Dense(hidden, num_classes, rng=rng),
    )
    return Classifier(base, head)
