"""Fully-connected layer, forward and all gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.ops.layouts import random
from benchmarks.ops.op import CONTIGUOUS, Cost, Op
from benchmarks.ops.shapes import FLOAT, Matrix, size
from benchmarks.subject import Subject, as_in_a_step

SHAPES = {
    "W128": Matrix(32, 16384, 256),
    "VGG-16, fc7": Matrix(16, 4096, 4096),
}


def our_forward(s: Matrix) -> Subject:
    """z."""
    from tinynet.layers import dense_forward

    x, w, b = random(0, s.batch, s.inputs), random(1, s.inputs, s.outputs), random(2, s.outputs)
    return Subject(lambda: dense_forward(x, w, b), lambda made: [made[0]], as_in_a_step)


def our_backward(s: Matrix) -> Subject:
    """dx, dw, db."""
    from tinynet.layers import dense_backward, dense_forward

    x, w, b = random(0, s.batch, s.inputs), random(1, s.inputs, s.outputs), random(2, s.outputs)
    dz = random(3, s.batch, s.outputs)
    _, cache = dense_forward(x, w, b)
    return Subject(lambda: dense_backward(dz, cache), list, as_in_a_step)


def torch_arrays(s: Matrix) -> Any:
    """x, w (out, in) as nn.Linear keeps it, and b."""
    import torch

    w = np.ascontiguousarray(random(1, s.inputs, s.outputs).T)
    return [torch.from_numpy(a) for a in (random(0, s.batch, s.inputs), w, random(2, s.outputs))]


def torch_forward(s: Matrix, _: str) -> Subject:
    """z of torch's."""
    import torch

    x, w, b = torch_arrays(s)
    return Subject(lambda: torch.nn.functional.linear(x, w, b), lambda z: [z.numpy()])


def torch_backward(s: Matrix, _: str) -> Subject:
    """dx, dw, db, by the products that autograd makes."""
    import torch

    x, w, _b = torch_arrays(s)
    dz = torch.from_numpy(random(3, s.batch, s.outputs))
    return Subject(
        lambda: (dz @ w, dz.T @ x, dz.sum(0)),
        lambda made: [made[0].numpy(), made[1].numpy().T, made[2].numpy()],
    )


def forward_cost(s: Matrix) -> Cost:
    """Reads x and w, writes z."""
    sizes = size((s.batch, s.inputs), (s.inputs, s.outputs), (s.batch, s.outputs))
    return Cost(s.batch * s.inputs * s.outputs, FLOAT * sizes)


def backward_cost(s: Matrix) -> Cost:
    """Reads x, w and dz, writes dx and dw."""
    forward = forward_cost(s)
    more = FLOAT * size((s.batch, s.inputs), (s.inputs, s.outputs))
    return Cost(2 * forward.multiply_adds, forward.bytes + more)


OPS = (
    Op("dense, forward", SHAPES, our_forward, torch_forward, forward_cost, ways=(CONTIGUOUS,)),
    Op("dense, all gradients", SHAPES, our_backward, torch_backward, backward_cost, (CONTIGUOUS,)),
)
