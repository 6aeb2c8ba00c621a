"""Convolution, ReLU and, at the end of a block, a max-pool: one operation in tinynet's step."""

from __future__ import annotations

from typing import Any

from benchmarks.ops.layouts import filters, from_filters, from_images, images, random
from benchmarks.ops.op import Cost, Op
from benchmarks.ops.shapes import CONVOLUTIONS, FLOAT, Conv, size
from benchmarks.subject import Subject, as_in_a_step

EPILOGUES = {"relu": "ReLU", "relu_pool": "ReLU, max-pool"}
SHAPES = {name: CONVOLUTIONS[name] for name in ("W128, layer 2", "W128, layer 6")}


def output_shape(s: Conv, tail: str) -> tuple[int, int, int, int]:
    """Shape of y."""
    batch, side, _, channels = s.y
    side //= 2 if tail == "relu_pool" else 1
    return batch, side, side, channels


def our_forward(s: Conv, tail: str) -> Subject:
    """y of tinynet's block."""
    from tinynet.engine.plan.epilogues import conv2d_fused_forward

    x, w, b = random(0, *s.x), random(1, *s.w), random(2, s.filters)
    return Subject(
        lambda: conv2d_fused_forward(x, w, b, s.stride, s.padding, tail=tail),
        lambda made: [made[0]],
        as_in_a_step,
    )


def our_backward(s: Conv, tail: str) -> Subject:
    """dw, db and dx of tinynet's block."""
    from tinynet.engine.plan.epilogues import conv2d_fused_backward, conv2d_fused_forward

    x, w, b = random(0, *s.x), random(1, *s.w), random(2, s.filters)
    dy = random(3, *output_shape(s, tail))
    _, cache = conv2d_fused_forward(x, w, b, s.stride, s.padding, tail=tail)
    return Subject(
        lambda: conv2d_fused_backward(dy, cache),
        lambda gradients: [gradients[1], gradients[2], gradients[0]],
        as_in_a_step,
    )


def torch_block(s: Conv, tail: str, way: str) -> tuple[Any, tuple[Any, ...]]:
    """A function that makes y, and the arrays that it makes it of."""
    import torch
    from torch.nn.functional import conv2d, max_pool2d, relu

    x, w = images(random(0, *s.x), way), filters(random(1, *s.w), way)
    inputs = x, w, torch.from_numpy(random(2, s.filters))

    def make() -> Any:
        r = relu(conv2d(*inputs, s.stride, s.padding), inplace=True)
        return max_pool2d(r, 2) if tail == "relu_pool" else r

    return make, inputs


def torch_forward(s: Conv, tail: str, way: str) -> Subject:
    """y of torch's three functions, with what autograd keeps."""
    make, inputs = torch_block(s, tail, way)
    for tensor in inputs:
        tensor.requires_grad_()
    return Subject(make, lambda y: [from_images(y)])


def torch_backward(s: Conv, tail: str, way: str) -> Subject:
    """dw, db and dx, by autograd."""
    import torch

    make, inputs = torch_block(s, tail, way)
    for tensor in inputs:
        tensor.requires_grad_()
    y = make()
    dy = images(random(3, *output_shape(s, tail)), way)

    def results(gradients: Any) -> list[Any]:
        dx, dw, db = gradients
        return [from_filters(dw), db.numpy(), from_images(dx)]

    return Subject(lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True), results)


def forward_cost(s: Conv, tail: str) -> Cost:
    """Reads x and w, writes y."""
    return Cost(s.multiply_adds, FLOAT * size(s.x, s.w, output_shape(s, tail)))


def backward_cost(s: Conv, tail: str) -> Cost:
    """Reads x, w and dy, writes dx and dw."""
    y = output_shape(s, tail)
    return Cost(2 * s.multiply_adds, FLOAT * size(s.x, s.w, y, s.x, s.w))


def pair_of(tail: str) -> tuple[Op[Conv], Op[Conv]]:
    """The forward and the backward pass with one tail."""
    name = f"convolution, {EPILOGUES[tail]}"
    return (
        Op(
            f"{name}, forward",
            SHAPES,
            lambda s: our_forward(s, tail),
            lambda s, way: torch_forward(s, tail, way),
            lambda s: forward_cost(s, tail),
        ),
        Op(
            f"{name}, all gradients",
            SHAPES,
            lambda s: our_backward(s, tail),
            lambda s, way: torch_backward(s, tail, way),
            lambda s: backward_cost(s, tail),
            # of two numbers that nearly tie, rounding decides which gets the gradient: a few
            # of millions of windows decide otherwise than torch's, and each by as much as it likes
            norm="mean square",
            tolerance=1e-2,
        ),
    )


OPS = (*pair_of("relu"), *pair_of("relu_pool"))
