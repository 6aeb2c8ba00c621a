"""Flatten layer: from the convolutional base to the head.  Report §2.5.5."""

from __future__ import annotations

from math import prod

from tinynet.backend import Array, Output, backward_of, swappable
from tinynet.layer import Shape, Stateless

__all__ = ["Flatten", "flatten_backward", "flatten_forward"]


@swappable
def flatten_forward(x: Array) -> tuple[Array, Shape]:
    """Treat each cell of a volume as a neuron.  Report §2.5.5.

        y[n, (h·W + w)·C + c] = x[n, h, w, c]

    x (N, ...).  Returns y (N, product of the other sizes); cache: the shape of x.
    """
    return x.reshape(x.shape[0], prod(x.shape[1:])), x.shape


@backward_of(lambda shape: Output((shape[0], prod(shape[1:]))))
def flatten_backward(dy: Array, cache: Shape) -> Array:
    """Put each neuron's gradient back where the neuron came from.  Report §2.5.5.

    dy (N, features) ∂L/∂y; cache: the shape of x.  Returns dx (the shape of x).
    """
    return dy.reshape(cache)


class Flatten(Stateless):
    """Input (N, H, W, C), output (N, H·W·C).  Report §2.5.5."""

    kind = "reshape"
    per_image = True
    dtypes = (*Stateless.dtypes, "bfloat16")
    passes = flatten_forward, flatten_backward

    def output_shape(self, input_shape: Shape) -> Shape:
        return (prod(input_shape),)
