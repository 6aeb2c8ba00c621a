"""MobileNet: depthwise separable convolutions.  Report §3 (named there).

Source: Howard et al. 2017, "MobileNets: efficient convolutional neural networks for mobile vision
applications", table 1.
"""

from __future__ import annotations

import numpy as np

from tinynet.layer import Shape
from tinynet.layers import ReLU6, Sequential
from tinynet.layers.window import Padding
from tinynet.models.architecture import architecture
from tinynet.models.parts import Classifier, Parts

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

        block    3×3 depthwise, one filter per channel → batch norm → ReLU6
                 → 1×1 across channels → batch norm → ReLU6
        base     convolution 3×3 / 2 → batch norm → ReLU6 → 13 blocks, from 64 to 1024 filters
        head     global average pool → dropout → dense

    A 3×3 convolution from C to K channels multiplies 9·C·K times a cell; its two halves 9·C + C·K.

    input_shape   with "keras" H and W from 31; (224, 224, 3) in the paper
    width         α of the paper; numbers of filters are rounded down
    padding       where a stride is 2: "keras" adds a row and a column at the bottom and right,
                  as Keras's weights want it; "symmetric" one on every side, as in PyTorch
    epsilon       1e-3 in Keras, 1e-5 in timm
    Other arguments as in ``tinynet.models``.
    Parameters at 1,000 classes: 4,231,976; 4,253,864 with the moving statistics, as Keras counts.
    """
    if padding not in PADDING:
        raise ValueError(f"padding is {padding!r}, want 'keras' (bottom and right) or 'symmetric'")
    around_stem, around_halved = PADDING[padding]
    parts = Parts(rng, epsilon=epsilon, activation=ReLU6)
    channels = max(1, int(STEM * width))
    base = parts.conv_bn_relu("conv1 bn1 relu1", input_shape[2], channels, 3, 2, around_stem)
    for number, (count, stride) in enumerate(BLOCKS, start=1):
        filters = max(1, int(count * width))
        around = 1 if stride == 1 else around_halved
        base[f"block{number}"] = separable(parts, channels, filters, stride, around)
        channels = filters
    return parts.classifier(base, input_shape, num_classes, keep_prob)


def separable(
    parts: Parts, channels: int, filters: int, stride: int = 1, padding: Padding = 1
) -> Sequential:
    """A convolution in two: 3×3 over the cells of each channel, 1×1 over the channels of a cell."""
    depthwise = parts.conv_bn_relu(
        "conv_dw bn1 relu1", channels, channels, 3, stride, padding, groups=channels
    )
    pointwise = parts.conv_bn_relu("conv_pw bn2 relu2", channels, filters, 1)
    return Sequential(**depthwise, **pointwise)
