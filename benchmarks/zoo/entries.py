"""Each architecture: its published count, its usual input, and who else has it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import tests.oracles as oracles

CLASSES = 1000


@dataclass(frozen=True)
class Published:
    """A published number of parameters, and the settings of ours that it belongs to."""

    count: int
    source: str
    statistics: bool = False  # moving means and variances are counted too, as Keras does
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """One architecture at its usual size; ``torch`` and ``keras`` build the peers' networks."""

    side: int
    published: tuple[Published, ...]
    torch: Callable[[], Any] | None = None
    keras: Callable[[], Any] | None = None


def torchvision(name: str, **settings: Any) -> Callable[[], Any]:
    """A builder of one of torchvision's networks, with random weights."""

    def build() -> Any:
        return getattr(oracles.torchvision_or_skip().models, name)(
            weights=None, num_classes=CLASSES, **settings
        )

    return build


def timm(name: str, **settings: Any) -> Callable[[], Any]:
    """A builder of one of timm's networks, with random weights."""

    def build() -> Any:
        return oracles.timm_or_skip().create_model(name, num_classes=CLASSES, **settings)

    return build


def keras(name: str, side: int, **settings: Any) -> Callable[[], Any]:
    """A builder of one of Keras's applications, with random weights."""

    def build() -> Any:
        return getattr(oracles.keras_or_skip().applications, name)(
            weights=None, classes=CLASSES, input_shape=(side, side, 3), **settings
        )

    return build


KERAS_RESNET = {"stride_in": "1x1", "conv_bias": True}

ENTRIES = {
    "alexnet": Entry(
        224,
        (Published(61_100_840, "torchvision", settings={"one_tower": True}),),
        torchvision("alexnet"),
    ),
    "vgg16": Entry(
        224,
        (Published(138_357_544, "Keras, torchvision"),),
        torchvision("vgg16", init_weights=False),
        keras("VGG16", 224),
    ),
    "vgg19": Entry(
        224,
        (Published(143_667_240, "Keras, torchvision"),),
        torchvision("vgg19", init_weights=False),
        keras("VGG19", 224),
    ),
    "googlenet": Entry(
        224,
        (
            Published(13_004_888, "torchvision"),
            Published(6_624_904, "torchvision, one head", settings={"auxiliary": False}),
        ),
        torchvision("googlenet", init_weights=False),
    ),
    "resnet50": Entry(
        224,
        (
            Published(25_557_032, "torchvision"),
            Published(25_636_712, "Keras", True, KERAS_RESNET),
        ),
        torchvision("resnet50"),
        keras("ResNet50", 224),
    ),
    "resnet101": Entry(
        224,
        (
            Published(44_549_160, "torchvision"),
            Published(44_707_176, "Keras", True, KERAS_RESNET),
        ),
        torchvision("resnet101"),
        keras("ResNet101", 224),
    ),
    "resnet152": Entry(
        224,
        (
            Published(60_192_808, "torchvision"),
            Published(60_419_944, "Keras", True, KERAS_RESNET),
        ),
        torchvision("resnet152"),
        keras("ResNet152", 224),
    ),
    "se_resnet50": Entry(224, (Published(28_088_024, "timm"),), timm("seresnet50")),
    "inception_v4": Entry(299, (Published(42_679_816, "timm"),), timm("inception_v4")),
    "inception_resnet_v2": Entry(
        299,
        (
            Published(55_873_736, "Keras", True),
            Published(55_843_464, "timm", settings={"batch_norm_scale": True}),
        ),
        timm("inception_resnet_v2"),
        keras("InceptionResNetV2", 299),
    ),
    "densenet169": Entry(
        224,
        (Published(14_307_880, "Keras", True), Published(14_149_480, "torchvision")),
        torchvision("densenet169"),
        keras("DenseNet169", 224),
    ),
    "mobilenet": Entry(
        224,
        (Published(4_253_864, "Keras", True),),
        timm("mobilenetv1_100"),
        keras("MobileNet", 224),
    ),
    "shufflenet_v2": Entry(
        224, (Published(2_278_604, "torchvision"),), torchvision("shufflenet_v2_x1_0")
    ),
}
