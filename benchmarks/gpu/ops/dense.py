"""Fully-connected layer, forward and all gradients."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.ops.op import Call, Input, Op
from benchmarks.ops.op import Cost
from benchmarks.ops.shapes import Matrix, size

SHAPES = {
    "VGG16, 25088→4096": Matrix(64, 25088, 4096),
    "vgg_like, 16384→256": Matrix(32, 16384, 256),
}
FLOAT = 4  # bytes of a weight


def forward_inputs(s: Matrix) -> list[Input]:
    """x, w, b."""
    return [
        Input("rows", (s.batch, s.inputs)),
        Input("matrix", (s.inputs, s.outputs)),
        Input("vector", (s.outputs,)),
    ]


def backward_inputs(s: Matrix) -> list[Input]:
    """x, w, b, dz."""
    return [*forward_inputs(s), Input("rows", (s.batch, s.outputs))]


def our_forward(s: Matrix, arrays: list[Any]) -> Call:
    """z."""
    from tinynet.layers import dense_forward

    return lambda: dense_forward(*arrays)[:1]


def our_backward(s: Matrix, arrays: list[Any]) -> Call:
    """dx, dw, db."""
    from tinynet.layers import dense_backward, dense_forward

    *inputs, dz = arrays
    _, cache = dense_forward(*inputs)
    return lambda: dense_backward(dz, cache)


def their_forward(s: Matrix, tensors: list[Any]) -> Call:
    """z of torch's."""
    import torch

    x, w, b = tensors
    b = b.to(x.dtype)
    return lambda: (torch.nn.functional.linear(x, w, b),)


def their_backward(s: Matrix, tensors: list[Any]) -> Call:
    """dx, dw, db, by the products that autograd makes."""
    x, w, _, dz = tensors
    return lambda: (dz @ w, dz.T @ x, dz.sum(0))


def forward_cost(s: Matrix, act: int) -> Cost:
    """Reads x and w, writes z."""
    rows = size((s.batch, s.inputs), (s.batch, s.outputs))
    return Cost(s.batch * s.inputs * s.outputs, act * rows + FLOAT * s.inputs * s.outputs)


def backward_cost(s: Matrix, act: int) -> Cost:
    """Reads x, w and dz, writes dx and dw."""
    rows = size((s.batch, s.inputs), (s.batch, s.inputs), (s.batch, s.outputs))
    return Cost(2 * s.batch * s.inputs * s.outputs, act * rows + 2 * FLOAT * s.inputs * s.outputs)


OPS = (
    Op("dense", SHAPES, forward_inputs, our_forward, their_forward, ("rows",), forward_cost),
    Op(
        *("dense, backward", SHAPES, backward_inputs, our_backward, their_backward),
        *(("rows", "matrix", "vector"), backward_cost),
    ),
)
