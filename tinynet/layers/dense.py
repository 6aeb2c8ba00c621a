"""Fully-connected layer.  Report §2.2.1 (forward), §2.3.2 (backward)."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array, Output, backward_of, output_like, swappable
from tinynet.initializers import glorot_uniform, zeros
from tinynet.layer import EVAL, Layer, Mode, Parameter, Shape, check_features, check_input

__all__ = ["Dense", "dense_backward", "dense_forward"]


class DenseCache(NamedTuple):
    """Cache for ``dense_backward``."""

    x: Array  # (N, ..., n_in)
    w: Array  # (n_in, n_out)
    has_bias: bool

    @property
    def output(self) -> Output:
        """(N, ..., n_out), what dz must be like."""
        shape = *self.x.shape[:-1], self.w.shape[1]
        return Output(shape, output_like(self.x, self.w).dtype)


@swappable
def dense_forward(x: Array, w: Array, b: Array | None = None) -> tuple[Array, DenseCache]:
    """Weighted sums of the activations of the previous layer.  Report §2.2.1.

        z_j = Σ_i w_ij a_i + b_j,   for a whole batch  z = x w + b

    x   (N, n_in)       activations of the previous layer, a row per example; with axes between,
                        (N, ..., n_in), each vector along the last is a row
    w   (n_in, n_out)   weights W
    b   (n_out,)        biases, or None
    Returns z (N, ..., n_out) and the cache (x, w).
    Raises ValueError if the sizes of x and w do not meet.
    """
    if x.ndim < 2 or w.ndim != 2 or x.shape[-1] != w.shape[0]:
        raise ValueError(f"dense: x is {x.shape} and w {w.shape}, want (N, n_in) and (n_in, n_out)")
    check_bias("dense", b, w)
    z = x @ w
    if b is not None:
        z = z + b
    return z, DenseCache(x, w, b is not None)


@backward_of()
def dense_backward(dz: Array, cache: DenseCache) -> tuple[Array, Array, Array | None]:
    """Gradients of a fully-connected layer.  Report §2.3.2.

        ∂L/∂a_i = Σ_j ∂L/∂z_j w_ij      dx = dz wᵀ
        ∂L/∂w_ij = ∂L/∂z_j a_i          dw = xᵀ dz    (summed over all rows)
        ∂L/∂b_j = ∂L/∂z_j               db = Σ_n dz_n

    dz   (N, ..., n_out)   ∂L/∂z
    Returns dx (N, ..., n_in), dw (n_in, n_out), db (n_out,) or None where there was no bias.
    """
    dx = dz @ cache.w.T
    x, dz = in_rows(cache.x), in_rows(dz)
    dw = x.T @ dz
    db = dz.sum(axis=0) if cache.has_bias else None
    return dx, dw, db


def in_rows(x: Array) -> Array:
    """x (N, ..., n) as (rows, n)."""
    return x if x.ndim == 2 else x.reshape(prod(x.shape[:-1]), x.shape[-1])


def check_bias(operation: str, b: Array | None, w: Array) -> None:
    """Raise ValueError unless b is None or has a number for each of w's outputs (the last axis)."""
    if b is not None and b.shape != w.shape[-1:]:
        raise ValueError(f"{operation}: b is {b.shape}, want {w.shape[-1:]} for w of {w.shape}")


class Dense(Layer):
    """z = x w + b: every input neuron connected to every output neuron.  Report §2.2.1.

    in_features    number of inputs n_in
    out_features   number of neurons n_out
    bias           False leaves b out (before a batch norm it is redundant, §2.4.3)
    rng            generator for the starting weights: Glorot uniform, biases 0 (§2.3.6)
    Input (N, n_in), output (N, n_out); or (N, ..., n_in) and (N, ..., n_out), such as a sequence
    (N, T, n_in), each of whose vectors is an input.
    Parameters: weight (n_in, n_out), bias (n_out,).
    """

    kind = "dense"
    per_image = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: np.random.Generator,
        initializer: Any = glorot_uniform,
        dtype: Any = "float32",
    ) -> None:
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(initializer((in_features, out_features), rng, dtype))
        self.bias = Parameter(zeros((out_features,), rng, dtype)) if bias else None

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, DenseCache]:
        check_input(self, x, (None, ..., self.in_features), self.weight.value)
        return dense_forward(x, self.weight.value, None if self.bias is None else self.bias.value)

    def backward(self, dy: Array, cache: DenseCache) -> Array:
        dx, dw, db = dense_backward(dy, cache)
        self.weight.grad += dw
        if self.bias is not None:
            self.bias.grad += db
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        check_features(self, input_shape, self.in_features)
        return *input_shape[:-1], self.out_features

    def multiply_adds(self, input_shape: Shape) -> int:
        return prod(input_shape) * self.out_features

    def label(self) -> str:
        return f"dense, {self.out_features}"

    def __repr__(self) -> str:
        return f"Dense({self.in_features}, {self.out_features})"
