"""Inception-v4: factorised convolutions, side by side and in turn.  Report §3.4.

Source: Szegedy, Ioffe, Vanhoucke, Alemi 2016, "Inception-v4, Inception-ResNet and the Impact of
Residual Connections on Learning", Figures 3 to 9. inception_blocks.py says how a plan is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynet.layer import Layer, Shape
from tinynet.layers import Dense, Dropout, GlobalAvgPool2D, Sequential
from tinynet.models.architecture import architecture
from tinynet.models.classifier import Classifier
from tinynet.models.inception_blocks import (
    COLUMN_3,
    COLUMN_7,
    EPSILON,
    ROW_3,
    ROW_7,
    STEM,
    STEM_AS_DRAWN,
    Builder,
    Plan,
    V,
    channels_after,
    check_settings,
    with_turned,
)
from tinynet.models.sizes import image_shape, representation_shape

INCEPTION_A: Plan = {  # Figure 4: 5×5 as two 3×3
    "branch0": (96, 1),
    "branch1": [(64, 1), (96, 3)],
    "branch2": [(64, 1), (96, 3), (96, 3)],
    "branch3": ["average", (96, 1)],
}
REDUCTION_A: Plan = {  # Figure 7, with the numbers of Table 1
    "branch0": (384, 3, 2, V),
    "branch1": [(192, 1), (224, 3), (256, 3, 2, V)],
    "branch2": "max",
}
INCEPTION_B: Plan = {  # Figure 5: 7×7 as 1×7 and 7×1, in turn
    "branch0": (384, 1),
    "branch1": [(192, 1), (224, ROW_7), (256, COLUMN_7)],
    "branch2": [(192, 1), (192, COLUMN_7), (224, ROW_7), (224, COLUMN_7), (256, ROW_7)],
    "branch3": ["average", (128, 1)],
}
REDUCTION_B: Plan = {  # Figure 8
    "branch0": [(192, 1), (192, 3, 2, V)],
    "branch1": [(256, 1), (256, ROW_7), (320, COLUMN_7), (320, 3, 2, V)],
    "branch2": "max",
}
PARALLEL: Plan = {"a": (256, ROW_3), "b": (256, COLUMN_3)}
INCEPTION_C: Plan = {  # Figure 6: 3×3 as 1×3 and 3×1, side by side
    "branch0": (256, 1),
    "branch1": [(384, 1), PARALLEL],
    "branch2": [(384, 1), (448, COLUMN_3), (512, ROW_3), PARALLEL],
    "branch3": ["average", (256, 1)],
}


def stages(repeats: tuple[int, int, int], as_drawn: bool) -> dict[str, Plan]:
    """The convolutional base's stages, by name (Figure 9); a reduction block between stages."""
    stem, block_b, block_c = STEM, INCEPTION_B, INCEPTION_C
    if as_drawn:
        stem = STEM_AS_DRAWN
        block_b, block_c = with_turned(INCEPTION_B, "branch2"), with_turned(INCEPTION_C, "branch2")
    a, b, c = repeats
    return {
        "stem": stem,
        "inception_a": a * [INCEPTION_A],
        "reduction_a": REDUCTION_A,
        "inception_b": b * [block_b],
        "reduction_b": REDUCTION_B,
        "inception_c": c * [block_c],
    }


@architecture
def inception_v4(
    num_classes: int,
    input_shape: Shape,
    *,
    repeats: Sequence[int] = (4, 7, 3),
    as_drawn: bool = False,
    keep_prob: float = 0.8,
    epsilon: float = EPSILON,
    width: float = 1.0,
    rng: np.random.Generator,
) -> Classifier:
    """Inception-v4: a stem, 4 + 7 + 3 inception blocks, 2 reduction blocks.  Report §3.4.

        convolution   convolution without bias → batch norm → ReLU
        inception     y = [branch_0(x), branch_1(x), …], the channels side by side, the size kept
        reduction     the same, beside a max-pool, each with a stride of 2 and without padding
        base          stem → A … A → reduction → B … B → reduction → C … C
        head          global average pool → dropout → dense

    num_classes   number of classes; the network returns that many logits
    input_shape   (H, W, C) of one image, H and W from 75; the paper's is (299, 299, 3), of which
                  the base makes (8, 8, 1536)
    repeats       number of blocks A, B and C
    as_drawn      False: the order of 1×n and n×1 in three branches is that of the weights that were
                  released; True: that of the paper's Figures 3, 5 and 6
    keep_prob     dropout's probability of keeping a feature, as in the paper
    epsilon       batch norm's ε
    width         scales every number of filters; 1 is the paper's
    rng           generator for the starting weights: He normal before a ReLU, Glorot uniform for
                  the logits
    Raises ValueError if the image is too small, repeats are not three numbers from 0, or width is
    not above 0.
    42,679,816 parameters for 1000 classes and 3 channels, as timm; 42,742,984 with the moving
    statistics.
    """
    shape = image_shape("inception_v4", input_shape)
    counts = check_settings("inception_v4", repeats, width)
    build = Builder(width, True, epsilon, rng)
    base: dict[str, Layer] = {}
    channels = shape[2]
    for name, plan in stages(counts, as_drawn).items():
        base[name] = build(plan, channels)
        channels = channels_after(base[name], channels)
    representation = Sequential(**base)
    features = representation_shape("inception_v4", representation, shape)[-1]
    head = Sequential(
        pool=GlobalAvgPool2D(),
        dropout=Dropout(keep_prob),
        classes=Dense(features, num_classes, rng=rng),
    )
    return Classifier(representation, head)
