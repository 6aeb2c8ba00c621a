"""MobileNet: depthwise separable convolutions.  Report §3 (named there).

Source: Howard et al. 2017, "MobileNets: efficient convolutional neural networks for mobile vision
applications", table 1.
"""

from __future__ import annotations

import numpy as np

from tinynet.initializers import he_normal
from tinynet.layer import Layer, Shape
from tinynet.layers import BatchNorm, Conv2D, Dense, Dropout, GlobalAvgPool2D, ReLU6, Sequential
from tinynet.layers.window import Padding
from tinynet.models.architecture import architecture
from tinynet.models.classifier import Classifier
from tinynet.models.sizes import image_shape, representation_shape

STEM = 32  # filters of the first convolution

# (filters of the 1×1, stride of the depthwise 3×3) of each block.  The paper's table gives the last
# one stride 2, but leaves its 7×7 as they are: that is a stride of 1, as in its authors' code.
BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)

# padding -> that of the first convolution, and that of a depthwise convolution of stride 2
PADDING: dict[str, tuple[Padding, Padding]] = {
    "keras": ("same", ((0, 1), (0, 1))),
    "symmetric": (1, 1),
}
MOMENTUM = 0.99  # of batch norm's moving statistics, as in Keras


@architecture
def mobilenet(
    num_classes: int,
    input_shape: Shape,
    *,
    width: float = 1.0,
    padding: str = "keras",
    keep_prob: float = 0.999,
    epsilon: float = 1e-3,
    rng: np.random.Generator,
) -> Classifier:
    """A convolution, 13 depthwise separable ones, an average.  Report §3.

        block    3×3 depthwise, each filter on a channel of its own → batch norm → ReLU6
                 → 1×1 across channels → batch norm → ReLU6
        base     convolution 3×3 / 2 → batch norm → ReLU6 → 13 blocks, from 64 to 1024 filters
        head     average of each channel → dropout → dense

    A 3×3 convolution from C to K channels multiplies 9·C·K times a cell; its two halves 9·C + C·K.

    num_classes   number of classes; the network returns that many logits
    input_shape   (H, W, C) of one image, (224, 224, 3) in the paper
    width         α of the paper: scales all numbers of channels, rounded down
    padding       where a stride is 2: "keras" adds a row and a column at the bottom and right,
                  as Keras's weights want it; "symmetric" one on every side, as in PyTorch
    keep_prob     dropout's probability of keeping a channel of the average
    epsilon       batch norm's ε: 1e-3 in Keras, 1e-5 in timm
    rng           generator for the starting weights: He normal, for the logits Glorot uniform
    Parameters at 1,000 classes: 4,231,976 learned; 4,253,864 with the moving statistics, as Keras
    counts.
    Raises ValueError if H or W is too small (with "keras" under 31), padding is neither of the
    two, or width is not above 0.
    """
    if width <= 0:
        raise ValueError(f"mobilenet: width is {width}, want a number above 0; 1 is the paper's")
    if padding not in PADDING:
        raise ValueError(
            f"mobilenet: padding is {padding!r}, want 'keras' (bottom and right) or 'symmetric'"
        )
    colours = image_shape("mobilenet", input_shape)[2]
    around_stem, around_halved = PADDING[padding]
    channels = _scaled(STEM, width)

    stages: dict[str, Layer] = {
        "conv1": Conv2D(
            colours, channels, 3, 2, around_stem, bias=False, rng=rng, initializer=he_normal
        ),
        "bn1": BatchNorm(channels, MOMENTUM, epsilon),
        "relu1": ReLU6(),
    }
    for number, (count, stride) in enumerate(BLOCKS, start=1):
        filters = _scaled(count, width)
        around = 1 if stride == 1 else around_halved
        stages[f"block{number}"] = separable(channels, filters, stride, around, epsilon, rng=rng)
        channels = filters
    base = Sequential(**stages)
    representation_shape("mobilenet", base, input_shape)

    head = Sequential(
        pool=GlobalAvgPool2D(),
        dropout=Dropout(keep_prob),
        classes=Dense(channels, num_classes, rng=rng),
    )
    return Classifier(base, head)


def separable(
    channels: int,
    filters: int,
    stride: int = 1,
    padding: Padding = 1,
    epsilon: float = 1e-3,
    *,
    rng: np.random.Generator,
) -> Sequential:
    """A convolution in two: 3×3 over the cells of each channel, 1×1 over the channels of a cell.

    stride, padding   of the 3×3
    (H, W, channels) becomes (⌈H / stride⌉, ⌈W / stride⌉, filters) with a padding of 1.
    """
    return Sequential(
        conv_dw=Conv2D(
            channels,
            channels,
            3,
            stride,
            padding,
            groups=channels,
            bias=False,
            rng=rng,
            initializer=he_normal,
        ),
        bn1=BatchNorm(channels, MOMENTUM, epsilon),
        relu1=ReLU6(),
        conv_pw=Conv2D(channels, filters, 1, bias=False, rng=rng, initializer=he_normal),
        bn2=BatchNorm(filters, MOMENTUM, epsilon),
        relu2=ReLU6(),
    )


def _scaled(count: int, width: float) -> int:
    return max(1, int(count * width))
