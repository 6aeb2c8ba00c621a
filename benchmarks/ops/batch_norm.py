"""Batch norm in training, forward and backward."""

from __future__ import annotations

from typing import Any

from benchmarks.ops.layouts import from_images, images, random
from benchmarks.ops.op import Cost, Op
from benchmarks.ops.shapes import FLOAT, IMAGES, Images, size
from benchmarks.subject import Subject, as_in_a_step

EPSILON = 1e-3
SHAPES = IMAGES | {"ResNet-50, 56": Images(8, 56, 256)}


def our_forward(s: Images) -> Subject:
    """y, by the statistics of the batch."""
    from tinynet.engine.plan.epilogues import batchnorm_fused_forward

    x, gamma, beta = random(0, *s.x), random(1, s.channels), random(2, s.channels)
    return Subject(
        lambda: batchnorm_fused_forward(x, gamma, beta, EPSILON),
        lambda made: [made[0]],
        as_in_a_step,
    )


def our_backward(s: Images) -> Subject:
    """dx, dγ, dβ."""
    from tinynet.engine.plan.epilogues import batchnorm_fused_backward, batchnorm_fused_forward

    x, gamma, beta = random(0, *s.x), random(1, s.channels), random(2, s.channels)
    dy = random(3, *s.x)
    _, cache = batchnorm_fused_forward(x, gamma, beta, EPSILON)
    return Subject(lambda: batchnorm_fused_backward(dy, cache), list, as_in_a_step)


def torch_pass(s: Images, way: str) -> tuple[Any, Any]:
    """What makes (y, μ, 1/√(σ² + ε)) in torch, and (x, γ, running mean, running variance)."""
    import torch

    x = images(random(0, *s.x), way)
    gamma, beta = (torch.from_numpy(random(seed, s.channels)) for seed in (1, 2))
    moving = torch.zeros(s.channels), torch.ones(s.channels)
    return (
        lambda: torch.ops.aten.native_batch_norm(x, gamma, beta, *moving, True, 0.01, EPSILON),
        (x, gamma, *moving),
    )


def torch_forward(s: Images, way: str) -> Subject:
    """y of torch's."""
    make, _ = torch_pass(s, way)
    return Subject(make, lambda made: [from_images(made[0])])


def torch_backward(s: Images, way: str) -> Subject:
    """dx, dγ, dβ of torch's."""
    import torch

    make, inputs = torch_pass(s, way)
    _, mean, inv_std = make()
    dy = images(random(3, *s.x), way)
    return Subject(
        lambda: torch.ops.aten.native_batch_norm_backward(
            dy, *inputs, mean, inv_std, True, EPSILON, [True] * 3
        ),
        lambda gradients: [from_images(gradients[0]), gradients[1].numpy(), gradients[2].numpy()],
    )


def forward_cost(s: Images) -> Cost:
    """Reads x, writes y; where x does not fit into the cache it is read twice."""
    return Cost(0, FLOAT * size(s.x, s.x))


def backward_cost(s: Images) -> Cost:
    """Reads x and dy, writes dx."""
    return Cost(0, FLOAT * size(s.x, s.x, s.x))


OPS = (
    Op("batch norm, forward", SHAPES, our_forward, torch_forward, forward_cost),
    Op("batch norm, backward", SHAPES, our_backward, torch_backward, backward_cost),
)
