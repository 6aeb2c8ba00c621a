"""Every architecture at its full depth, with few channels and a small image: small enough that
each element of each gradient can be compared with a slope.

Widths leave at least 2 channels wherever the architecture has more than one, so that mixed-up
channels show. A side is the smallest that the architecture takes, or one at which most of its
windows lie inside the image; a batch of 4 where batch norm normalises over single cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.layer import Layer
from tinynet.layers import Concat, Sequential
from tinynet.models.architecture import Architecture
from tinynet.models.googlenet import BRANCHES, GoogLeNet

COLOURS, CLASSES = 2, 3
# Above 0, so that few ReLUs are closed on all examples: batch norm makes the last bit of a channel
# that is constant a hundred times as large, and after a few such no step is small enough.
DRAWN = {"gamma": (0.7, 1.3), "beta": (0.5, 1.5), "bias": (0.1, 0.5)}


@dataclass(frozen=True)
class Reduced:
    """One architecture's settings, the side of its square images, and how many there are."""

    side: int
    batch: int
    settings: dict[str, Any]

    def build(self, name: str) -> Layer:
        """The network, its scales, shifts and biases drawn; float32, as every new network."""
        shape = {"num_classes": CLASSES, "input_shape": (self.side, self.side, COLOURS)}
        model: Layer = Architecture(name, shape | self.settings).build()
        rng = np.random.default_rng(2)
        for path, p in model.parameters().items():
            if p.value.ndim == 1:
                p.value[...] = rng.uniform(*DRAWN[path.rpartition(".")[2]], p.shape)
        return model

    def images(self) -> np.ndarray:
        return np.random.default_rng(1).normal(size=(self.batch, self.side, self.side, COLOURS))


REDUCED = {
    "alexnet": Reduced(67, 2, {"width": 1 / 48, "hidden": 8}),
    "vgg16": Reduced(32, 2, {"width": 3 / 128, "hidden": 8}),
    "vgg19": Reduced(32, 2, {"width": 3 / 128, "hidden": 8}),
    "googlenet": Reduced(17, 4, {"width": 3 / 64}),
    "resnet50": Reduced(17, 4, {"width": 3 / 128}),
    "resnet101": Reduced(17, 4, {"width": 3 / 128}),
    "resnet152": Reduced(17, 4, {"width": 3 / 128}),
    "se_resnet50": Reduced(17, 4, {"width": 3 / 128}),
    "inception_v4": Reduced(75, 3, {"width": 3 / 64}),
    "inception_resnet_v2": Reduced(75, 3, {"width": 3 / 64}),
    "densenet169": Reduced(29, 3, {"width": 3 / 64}),
    "mobilenet": Reduced(31, 3, {"width": 1 / 16}),
    "shufflenet_v2": Reduced(17, 4, {"width": 1 / 29}),
}


def as_containers(model: GoogLeNet) -> Sequential:
    """The same layers as a nest of containers, which the gradient checker takes apart.

    Its output is (z_1, z_2, z) side by side. The layers run, and draw, in the network's own order.
    """
    stages, places = model.base.children(), list(model.base.children())
    cuts = [0, *(places.index(place) + 1 for place in BRANCHES), len(places)]

    def part(start: int, stop: int) -> Sequential:
        return Sequential(**{place: stages[place] for place in places[start:stop]})

    rest = Sequential(base=part(*cuts[-2:]), head=model.head)
    for k, branch in reversed(list(enumerate(BRANCHES.values()))):
        auxiliary = model.children()[branch]
        rest = Sequential(
            base=part(cuts[k], cuts[k + 1]), out=Concat(auxiliary=auxiliary, main=rest)
        )
    return rest
