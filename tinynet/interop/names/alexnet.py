"""Names of AlexNet's weights: torchvision's alexnet, the form in one tower.

Keras has no AlexNet, and torchvision none in two towers.
"""

from __future__ import annotations

from tinynet.interop.names.weight_names import WeightNames

# torchvision numbers the layers of base and head: ReLUs, pools and dropouts count, too
TORCHVISION = {
    "base.conv1": "features.0",
    "base.conv2": "features.3",
    "base.conv3": "features.6",
    "base.conv4": "features.8",
    "base.conv5": "features.10",
    "head.fc6": "classifier.1",
    "head.fc7": "classifier.4",
    "head.classes": "classifier.6",
}

NAMES: dict[str, tuple[WeightNames, ...]] = {
    "alexnet": (
        WeightNames(
            "torch", "torchvision alexnet", TORCHVISION.__getitem__, requires={"one_tower": True}
        ),
    )
}
