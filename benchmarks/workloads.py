"""The networks that are timed: the VGG-like network, on a GPU also VGG16 and ResNet-50."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("training", "inference")
PASSES = {"training": 3, "inference": 1}  # forward, and two gradients that cost as much each


@dataclass(frozen=True)
class Workload:
    """A batch of images (batch, side, side, channels) for one of ``tinynet.models``.

    settings   of the network; dropout is left out, so that all libraries compute the same numbers
    rate       Adam's learning rate, by which its first steps move every weight: small, so that
               rounding does not grow from step to step
    """

    side: int
    batch: int
    model: str = "vgg_like"
    channels: int = 1
    classes: int = 2
    settings: dict[str, Any] = field(default_factory=dict)
    rate: float = 1e-5

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.side, self.side, self.channels

    def data(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, *self.input_shape), dtype=np.float32)
        return x, rng.integers(0, self.classes, self.batch)

    def starting_model(self) -> Any:
        """Return tinynet's network, with the weights and statistics that every library gets."""
        from tinynet.models.architecture import Architecture

        given = {"num_classes": self.classes, "input_shape": self.input_shape, **self.settings}
        rng = np.random.default_rng(0)
        model = Architecture(self.model, given).build(rng)
        for name, statistics in model.buffers().items():
            low, high = (-0.1, 0.1) if name.endswith("running_mean") else (0.5, 1.5)
            statistics[...] = rng.uniform(low, high, statistics.shape)
        return model

    def multiply_adds(self) -> int:
        return int(self.batch * self.starting_model().multiply_adds(self.input_shape))

    def small(self) -> Workload:
        side, tiny = {
            "vgg_like": (16, {"filters": (4, 4), "hidden": 8}),
            "vgg16": (32, {"width": 1 / 16, "hidden": 16}),
            "resnet50": (64, {"width": 1 / 16}),
        }[self.model]
        sizes = {"batch": min(self.batch, 4), "classes": min(self.classes, 10)}
        return replace(self, side=side, settings={**self.settings, **tiny}, **sizes)


def vgg_like(side: int, batch: int, filters: Sequence[int], hidden: int, **more: Any) -> Workload:
    given = {"filters": tuple(filters), "hidden": hidden, "keep_prob": 1.0, **more}
    return Workload(side, batch, settings=given)


WIDE = (32, 64, 128, 256)
WORKLOADS = {
    "W48": vgg_like(48, 128, (32, 64, 128), 100),
    "W128": vgg_like(128, 32, WIDE, 256),
    "W224": vgg_like(224, 16, WIDE, 256),
    "demo": vgg_like(64, 32, (8, 16, 32, 64), 128, batch_norm=True),
}
VGG16 = Workload(224, 64, "vgg16", 3, 1000, {"keep_prob": 1.0}, rate=1e-6)
RESNET50 = Workload(224, 64, "resnet50", 3, 1000, rate=1e-6)
TENSOR_CORES = ("bf16", "tf32")
NETWORKS: dict[str, tuple[Workload, Sequence[str]]] = {  # on a GPU, and their precisions
    "vgg_like 128, batch 32": (vgg_like(128, 32, WIDE, 256), (*TENSOR_CORES, "fp32")),
    "VGG16 224, batch 64": (VGG16, TENSOR_CORES),
    "vgg_like 128, batch 256": (vgg_like(128, 256, WIDE, 256), TENSOR_CORES),
    "vgg_like 320, batch 64": (vgg_like(320, 64, WIDE, 256), TENSOR_CORES),
    "ResNet-50 224, batch 64": (RESNET50, TENSOR_CORES),
}
