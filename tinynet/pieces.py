"""A batch in pieces: some images at a time through many layers, not the batch through each layer.

A convolution looks at each image by itself, and so do ReLU and pools. As long as a network's layers
do, a piece of the batch can go through all of them before the next piece starts. What one layer
leaves for the next is then a few images large, in the backward pass the gradients too: less memory
is needed, and more of it is still in the processor's cache when it is read.

The results are the batch's to rounding: the gradients of the weights are the same sums over the
images, added up piece by piece. The cut depends on the shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from tinynet.backend import Array, library_of
from tinynet.layer import EVAL, Layer, Mode
from tinynet.layers import (
    AdaptiveAvgPool2D,
    AvgPool2D,
    BatchNorm,
    ChannelShuffle,
    ChannelSlice,
    Concat,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Gate,
    GlobalAvgPool2D,
    LocalResponseNorm,
    MaxPool2D,
    ReLU,
    ReLU6,
    Residual,
    Scale,
    Sequential,
    Sigmoid,
    SumPool2D,
)
from tinynet.planned import ConvBlock, DenseBlock, Plan, Planned, Stack, Sum
from tinynet.workspace import empty

PIECE_BYTES = 1 << 25  # the largest array of a piece

# What treats each image by itself in training too, if all layers inside do.
BY_ITSELF = {
    *(AdaptiveAvgPool2D, AvgPool2D, GlobalAvgPool2D, MaxPool2D, SumPool2D),
    *(ChannelShuffle, ChannelSlice, Conv2D, Dense, Flatten, LocalResponseNorm),
    *(ReLU, ReLU6, Scale, Sigmoid),
    *(Concat, ConvBlock, DenseBlock, Gate, Plan, Residual, Sequential, Stack, Sum),
}


class Pieces(Planned):
    """The layers of ``plan`` on the images of a batch, some at a time.

    count   number of pieces, as equal as can be
    """

    def __init__(self, plan: Plan, count: int) -> None:
        self.plan, self.count = plan, count

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, list[Any]]:
        """The outputs of all pieces, and their caches."""
        passes = [self.plan.forward(piece, mode) for piece in self.cut(x)]
        return joined([y for y, _ in passes]), [cache for _, cache in passes]

    def backward(self, dy: Array, cache: list[Any]) -> Array:
        """The gradients of all pieces, from the last one on; empties the list of caches."""
        parts = [self.plan.backward(piece, cache.pop()) for piece in reversed(self.cut(dy))]
        return joined(parts[::-1])

    def run(self, x: Array, mode: Mode = EVAL) -> Array:
        """The outputs alone."""
        return joined([self.plan.run(piece, mode) for piece in self.cut(x)])

    def cut(self, x: Array) -> list[Array]:
        """Views of the images (N, ...), ``count`` of them."""
        ends = [len(x) * i // self.count for i in range(self.count + 1)]
        return [x[start:end] for start, end in zip(ends, ends[1:], strict=False)]


def joined(parts: Sequence[Array]) -> Array:
    """Pieces (n, ...) as one batch, in the step's workspace; nothing if they are nothing."""
    if parts[0] is None:  # the gradient of a first layer's input, which nobody needs
        return parts[0]
    shape = (sum(map(len, parts)), *parts[0].shape[1:])
    return np.concatenate(parts, out=empty(shape, parts[0].dtype))


def in_pieces(plan: Plan, x: Array, mode: Mode = EVAL) -> Plan:
    """``plan`` for the batch ``x``, its first layers in pieces where that is worth while.

    They are the layers up to the first that looks at several images at once (batch norm in
    training), draws random numbers for the whole batch, or comes after the images (H, W, C) have
    become vectors: cutting a matrix product would only read its weights several times.
    """
    if library_of(x) != "numpy":
        return plan
    shape, largest, first = x.shape[1:], math.prod(x.shape[1:]), 0
    for layer in plan.layers:
        if len(shape) != 3 or not looks_at_one_image(layer, mode):
            break
        try:
            shape = layer.output_shape(shape)
        except ValueError:  # the forward pass will say it, and name the batch
            return plan
        largest = max(largest, math.prod(shape))
        first += 1
    each = max(1, PIECE_BYTES // max(1, largest * x.itemsize))
    if not first or len(x) <= each:
        return plan
    pieces = Pieces(Plan(plan.layers[:first]), -(-len(x) // each))
    return Plan([pieces, *plan.layers[first:]])


def looks_at_one_image(layer: Layer, mode: Mode) -> bool:
    """Whether the layer gives each image what it would give it in any other batch."""
    if isinstance(layer, BatchNorm):
        return not mode.train or layer.frozen_statistics
    if isinstance(layer, Dropout):
        return not mode.train
    inside = layer.children().values()
    return type(layer) in BY_ITSELF and all(looks_at_one_image(part, mode) for part in inside)
