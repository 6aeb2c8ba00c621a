"""Inception-ResNet-v2: inception blocks whose outputs are added to their inputs.  Report §3.4.

Source: Szegedy, Ioffe, Vanhoucke, Alemi 2016, "Inception-v4, Inception-ResNet and the Impact of
Residual Connections on Learning", Figures 15 to 19. The network that the authors released, and
that is known by this name, differs from the figures; ``as_drawn`` chooses.
inception_blocks.py says how a plan is read.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinynet.initializers import glorot_uniform
from tinynet.layer import Layer, Shape
from tinynet.layers import (
    Conv2D,
    Dense,
    Dropout,
    GlobalAvgPool2D,
    ReLU,
    Residual,
    Scale,
    Sequential,
)
from tinynet.models.architecture import architecture
from tinynet.models.classifier import Classifier
from tinynet.models.inception_blocks import (
    COLUMN_3,
    COLUMN_7,
    EPSILON,
    ROW_3,
    ROW_7,
    STEM_AS_DRAWN,
    Builder,
    Plan,
    V,
    channels_after,
    check_settings,
)
from tinynet.models.sizes import image_shape, representation_shape

# The released network's stem; the figures have Inception-v4's.
STEM: dict[str, Plan] = {
    "conv2d_1a": (32, 3, 2, V),
    "conv2d_2a": (32, 3, 1, V),
    "conv2d_2b": (64, 3),
    "maxpool_3a": "max",
    "conv2d_3b": (80, 1),
    "conv2d_4a": (192, 3, 1, V),
    "maxpool_5a": "max",
    "mixed_5b": {
        "branch0": (96, 1),
        "branch1": [(48, 1), (64, 5)],
        "branch2": [(64, 1), (96, 3), (96, 3)],
        "branch3": ["average", (64, 1)],
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
    "branch2": "max",
}
BLOCK_17: Plan = {  # Figure 17, block B on the 17 × 17 grid
    "branch0": (192, 1),
    "branch1": [(128, 1), (160, ROW_7), (192, COLUMN_7)],
}
MIXED_7A: Plan = {  # Figure 18, reduction B
    "branch0": [(256, 1), (384, 3, 2, V)],
    "branch1": [(256, 1), (288, 3, 2, V)],
    "branch2": [(256, 1), (288, 3), (320, 3, 2, V)],
    "branch3": "max",
}
BLOCK_8: Plan = {  # Figure 19, block C on the 8 × 8 grid
    "branch0": (192, 1),
    "branch1": [(192, 1), (224, ROW_3), (256, COLUMN_3)],
}
CONV_7B: Plan = (1536, 1)  # not in the figures

# stage     a block's branches   factor of the residual   the reduction block after the stage
STAGES = (
    ("block35", BLOCK_35, 0.17, "mixed_6a", MIXED_6A),
    ("block17", BLOCK_17, 0.10, "mixed_7a", MIXED_7A),
    ("block8", BLOCK_8, 0.20, None, None),
)


@architecture
def inception_resnet_v2(
    num_classes: int,
    input_shape: Shape,
    *,
    repeats: Sequence[int] = (10, 20, 10),
    batch_norm_scale: bool = False,
    as_drawn: bool = False,
    keep_prob: float = 0.8,
    epsilon: float = EPSILON,
    width: float = 1.0,
    rng: np.random.Generator,
) -> Classifier:
    """Inception-ResNet-v2: 10 + 20 + 10 residual inception blocks.  Report §3.4.

        convolution   convolution without bias → batch norm → ReLU
        block         y = ReLU(x + factor · F(x));   F: branches side by side, then a 1×1
                      convolution with bias, without ReLU, that restores the channels of x;
                      the factor 0.17, 0.10 or 0.20 keeps the training of wide blocks stable
        base          stem → blocks 35 → reduction → blocks 17 → reduction → blocks 8 → 1×1
        head          global average pool → dropout → dense

    num_classes       number of classes; the network returns that many logits
    input_shape       (H, W, C) of one image, H and W from 75; the usual is (299, 299, 3), of which
                      the base makes (8, 8, 1536)
    repeats           number of blocks on the 35, 17 and 8 grids; the paper draws (5, 10, 5)
    batch_norm_scale  False: batch norm has no gamma, as in the authors' and Keras's weights;
                      True: it has, as in timm's
    as_drawn          False: the released network. Its last block has neither factor nor ReLU.
                      True: that of Figure 15, with the stem of Inception-v4 and without the last
                      1×1 convolution; all blocks are alike. The figures' 1154 and 2048 filters
                      are here 1152 and 2144, which the sums x + F(x) need
    keep_prob         dropout's probability of keeping a feature, as in the paper
    epsilon           batch norm's ε
    width             scales every number of filters; 1 is the paper's
    rng               generator for the starting weights: He normal before a ReLU, Glorot uniform
                      for the 1×1 without one and for the logits
    Raises ValueError if the image is too small, repeats are not three numbers from 0, or width is
    not above 0.
    55,813,192 parameters for 1000 classes and 3 channels, 55,873,736 as Keras counts them, with
    the moving statistics; 55,843,464 with gamma, as timm.
    """
    name = "inception_resnet_v2"
    shape = image_shape(name, input_shape)
    counts = check_settings(name, repeats, width)
    build = Builder(width, batch_norm_scale, epsilon, rng)
    base: dict[str, Layer] = {}
    channels = shape[2]

    def add(stage: str, layer: Layer) -> None:
        nonlocal channels
        base[stage] = layer
        channels = channels_after(layer, channels)

    for stage, plan in ({"stem": STEM_AS_DRAWN} if as_drawn else STEM).items():
        add(stage, build(plan, channels))
    for (stage, branches, factor, reduction, plan), count in zip(STAGES, counts, strict=True):
        factors: list[float | None] = [factor] * count
        if stage == "block8" and not as_drawn:
            factors[-1:] = [None] * len(factors[-1:])
        base[stage] = Sequential(*(residual_block(build, branches, channels, f) for f in factors))
        if reduction is not None:
            add(reduction, build(plan, channels))
    if not as_drawn:
        add("conv2d_7b", build(CONV_7B, channels))
    representation = Sequential(**base)
    features = representation_shape(name, representation, shape)[-1]
    head = Sequential(
        pool=GlobalAvgPool2D(),
        dropout=Dropout(keep_prob),
        classes=Dense(features, num_classes, rng=rng),
    )
    return Classifier(representation, head)


def residual_block(
    build: Builder, branches: Plan, channels: int, factor: float | None = None
) -> Sequential:
    """y = ReLU(x + factor · F(x)), or y = x + F(x) without a factor.  Report §3.4.

    branches   plan of F's branches; a 1×1 convolution with bias and without ReLU ends F
    channels   of x, and of y
    """
    inception = build(branches, channels)
    up = Conv2D(
        channels_after(inception, channels), channels, 1, rng=build.rng, initializer=glorot_uniform
    )
    main: dict[str, Layer] = {"branches": inception, "conv2d": up}
    if factor is None:
        return Sequential(residual=Residual(Sequential(**main)))
    return Sequential(residual=Residual(Sequential(**main, scale=Scale(factor))), relu=ReLU())
