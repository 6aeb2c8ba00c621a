"""A small network in the manner of VGG.  Report §3.1 and §5.3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer, Shape
from tinynet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sequential
from tinynet.models.architecture import architecture
from tinynet.models.classifier import Classifier


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
    """Blocks of two 3×3 convolutions and a max-pool, then two dense layers.  Report §3.1.

        block    (convolution 3×3 same → [batch norm] → ReLU) twice → max-pool 2×2
        head     flatten → dense → ReLU → dropout → dense

    num_classes   number of classes; the network returns that many logits
    input_shape   (H, W, C) of one image; each block halves H and W
    filters       filters of each block's convolutions, one entry a block
    hidden        neurons of the hidden dense layer
    batch_norm    normalise before each ReLU of the base, whose filters then have no bias (§2.4.3)
    keep_prob     dropout's probability of keeping a hidden neuron
    rng           generator for the starting weights: He normal before a ReLU, since Glorot's
                  variance halves at each ReLU (He et al. 2015); Glorot uniform for the logits
    Raises ValueError if H or W is too small to be halved so often.
    """
    smallest = 2 ** len(filters)
    if len(input_shape) != 3 or min(input_shape[:2]) < smallest:
        raise ValueError(
            f"vgg_like: input_shape is {input_shape}, want (H, W, C) with H and W from {smallest}, "
            f"since each of the {len(filters)} blocks halves them: enlarge the image or cut blocks"
        )

    def convolution(channels: int, count: int) -> list[Layer]:
        conv = Conv2D(
            channels, count, 3, padding="same", bias=not batch_norm, rng=rng, initializer=he_normal
        )
        return [conv, *([BatchNorm(count)] if batch_norm else []), ReLU()]

    base: list[Layer] = []
    channels = input_shape[2]
    for count in filters:
        base += [*convolution(channels, count), *convolution(count, count), MaxPool2D(2)]
        channels = count
    representation = Sequential(*base)
    features = int(np.prod(representation.output_shape(tuple(input_shape))))

    head = Sequential(
        Flatten(),
        Dense(features, hidden, rng=rng, initializer=he_normal),
        ReLU(),
        Dropout(keep_prob),
        Dense(hidden, num_classes, rng=rng),
    )
    return Classifier(representation, head)
