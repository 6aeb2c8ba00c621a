"""Max-pool, with what its backward pass needs, and the backward pass."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.ops.op import Call, Input, Op
from benchmarks.ops.op import Cost
from benchmarks.ops.shapes import Pool, size

SHAPES = {
    "2×2, 64, 224": Pool(32, 224, 64),
    "3×3 / 2, 64, 112": Pool(64, 112, 64, kernel=3, stride=2, padding=1),
}


def forward_inputs(s: Pool) -> list[Input]:
    """x."""
    return [Input("images", s.x)]


def backward_inputs(s: Pool) -> list[Input]:
    """x, dy."""
    return [Input("images", s.x), Input("images", s.y)]


def our_forward(s: Pool, arrays: list[Any]) -> Call:
    """y, and which cell of each window won."""
    from tinynet.layers import max_pool2d_forward

    return lambda: max_pool2d_forward(arrays[0], s.kernel, s.stride, s.padding)[:1]


def our_backward(s: Pool, arrays: list[Any]) -> Call:
    """dx."""
    from tinynet.layers import max_pool2d_backward, max_pool2d_forward

    x, dy = arrays
    _, cache = max_pool2d_forward(x, s.kernel, s.stride, s.padding)
    return lambda: (max_pool2d_backward(dy, cache),)


def window(s: Pool) -> tuple[list[int], list[int], list[int]]:
    """As torch takes it."""
    return [s.kernel] * 2, [s.stride] * 2, [s.padding] * 2


def their_forward(s: Pool, tensors: list[Any]) -> Call:
    """The same; torch keeps an int64 index where tinynet keeps a byte."""
    import torch

    pool = torch.ops.aten.max_pool2d_with_indices
    return lambda: pool(tensors[0], *window(s))[:1]


def their_backward(s: Pool, tensors: list[Any]) -> Call:
    """dx of torch's."""
    import torch

    x, dy = tensors
    _, indices = torch.ops.aten.max_pool2d_with_indices(x, *window(s))
    backward = torch.ops.aten.max_pool2d_with_indices_backward
    return lambda: (backward(dy, x, *window(s), [1, 1], False, indices),)


def cost(s: Pool, act: int) -> Cost:
    """One of x and y is read, the other written, with a byte for each number of y."""
    return Cost(0, act * size(s.x, s.y) + size(s.y))


PRECISIONS = ("fp32", "bf16")
OPS = (
    Op(
        *("max-pool", SHAPES, forward_inputs, our_forward, their_forward, ("images",), cost),
        precisions=PRECISIONS,
    ),
    Op(
        *("max-pool, backward", SHAPES, backward_inputs, our_backward, their_backward),
        *(("images",), cost),
        precisions=PRECISIONS,
    ),
)
