"""Prediction in pieces: some images at a time through many layers, not all through each layer.

Outside training every layer here looks at each image by itself. So a piece of the batch can go
through the first layers, whose outputs are large, before the next piece starts: what one layer
leaves for the next is then a few images large. The last layers have small outputs and many filters,
which would only be fetched several times; they run on the whole batch.

Training gains nothing by it: the outputs of all layers are kept for the backward pass anyway, and
the gradients of many filters would be added up piece by piece (4 pieces: 20% slower).
"""

from __future__ import annotations

import math

import numpy as np

from tinynet.backend import Array, library_of
from tinynet.engine.memory import empty
from tinynet.engine.plan.nodes import Plan, Planned
from tinynet.layer import EVAL, Layer, Mode

MICRO_BATCH_BYTES = 1 << 25  # the largest array of a piece


class MicroBatches(Planned):
    """The layers of ``plan`` on the images of a batch, some at a time; no backward pass.

    count   number of pieces, as equal as can be
    """

    def __init__(self, plan: Plan, count: int) -> None:
        self.plan, self.count = plan, count

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, None]:
        """The outputs of all pieces as one batch."""
        parts = [self.plan.run(piece, mode) for piece in self.cut(x)]
        shape = (len(x), *parts[0].shape[1:])
        return np.concatenate(parts, out=empty(shape, parts[0].dtype)), None

    def cut(self, x: Array) -> list[Array]:
        """Views of the images (N, ...), ``count`` of them."""
        ends = [len(x) * i // self.count for i in range(self.count + 1)]
        return [x[start:end] for start, end in zip(ends, ends[1:], strict=False)]


def in_micro_batches(plan: Plan, x: Array) -> Plan:
    """``plan``, for ``run`` with the batch ``x``: its first layers in pieces if that saves memory.

    Those are the layers up to the last output above MICRO_BATCH_BYTES and the one after it.
    """
    if library_of(x) != "numpy":
        return plan
    sizes = _sizes(plan, x)
    large = [i for i, size in enumerate(sizes) if len(x) * size > MICRO_BATCH_BYTES]
    if len(x) < 2 or not large:
        return plan
    first = min(large[-1] + 2, len(sizes))
    each = max(1, MICRO_BATCH_BYTES // max(sizes))
    pieces = MicroBatches(Plan(plan.layers[:first]), -(-len(x) // each))
    return Plan([pieces, *plan.layers[first:]])


def _sizes(plan: Plan, x: Array) -> list[int]:
    """Bytes of an image behind each of the first layers, while it is one and they look at one."""
    shape, sizes = x.shape[1:], []
    for layer in plan.layers:
        if len(shape) != 3 or not acts_per_image(layer):
            break
        try:
            shape = layer.output_shape(shape)
        except ValueError:  # the forward pass will say it, and name the batch
            break
        sizes.append(math.prod(shape) * x.itemsize)
    return sizes


def acts_per_image(layer: Layer) -> bool:
    """Return True if the output for an image does not depend on its batch, outside training."""
    return bool(layer.promise("per_image")) and all(map(acts_per_image, layer.children().values()))
