"""Each architecture: its published count, its usual input, and who else has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import tests.oracles as oracles

CLASSES = 1000
Build = Callable[[], Any] | None


class Published(NamedTuple):
    """A published number of parameters, and the settings of ours that it belongs to."""

    count: int
    source: str
    statistics: bool = False  # moving means and variances are counted too, as Keras does
    settings: dict[str, Any] = {}


class Entry(NamedTuple):
    """One architecture at its usual size; ``torch`` and ``keras`` build the peers' networks."""

    side: int
    published: tuple[Published, ...]
    torch: Build = None
    keras: Build = None


def torchvision(name: str, **settings: Any) -> Build:
    given = {"weights": None, "num_classes": CLASSES, **settings}
    return lambda: getattr(oracles.torchvision_or_skip().models, name)(**given)


def timm(name: str) -> Build:
    return lambda: oracles.timm_or_skip().create_model(name, num_classes=CLASSES)


def keras(name: str, side: int) -> Build:
    given = {"weights": None, "classes": CLASSES, "input_shape": (side, side, 3)}
    return lambda: getattr(oracles.keras_or_skip().applications, name)(**given)


def vgg(depth: int, count: int) -> Entry:
    peers = torchvision(f"vgg{depth}", init_weights=False), keras(f"VGG{depth}", 224)
    return Entry(224, (Published(count, "Keras, torchvision"),), *peers)


def resnet(depth: int, count: int, of_keras: int) -> Entry:
    settings = {"stride_in": "1x1", "conv_bias": True}
    published = Published(count, "torchvision"), Published(of_keras, "Keras", True, settings)
    return Entry(224, published, torchvision(f"resnet{depth}"), keras(f"ResNet{depth}", 224))


ALEXNET = Published(61_100_840, "torchvision", settings={"one_tower": True})
ENTRIES = {
    "alexnet": Entry(224, (ALEXNET,), torchvision("alexnet")),
    "vgg16": vgg(16, 138_357_544),
    "vgg19": vgg(19, 143_667_240),
    "googlenet": Entry(
        224,
        (
            Published(13_004_888, "torchvision"),
            Published(6_624_904, "torchvision, one head", settings={"auxiliary": False}),
        ),
        torchvision("googlenet", init_weights=False),
    ),
    "resnet50": resnet(50, 25_557_032, 25_636_712),
    "resnet101": resnet(101, 44_549_160, 44_707_176),
    "resnet152": resnet(152, 60_192_808, 60_419_944),
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
        *(224, (Published(4_253_864, "Keras", True),)),
        *(timm("mobilenetv1_100"), keras("MobileNet", 224)),
    ),
    "shufflenet_v2": Entry(
        224, (Published(2_278_604, "torchvision"),), torchvision("shufflenet_v2_x1_0")
    ),
}
