"""Adam's update of all the parameters of a network."""

from __future__ import annotations

from typing import Any

from benchmarks.ops.layouts import random
from benchmarks.ops.op import Cost, Op
from benchmarks.ops.shapes import FLOAT
from benchmarks.subject import Subject, as_in_a_step
from benchmarks.workloads import WORKLOADS, Workload

SHAPES = {"W128": WORKLOADS["W128"], "demo": WORKLOADS["demo"]}
RATE = 0.1  # large, so that the change of a weight has as many digits as the weight


def our_parameters(s: Workload) -> Any:
    """Name -> Parameter, with random gradients."""
    parameters = s.starting_model().parameters()
    for number, p in enumerate(parameters.values()):
        p.grad[...] = random(number, *p.shape)
    return parameters


def ours(s: Workload) -> Subject:
    """The change of every weight since the start."""
    from tinynet.optimizers import Adam

    parameters, optimizer = our_parameters(s), Adam(RATE)
    before = [p.value.copy() for p in parameters.values()]
    return Subject(
        lambda: optimizer.step(parameters),
        lambda _: [p.value - w for p, w in zip(parameters.values(), before, strict=True)],
        as_in_a_step,
    )


def theirs(s: Workload, way: str) -> Subject:
    """The same in torch, which has a fused update as well as its default."""
    import torch

    parameters = []
    for p in our_parameters(s).values():
        w = torch.nn.Parameter(torch.from_numpy(p.value.copy()))
        w.grad = torch.from_numpy(p.grad)
        parameters.append(w)
    optimizer = torch.optim.Adam(parameters, RATE, fused=way == "fused" or None)
    before = [w.detach().clone() for w in parameters]
    return Subject(
        optimizer.step,
        lambda _: [(w.detach() - b).numpy() for w, b in zip(parameters, before, strict=True)],
    )


def cost(s: Workload) -> Cost:
    """Reads w, m, v and the gradient, writes w, m and v."""
    count = sum(p.value.size for p in s.starting_model().parameters().values())
    return Cost(0, 7 * FLOAT * count)


OPS = (Op("Adam", SHAPES, ours, theirs, cost, ways=("default", "fused"), calls=3),)
