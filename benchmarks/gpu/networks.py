"""The networks whose training steps are timed, the most telling first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynet.engine.precision import PRECISIONS
from tinynet.models.architecture import Architecture

TENSOR_CORES = ("bf16", "tf32")


@dataclass(frozen=True)
class Network:
    """A batch of images (batch, side, side, channels) for one of ``tinynet.models``.

    settings   of the builder; dropout is left out, so that all compute the same numbers
    rate       Adam's learning rate: its first steps move every weight by that much. The loss should
               move by a little, so that rounding does not grow from step to step
    """

    model: str
    side: int
    batch: int
    channels: int = 3
    classes: int = 1000
    settings: dict[str, Any] = field(default_factory=dict)
    rate: float = 1e-6

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(side, side, channels)."""
        return self.side, self.side, self.channels

    def build(self) -> Any:
        """tinynet's network, with the weights that every library starts from."""
        given = {"num_classes": self.classes, "input_shape": self.input_shape, **self.settings}
        return Architecture(self.model, given).build(np.random.default_rng(0))

    def data(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The same images and labels (batch,) for every library."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, *self.input_shape), dtype=np.float32)
        return x, rng.integers(0, self.classes, self.batch)

    def step_multiply_adds(self, model: Any) -> int:
        """Of a step: forward, and two gradients that cost as much, but for the first layer's dx."""
        _, first, shape = next(iter(model.walk(self.input_shape)))
        whole = model.multiply_adds(self.input_shape)
        return int(self.batch * (3 * whole - first.multiply_adds(shape)))

    def small(self) -> Network:
        """The same kind of network, in no time."""
        tiny = {
            "vgg_like": {"filters": (4, 4), "hidden": 8},
            "vgg16": {"width": 1 / 16, "hidden": 16},
            "resnet50": {"width": 1 / 16},
        }[self.model]
        side = {"vgg_like": 16, "vgg16": 32, "resnet50": 64}[self.model]
        return replace(
            self,
            side=side,
            batch=min(self.batch, 4),
            classes=min(self.classes, 10),
            settings={**self.settings, **tiny},
        )


def radiographs(side: int, batch: int) -> Network:
    """The VGG-like network on images of one channel, two classes."""
    return Network("vgg_like", side, batch, 1, 2, {"keep_prob": 1.0}, rate=1e-5)


NETWORKS: dict[str, tuple[Network, Sequence[str]]] = {  # and its precisions
    "vgg_like 128, batch 32": (radiographs(128, 32), (*TENSOR_CORES, "fp32")),
    "VGG16 224, batch 64": (Network("vgg16", 224, 64, settings={"keep_prob": 1.0}), TENSOR_CORES),
    "vgg_like 128, batch 256": (radiographs(128, 256), TENSOR_CORES),
    "vgg_like 320, batch 64": (radiographs(320, 64), TENSOR_CORES),
    "ResNet-50 224, batch 64": (Network("resnet50", 224, 64), TENSOR_CORES),
}
SCALED = {batch: radiographs(128, batch) for batch in (8, 16, 32, 64, 128, 256, 512)}
SAME_BITS = radiographs(128, 8), PRECISIONS
