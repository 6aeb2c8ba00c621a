"""Where a sliding window lands: the geometry shared by convolution and pooling.  Report §2.5.2-4.

A window of kernel height × width moves over an input in steps of the stride. Its cells, the
*taps*, may lie ``dilation`` apart. For one tap, its positions under all window positions form a
regular grid of the padded input, a strided slice: so every windowed operation here is a loop over
the few taps, each a whole-array operation, instead of a loop over the many window positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from operator import index
from typing import Any

from tinynet.backend import Array, array_module, described
from tinynet.layer import Shape

Pair = tuple[int, int]
Sides = tuple[Pair, Pair]  # ((top, bottom), (left, right))
Padding = str | int | Sides


def pair(value: int | Pair, name: str) -> Pair:
    """(height, width) from one whole number or two, all at least 1.

    Raises ValueError naming ``name`` otherwise.
    """
    both = whole_numbers(value)
    if both is None or len(both) > 2 or min(both) < 1:
        raise ValueError(
            f"{name} is {described(value)}, want a whole number from 1, or two: (height, width)"
        )
    return both[0], both[-1]


def whole_numbers(value: Any) -> Shape | None:
    """One whole number, or a sequence of them, as a tuple of ints; None for anything else.

    NumPy's whole numbers count too; floats, strings and booleans do not.
    """
    try:
        values = value if isinstance(value, tuple | list) else (value,)
        whole = tuple(index(v) for v in values if not isinstance(v, bool))
    except TypeError:
        return None
    return whole if whole and len(whole) == len(values) else None


def resolve_padding(
    padding: Padding, size: Pair, kernel: Pair, stride: Pair, dilation: Pair
) -> Sides:
    """Rows and columns of padding ((top, bottom), (left, right)).  Report §2.5.3.

    "valid"   none
    "same"    so much that the output is ⌈size / stride⌉; an odd number has its larger half at the
              bottom and right, as in TensorFlow (and in PyTorch at stride 1)
    "ceil"    so much at the bottom and right that no cell is left over there: the output is
              ⌈(size − reach) / stride⌉ + 1, reach = (kernel − 1)·dilation + 1. A window that
              would start in this padding, possible where the stride exceeds the reach, is left
              out (Caffe's rule, PyTorch's ceil_mode)
    an int    that much on every side
    two pairs ((top, bottom), (left, right))
    """
    name = padding if isinstance(padding, str) else ""
    if name == "valid":
        return (0, 0), (0, 0)
    if name == "same":
        same = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            same.append((total // 2, total - total // 2))
        return same[0], same[1]
    if name == "ceil":
        ceil = []
        for n, k, s, d in zip(size, kernel, stride, dilation, strict=True):
            reach = (k - 1) * d + 1
            missing = (reach - n) % s  # what the last step lacks
            ceil.append((0, missing if missing < reach else 0))
        return ceil[0], ceil[1]
    sides = padding if isinstance(padding, tuple | list) else ((padding,) * 2,) * 2
    whole = [whole_numbers(side) for side in sides]
    if len(whole) == 2 and all(side and len(side) == 2 and min(side) >= 0 for side in whole):
        (top, bottom), (left, right) = whole  # type: ignore[misc]
        return (top, bottom), (left, right)
    raise ValueError(
        f"padding is {described(padding)}, want 'valid', 'same', 'ceil', a whole number "
        "from 0, or ((top, bottom), (left, right))"
    )


@dataclass(frozen=True)
class Window:
    """A window's geometry over one input size; all pairs are (height, width)."""

    size: Pair  # of the input, unpadded
    kernel: Pair
    stride: Pair
    dilation: Pair
    padding: Sides

    @property
    def output_size(self) -> Pair:
        """(height, width) of what the window leaves.  Report §2.5.3.

        ⌊(size + padding − (kernel − 1)·dilation − 1) / stride⌋ + 1
        """
        out = []
        for n, k, s, d, p in zip(
            self.size, self.kernel, self.stride, self.dilation, self.padding, strict=True
        ):
            out.append((n + sum(p) - (k - 1) * d - 1) // s + 1)
        return out[0], out[1]

    def taps(self) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
        """(i, j, cells): for tap (i, j) the slice of the padded input under every window position.

        ``padded[cells]`` is (N, output height, output width, C): at [n, y, x] stands the cell
        (y·stride + i·dilation, x·stride + j·dilation) of the padded input.
        """
        (out_h, out_w), (s_h, s_w), (d_h, d_w) = self.output_size, self.stride, self.dilation
        for i in range(self.kernel[0]):
            rows = slice(i * d_h, i * d_h + (out_h - 1) * s_h + 1, s_h)
            for j in range(self.kernel[1]):
                columns = slice(j * d_w, j * d_w + (out_w - 1) * s_w + 1, s_w)
                yield i, j, (slice(None), rows, columns)

    def pad(self, x: Array, value: float = 0.0) -> Array:
        """x (N, H, W, C) with ``value`` around it; x itself where the padding is 0."""
        if self.padding == ((0, 0), (0, 0)):
            return x
        xp = array_module(x)
        return xp.pad(x, ((0, 0), *self.padding, (0, 0)), constant_values=value)

    def inside(self, like: Array) -> Array:
        """Booleans (1, H + padding, W + padding, 1): which cells of the padded input are real."""
        return self.pad(array_module(like).ones((1, *self.size, 1), dtype=bool), value=False)

    def padded_zeros(self, like: Array) -> Array:
        """Zeros of the padded input's shape; ``like`` (N, ..., C) gives N, C, dtype and library."""
        (top, bottom), (left, right) = self.padding
        height, width = self.size[0] + top + bottom, self.size[1] + left + right
        shape = (like.shape[0], height, width, like.shape[-1])
        return array_module(like).zeros(shape, dtype=like.dtype)

    def crop(self, padded: Array) -> Array:
        """The reverse of ``pad``: the part of ``padded`` that is the input."""
        (top, _), (left, _) = self.padding
        return padded[:, top : top + self.size[0], left : left + self.size[1]]


def window_over(
    size: Pair,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: Padding = "valid",
    dilation: Pair = (1, 1),
) -> Window:
    """The geometry of a window over an input of ``size`` (height, width).

    Raises ValueError if the window does not fit into the padded input even once.
    """
    sides = resolve_padding(padding, size, kernel, stride, dilation)
    window = Window(size, kernel, stride, dilation, sides)
    if min(window.output_size) < 1:
        reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        padded = tuple(n + sum(p) for n, p in zip(size, sides, strict=True))
        raise ValueError(
            f"the window covers {reach[0]} × {reach[1]} cells, the padded input has only "
            f"{padded[0]} × {padded[1]}: use a larger input, more padding or a smaller window"
        )
    return window


def size_text(sizes: Pair) -> str:
    """Text of two sizes: "3×3"."""
    return f"{sizes[0]}×{sizes[1]}"


def dilation_text(dilation: Pair) -> str:
    """ ", dilation 2×2", or nothing for 1."""
    return f", dilation {size_text(dilation)}" if max(dilation) > 1 else ""


def stride_text(stride: Pair) -> str:
    """A stride as figures of networks write it: ", /2", or nothing for 1."""
    if max(stride) == 1:
        return ""
    return f", /{stride[0]}" if stride[0] == stride[1] else f", /{size_text(stride)}"
