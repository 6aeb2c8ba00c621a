"""Softmax cross-entropy: its gradient, with the loss."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.ops.op import Call, Input, Op
from benchmarks.ops.op import Cost
from benchmarks.ops.shapes import Matrix, size

SHAPES = {"1,000 classes": Matrix(256, 0, 1000), "2 classes": Matrix(256, 0, 2)}


def inputs(s: Matrix) -> list[Input]:
    """Logits (N, K) and labels (N,)."""
    return [Input("rows", (s.batch, s.outputs)), Input("labels", (s.batch,), s.outputs)]


def ours(s: Matrix, arrays: list[Any]) -> Call:
    """dz; the loss is computed on the way."""
    from tinynet.losses import softmax_cross_entropy_backward, softmax_cross_entropy_forward

    return lambda: (softmax_cross_entropy_backward(softmax_cross_entropy_forward(*arrays)[1]),)


def theirs(s: Matrix, tensors: list[Any]) -> Call:
    """The same of torch's, by autograd."""
    import torch

    z, y = tensors[0].detach().requires_grad_(), tensors[1]

    def call() -> tuple[Any, ...]:
        return torch.autograd.grad(torch.nn.functional.cross_entropy(z, y), z)

    return call


def cost(s: Matrix, act: int) -> Cost:
    """Reads z, writes dz."""
    return Cost(0, 2 * act * size((s.batch, s.outputs)))


OPS = (
    Op(
        *("softmax cross-entropy", SHAPES, inputs, ours, theirs, ("rows",), cost),
        precisions=("fp32", "bf16"),
    ),
)
