"""Softmax cross-entropy: the loss and its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.ops.layouts import random
from benchmarks.ops.op import CONTIGUOUS, Cost, Op
from benchmarks.ops.shapes import FLOAT, Matrix, size
from benchmarks.subject import Subject, as_in_a_step

SHAPES = {"2 classes": Matrix(128, 0, 2), "1,000 classes": Matrix(256, 0, 1000)}


def arrays(s: Matrix) -> tuple[Any, Any]:
    """Logits (N, K) and labels (N,)."""
    return random(0, s.batch, s.outputs), np.arange(s.batch) % s.outputs


def ours(s: Matrix) -> Subject:
    """L and dz."""
    from tinynet.losses import SoftmaxCrossEntropy

    z, y = arrays(s)
    loss = SoftmaxCrossEntropy()

    def call() -> Any:
        value, cache = loss.forward(z, y)
        return value, loss.backward(cache)

    return Subject(call, lambda made: [np.asarray(made[0]), made[1]], as_in_a_step)


def theirs(s: Matrix, _: str) -> Subject:
    """L and dz of torch's, by autograd."""
    import torch

    z, y = (torch.from_numpy(a) for a in arrays(s))
    z.requires_grad_()

    def call() -> Any:
        loss = torch.nn.functional.cross_entropy(z, y)
        return loss, torch.autograd.grad(loss, z)[0]

    return Subject(call, lambda made: [made[0].detach().numpy(), made[1].numpy()])


def cost(s: Matrix) -> Cost:
    """Reads z, writes dz."""
    return Cost(0, 2 * FLOAT * size((s.batch, s.outputs)))


OPS = (Op("softmax cross-entropy, both", SHAPES, ours, theirs, cost, ways=(CONTIGUOUS,)),)
