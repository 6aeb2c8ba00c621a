"""ReLU, forward and backward, where no convolution has it as its tail."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.ops.op import Call, Input, Op
from benchmarks.ops.op import Cost
from benchmarks.ops.shapes import Images, size

SHAPES = {"256, 56": Images(64, 56, 256)}


def our_forward(s: Images, arrays: list[Any]) -> Call:
    """y."""
    from tinynet.layers import relu_forward

    return lambda: relu_forward(arrays[0])[:1]


def our_backward(s: Images, arrays: list[Any]) -> Call:
    """dx."""
    from tinynet.layers import relu_backward, relu_forward

    x, dy = arrays
    _, cache = relu_forward(x)
    return lambda: (relu_backward(dy, cache),)


def their_forward(s: Images, tensors: list[Any]) -> Call:
    """y of torch's."""
    import torch

    return lambda: (torch.relu(tensors[0]),)


def their_backward(s: Images, tensors: list[Any]) -> Call:
    """dx of torch's."""
    import torch

    y, dy = torch.relu(tensors[0]), tensors[1]
    return lambda: (torch.ops.aten.threshold_backward(dy, y, 0),)


def forward_cost(s: Images, act: int) -> Cost:
    """Reads x, writes y."""
    return Cost(0, act * size(s.x, s.x))


def backward_cost(s: Images, act: int) -> Cost:
    """Reads dy and a byte for each of its numbers, writes dx."""
    return Cost(0, act * size(s.x, s.x) + size(s.x))


PRECISIONS = ("fp32", "bf16")
OPS = (
    Op(
        *("ReLU", SHAPES, lambda s: [Input("images", s.x)], our_forward, their_forward),
        *(("images",), forward_cost),
        precisions=PRECISIONS,
    ),
    Op(
        *("ReLU, backward", SHAPES, lambda s: [Input("images", s.x)] * 2, our_backward),
        *(their_backward, ("images",), backward_cost),
        precisions=PRECISIONS,
    ),
)
