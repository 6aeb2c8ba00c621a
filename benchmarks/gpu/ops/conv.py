"""Convolution, and each of its two gradients by itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from benchmarks.gpu.ops.op import Call, Input, Op
from benchmarks.ops.op import Cost
from benchmarks.ops.shapes import Conv, size
from tinynet.backend import library_of

SHAPES = {
    "3×3 64→64, 112": Conv(32, 112, 64, 64),
    "3×3 128→128, 56": Conv(32, 56, 128, 128),
    "3×3 256→256, 28": Conv(64, 28, 256, 256),
    "3×3 512→512, 14": Conv(64, 14, 512, 512),
    "1×1 256→64, 56": Conv(64, 56, 256, 64, kernel=1),
    "3×3 / 2 128→128, 56": Conv(64, 56, 128, 128, stride=2),
    "first 3×3 1→32, 128": Conv(32, 128, 1, 32),
    "first 3×3 3→64, 224": Conv(32, 224, 3, 64),
}
NOT_FIRST = {name: s for name, s in SHAPES.items() if not name.startswith("first")}
FLOAT = 4  # bytes of a weight


def small(s: Conv) -> Conv:
    """Few images, few channels; multiples of 8, which tensor cores take, stay so."""
    channels = 8 if s.channels % 8 == 0 else s.channels
    return replace(s, batch=2, side=12, channels=channels, filters=8)


def our_forward(s: Conv, arrays: list[Any]) -> Call:
    """z."""
    from tinynet.engine.plan.epilogues import conv2d_fused_forward

    x, w = arrays
    return lambda: conv2d_fused_forward(x, w, None, s.stride, s.padding)[:1]


def our_weight_gradient(s: Conv, arrays: list[Any]) -> Call:
    """dw."""
    from tinynet.engine.plan.epilogues import conv2d_fused_backward, conv2d_fused_forward

    x, w, dz = arrays
    _, cache = conv2d_fused_forward(x, w, None, s.stride, s.padding)
    return lambda: conv2d_fused_backward(dz, cache, need_dx=False)[1:2]


def our_input_gradient(s: Conv, arrays: list[Any]) -> Call:
    """dx, by the kernel that ``conv2d_fused_backward`` would choose; on a CPU, both gradients."""
    from tinynet.engine.plan.epilogues import conv2d_fused_backward, conv2d_fused_forward

    x, w, dz = arrays
    _, cache = conv2d_fused_forward(x, w, None, s.stride, s.padding)
    if library_of(x) != "cupy":
        return lambda: conv2d_fused_backward(dz, cache)[:1]
    from tinynet.engine.kernels.cuda.conv import input_gradient

    return lambda: (input_gradient(dz, x, w, cache.window, 1),)


def their_forward(s: Conv, tensors: list[Any]) -> Call:
    """z of torch's."""
    import torch

    x, w = tensors
    return lambda: (torch.nn.functional.conv2d(x, w, None, s.stride, s.padding),)


def their_gradient(s: Conv, tensors: list[Any], which: int) -> Call:
    """dx (0) or dw (1) of torch's."""
    import torch

    x, w, dz = tensors
    mask = [which == 0, which == 1, False]
    where = [s.stride] * 2, [s.padding] * 2, [1, 1], False, [0, 0], 1
    backward = torch.ops.aten.convolution_backward
    return lambda: (backward(dz, x, w, None, *where, mask)[which],)


def given(s: Conv, *more: Input) -> list[Input]:
    """x and w, and what else."""
    return [Input("images", s.x), Input("filters", s.w), *more]


def gradient_inputs(s: Conv) -> list[Input]:
    """x, w and dz."""
    return given(s, Input("images", s.y))


def cost(s: Conv, act: int) -> Cost:
    """Two of x, z and w are read, the third is written; z is as large as its gradient."""
    return Cost(s.multiply_adds, act * size(s.x, s.y) + FLOAT * size(s.w))


OPS = (
    Op("convolution", SHAPES, given, our_forward, their_forward, ("images",), cost, small=small),
    Op(
        "convolution, dx",
        NOT_FIRST,
        gradient_inputs,
        our_input_gradient,
        lambda s, t: their_gradient(s, t, 0),
        ("images",),
        cost,
        small=small,
    ),
    Op(
        "convolution, dw",
        SHAPES,
        gradient_inputs,
        our_weight_gradient,
        lambda s, t: their_gradient(s, t, 1),
        ("filters",),
        cost,
        small=small,
    ),
)
