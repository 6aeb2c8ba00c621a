"""Hypothesis strategies for legal layer geometries and inputs.

    @given(geometry=conv_geometries(), seed=seeds())
    def test_my_convolution(geometry, seed):
        x = np.random.default_rng(seed).standard_normal(geometry.input_shape)
        z = my_convolution(x, ..., geometry.stride, geometry.padding, ...)
        assert z.shape == geometry.output_shape

Every example is legal: the window fits at least once, and no pooling window lies in padding
alone. Sizes are small, and shrink towards one pixel, one channel, one tap, so that a
counter-example can be worked out by hand. Arrays are drawn by a seed; seed 0 gives the plainest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

try:
    from hypothesis import assume
    from hypothesis import strategies as st
except ImportError as error:
    raise ImportError(
        "tinynet.testing.strategies needs hypothesis: pip install hypothesis"
    ) from error

from tinynet.backend import Array
from tinynet.layer import Shape

Pair = tuple[int, int]
Sides = tuple[Pair, Pair]  # ((top, bottom), (left, right))
Padding = str | int | Sides


def as_pair(value: int | Pair) -> Pair:
    """(height, width) from one number or two."""
    return (value, value) if isinstance(value, int) else value


@dataclass(frozen=True)
class _Geometry:
    """Sizes and padding, for convolution and pooling; a subclass has the window."""

    batch: int
    height: int
    width: int
    channels: int
    padding: Padding

    def window(self) -> tuple[Pair, Pair, Pair]:
        """(kernel, stride, dilation), as pairs."""
        raise NotImplementedError(f"{type(self).__name__} has no window()")

    @property
    def input_shape(self) -> Shape:
        """(N, H, W, C)."""
        return self.batch, self.height, self.width, self.channels

    @property
    def sides(self) -> Sides:
        """The padding as ((top, bottom), (left, right)), in whichever form it is given."""
        kernel, stride, dilation = self.window()
        if self.padding == "same":  # TensorFlow's: output ⌈n / stride⌉, an odd cell at the end
            totals = [
                max((math.ceil(n / s) - 1) * s + d * (k - 1) + 1 - n, 0)
                for n, k, s, d in zip(self._size, kernel, stride, dilation, strict=True)
            ]
            vertical, horizontal = [(t // 2, t - t // 2) for t in totals]
            return vertical, horizontal
        if self.padding == "ceil":  # Caffe's: a last, partial window, if it starts in the input
            below, right = [
                _for_a_last_window(n, d * (k - 1) + 1, s)
                for n, k, s, d in zip(self._size, kernel, stride, dilation, strict=True)
            ]
            return (0, below), (0, right)
        return _explicit(self.padding)

    @property
    def output_size(self) -> Pair:
        """(H', W'): ⌊(size + padding − reach) / stride⌋ + 1, reach = (kernel − 1)·dilation + 1."""
        kernel, stride, dilation = self.window()
        height, width = [
            (n + sum(p) - d * (k - 1) - 1) // s + 1
            for n, p, k, s, d in zip(self._size, self.sides, kernel, stride, dilation, strict=True)
        ]
        return height, width

    @property
    def _size(self) -> Pair:
        return self.height, self.width


@dataclass(frozen=True)
class ConvGeometry(_Geometry):
    """A legal convolution; the fields are conv2d_forward's arguments."""

    filters: int
    kernel: Pair
    stride: int | Pair
    dilation: int | Pair
    groups: int
    bias: bool

    def window(self) -> tuple[Pair, Pair, Pair]:
        """(kernel, stride, dilation), as pairs."""
        return self.kernel, as_pair(self.stride), as_pair(self.dilation)

    @property
    def weight_shape(self) -> Shape:
        """(kernel height, kernel width, C / groups, K)."""
        return *self.kernel, self.channels // self.groups, self.filters

    @property
    def output_shape(self) -> Shape:
        """(N, H', W', K)."""
        return self.batch, *self.output_size, self.filters


