"""Max-pool, with what its backward pass needs, and the backward pass."""

from __future__ import annotations

from benchmarks.ops.layouts import from_images, images, random
from benchmarks.ops.op import Cost, Op
from benchmarks.ops.shapes import FLOAT, Pool, size
from benchmarks.subject import Subject, as_in_a_step

SHAPES = {
    "W128, block 1": Pool(32, 128, 32),
    "W224, block 2": Pool(16, 112, 64),
    "ResNet-50, 3×3 by 2": Pool(8, 112, 64, kernel=3, stride=2, padding=1),
}


def our_forward(s: Pool) -> Subject:
    """y, and which cell of each window won."""
    from tinynet.layers import max_pool2d_forward

    x = random(0, *s.x)
    return Subject(
        lambda: max_pool2d_forward(x, s.kernel, s.stride, s.padding),
        lambda made: [made[0]],
        as_in_a_step,
    )


def torch_forward(s: Pool, way: str) -> Subject:
    """The same; torch keeps an int64 index where tinynet keeps a byte."""
    import torch

    x = images(random(0, *s.x), way)
    return Subject(
        lambda: torch.ops.aten.max_pool2d_with_indices(
            x, [s.kernel] * 2, [s.stride] * 2, [s.padding] * 2
        ),
        lambda made: [from_images(made[0])],
    )


def our_backward(s: Pool) -> Subject:
    """dx."""
    from tinynet.layers import max_pool2d_backward, max_pool2d_forward

    dy = random(1, *s.y)
    _, cache = max_pool2d_forward(random(0, *s.x), s.kernel, s.stride, s.padding)
    return Subject(lambda: max_pool2d_backward(dy, cache), lambda dx: [dx], as_in_a_step)


def torch_backward(s: Pool, way: str) -> Subject:
    """dx of torch's."""
    import torch

    x, dy = images(random(0, *s.x), way), images(random(1, *s.y), way)
    window = [s.kernel] * 2, [s.stride] * 2, [s.padding] * 2
    _, indices = torch.ops.aten.max_pool2d_with_indices(x, *window)
    return Subject(
        lambda: torch.ops.aten.max_pool2d_with_indices_backward(
            dy, x, *window, [1, 1], False, indices
        ),
        lambda dx: [from_images(dx)],
    )


def forward_cost(s: Pool) -> Cost:
    """Reads x, writes y and a byte for each of its numbers."""
    return Cost(0, FLOAT * size(s.x, s.y) + size(s.y))


def backward_cost(s: Pool) -> Cost:
    """Reads dy and a byte for each of its numbers, writes dx."""
    return forward_cost(s)


OPS = (
    Op("max-pool, forward", SHAPES, our_forward, torch_forward, forward_cost),
    Op("max-pool, backward", SHAPES, our_backward, torch_backward, backward_cost),
)
