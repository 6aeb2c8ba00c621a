"""SE-ResNet's weights as timm names them."""

from __future__ import annotations

from tinynet.interop.names.resnet import torchvision_layer
from tinynet.interop.names.weight_names import WeightNames


def timm_layer(path: str) -> str:
    """torchvision's names for a ResNet; the gate's dense layers are ``se.fc1`` and ``se.fc2``."""
    return torchvision_layer(path).replace(".se.path.", ".se.")


NAMES: dict[str, tuple[WeightNames, ...]] = {
    "se_resnet50": (
        WeightNames(
            "torch",
            "timm seresnet50",
            timm_layer,
            requires={"stride_in": "3x3", "conv_bias": False, "reduction": 16},
            epsilon=1e-5,
        ),
    )
}
