"""GoogLeNet: nine Inception modules and two auxiliary classifiers.  Report §3.2.

Source: Szegedy et al. 2014, "Going deeper with convolutions", Table 1, Figure 3, §5; and the form
with batch norm that torchvision's weights have.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array
from tinynet.initializers import he_normal
from tinynet.layer import EVAL, Layer, Mode, Shape, join
from tinynet.layers import (
    AdaptiveAvgPool2D,
    AvgPool2D,
    BatchNorm,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    LocalResponseNorm,
    MaxPool2D,
    ReLU,
    Sequential,
)
from tinynet.models.architecture import Architecture, architecture
from tinynet.models.classifier import Classifier
from tinynet.models.sizes import image_shape, representation_shape

# module          1×1   reduce, 3×3   reduce, 5×5   after the pool
MODULES = {
    "inception3a": (64, (96, 128), (16, 32), 32),
    "inception3b": (128, (128, 192), (32, 96), 64),
    "inception4a": (192, (96, 208), (16, 48), 64),
    "inception4b": (160, (112, 224), (24, 64), 64),
    "inception4c": (128, (128, 256), (24, 64), 64),
    "inception4d": (112, (144, 288), (32, 64), 64),
    "inception4e": (256, (160, 320), (32, 128), 128),
    "inception5a": (256, (160, 320), (32, 128), 128),
    "inception5b": (384, (192, 384), (48, 128), 128),
}
BRANCHES = {"inception4a": "aux1", "inception4d": "aux2"}  # module -> classifier of its output
AUXILIARY = 128  # filters of an auxiliary classifier
AUXILIARY_HIDDEN = 1024
MOMENTUM = 0.9  # of the moving statistics
EPSILON = 1e-3  # torchvision's


class GoogLeNetCache(NamedTuple):
    """What backward needs; the auxiliary classifiers' caches are there only after training's."""

    base: list[Any]
    head: Any
    auxiliary: dict[str, Any]  # "aux1", "aux2" -> cache


class GoogLeNet(Layer):
    """A base and a head, and in training two classifiers that branch off the base.  Report §3.2.

        z = head(base(x)),   z_k = aux_k(the output of inception4a, of inception4d)
        ∂L/∂(where k branches off) = through the rest of the base + through aux_k

    Outside training it returns the logits z (N, classes); in training the tuple (z, z_1, z_2), for
    a loss such as ``WithAuxiliary``, and its backward pass takes the tuple (dz, dz_1, dz_2).
    base, head     as in ``Classifier``: either can be replaced or frozen by itself
    aux1, aux2     layers from the base's output at that place to logits
    architecture   name and settings, where a builder of ``tinynet.models`` made the network
    """

    def __init__(self, base: Sequential, head: Layer, aux1: Layer, aux2: Layer) -> None:
        self.base, self.head, self.aux1, self.aux2 = base, head, aux1, aux2
        self.architecture: Architecture | None = None

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Any, GoogLeNetCache]:
        """z (N, classes) from x (N, H, W, C); in training (z, z_1, z_2), each (N, classes)."""
        cache = GoogLeNetCache([], None, {})
        auxiliary = []
        for name, stage in self.base.children().items():
            x, stage_cache = stage.forward(x, mode)
            cache.base.append(stage_cache)
            if mode.train and name in BRANCHES:
                branch = BRANCHES[name]
                z_k, cache.auxiliary[branch] = self.children()[branch].forward(x, mode)
                auxiliary.append(z_k)
        z, head_cache = self.head.forward(x, mode)
        return (z, *auxiliary) if auxiliary else z, cache._replace(head=head_cache)

    def backward(self, dy: Any, cache: GoogLeNetCache) -> Array:
        """dx (N, H, W, C) from dz (N, classes), after training's forward pass from three of them.

        Raises ValueError for another number of gradients than there were outputs.
        """
        dz, *d_auxiliary = dy if isinstance(dy, tuple) else (dy,)
        if len(d_auxiliary) != len(cache.auxiliary):
            raise ValueError(
                f"GoogLeNet: got {1 + len(d_auxiliary)} gradients for {1 + len(cache.auxiliary)} "
                "outputs, want one each, as a tuple: the loss WithAuxiliary gives them"
            )
        from_branch = dict(zip(cache.auxiliary, d_auxiliary, strict=True))
        dx = self.head.backward(dz, cache.head)
        stages = list(self.base.children().items())
        for (name, stage), stage_cache in zip(reversed(stages), reversed(cache.base), strict=True):
            branch = BRANCHES.get(name)
            if branch in from_branch:
                classifier = self.children()[branch]
                dx = dx + classifier.backward(from_branch[branch], cache.auxiliary[branch])
            dx = stage.backward(dx, stage_cache)
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        """(H, W, C) -> (classes,), the logits'."""
        return self.head.output_shape(self.base.output_shape(input_shape))

    def multiply_adds(self, input_shape: Shape) -> int:
        """The sum over all layers, the auxiliary classifiers', as in training, too."""
        return sum(layer.multiply_adds(shape) for _, layer, shape in self.walk(input_shape))

    def walk(self, input_shape: Shape, prefix: str = "") -> Iterator[tuple[str, Layer, Shape]]:
        """Innermost layers with their names and input shapes, in training's forward order."""
        for name, stage in self.base.children().items():
            yield from stage.walk(input_shape, join(prefix, f"base.{name}"))
            input_shape = stage.output_shape(input_shape)
            if branch := BRANCHES.get(name):
                yield from self.children()[branch].walk(input_shape, join(prefix, branch))
        yield from self.head.walk(input_shape, join(prefix, "head"))


