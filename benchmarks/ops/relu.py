"""ReLU, forward and backward, where no convolution has it as its tail."""

from __future__ import annotations

from benchmarks.ops.layouts import from_images, images, random
from benchmarks.ops.op import CONTIGUOUS, Cost, Op
from benchmarks.ops.shapes import FLOAT, IMAGES, Images, size
from benchmarks.subject import Subject, as_in_a_step


def our_forward(s: Images) -> Subject:
    """y."""
    from tinynet.layers import relu_forward

    x = random(0, *s.x)
    return Subject(lambda: relu_forward(x), lambda made: [made[0]], as_in_a_step)


def our_backward(s: Images) -> Subject:
    """dx."""
    from tinynet.layers import relu_backward, relu_forward

    dy = random(1, *s.x)
    _, cache = relu_forward(random(0, *s.x))
    return Subject(lambda: relu_backward(dy, cache), lambda dx: [dx], as_in_a_step)


def torch_forward(s: Images, way: str) -> Subject:
    """y of torch's."""
    import torch

    x = images(random(0, *s.x), way)
    return Subject(lambda: torch.relu(x), lambda y: [from_images(y)])


def torch_backward(s: Images, way: str) -> Subject:
    """dx of torch's."""
    import torch

    y, dy = torch.relu(images(random(0, *s.x), way)), images(random(1, *s.x), way)
    return Subject(
        lambda: torch.ops.aten.threshold_backward(dy, y, 0), lambda dx: [from_images(dx)]
    )


def forward_cost(s: Images) -> Cost:
    """Reads x, writes y."""
    return Cost(0, FLOAT * size(s.x, s.x))


def backward_cost(s: Images) -> Cost:
    """Reads dy and a byte for each of its numbers, writes dx."""
    return Cost(0, FLOAT * size(s.x, s.x) + size(s.x))


OPS = (
    Op("ReLU, forward", IMAGES, our_forward, torch_forward, forward_cost, ways=(CONTIGUOUS,)),
    Op("ReLU, backward", IMAGES, our_backward, torch_backward, backward_cost, ways=(CONTIGUOUS,)),
)
