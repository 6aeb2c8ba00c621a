"""Average pool, forward and backward."""

from __future__ import annotations

from benchmarks.ops.layouts import from_images, images, random
from benchmarks.ops.op import Cost, Op
from benchmarks.ops.shapes import FLOAT, Pool, size
from benchmarks.subject import Subject, as_in_a_step

SHAPES = {
    "DenseNet-169, 2×2": Pool(8, 56, 128),
    "Inception-v4, 3×3 by 1": Pool(4, 35, 384, kernel=3, stride=1, padding=1),
}


def our_forward(s: Pool) -> Subject:
    """y."""
    from tinynet.layers import avg_pool2d_forward

    x = random(0, *s.x)
    return Subject(
        lambda: avg_pool2d_forward(x, s.kernel, s.stride, s.padding),
        lambda made: [made[0]],
        as_in_a_step,
    )


def torch_forward(s: Pool, way: str) -> Subject:
    """y of torch's, which does not count padding either."""
    import torch

    x = images(random(0, *s.x), way)
    return Subject(
        lambda: torch.nn.functional.avg_pool2d(x, s.kernel, s.stride, s.padding, False, False),
        lambda y: [from_images(y)],
    )


def our_backward(s: Pool) -> Subject:
    """dx."""
    from tinynet.layers import avg_pool2d_backward, avg_pool2d_forward

    dy = random(1, *s.y)
    _, cache = avg_pool2d_forward(random(0, *s.x), s.kernel, s.stride, s.padding)
    return Subject(lambda: avg_pool2d_backward(dy, cache), lambda dx: [dx], as_in_a_step)


def torch_backward(s: Pool, way: str) -> Subject:
    """dx of torch's."""
    import torch

    x, dy = images(random(0, *s.x), way), images(random(1, *s.y), way)
    window = [s.kernel] * 2, [s.stride] * 2, [s.padding] * 2
    return Subject(
        lambda: torch.ops.aten.avg_pool2d_backward(dy, x, *window, False, False, None),
        lambda dx: [from_images(dx)],
    )


def cost(s: Pool) -> Cost:
    """Reads x and writes y, or reads dy and writes dx."""
    return Cost(0, FLOAT * size(s.x, s.y))


OPS = (
    Op("average pool, forward", SHAPES, our_forward, torch_forward, cost),
    Op("average pool, backward", SHAPES, our_backward, torch_backward, cost),
)