@architecture
def googlenet(
    num_classes: int,
    input_shape: Shape,
    *,
    auxiliary: bool = True,
    batch_norm: bool = True,
    five_by_five: bool = False,
    local_response_norm: bool = False,
    paper_pools: bool = False,
    keep_prob: float = 0.8,
    auxiliary_keep_prob: float = 0.3,
    epsilon: float = EPSILON,
    width: float = 1.0,
    rng: np.random.Generator,
) -> Classifier | GoogLeNet:
    """GoogLeNet: a stem, nine Inception modules with max-pools in between, a head.  Report §3.2.

        module      1×1  |  1×1 → 3×3  |  1×1 → 5×5  |  max-pool 3×3 / 1 → 1×1,  stacked
        head        global average pool → dropout → dense
        auxiliary   average pool to 4×4 → 1×1 → flatten → dense → ReLU → dropout → dense
        each convolution is followed by [batch norm and] ReLU

    The defaults are torchvision's network; the paper's is ``batch_norm=False, five_by_five=True,
    local_response_norm=True, paper_pools=True, keep_prob=0.6``.
    num_classes           number of classes; the network returns that many logits
    input_shape           (H, W, C) of one image, H and W from 15; with paper_pools from 31, with
                          auxiliary classifiers as well from 79
    auxiliary             True: the two auxiliary classifiers, and in training three outputs, for
                          the loss ``WithAuxiliary``. False: a plain Classifier, whose weights
                          have the same names
    batch_norm            normalise before each ReLU; the convolutions then have no bias (§2.4.3)
    five_by_five          the third branch's filters are 5×5, as in the paper; torchvision's are 3×3
    local_response_norm   normalise across channels, as AlexNet does, in the stem
    paper_pools           the last max-pool is 3×3 / 2, not 2×2 / 2, and the auxiliary classifiers
                          average 5×5 / 3, not over 4 × 4 windows that part the image evenly: both
                          make 4 × 4 of 14 × 14, at other sizes only the latter does, and even at
                          14 × 14 their windows differ
    keep_prob, auxiliary_keep_prob   dropout's probability of keeping a neuron
    epsilon               batch norm's ε
    width                 scales every number of filters, and the auxiliary hidden layers
    rng                   generator for the starting weights: He normal before a ReLU, Glorot
                          uniform for the logits
    Raises ValueError if input_shape is no image's or too small, or width not above 0.
    13,004,888 parameters for 1000 classes and 3 channels, 6,624,904 without the auxiliary
    classifiers, as torchvision.
    """
    if width <= 0:
        raise ValueError(f"googlenet: width is {width}, want a number above 0; 1 is the paper's")
    parts = Parts(batch_norm, 5 if five_by_five else 3, epsilon, width, rng)
    shape = image_shape("googlenet", input_shape)

    base: dict[str, Layer] = {}
    base["conv1"] = parts.unit(shape[2], parts.scaled(64), 7, 2)
    base["maxpool1"] = MaxPool2D(3, 2, padding="ceil")
    if local_response_norm:
        base["norm1"] = LocalResponseNorm()
    base["conv2"] = parts.unit(parts.scaled(64), parts.scaled(64), 1)
    base["conv3"] = parts.unit(parts.scaled(64), channels := parts.scaled(192), 3)
    if local_response_norm:
        base["norm2"] = LocalResponseNorm()
    base["maxpool2"] = MaxPool2D(3, 2, padding="ceil")
    for name in MODULES:
        if name == "inception4a":
            base["maxpool3"] = MaxPool2D(3, 2, padding="ceil")
        elif name == "inception5a":
            base["maxpool4"] = MaxPool2D(3 if paper_pools else 2, 2, padding="ceil")
        base[name], channels = parts.inception(channels, name)

    representation = Sequential(**base)
    representation_shape("googlenet", representation, shape)
    head = Sequential(
        pool=GlobalAvgPool2D(),
        dropout=Dropout(keep_prob),
        classes=Dense(channels, num_classes, rng=rng),
    )
    if not auxiliary:
        return Classifier(representation, head)
    branches = {}
    for name, branch in BRANCHES.items():
        pool = AvgPool2D(5, 3) if paper_pools else AdaptiveAvgPool2D(4)
        before = {stage: base[stage] for stage in list(base)[: list(base).index(name) + 1]}
        path = Sequential(**before, **{branch: Sequential(pool=pool)})
        pooled = representation_shape("googlenet", path, shape)
        branches[branch] = parts.auxiliary(pool, pooled, num_classes, auxiliary_keep_prob)
    return GoogLeNet(representation, head, **branches)


