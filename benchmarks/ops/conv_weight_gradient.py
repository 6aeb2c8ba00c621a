"""The gradients of a convolution's weights and bias, which is all that a first layer needs."""

from __future__ import annotations

from typing import Any

from benchmarks.ops.layouts import filters, from_filters, from_images, images, random
from benchmarks.ops.op import Cost, Op
from benchmarks.ops.shapes import CONVOLUTIONS, FLOAT, Conv, size
from benchmarks.subject import Subject, as_in_a_step


def our_gradients(s: Conv, need_dx: bool) -> Subject:
    """dw, db and, if it is wanted, dx of tinynet's convolution."""
    from tinynet.engine.plan.epilogues import conv2d_fused_backward, conv2d_fused_forward

    x, w, b, dz = random(0, *s.x), random(1, *s.w), random(2, s.filters), random(3, *s.y)
    _, cache = conv2d_fused_forward(x, w, b, s.stride, s.padding, groups=s.groups)

    def results(gradients: Any) -> list[Any]:
        dx, dw, db = gradients
        return [dw, db, dx] if need_dx else [dw, db]

    return Subject(lambda: conv2d_fused_backward(dz, cache, need_dx), results, as_in_a_step)


def torch_gradients(s: Conv, way: str, need_dx: bool) -> Subject:
    """The same of torch's."""
    import torch

    x, w = images(random(0, *s.x), way), filters(random(1, *s.w), way)
    dz = images(random(3, *s.y), way)
    stride, padding, dilation = [s.stride] * 2, [s.padding] * 2, [1, 1]

    def call() -> Any:
        return torch.ops.aten.convolution_backward(
            dz,
            x,
            w,
            [s.filters],
            stride,
            padding,
            dilation,
            False,  # not transposed
            [0, 0],
            s.groups,
            [need_dx, True, True],
        )

    def results(gradients: Any) -> list[Any]:
        dx, dw, db = gradients
        return [from_filters(dw), db.numpy(), *([from_images(dx)] if need_dx else [])]

    return Subject(call, results)


def cost(s: Conv) -> Cost:
    """Reads x and dz, writes dw."""
    return Cost(s.multiply_adds, FLOAT * size(s.x, s.y, s.w))


OPS = (
    Op(
        "convolution, weight gradient",
        CONVOLUTIONS,
        lambda s: our_gradients(s, need_dx=False),
        lambda s, way: torch_gradients(s, way, need_dx=False),
        cost,
    ),
)
