"""All gradients of a convolution: of weights, bias and input.

tinynet's kernels make them together, so that there is no input gradient alone to be timed.
"""

from __future__ import annotations

from benchmarks.ops.conv_weight_gradient import our_gradients, torch_gradients
from benchmarks.ops.op import Cost, Op
from benchmarks.ops.shapes import CONVOLUTIONS, FLOAT, Conv, size


def cost(s: Conv) -> Cost:
    """Reads x, w and dz, writes dx and dw."""
    return Cost(2 * s.multiply_adds, FLOAT * size(s.x, s.w, s.y, s.x, s.w))


OPS = (
    Op(
        "convolution, all gradients",
        {name: shape for name, shape in CONVOLUTIONS.items() if shape.channels > 3},
        lambda s: our_gradients(s, need_dx=True),
        lambda s, way: torch_gradients(s, way, need_dx=True),
        cost,
    ),
)