@dataclass(frozen=True)
class Parts:
    """What the layers of one GoogLeNet have in common; ``googlenet`` has the meanings.

    large_kernel   side of the third branch's filters
    """

    batch_norm: bool
    large_kernel: int
    epsilon: float
    width: float
    rng: np.random.Generator

    def scaled(self, filters: int) -> int:
        """So many times the width, a whole number from 1."""
        return max(1, round(self.width * filters))

    def unit(self, channels: int, filters: int, kernel: int, stride: int = 1) -> Sequential:
        """Convolution with padding for ⌈size / stride⌉ → [batch norm] → ReLU."""
        conv = Conv2D(
            channels,
            filters,
            kernel,
            stride,
            padding=kernel // 2,
            bias=not self.batch_norm,
            rng=self.rng,
            initializer=he_normal,
        )
        if not self.batch_norm:
            return Sequential(conv=conv, relu=ReLU())
        return Sequential(conv=conv, bn=BatchNorm(filters, MOMENTUM, self.epsilon), relu=ReLU())

    def inception(self, channels: int, name: str) -> tuple[Concat, int]:
        """One row of MODULES: four branches, and the number of channels that they end in.

        1×1 filters make fewer channels, before the larger filters as after the pool (§3.2).
        """
        ones, threes, fives, pooled = MODULES[name]
        one, pool = self.scaled(ones), self.scaled(pooled)
        reduce_3, three = map(self.scaled, threes)
        reduce_5, five = map(self.scaled, fives)
        module = Concat(
            branch1=self.unit(channels, one, 1),
            branch2=Sequential(self.unit(channels, reduce_3, 1), self.unit(reduce_3, three, 3)),
            branch3=Sequential(
                self.unit(channels, reduce_5, 1), self.unit(reduce_5, five, self.large_kernel)
            ),
            branch4=Sequential(MaxPool2D(3, 1, padding="same"), self.unit(channels, pool, 1)),
        )
        return module, one + three + five + pool

    def auxiliary(
        self, pool: Layer, pooled: Shape, num_classes: int, keep_prob: float
    ) -> Sequential:
        """A classifier of what the base makes half-way; ``pool`` makes it ``pooled`` (h, w, C)."""
        height, width, channels = pooled
        filters, hidden = self.scaled(AUXILIARY), self.scaled(AUXILIARY_HIDDEN)
        features = height * width * filters
        return Sequential(
            pool=pool,
            conv=self.unit(channels, filters, 1),
            flatten=Flatten(),
            fc1=Dense(features, hidden, rng=self.rng, initializer=he_normal),
            relu=ReLU(),
            dropout=Dropout(keep_prob),
            classes=Dense(hidden, num_classes, rng=self.rng),
        )
