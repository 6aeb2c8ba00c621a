"""GoogLeNet: nine Inception modules and two auxiliary classifiers.  Report §3.2.

Source: Szegedy et al. 2014, "Going deeper with convolutions", Table 1, Figure 3, §5; and the form
with batch norm that torchvision's weights have.  parts.py says how a plan is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array
from tinynet.layer import EVAL, Layer, Mode, Shape, join
from tinynet.layers import AdaptiveAvgPool2D, AvgPool2D, Dense, Dropout, Flatten, ReLU, Sequential
from tinynet.models.architecture import Architecture, architecture
from tinynet.models.parts import Classifier, Parts, Plan, representation_shape

POOL = ("max", 3, 2, "ceil")
STEM: dict[str, Plan] = {
    "conv1": (64, 7, 2),
    "maxpool1": POOL,
    "norm1": ("norm",),
    "conv2": (64, 1),
    "conv3": (192, 3),
    "norm2": ("norm",),
    "maxpool2": POOL,
}
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


class GoogLeNetCache(NamedTuple):
    """What backward needs; only training fills in the auxiliary classifiers' caches."""

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
    architecture   name and settings, if a builder of ``tinynet.models`` made the network
    """

    def __init__(self, base: Layer, head: Layer, aux1: Layer, aux2: Layer) -> None:
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
        """dx (N, H, W, C) from dz (N, classes), or after a training pass from (dz, dz_1, dz_2).

        Raises ValueError unless there are as many gradients as there were outputs.
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
    epsilon: float = 1e-3,
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
    input_shape           H and W from 15; with paper_pools from 31, and with auxiliary classifiers
                          as well from 79
    auxiliary             True: the two auxiliary classifiers, and in training three outputs, for
                          the loss ``WithAuxiliary``. False: a plain Classifier, whose weights
                          have the same names
    five_by_five          the third branch's filters are 5×5, as in the paper; torchvision's are 3×3
    local_response_norm   normalise across channels, as AlexNet does, in the stem
    paper_pools           the last max-pool is 3×3 / 2, not 2×2 / 2, and the auxiliary classifiers
                          average 5×5 / 3, not 4 × 4 windows that divide the image evenly: both
                          reduce 14 × 14 to 4 × 4, though by different windows, but only the latter
                          gives 4 × 4 at other sizes
    width                 scales the auxiliary hidden layers too
    Other arguments as in ``tinynet.models``.
    Parameters at 1,000 classes: 13,004,888; 6,624,904 without the auxiliary classifiers; as in
    torchvision.
    """
    parts = Parts(rng, width, epsilon, batch_norm=batch_norm, bias=not batch_norm)
    plans = {k: plan for k, plan in STEM.items() if local_response_norm or plan != ("norm",)}
    for name, (ones, threes, fives, pooled) in MODULES.items():
        if name == "inception4a":
            plans["maxpool3"] = POOL
        elif name == "inception5a":
            plans["maxpool4"] = ("max", 3 if paper_pools else 2, 2, "ceil")
        plans[name] = {
            "branch1": (ones, 1),
            "branch2": [(threes[0], 1), (threes[1], 3)],
            "branch3": [(fives[0], 1), (fives[1], 5 if five_by_five else 3)],
            "branch4": [("max", 3, 1, "same"), (pooled, 1)],
        }
    base = parts.in_turn(plans, input_shape[2])
    plain = parts.classifier(base, input_shape, num_classes, keep_prob)
    if not auxiliary:
        return plain

    branches = {}
    for name, branch in BRANCHES.items():
        pool = AvgPool2D(5, 3) if paper_pools else AdaptiveAvgPool2D(4)
        path = {stage: base[stage] for stage in list(base)[: list(base).index(name) + 1]}
        path[branch] = Sequential(pool=pool)
        high, wide, channels = representation_shape(Sequential(**path), input_shape)
        filters, hidden = parts.scaled(128), parts.scaled(1024)
        branches[branch] = Sequential(
            pool=pool,
            conv=parts.unit(channels, filters, 1),
            flatten=Flatten(),
            fc1=parts.dense(high * wide * filters, hidden),
            relu=ReLU(),
            dropout=Dropout(auxiliary_keep_prob),
            classes=Dense(hidden, num_classes, rng=rng),
        )
    return GoogLeNet(plain.base, plain.head, **branches)
