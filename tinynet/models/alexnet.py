"""The network that won ILSVRC 2012, for history.  Report §3, where the list of winners has it.

Sources: Krizhevsky, Sutskever & Hinton 2012, "ImageNet Classification with Deep Convolutional
Neural Networks", §3, Figure 2; and for the form in one tower Krizhevsky 2014, "One weird trick for
parallelizing convolutional neural networks", §5, as torchvision has it.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer, Shape
from tinynet.layers import (
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    LocalResponseNorm,
    MaxPool2D,
    ReLU,
    Sequential,
)
from tinynet.models.architecture import architecture
from tinynet.models.classifier import Classifier
from tinynet.models.sizes import image_shape, representation_shape


class Stage(NamedTuple):
    """A convolution and a ReLU, and what comes after them."""

    filters: int
    kernel: int
    stride: int
    padding: int
    groups: int
    norm: bool  # local response normalisation
    pool: bool  # max-pool 3×3 / 2: the windows overlap


# The two towers, one on each of two GPUs, are two groups; the third convolution sees both.
#     filters kernel stride padding groups norm   pool
TWO_TOWERS = (
    Stage(96, 11, 4, 0, 1, True, True),
    Stage(256, 5, 1, 2, 2, True, True),
    Stage(384, 3, 1, 1, 1, False, False),
    Stage(384, 3, 1, 1, 2, False, False),
    Stage(256, 3, 1, 1, 2, False, True),
)
ONE_TOWER = (
    Stage(64, 11, 4, 2, 1, False, True),
    Stage(192, 5, 1, 2, 1, False, True),
    Stage(384, 3, 1, 1, 1, False, False),
    Stage(256, 3, 1, 1, 1, False, False),
    Stage(256, 3, 1, 1, 1, False, True),
)


@architecture
def alexnet(
    num_classes: int,
    input_shape: Shape,
    *,
    one_tower: bool = False,
    hidden: int = 4096,
    keep_prob: float = 0.5,
    width: float = 1.0,
    rng: np.random.Generator,
) -> Classifier:
    """AlexNet: five convolutions and three dense layers.  Report §3.

        stage   convolution → ReLU → [local response norm] → [max-pool 3×3 / 2]
        head    flatten → (dense → ReLU → dropout) twice → dense

    num_classes   number of classes; the network returns that many logits
    input_shape   (H, W, C) of one image, H and W from 67, in one tower from 63. The paper's 224
                  does not fit its own figures: 55 × 55 after the first convolution takes 227
    one_tower     True: the form of 2014, without groups and local response normalisation, with
                  other numbers of filters, and in the head dropout before each hidden dense layer
    hidden        neurons of each of the two hidden dense layers
    keep_prob     dropout's probability of keeping a neuron
    width         scales every number of filters, to even ones where there are two groups
    rng           generator for the starting weights: He normal before a ReLU, Glorot uniform for
                  the logits, biases 0; the paper draws from N(0, 0.01²) and has some biases at 1
    Raises ValueError if input_shape is no image's or too small, or width not above 0.
    60,965,224 parameters for 1000 classes and 227 × 227 × 3; in one tower 61,100,840 at
    224 × 224 × 3, as torchvision.
    """
    if width <= 0:
        raise ValueError(f"alexnet: width is {width}, want a number above 0; 1 is the paper's")
    shape = image_shape("alexnet", input_shape)
    step = 1 if one_tower else 2  # every number of filters is a multiple of it

    layers: dict[str, Layer] = {}
    channels = shape[2]
    for i, stage in enumerate(ONE_TOWER if one_tower else TWO_TOWERS, start=1):
        filters = step * max(1, round(width * stage.filters / step))
        layers[f"conv{i}"] = Conv2D(
            channels,
            filters,
            stage.kernel,
            stage.stride,
            padding=stage.padding,
            groups=stage.groups,
            rng=rng,
            initializer=he_normal,
        )
        layers[f"relu{i}"] = ReLU()
        if stage.norm:
            layers[f"norm{i}"] = LocalResponseNorm()
        if stage.pool:
            layers[f"pool{i}"] = MaxPool2D(3, 2)
        channels = filters
    base = Sequential(**layers)

    features = prod(representation_shape("alexnet", base, shape))
    dense = {
        "fc6": Dense(features, hidden, rng=rng, initializer=he_normal),
        "relu6": ReLU(),
        "fc7": Dense(hidden, hidden, rng=rng, initializer=he_normal),
        "relu7": ReLU(),
    }
    dropout = {"dropout6": Dropout(keep_prob), "dropout7": Dropout(keep_prob)}
    order = ["fc6", "relu6", "dropout6", "fc7", "relu7", "dropout7"]
    if one_tower:
        order = ["dropout6", "fc6", "relu6", "dropout7", "fc7", "relu7"]
    head = Sequential(
        flatten=Flatten(),
        **{name: (dense | dropout)[name] for name in order},
        classes=Dense(hidden, num_classes, rng=rng),
    )
    return Classifier(base, head)