@dataclass(frozen=True)
class PoolGeometry(_Geometry):
    """A legal pooling; the fields are max_pool2d_forward's arguments. stride None: pool_size."""

    pool_size: int | Pair
    stride: int | Pair | None
    dilation: int | Pair = 1

    def window(self) -> tuple[Pair, Pair, Pair]:
        """(pool size, stride, dilation), as pairs."""
        stride = self.pool_size if self.stride is None else self.stride
        return as_pair(self.pool_size), as_pair(stride), as_pair(self.dilation)

    def is_legal(self) -> bool:
        """Whether each window has a cell of the input."""
        return all(
            any(0 <= a * s - before + i * d < n for i in range(k))
            for n, out, (before, _), k, s, d in zip(
                *(self._size, self.output_size, self.sides), *self.window(), strict=True
            )
            for a in range(out)
        )

    @property
    def output_shape(self) -> Shape:
        """(N, H', W', C)."""
        return self.batch, *self.output_size, self.channels


@st.composite
def conv_geometries(
    draw: st.DrawFn,
    *,
    max_batch: int = 3,
    max_kernel: int = 3,
    max_stride: int = 3,
    max_dilation: int = 3,
    max_groups: int = 3,
    max_padding: int = 3,
) -> ConvGeometry:
    """Legal convolutions: all kinds of padding, asymmetric too, dilation, groups, 1×n kernels.

    Strides need not divide what is left, so rows and columns at the end may lie under no window;
    strides may exceed the kernel, so that some lie between windows. Padding may exceed the kernel.
    """
    kernel = draw(_pairs(max_kernel))
    stride = draw(_numbers_or_pairs(max_stride))
    dilation = draw(_numbers_or_pairs(max_dilation))
    groups = draw(st.integers(1, max_groups))
    padding = draw(_paddings((max_padding, max_padding)))
    dilations = as_pair(dilation)
    reach = ((kernel[0] - 1) * dilations[0] + 1, (kernel[1] - 1) * dilations[1] + 1)
    height, width = draw(_sizes(reach, padding))
    return ConvGeometry(
        batch=draw(st.integers(1, max_batch)),
        height=height,
        width=width,
        channels=groups * draw(st.integers(1, 2)),
        padding=padding,
        filters=groups * draw(st.integers(1, 2)),
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans()),
    )


@st.composite
def pool_geometries(
    draw: st.DrawFn,
    *,
    max_batch: int = 3,
    max_pool: int = 4,
    max_stride: int = 4,
    max_dilation: int = 2,
) -> PoolGeometry:
    """Legal poolings: overlapping windows, gaps between and in them, all kinds of padding.

    Padding is less than the window on each side, and no window lies in padding alone.
    """
    pool_size = draw(_numbers_or_pairs(max_pool))
    kernel = as_pair(pool_size)
    stride = draw(st.none() | _numbers_or_pairs(max_stride))
    padding = draw(_paddings((kernel[0] - 1, kernel[1] - 1)))
    dilation = draw(_numbers_or_pairs(max_dilation))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, as_pair(dilation), strict=True)]
    height, width = draw(_sizes((reach[0], reach[1]), padding))
    g = PoolGeometry(
        batch=draw(st.integers(1, max_batch)),
        height=height,
        width=width,
        channels=draw(st.integers(1, 3)),
        padding=padding,
        pool_size=pool_size,
        stride=stride,
        dilation=dilation,
    )
    assume(g.is_legal())
    return g


def seeds() -> st.SearchStrategy[int]:
    """Seeds for ``np.random.default_rng``."""
    return st.integers(0, 2**32 - 1)


