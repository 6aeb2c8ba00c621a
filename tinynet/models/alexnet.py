"""AlexNet, which won ILSVRC 2012, for history.  Report §3, where the list of winners has it.

Sources: Krizhevsky, Sutskever & Hinton 2012, "ImageNet Classification with Deep Convolutional
Neural Networks", §3, Figure 2; for the form in one tower Krizhevsky 2014, "One weird trick for
parallelizing convolutional neural networks", §5, as in torchvision.
"""

from __future__ import annotations

from math import prod

import numpy as np

from tinynet.layer import Shape
from tinynet.layers import Dense, Dropout, Flatten, LocalResponseNorm, MaxPool2D, ReLU, Sequential
from tinynet.models.architecture import architecture
from tinynet.models.parts import Classifier, Layers, Parts, representation_shape

# A stage is a convolution, a ReLU, and what is named last: local response normalisation, a max-pool
# 3×3 / 2, whose windows overlap. The two towers, one on each of two GPUs, are two groups; the third
# convolution sees both.
# filters, kernel, stride, padding, groups
TWO_TOWERS = (
    (96, 11, 4, 0, 1, "norm pool"),
    (256, 5, 1, 2, 2, "norm pool"),
    (384, 3, 1, 1, 1, ""),
    (384, 3, 1, 1, 2, ""),
    (256, 3, 1, 1, 2, "pool"),
)
ONE_TOWER = (
    (64, 11, 4, 2, 1, "pool"),
    (192, 5, 1, 2, 1, "pool"),
    (384, 3, 1, 1, 1, ""),
    (256, 3, 1, 1, 1, ""),
    (256, 3, 1, 1, 1, "pool"),
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

    input_shape   H and W from 67, in one tower from 63. The paper's 224 does not fit its other
                  figures: 55 × 55 after the first convolution takes 227
    one_tower     True: the form of 2014, without groups and local response normalisation, with
                  other numbers of filters, and in the head dropout before each hidden dense layer
    width         leaves even numbers of filters where there are two groups
    rng           the paper draws from N(0, 0.01²) instead, and starts some biases at 1
    Other arguments as in ``tinynet.models``.
    Parameters at 1,000 classes: 60,965,224 for 227 × 227 × 3; in one tower 61,100,840 for
    224 × 224 × 3, as in torchvision.
    """
    parts = Parts(rng, width, batch_norm=False, bias=True)
    base: Layers = {}
    channels = input_shape[2]
    for i, (count, *window, then) in enumerate(ONE_TOWER if one_tower else TWO_TOWERS, start=1):
        filters = parts.scaled(count, 1 if one_tower else 2)
        base[f"conv{i}"] = parts.conv(channels, filters, *window)
        base[f"relu{i}"] = ReLU()
        if "norm" in then:
            base[f"norm{i}"] = LocalResponseNorm()
        if "pool" in then:
            base[f"pool{i}"] = MaxPool2D(3, 2)
        channels = filters
    representation = Sequential(**base)

    head: Layers = {"flatten": Flatten()}
    features = prod(representation_shape(representation, input_shape))
    for i in (6, 7):
        dense = {f"fc{i}": parts.dense(features, hidden), f"relu{i}": ReLU()}
        dropout = {f"dropout{i}": Dropout(keep_prob)}
        head |= dropout | dense if one_tower else dense | dropout
        features = hidden
    return Classifier(
        representation, Sequential(**head, classes=Dense(hidden, num_classes, rng=rng))
    )
