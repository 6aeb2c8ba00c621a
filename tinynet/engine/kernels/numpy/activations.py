"""ReLU and ReLU6 on blocks of examples, written straight into the result."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, register
from tinynet.engine.threads import images_per_block, over_blocks
from tinynet.layers.activations import relu6_backward, relu6_forward, relu_backward, relu_forward


@register(relu_forward, "numpy")
def relu_forward_numpy(x: Array, threshold: float = 0.0) -> tuple[Array, Array]:
    """relu_forward: x (N, ...) -> y and where x > m, both of its shape."""
    if x.ndim < 2:
        return relu_forward.reference(x, threshold)
    y, above = np.empty_like(x), np.empty(x.shape, bool)

    def work(images: slice) -> None:
        np.maximum(x[images], threshold, out=y[images])
        np.greater(x[images], threshold, out=above[images])

    over_blocks(x.shape[0], images_per_block(x[:1].nbytes), work)
    return y, above


@register(relu_backward, "numpy")
@register(relu6_backward, "numpy")
def relu_backward_numpy(dy: Array, cache: Array) -> Array:
    """relu_backward, and ReLU6's: dy (N, ...) -> dx of its shape."""
    if dy.ndim < 2:
        return relu_backward.reference(dy, cache)
    dx = np.empty_like(dy)

    def work(images: slice) -> None:
        np.multiply(dy[images], cache[images], out=dx[images])

    over_blocks(dy.shape[0], images_per_block(dy[:1].nbytes), work)
    return dx


@register(relu6_forward, "numpy")
def relu6_forward_numpy(x: Array) -> tuple[Array, Array]:
    """relu6_forward: x (N, ...) -> y and where 0 < x < 6, both of its shape."""
    if x.ndim < 2:
        return relu6_forward.reference(x)
    y, between = np.empty_like(x), np.empty(x.shape, bool)

    def work(images: slice) -> None:
        np.maximum(x[images], 0, out=y[images])
        np.greater(y[images], 0, out=between[images])
        between[images] &= y[images] < 6
        np.minimum(y[images], 6, out=y[images])

    over_blocks(x.shape[0], images_per_block(x[:1].nbytes), work)
    return y, between
