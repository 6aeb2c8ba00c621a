"""Convolution layer.  Report §2.5.2 (filters), §2.5.3 (padding), §2.5.6 (training).

What the field calls convolution is a correlation: the filter is not flipped. The report's sum
Σ w_ij p_ij, over a region of the input, is that too.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array, Output, array_module, backward_of, output_like, swappable
from tinynet.initializers import glorot_uniform, zeros
from tinynet.layer import EVAL, Layer, Mode, Parameter, Shape, check_input
from tinynet.layers.dense import check_bias
from tinynet.layers.window import (
    Padding,
    Pair,
    Window,
    dilation_text,
    pair,
    size_text,
    stride_text,
    window_over,
)

__all__ = ["Conv2D", "conv2d_backward", "conv2d_forward"]


class Conv2DCache(NamedTuple):
    """Cache for ``conv2d_backward``."""

    x: Array  # (N, H, W, C)
    w: Array  # (kernel height, kernel width, C / groups, K)
    window: Window
    groups: int
    has_bias: bool

    @property
    def output(self) -> Output:
        """(N, output height, output width, K), what dz must be like."""
        shape = len(self.x), *self.window.output_size, self.w.shape[3]
        return Output(shape, output_like(self.x, self.w).dtype)

    @property
    def padded(self) -> Array:
        """p (N, H + padding, W + padding, C): x with zeros around it."""
        return self.window.pad(self.x)


def channel_groups(channels: int, filters: int, groups: int) -> list[tuple[slice, slice]]:
    """(channels of x, filters of w) for each group; a filter sees the channels of its group."""
    c, k = channels // groups, filters // groups
    return [(slice(g * c, (g + 1) * c), slice(g * k, (g + 1) * k)) for g in range(groups)]


@swappable
def conv2d_forward(
    x: Array,
    w: Array,
    b: Array | None = None,
    stride: int | Pair = 1,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
    groups: int = 1,
) -> tuple[Array, Conv2DCache]:
    """Slide K filters over the input; each makes one channel of the output.  Report §2.5.2.

        z[y, x, k] = Σ_i Σ_j Σ_c w[i, j, c, k] p[y·stride + i·dilation, x·stride + j·dilation, c]
                     + b[k]

    where p is the input with zeros around it (§2.5.3). The sum over c is a matrix product.

    x        (N, H, W, C)                        images or representations
    w        (kernel height, width, C/groups, K) filters
    b        (K,)                                one bias a filter, or None
    padding  "valid", "same", "ceil", a number, or ((top, bottom), (left, right))
    groups   channels and filters are split into that many parts that do not see each other
    Returns z (N, output height, output width, K) and the cache (x, w, geometry).
    Raises ValueError if shapes do not meet, or the window does not fit into the input.
    """
    window = conv_window(x, w, b, stride, padding, dilation, groups)
    xp, p = array_module(x, w, b), window.pad(x)
    z = xp.zeros((x.shape[0], *window.output_size, w.shape[3]), dtype=xp.result_type(x, w))
    for i, j, cells in window.taps():
        for c, k in channel_groups(x.shape[3], w.shape[3], groups):
            z[..., k] += p[cells][..., c] @ w[i, j, :, k]
    if b is not None:
        z += b
    return z, Conv2DCache(x, w, window, groups, b is not None)


@backward_of()
def conv2d_backward(dz: Array, cache: Conv2DCache) -> tuple[Array, Array, Array | None]:
    """Gradients of a convolution, by the chain rule over its sum.  Report §2.5.6.

        ∂L/∂w[i, j, c, k] = Σ_n Σ_y Σ_x dz[n, y, x, k] p[n, y·stride + i·dilation, …, c]
        ∂L/∂p[…, y·stride + i·dilation, …, c] += Σ_k dz[n, y, x, k] w[i, j, c, k]
        ∂L/∂b[k] = Σ_n Σ_y Σ_x dz[n, y, x, k]

    A cell of the input lies under several windows, so its gradient is a sum (+=) over them.

    dz   (N, output height, output width, K)   ∂L/∂z
    Returns dx (N, H, W, C), dw (the shape of w), db (K,) or None where there was no bias.
    """
    _, w, window, groups, has_bias = cache
    p = cache.padded
    dp = window.padded_zeros(like=p)
    dw = array_module(w).zeros_like(w)
    for i, j, cells in window.taps():
        for c, k in channel_groups(p.shape[3], w.shape[3], groups):
            tap, dz_k = p[cells][..., c], dz[..., k]
            rows = dz_k.shape[0] * dz_k.shape[1] * dz_k.shape[2]  # all window positions
            dw[i, j, :, k] = tap.reshape(rows, tap.shape[3]).T @ dz_k.reshape(rows, dz_k.shape[3])
            dp[cells][..., c] += dz_k @ w[i, j, :, k].T
    db = dz.sum(axis=(0, 1, 2)) if has_bias else None
    return window.crop(dp), dw, db


def conv_window(
    x: Array,
    w: Array,
    b: Array | None,
    stride: int | Pair,
    padding: Padding,
    dilation: int | Pair,
    groups: int,
) -> Window:
    """The geometry of filters w over images x; arguments as in ``conv2d_forward``.

    Raises ValueError if the shapes do not meet, or the window does not fit into the input.
    """
    if x.ndim != 4 or w.ndim != 4:
        raise ValueError(
            f"conv2d: x is {x.shape} and w {w.shape}, want (N, H, W, C) and "
            "(kernel height, kernel width, C / groups, K)"
        )
    if groups < 1 or x.shape[3] != w.shape[2] * groups or w.shape[3] % groups:
        raise ValueError(
            f"conv2d: x has {x.shape[3]} channels, w is {w.shape} and groups {groups}; want "
            "channels = w.shape[2] · groups, and filters w.shape[3] divisible by groups"
        )
    check_bias("conv2d", b, w)
    return window_over(
        x.shape[1:3], w.shape[:2], pair(stride, "stride"), padding, pair(dilation, "dilation")
    )


class Conv2D(Layer):
    """K filters slid over the input.  Report §2.5.2.

    in_channels    C
    out_channels   number of filters K
    kernel_size    height and width of a filter, one number or two
    stride, padding, dilation, groups, bias   as in conv2d_forward
    rng            generator for the starting weights: Glorot uniform, biases 0 (§2.3.6)
    Input (N, H, W, C), output (N, H', W', K).
    Parameters: weight (kernel height, kernel width, C / groups, K), bias (K,).
    """

    kind = "convolution"
    per_image = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: Padding = "valid",
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        rng: np.random.Generator,
        initializer: Any = glorot_uniform,
        dtype: Any = "float32",
    ) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"Conv2D: groups is {groups}, want a divisor of in_channels {in_channels} "
                f"and of out_channels {out_channels}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride, self.dilation = pair(stride, "stride"), pair(dilation, "dilation")
        self.padding = padding
        self._window(self.kernel_size, fitted=False)  # refuses a bad padding here, not at first use
        shape = (*self.kernel_size, in_channels // groups, out_channels)
        self.weight = Parameter(initializer(shape, rng, dtype))
        self.bias = Parameter(zeros((out_channels,), rng, dtype)) if bias else None

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Conv2DCache]:
        check_input(self, x, (None, None, None, self.in_channels), self.weight.value)
        self._window(x.shape[1:3])
        return conv2d_forward(
            x,
            self.weight.value,
            None if self.bias is None else self.bias.value,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
        )

    def backward(self, dy: Array, cache: Conv2DCache) -> Array:
        dx, dw, db = conv2d_backward(dy, cache)
        self.weight.grad += dw
        if self.bias is not None:
            self.bias.grad += db
        return dx

    def output_shape(self, input_shape: Shape) -> Shape:
        check_image_shape(self, input_shape, self.in_channels)
        return (*self._window(input_shape[:2]).output_size, self.out_channels)

    def multiply_adds(self, input_shape: Shape) -> int:
        height, width, filters = self.output_shape(input_shape)
        rows, columns = self.kernel_size
        return height * width * filters * rows * columns * (self.in_channels // self.groups)

    def _window(self, size: Shape, fitted: bool = True) -> Window:
        if not fitted:  # large enough for any kernel and dilation
            size = tuple(k * d for k, d in zip(self.kernel_size, self.dilation, strict=True))
        return fit_window(self, size, self.kernel_size, self.stride, self.padding, self.dilation)

    def label(self) -> str:
        depthwise = self.groups == self.in_channels > 1
        text = f"{size_text(self.kernel_size)} {'depthwise' if depthwise else 'conv'}"
        text += f", {self.out_channels}{stride_text(self.stride)}"
        if self.groups > 1 and not depthwise:
            text += f", {self.groups} groups"
        return text + dilation_text(self.dilation)

    def __repr__(self) -> str:
        rows, columns = self.kernel_size
        return f"Conv2D({self.in_channels}, {self.out_channels}, {rows}×{columns})"


def check_image_shape(layer: Layer, input_shape: Shape, channels: int | None = None) -> None:
    """Raise ValueError, naming ``layer``, unless input_shape is (H, W, ``channels``)."""
    if len(input_shape) != 3 or channels not in (None, input_shape[2]):
        wanted = "C" if channels is None else channels
        raise ValueError(f"{layer!r}: input shape is {input_shape}, want (H, W, {wanted})")


def fit_window(
    layer: Layer, size: Shape, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair = (1, 1)
) -> Window:
    """``window_over``, with the layer named in the error."""
    try:
        return window_over((size[0], size[1]), kernel, stride, padding, dilation)
    except ValueError as error:
        raise ValueError(f"{layer!r}: {error}") from None
