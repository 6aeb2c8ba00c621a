"""Batch norm in training, forward and backward."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.ops.op import Call, Input, Op
from benchmarks.ops.op import Cost
from benchmarks.ops.shapes import Images, size

EPSILON = 1e-3
SHAPES = {"256, 56": Images(64, 56, 256), "64, 112": Images(64, 112, 64)}


def forward_inputs(s: Images) -> list[Input]:
    """x, γ, β."""
    return [Input("images", s.x), *[Input("vector", (s.channels,))] * 2]


def backward_inputs(s: Images) -> list[Input]:
    """x, γ, β, dy."""
    return [*forward_inputs(s), Input("images", s.x)]


def our_forward(s: Images, arrays: list[Any]) -> Call:
    """y, by the statistics of the batch."""
    from tinynet.engine.plan.epilogues import batchnorm_fused_forward

    return lambda: batchnorm_fused_forward(*arrays, EPSILON)[:1]


def our_backward(s: Images, arrays: list[Any]) -> Call:
    """dx, dγ, dβ."""
    from tinynet.engine.plan.epilogues import batchnorm_fused_backward, batchnorm_fused_forward

    *inputs, dy = arrays
    _, cache = batchnorm_fused_forward(*inputs, EPSILON)
    return lambda: batchnorm_fused_backward(dy, cache)


def moving(gamma: Any) -> tuple[Any, Any]:
    """A moving mean and variance, which torch's functions ask for."""
    import torch

    return torch.zeros_like(gamma), torch.ones_like(gamma)


def their_forward(s: Images, tensors: list[Any]) -> Call:
    """y of torch's, by cuDNN where it is there."""
    import torch

    x, gamma, beta = tensors
    where = *moving(gamma), True, 0.01, EPSILON, True
    return lambda: (torch.batch_norm(x, gamma, beta, *where),)


def their_backward(s: Images, tensors: list[Any]) -> Call:
    """dx, dγ, dβ of torch's, as autograd makes them."""
    import torch

    *inputs, dy = tensors
    inputs = [x.detach().requires_grad_() for x in inputs]
    y = torch.batch_norm(*inputs, *moving(inputs[1].detach()), True, 0.01, EPSILON, True)
    return lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def forward_cost(s: Images, act: int) -> Cost:
    """Reads x twice, as it does not fit into the cache, and writes y."""
    return Cost(0, act * size(s.x, s.x, s.x))


def backward_cost(s: Images, act: int) -> Cost:
    """Reads x and dy twice, writes dx."""
    return Cost(0, act * 5 * size(s.x))


PRECISIONS = ("fp32", "bf16")
OPS = (
    Op(
        *("batch norm", SHAPES, forward_inputs, our_forward, their_forward, ("images",)),
        forward_cost,
        precisions=PRECISIONS,
    ),
    Op(
        *("batch norm, backward", SHAPES, backward_inputs, our_backward, their_backward),
        ("images", "vector", "vector"),
        backward_cost,
        precisions=PRECISIONS,
    ),
)
