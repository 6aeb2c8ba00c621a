"""Depthwise convolution: every filter sees one channel."""

from __future__ import annotations

from benchmarks.ops import conv_backward, conv_forward
from benchmarks.ops.conv_weight_gradient import our_gradients, torch_gradients
from benchmarks.ops.op import Op
from benchmarks.ops.shapes import DEPTHWISE

OPS = (
    Op(
        "depthwise convolution, forward",
        DEPTHWISE,
        conv_forward.ours,
        conv_forward.theirs,
        conv_forward.cost,
    ),
    Op(
        "depthwise convolution, all gradients",
        DEPTHWISE,
        lambda s: our_gradients(s, need_dx=True),
        lambda s, way: torch_gradients(s, way, need_dx=True),
        conv_backward.cost,
    ),
)
