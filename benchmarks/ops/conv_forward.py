"""Convolution, forward, with its bias."""

from __future__ import annotations

from benchmarks.ops.layouts import filters, from_images, images, random
from benchmarks.ops.op import Cost, Op
from benchmarks.ops.shapes import CONVOLUTIONS, FLOAT, Conv, size
from benchmarks.subject import Subject, as_in_a_step


def ours(s: Conv) -> Subject:
    """z of tinynet's convolution."""
    from tinynet.engine.plan.epilogues import conv2d_fused_forward

    x, w, b = random(0, *s.x), random(1, *s.w), random(2, s.filters)
    return Subject(
        lambda: conv2d_fused_forward(x, w, b, s.stride, s.padding, groups=s.groups),
        lambda made: [made[0]],
        as_in_a_step,
    )


def theirs(s: Conv, way: str) -> Subject:
    """z of torch's."""
    import torch

    x, w = images(random(0, *s.x), way), filters(random(1, *s.w), way)
    b = torch.from_numpy(random(2, s.filters))
    return Subject(
        lambda: torch.nn.functional.conv2d(x, w, b, s.stride, s.padding, 1, s.groups),
        lambda z: [from_images(z)],
    )


def cost(s: Conv) -> Cost:
    """Reads x and w, writes z."""
    return Cost(s.multiply_adds, FLOAT * size(s.x, s.w, s.y))


OPS = (Op("convolution, forward", CONVOLUTIONS, ours, theirs, cost),)
