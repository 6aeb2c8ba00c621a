"""Names of VGG's weights: torchvision's vgg16 and vgg19, keras.applications.VGG16 and VGG19.

Keras's networks normalise nothing but subtract ImageNet's mean colour from images in the order
blue, green, red; torchvision's take red, green, blue, scaled to [0, 1], less the mean, divided by
the deviation. That is done to the images, not by the network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tinynet.interop.names.weight_names import WeightNames, renamed
from tinynet.models.vgg import VGG16, VGG19

KERAS = renamed(
    [
        (r"^base\.(block\d)\.(conv\d)$", r"\1_\2"),
        (r"^head\.(fc\d)$", r"\1"),
        (r"^head\.classes$", "predictions"),
    ]
)


def torchvision_layer(counts: Sequence[int]) -> Callable[[str], str]:
    """Names in a network whose blocks have so many convolutions.

    torchvision numbers all layers of the base in one row: a convolution and its ReLU take two
    numbers, a block's max-pool takes one.
    """
    layers = {
        "head.fc1": "classifier.0",
        "head.fc2": "classifier.3",
        "head.classes": "classifier.6",
    }
    number = 0
    for block, count in enumerate(counts, start=1):
        for conv in range(1, count + 1):
            layers[f"base.block{block}.conv{conv}"] = f"features.{number}"
            number += 2
        number += 1
    return layers.__getitem__


NAMES: dict[str, tuple[WeightNames, ...]] = {
    name: (
        WeightNames(
            "torch", f"torchvision {name}", torchvision_layer(counts), {"batch_norm": False}
        ),
        WeightNames("keras", f"keras.applications.{name.upper()}", KERAS, {"batch_norm": False}),
    )
    for name, counts in (("vgg16", VGG16), ("vgg19", VGG19))
}