@st.composite
def tie_free_arrays(
    draw: st.DrawFn, shape: Shape, *, margin: float = 0.1, dtype: Any = "float64"
) -> Array:
    """Arrays whose elements differ from each other by at least ``margin``, and from 0 by half that.

    For max pooling and ReLU: a step smaller than half the margin crosses no kink. The values are
    evenly spaced around 0; their order is drawn, and is ascending for seed 0.
    """
    count = math.prod(shape)
    values = margin * (np.arange(count) - count // 2 + 0.5)
    seed = draw(seeds())
    if seed:
        np.random.default_rng(seed).shuffle(values)
    return values.reshape(shape).astype(dtype)


@st.composite
def tie_full_arrays(
    draw: st.DrawFn, shape: Shape, *, levels: int = 3, dtype: Any = "float64"
) -> Array:
    """Arrays of few distinct whole numbers around 0, so that ties, and zeros, are everywhere.

    All zero for seed 0.
    """
    seed = draw(seeds())
    values = np.random.default_rng(seed).integers(0, levels, shape) - levels // 2
    return (values if seed else np.zeros(shape)).astype(dtype)


@st.composite
def labels(draw: st.DrawFn, batch: int, num_classes: int, *, one_hot: bool = False) -> Array:
    """Integer labels (batch,) from 0 to num_classes − 1, or one-hot rows (batch, num_classes)."""
    y = np.array(
        draw(st.lists(st.integers(0, num_classes - 1), min_size=batch, max_size=batch)),
        dtype="int64",
    )
    return np.eye(num_classes)[y] if one_hot else y


@st.composite
def probabilities(
    draw: st.DrawFn, batch: int, num_classes: int, *, minimum: float = 1e-3, dtype: Any = "float64"
) -> Array:
    """Rows (batch, num_classes) that sum to 1, each entry at least ``minimum``.

    From nearly uniform to nearly one-hot; exactly uniform for seed 0.
    Raises ValueError if ``minimum`` times the classes exceeds 1.
    """
    if minimum * num_classes > 1:
        raise ValueError(
            f"{num_classes} entries of at least {minimum} sum to more than 1: want a minimum of at "
            f"most {1 / num_classes:g}"
        )
    seed = draw(seeds())
    rng = np.random.default_rng(seed)
    concentration = 10.0 ** rng.uniform(-1, 2)  # below 1: close to one-hot; far above: uniform
    p = rng.dirichlet(np.full(num_classes, concentration), size=batch)
    p = p if seed else np.full((batch, num_classes), 1 / num_classes)
    return (minimum + (1 - minimum * num_classes) * p).astype(dtype)


def _pairs(largest: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(1, largest), st.integers(1, largest))


def _numbers_or_pairs(largest: int) -> st.SearchStrategy[int | Pair]:
    return st.integers(1, largest) | _pairs(largest)


def _paddings(largest: Pair) -> st.SearchStrategy[Padding]:
    sides = st.tuples(*(st.tuples(st.integers(0, most), st.integers(0, most)) for most in largest))
    return st.sampled_from(["valid", "same", "ceil"]) | st.integers(0, min(largest)) | sides


@st.composite
def _sizes(draw: st.DrawFn, reach: Pair, padding: Padding) -> Pair:
    """(height, width) into which a window of that reach fits, with up to five cells to spare."""
    if padding == "same":  # always fits
        return draw(st.tuples(st.integers(1, 7), st.integers(1, 7)))
    sides = _explicit("valid" if padding == "ceil" else padding)
    least = [max(1, r - sum(p)) for r, p in zip(reach, sides, strict=True)]
    return draw(st.tuples(*(st.integers(n, n + 5) for n in least)))


def _for_a_last_window(size: int, reach: int, stride: int) -> int:
    """Cells missing for a window that starts in the input after the last one that fits; or 0."""
    start = ((size - reach) // stride + 1) * stride
    covered = start - stride + reach
    return start + reach - size if covered < size and start < size else 0


def _explicit(padding: Padding) -> Sides:
    """ "valid", a number or four numbers as ((top, bottom), (left, right))."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if isinstance(padding, int):
        return (padding, padding), (padding, padding)
    assert not isinstance(padding, str)
    return padding
