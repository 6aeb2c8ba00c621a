"""Average pooling to an output of fixed size, whatever the input's.  Report §2.5.4."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinynet.backend import Array, Output, array_module, backward_of, output_like, swappable
from tinynet.layer import Shape, Stateless, check_input
from tinynet.layers.conv import check_image_shape
from tinynet.layers.window import Pair, pair, size_text

__all__ = ["AdaptiveAvgPool2D", "adaptive_avg_pool2d_backward", "adaptive_avg_pool2d_forward"]


class AdaptiveAvgPoolCache(NamedTuple):
    """Cache for ``adaptive_avg_pool2d_backward``."""

    rows: Array  # (h, H) each row averages the input's rows under one window
    columns: Array  # (w, W) the same of the columns
    output: Output  # (N, h, w, C), what dy must be like


@swappable
def adaptive_avg_pool2d_forward(
    x: Array, output_size: int | Pair
) -> tuple[Array, AdaptiveAvgPoolCache]:
    """Average under h × w windows that part the image as evenly as it goes.  Report §2.5.4.

        y[n, a, b, c] = mean of x[n, i, j, c] over ⌊a H/h⌋ ≤ i < ⌈(a+1) H/h⌉
                                               and ⌊b W/w⌋ ≤ j < ⌈(b+1) W/w⌉

    Rows and columns are averaged one after the other, Y = R X Cᵀ: R (h, H) holds 1/(number of
    rows) where a row of the input lies under a window of the output, C (w, W) the same of columns.

    x            (N, H, W, C)
    output_size  h and w, one number or two. Windows meet where h divides H, and share a row or
                 column where it does not; with h > H, some rows of the output are the same
    Returns y (N, h, w, C) and the cache (R, C).
    Raises ValueError if x is not four-dimensional, or output_size not whole numbers from 1.
    Source: PyTorch's AdaptiveAvgPool2d has the same windows.
    """
    if x.ndim != 4:
        raise ValueError(f"adaptive_avg_pool2d: x is {x.shape}, want (N, H, W, C)")
    height, width = pair(output_size, "output_size")
    rows, columns = _averages(height, x.shape[1], x), _averages(width, x.shape[2], x)
    y = _both_sides(rows, x, columns)
    return y, AdaptiveAvgPoolCache(rows, columns, output_like(y))


@backward_of()
def adaptive_avg_pool2d_backward(dy: Array, cache: AdaptiveAvgPoolCache) -> Array:
    """Each cell takes its share of every average that it is part of.  Report §2.5.4, §2.5.6.

        Y = R X Cᵀ,  so  ∂L/∂X = Rᵀ ∂L/∂Y C      for each channel

    dy (N, h, w, C) ∂L/∂y.  Returns dx (N, H, W, C).
    """
    return _both_sides(cache.rows.T, dy, cache.columns.T)


def _averages(parts: int, size: int, like: Array) -> Array:
    """(parts, size): row a is 1/n over the n cells from ⌊a·size/parts⌋ to ⌈(a+1)·size/parts⌉."""
    matrix = array_module(like).zeros((parts, size), dtype=like.dtype)
    for a in range(parts):
        start, stop = a * size // parts, -(-(a + 1) * size // parts)
        matrix[a, start:stop] = 1 / (stop - start)
    return matrix


def _both_sides(rows: Array, x: Array, columns: Array) -> Array:
    """R X Cᵀ for each image and channel: (N, h, w, C) from x (N, H, W, C)."""
    n, height, width, channels = x.shape
    y = rows @ x.reshape(n, height, width * channels)
    return columns @ y.reshape(n, rows.shape[0], width, channels)


class AdaptiveAvgPool2D(Stateless):
    """The average under each of h × w windows that part the image evenly.  Report §2.5.4.

    output_size   h and w, one number or two
    Input (N, H, W, C) of any size, output (N, h, w, C).
    """

    kind = "pooling"
    per_image = True
    passes = adaptive_avg_pool2d_forward, adaptive_avg_pool2d_backward

    def __init__(self, output_size: int | Pair) -> None:
        self.output_size = pair(output_size, "output_size")

    def check(self, x: Array) -> None:
        check_input(self, x, (None, None, None, None), like=None)

    def output_shape(self, input_shape: Shape) -> Shape:
        check_image_shape(self, input_shape)
        return (*self.output_size, input_shape[2])

    def label(self) -> str:
        return f"average pool to {size_text(self.output_size)}"

    def settings(self) -> tuple[Any, ...]:
        return (self.output_size,)

    def __repr__(self) -> str:
        rows, columns = self.output_size
        return f"AdaptiveAvgPool2D({rows}×{columns})"
