"""Inception-v4 and Inception-ResNet-v2: factorised convolutions, side by side.  Report §3.4.

Source: Szegedy, Ioffe, Vanhoucke, Alemi 2016, "Inception-v4, Inception-ResNet and the Impact of
Residual Connections on Learning", Figures 3 to 9 and 15 to 19.  The networks that the authors
released differ from the figures; ``as_drawn`` chooses.  parts.py says how a plan is read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tinynet.initializers import glorot_uniform
from tinynet.layer import Shape
from tinynet.layers import Conv2D, ReLU, Residual, Scale, Sequential
from tinynet.layers.window import whole_numbers
from tinynet.models.architecture import architecture
from tinynet.models.parts import Classifier, Layers, Parts, Plan, channels_after

V = "valid"  # the figures' mark for a convolution without padding
MAX, AVERAGE = ("max", 3, 2), ("average", 3, 1, "same")
ROW_7, COLUMN_7 = (1, 7), (7, 1)  # 7×7, factorised
ROW_3, COLUMN_3 = (1, 3), (3, 1)  # 3×3, factorised


def turned(block: Plan, branch: str) -> Plan:
    """Return the block with each 1×n of one branch as n×1, and the reverse."""

    def turn(plan: Plan) -> Plan:
        if isinstance(plan, list):
            return [turn(part) for part in plan]
        if isinstance(plan, dict):
            return {name: turn(part) for name, part in plan.items()}
        filters, kernel, *rest = plan
        return (filters, kernel[::-1] if isinstance(kernel, tuple) else kernel, *rest)

    return {**block, branch: turn(block[branch])}


# Figure 3: 299 × 299 × 3 becomes 35 × 35 × 384.
STEM: Plan = [
    (32, 3, 2, V),
    (32, 3, 1, V),
    (64, 3),
    {"maxpool": MAX, "conv": (96, 3, 2, V)},
    {
        "branch0": [(64, 1), (96, 3, 1, V)],
        "branch1": [(64, 1), (64, ROW_7), (64, COLUMN_7), (96, 3, 1, V)],
    },
    {"conv": (192, 3, 2, V), "maxpool": MAX},
]
STEM_AS_DRAWN: Plan = [*STEM[:4], turned(STEM[4], "branch1"), STEM[5]]

INCEPTION_A: Plan = {  # Figure 4: 5×5 as two 3×3
    "branch0": (96, 1),
    "branch1": [(64, 1), (96, 3)],
    "branch2": [(64, 1), (96, 3), (96, 3)],
    "branch3": [AVERAGE, (96, 1)],
}
REDUCTION_A: Plan = {  # Figure 7, with the numbers of Table 1
    "branch0": (384, 3, 2, V),
    "branch1": [(192, 1), (224, 3), (256, 3, 2, V)],
    "branch2": MAX,
}
INCEPTION_B: Plan = {  # Figure 5: 7×7 as 1×7 and 7×1, in turn
    "branch0": (384, 1),
    "branch1": [(192, 1), (224, ROW_7), (256, COLUMN_7)],
    "branch2": [(192, 1), (192, COLUMN_7), (224, ROW_7), (224, COLUMN_7), (256, ROW_7)],
    "branch3": [AVERAGE, (128, 1)],
}
REDUCTION_B: Plan = {  # Figure 8
    "branch0": [(192, 1), (192, 3, 2, V)],
    "branch1": [(256, 1), (256, ROW_7), (320, COLUMN_7), (320, 3, 2, V)],
    "branch2": MAX,
}
PARALLEL: Plan = {"a": (256, ROW_3), "b": (256, COLUMN_3)}
INCEPTION_C: Plan = {  # Figure 6: 3×3 as 1×3 and 3×1, side by side
    "branch0": (256, 1),
    "branch1": [(384, 1), PARALLEL],
    "branch2": [(384, 1), (448, COLUMN_3), (512, ROW_3), PARALLEL],
    "branch3": [AVERAGE, (256, 1)],
}


@architecture
def inception_v4(
    num_classes: int,
    input_shape: Shape,
    *,
    repeats: Sequence[int] = (4, 7, 3),
    as_drawn: bool = False,
    keep_prob: float = 0.8,
    epsilon: float = 1e-3,
    width: float = 1.0,
    rng: np.random.Generator,
) -> Classifier:
    """Inception-v4: a stem, 4 + 7 + 3 inception blocks, 2 reduction blocks.  Report §3.4.

        inception     y = [branch_0(x), branch_1(x), …], the channels side by side, the size kept
        reduction     the same, beside a max-pool, each with a stride of 2 and without padding
        base          stem → A … A → reduction → B … B → reduction → C … C
        head          global average pool → dropout → dense

    input_shape   H and W from 75; the paper's is (299, 299, 3), which the base turns into
                  (8, 8, 1536)
    repeats       numbers of blocks A, B and C, from 0
    as_drawn      the order of 1×n and n×1 in three branches. False: that of the released weights,
                  as epsilon is; True: that of Figures 3, 5 and 6
    Other arguments as in ``tinynet.models``.
    Parameters at 1,000 classes: 42,679,816, as in timm; 42,742,984 with the moving statistics.
    """
    a, b, c = three(repeats)
    stages = {
        "stem": STEM_AS_DRAWN if as_drawn else STEM,
        "inception_a": a * [INCEPTION_A],
        "reduction_a": REDUCTION_A,
        "inception_b": b * [turned(INCEPTION_B, "branch2") if as_drawn else INCEPTION_B],
        "reduction_b": REDUCTION_B,
        "inception_c": c * [turned(INCEPTION_C, "branch2") if as_drawn else INCEPTION_C],
    }
    parts = Parts(rng, width, epsilon)
    base = parts.in_turn(stages, input_shape[2])
    return parts.classifier(base, input_shape, num_classes, keep_prob)


# The released Inception-ResNet-v2's stem; the figures have Inception-v4's.
RESNET_STEM: dict[str, Plan] = {
    "conv2d_1a": (32, 3, 2, V),
    "conv2d_2a": (32, 3, 1, V),
    "conv2d_2b": (64, 3),
    "maxpool_3a": MAX,
    "conv2d_3b": (80, 1),
    "conv2d_4a": (192, 3, 1, V),
    "maxpool_5a": MAX,
    "mixed_5b": {
        "branch0": (96, 1),
        "branch1": [(48, 1), (64, 5)],
        "branch2": [(64, 1), (96, 3), (96, 3)],
        "branch3": [AVERAGE, (64, 1)],
    },
}
BLOCK_35: Plan = {  # Figure 16, block A on the 35 × 35 grid
    "branch0": (32, 1),
    "branch1": [(32, 1), (32, 3)],
    "branch2": [(32, 1), (48, 3), (64, 3)],
}
MIXED_6A: Plan = {  # Figure 7, reduction A
    "branch0": (384, 3, 2, V),
    "branch1": [(256, 1), (256, 3), (384, 3, 2, V)],
    "branch2": MAX,
}
BLOCK_17: Plan = {  # Figure 17, block B on the 17 × 17 grid
    "branch0": (192, 1),
    "branch1": [(128, 1), (160, ROW_7), (192, COLUMN_7)],
}
MIXED_7A: Plan = {  # Figure 18, reduction B
    "branch0": [(256, 1), (384, 3, 2, V)],
    "branch1": [(256, 1), (288, 3, 2, V)],
    "branch2": [(256, 1), (288, 3), (320, 3, 2, V)],
    "branch3": MAX,
}
BLOCK_8: Plan = {  # Figure 19, block C on the 8 × 8 grid
    "branch0": (192, 1),
    "branch1": [(192, 1), (224, ROW_3), (256, COLUMN_3)],
}


@architecture
def inception_resnet_v2(
    num_classes: int,
    input_shape: Shape,
    *,
    repeats: Sequence[int] = (10, 20, 10),
    batch_norm_scale: bool = False,
    as_drawn: bool = False,
    keep_prob: float = 0.8,
    epsilon: float = 1e-3,
    width: float = 1.0,
    rng: np.random.Generator,
) -> Classifier:
    """Inception-ResNet-v2: 10 + 20 + 10 residual inception blocks.  Report §3.4.

        block   y = ReLU(x + factor · F(x));   F: branches side by side, then a 1×1 convolution
                with bias, without ReLU, that restores the channels of x; the factor 0.17, 0.10
                or 0.20 keeps the training of wide blocks stable
        base    stem → blocks 35 → reduction → blocks 17 → reduction → blocks 8 → 1×1
        head    global average pool → dropout → dense

    input_shape       as in ``inception_v4``
    repeats           numbers of blocks on the 35, 17 and 8 grids; the paper draws (5, 10, 5)
    batch_norm_scale  False: batch norm has no gamma, as in the authors' and Keras's weights;
                      True: it has, as in timm's
    as_drawn          False: the released network. Its last block has neither factor nor ReLU.
                      True: that of Figure 15, with the stem of Inception-v4 and without the last
                      1×1 convolution; all blocks are alike. The figures' 1154 and 2048 filters
                      are here 1152 and 2144, which the sums x + F(x) need
    rng               Glorot uniform for the 1×1 without a ReLU, too
    Other arguments as in ``tinynet.models``.
    Parameters at 1,000 classes: 55,813,192; 55,873,736 with the moving statistics, as Keras
    counts; 55,843,464 with gamma, as in timm.
    """
    a, b, c = three(repeats)
    block_8 = c * [added(BLOCK_8, 0.20)]
    if not as_drawn:
        block_8[-1:] = [added(BLOCK_8, None)] * len(block_8[-1:])
    stages = {
        **({"stem": STEM_AS_DRAWN} if as_drawn else RESNET_STEM),
        "block35": a * [added(BLOCK_35, 0.17)],
        "mixed_6a": MIXED_6A,
        "block17": b * [added(BLOCK_17, 0.10)],
        "mixed_7a": MIXED_7A,
        "block8": block_8,
        **({} if as_drawn else {"conv2d_7b": (1536, 1)}),  # not in the figures
    }
    parts = Parts(rng, width, epsilon, gamma=batch_norm_scale)
    base = parts.in_turn(stages, input_shape[2])
    return parts.classifier(base, input_shape, num_classes, keep_prob)


def added(branches: Plan, factor: float | None) -> Callable[[Parts, int], Sequential]:
    """Plan a block y = ReLU(x + factor · F(x)), or y = x + F(x) without a factor.  Report §3.4.

    branches   plan of F's branches; a 1×1 convolution with bias and without ReLU ends F
    """

    def block(parts: Parts, channels: int) -> Sequential:
        inception = parts(branches, channels)
        stacked = channels_after(inception, channels)
        up = Conv2D(stacked, channels, 1, rng=parts.rng, initializer=glorot_uniform)
        main: Layers = {"branches": inception, "conv2d": up}
        if factor is None:
            return Sequential(residual=Residual(Sequential(**main)))
        return Sequential(residual=Residual(Sequential(**main, scale=Scale(factor))), relu=ReLU())

    return block


def three(repeats: Sequence[int]) -> Sequence[int]:
    """Return the numbers of blocks A, B and C; raise ValueError if they are not that."""
    counts = whole_numbers(repeats)
    if counts is None or len(counts) != 3 or min(counts) < 0:
        raise ValueError(
            f"repeats is {repeats!r}, want three whole numbers from 0, "
            "the numbers of blocks A, B and C"
        )
    return counts
