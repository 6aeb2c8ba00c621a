"""Adam's update of all weights of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.gpu.ops.op import Call, Input, Op
from benchmarks.ops.op import Cost
from benchmarks.ops.shapes import size

RATE = 0.1  # large, so that the change of a weight is as large as the weight


@dataclass(frozen=True)
class Weights:
    """Arrays of these shapes."""

    shapes: tuple[tuple[int, ...], ...]

    def small(self) -> Weights:
        """The same number of small ones, at most three."""
        return Weights(tuple((3,) * len(shape) for shape in self.shapes[:3]))


def vgg16() -> tuple[tuple[int, ...], ...]:
    """Shapes of VGG16's 138 million weights."""
    channels, shapes = 3, []
    for filters, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            shapes += [(3, 3, channels, filters), (filters,)]
            channels = filters
    for inputs, outputs in ((25088, 4096), (4096, 4096), (4096, 1000)):
        shapes += [(inputs, outputs), (outputs,)]
    return tuple(shapes)


SHAPES = {
    "VGG16, 138 M": Weights(vgg16()),
    "100 small": Weights(((3, 3, 64, 64), (64,)) * 50),
}


def inputs(s: Weights) -> list[Input]:
    """All weights, then all gradients."""
    return [Input("vector", shape) for shape in s.shapes * 2]


def ours(s: Weights, arrays: list[Any]) -> Call:
    """The first array of weights and the last."""
    from tinynet.layer import Parameter
    from tinynet.optimizers import Adam

    optimizer, parameters = Adam(RATE), {}
    half = len(s.shapes)
    for number, (w, g) in enumerate(zip(arrays[:half], arrays[half:], strict=True)):
        parameters[str(number)] = Parameter(w)
        parameters[str(number)].grad = g

    def call() -> tuple[Any, ...]:
        optimizer.step(parameters)
        return parameters["0"].value, parameters[str(half - 1)].value

    return call


def theirs(s: Weights, tensors: list[Any]) -> Call:
    """The same of torch's, fused."""
    import torch

    half, weights = len(s.shapes), []
    for w, g in zip(tensors[:half], tensors[half:], strict=True):
        weights.append(torch.nn.Parameter(w.clone()))
        weights[-1].grad = g
    optimizer = torch.optim.Adam(weights, RATE, fused=True)

    def call() -> tuple[Any, ...]:
        optimizer.step()
        return weights[0], weights[-1]

    return call


def cost(s: Weights, act: int) -> Cost:
    """Reads w, m, v and the gradient, writes w, m and v."""
    return Cost(0, 7 * 4 * size(*s.shapes))


OPS = (
    Op(
        *("Adam", SHAPES, inputs, ours, theirs, ("vector", "vector"), cost),
        precisions=("fp32",),
    ),
)
