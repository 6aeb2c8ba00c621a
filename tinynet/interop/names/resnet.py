"""ResNet's weights as torchvision and Keras name them."""

from __future__ import annotations

import re

from tinynet.interop.names.weight_names import WeightNames, renamed

torchvision_layer = renamed(
    [
        (r"^base\.", ""),
        (r"\.residual\.main\.", "."),
        (r"\.residual\.skip\.conv$", ".downsample.0"),
        (r"\.residual\.skip\.bn$", ".downsample.1"),
        (r"^head\.classes$", "fc"),
    ]
)


def keras_layer(path: str) -> str:
    """Stages are numbered from 2, blocks from 1, and the shortcut's two layers are 0.

    ``base.layer1.0.residual.main.conv2`` is ``conv2_block1_2_conv``.
    """
    block = re.fullmatch(r"base\.layer(\d)\.(\d+)\.residual\.(?:main|skip)\.(conv|bn)(\d?)", path)
    if block:
        stage, position, kind, number = block.groups()
        return f"conv{int(stage) + 1}_block{int(position) + 1}_{number or 0}_{kind}"
    return {"base.conv1": "conv1_conv", "base.bn1": "conv1_bn", "head.classes": "predictions"}[path]


NAMES: dict[str, tuple[WeightNames, ...]] = {
    architecture: (
        WeightNames(
            "torch",
            f"torchvision {architecture}",
            torchvision_layer,
            requires={"stride_in": "3x3", "conv_bias": False},
            epsilon=1e-5,
        ),
        WeightNames(
            "keras",
            f"keras.applications.{architecture.replace('resnet', 'ResNet')}",
            keras_layer,
            requires={"stride_in": "1x1", "conv_bias": True},
            epsilon=1.001e-5,
            older=((r"^probs/", "predictions/"),),  # in the published files
        ),
    )
    for architecture in ("resnet50", "resnet101", "resnet152")
}
