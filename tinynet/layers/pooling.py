"""Pooling layers: a window slides over each channel and aggregates.  Report §2.5.4."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

from tinynet.backend import Array, Output, array_module, backward_of, output_like, swappable
from tinynet.layer import Shape, Stateless, check_input
from tinynet.layers.conv import check_image_shape
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

# fmt: off
__all__ = [
    "AvgPool2D", "GlobalAvgPool2D", "GlobalMaxPool2D", "MaxPool2D", "SumPool2D",
    "avg_pool2d_backward", "avg_pool2d_forward", "global_avg_pool2d_backward",
    "global_avg_pool2d_forward", "global_max_pool2d_backward", "global_max_pool2d_forward",
    "max_pool2d_backward", "max_pool2d_forward",
    "sum_pool2d_backward", "sum_pool2d_forward",
]
# fmt: on


class MaxPoolCache(NamedTuple):
    """Cache for ``max_pool2d_backward``."""

    winner: Array  # (N, H', W', C) uint8 or uint16: which tap of the window held the maximum
    window: Window

    @property
    def output(self) -> Output:
        """(N, H', W', C), the shape that dy must have."""
        return Output(self.winner.shape)


class SumPoolCache(NamedTuple):
    """Cache for ``sum_pool2d_backward``."""

    window: Window
    output: Output  # (N, H', W', C), what dy must be like


class AvgPoolCache(NamedTuple):
    """Cache for ``avg_pool2d_backward``."""

    n: Array  # (1, H', W', 1): number of cells that each average is over
    window: Window
    output: Output  # (N, H', W', C), what dy must be like


def pool_window(
    x: Array,
    pool_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
) -> Window:
    """The geometry of a pooling window over x (N, H, W, C); the stride defaults to the window.

    Raises ValueError if x is not four-dimensional, or the geometry is not legal.
    """
    if x.ndim != 4:
        raise ValueError(f"pooling: x is {x.shape}, want (N, H, W, C)")
    kernel = pair(pool_size, "pool_size")
    step = kernel if stride is None else pair(stride, "stride")
    return pool_window_over(x.shape[1:3], kernel, step, padding, pair(dilation, "dilation"))


def pool_window_over(
    size: Shape, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair = (1, 1)
) -> Window:
    """``window_over`` an input of ``size`` (height, width), for pooling.

    Raises ValueError if the window does not fit, or if some window would lie in padding alone.
    """
    window = window_over((size[0], size[1]), kernel, stride, padding, dilation)
    if dilation == (1, 1):
        alone = any(max(side) >= k for side, k in zip(window.padding, kernel, strict=True))
    else:
        alone = not _meets_input(window)
    if alone:
        apart = "" if dilation == (1, 1) else f", its cells {dilation} apart"
        raise ValueError(
            f"padding is {window.padding} with a {kernel[0]} × {kernel[1]} window{apart}, want "
            "less padding than the window's side, so that no window lies in padding alone"
        )
    return window


def _meets_input(window: Window) -> bool:
    """Whether each window has a cell inside, along each axis."""
    geometry = window.size, window.output_size, window.kernel, window.stride, window.dilation
    for n, out, k, s, d, (before, _) in zip(*geometry, window.padding, strict=True):
        for start in range(-before, out * s - before, s):
            if not any(0 <= start + i * d < n for i in range(k)):
                return False
    return True


def _sum_under(window: Window, p: Array) -> Array:
    """Σ over the taps: (N, H', W', C) from the padded input p."""
    taps = [p[cells] for _, _, cells in window.taps()]
    y = taps[0].copy()
    for tap in taps[1:]:
        y += tap
    return y


def averages_over(
    x: Array,
    pool_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = "valid",
    count_padding: bool = False,
    dilation: int | Pair = 1,
) -> tuple[Window, Array]:
    """The window, and how many cells each average is over, (1, H', W', 1): those of x, or all.

    The rows and columns that "ceil" adds are never counted, as in PyTorch.
    """
    window = pool_window(x, pool_size, stride, padding, dilation)
    inside = window.inside(like=x).astype(x.real.dtype)
    if count_padding and padding != "ceil":
        inside = array_module(x).ones_like(inside)
    return window, _sum_under(window, inside)


@swappable
def max_pool2d_forward(
    x: Array,
    pool_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
) -> tuple[Array, MaxPoolCache]:
    """Keep the largest value under each window.  Report §2.5.4.

        y[a, b] = max_ij x[a·stride + i, b·stride + j]      for each channel

    x         (N, H, W, C).  Padding never wins
    dilation  the window's cells are that far apart: i·dilation for i above, in all poolings
    Returns y (N, H', W', C); cache: which cell of the window won. Among equal cells the first,
    row by row, wins (as in PyTorch); a NaN wins over numbers, so that it is not hidden.
    """
    xp = array_module(x)
    window = pool_window(x, pool_size, stride, padding, dilation)
    p, inside = window.pad(x, value=-xp.inf), window.inside(like=x)
    taps = [(p[cells], inside[cells]) for _, _, cells in window.taps()]
    y, real = taps[0][0].copy(), taps[0][1]  # real: the best cell so far is not padding
    winner = xp.zeros(y.shape, dtype=xp.uint8 if len(taps) <= 256 else xp.uint16)
    for number, (tap, tap_real) in enumerate(taps[1:], start=1):
        is_nan = tap != tap  # noqa: PLR0124 - only NaN differs from itself
        better = (tap > y) | is_nan | (tap_real & ~real)
        y = xp.where(better, tap, y)
        winner[better] = number
        real = real | tap_real
    return y, MaxPoolCache(winner, window)


@backward_of()
def max_pool2d_backward(dy: Array, cache: MaxPoolCache) -> Array:
    """Send each gradient to the cell that won.  Report §2.5.4, §2.5.6.

        ∂L/∂x[cell] = Σ over the windows that this cell won of ∂L/∂y[window]

    dy (N, H', W', C) ∂L/∂y.  Returns dx (N, H, W, C).
    """
    winner, window = cache
    dp = window.padded_zeros(like=dy)
    for number, (_, _, cells) in enumerate(window.taps()):
        dp[cells] += dy * (winner == number)
    return window.crop(dp)


@swappable
def sum_pool2d_forward(
    x: Array,
    pool_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = "valid",
    dilation: int | Pair = 1,
) -> tuple[Array, SumPoolCache]:
    """Add up the values under each window.  Report §2.5.4.

        y[a, b] = Σ_ij x[a·stride + i, b·stride + j]      for each channel

    x (N, H, W, C); padding counts as 0.  Returns y (N, H', W', C); cache: the geometry.
    """
    window = pool_window(x, pool_size, stride, padding, dilation)
    y = _sum_under(window, window.pad(x))
    return y, SumPoolCache(window, output_like(y))


@backward_of()
def sum_pool2d_backward(dy: Array, cache: SumPoolCache) -> Array:
    """Every cell under a window receives that window's gradient.  Report §2.5.4, §2.5.6.

        ∂L/∂x[cell] = Σ over the windows above this cell of ∂L/∂y[window]

    dy (N, H', W', C) ∂L/∂y.  Returns dx (N, H, W, C).
    """
    window = cache.window
    dp = window.padded_zeros(like=dy)
    for _, _, cells in window.taps():
        dp[cells] += dy
    return window.crop(dp)


@swappable
def avg_pool2d_forward(
    x: Array,
    pool_size: int | Pair,
    stride: int | Pair | None = None,
    padding: Padding = "valid",
    count_padding: bool = False,
    dilation: int | Pair = 1,
) -> tuple[Array, AvgPoolCache]:
    """Average the values under each window.  Report §2.5.4.

        y[a, b] = (1/n) Σ_ij x[a·stride + i, b·stride + j]      for each channel

    x (N, H, W, C).  n is the number of cells of the input under the window; with
    ``count_padding`` cells of padding count too, as zeros (PyTorch's default), n = the window;
    what the padding "ceil" adds never counts.
    Returns y (N, H', W', C); cache: n for every window, and the geometry.
    """
    window, n = averages_over(x, pool_size, stride, padding, count_padding, dilation)
    y = _sum_under(window, window.pad(x)) / n
    return y, AvgPoolCache(n, window, output_like(y))


@backward_of()
def avg_pool2d_backward(dy: Array, cache: AvgPoolCache) -> Array:
    """Every cell under a window receives 1/n of that window's gradient.  Report §2.5.4, §2.5.6.

        ∂L/∂x[cell] = Σ over the windows above this cell of ∂L/∂y[window] / n[window]

    dy (N, H', W', C) ∂L/∂y.  Returns dx (N, H, W, C).
    """
    return sum_pool2d_backward.reference(dy / cache.n, SumPoolCache(cache.window, cache.output))


@swappable
def global_avg_pool2d_forward(x: Array) -> tuple[Array, Shape]:
    """Average each channel over the whole image.  Report §2.5.4 (the largest window there is).

        y[c] = (1 / HW) Σ_h Σ_w x[h, w, c]

    x (N, H, W, C).  Returns y (N, C); cache: the shape of x.
    Source: Lin, Chen & Yan 2013, "Network in Network".
    """
    return x.mean(axis=(1, 2)), x.shape


@backward_of(lambda cache: Output((cache[0], cache[3])))
def global_avg_pool2d_backward(dy: Array, cache: Shape) -> Array:
    """Every cell receives 1/HW of its channel's gradient.  Report §2.5.4.

    dy (N, C) ∂L/∂y; cache: the shape (N, H, W, C) of x.  Returns dx (N, H, W, C).
    """
    n, height, width, channels = cache
    share = dy[:, None, None, :] / (height * width)
    return array_module(dy).broadcast_to(share, (n, height, width, channels)).copy()


class GlobalMaxPoolCache(NamedTuple):
    """Cache for ``global_max_pool2d_backward``."""

    winner: Array  # (N, C): which cell of the image, row by row, held the maximum
    shape: Shape  # of x
    output: Output  # (N, C), what dy must be like


@swappable
def global_max_pool2d_forward(x: Array) -> tuple[Array, GlobalMaxPoolCache]:
    """Keep the largest value of each channel: the largest window there is.

        y[c] = max_hw x[h, w, c]

    x (N, H, W, C).  Returns y (N, C); cache: which cell won; among equals the first, row by row.
    Raises ValueError if x is not four-dimensional, or has no cells.
    """
    if x.ndim != 4 or not x.shape[1] * x.shape[2]:
        raise ValueError(f"global_max_pool2d: x is {x.shape}, want (N, H, W, C), H and W from 1")
    cells = x.reshape(x.shape[0], x.shape[1] * x.shape[2], x.shape[3])
    winner = cells.argmax(axis=1)
    y = array_module(x).take_along_axis(cells, winner[:, None], axis=1)[:, 0]
    return y, GlobalMaxPoolCache(winner, x.shape, output_like(y))


@backward_of()
def global_max_pool2d_backward(dy: Array, cache: GlobalMaxPoolCache) -> Array:
    """Send each channel's gradient to the cell that won; the others had no effect, so 0.

    dy (N, C) ∂L/∂y.  Returns dx (N, H, W, C).
    """
    n, height, width, channels = cache.shape
    xp = array_module(dy)
    cells = xp.arange(height * width)[:, None]
    won = cache.winner[:, None] == cells  # (N, HW, C)
    return (dy[:, None] * won).reshape(n, height, width, channels)


class _Pool2D(Stateless):
    """Base of the three pooling layers: a window, no parameters."""

    kind = "pooling"
    operation: ClassVar[str]  # "max", "average", "sum"

    def __init__(
        self,
        pool_size: int | Pair,
        stride: int | Pair | None = None,
        padding: Padding = "valid",
        dilation: int | Pair = 1,
    ) -> None:
        self.pool_size, self.dilation = pair(pool_size, "pool_size"), pair(dilation, "dilation")
        self.stride = self.pool_size if stride is None else pair(stride, "stride")
        self.padding = padding
        reach = [(k - 1) * d + 1 for k, d in zip(self.pool_size, self.dilation, strict=True)]
        self._window((reach[0], reach[1]))  # refuses a bad padding here, not at first use

    def output_shape(self, input_shape: Shape) -> Shape:
        check_image_shape(self, input_shape)
        return (*self._window(input_shape[:2]).output_size, input_shape[2])

    def check(self, x: Array) -> None:
        check_input(self, x, (None, None, None, None), like=None)
        self._window(x.shape[1:3])

    def settings(self) -> tuple[Any, ...]:
        return self.pool_size, self.stride, self.padding, self.dilation

    def _window(self, size: Shape) -> Window:
        try:
            how = self.pool_size, self.stride, self.padding, self.dilation
            return pool_window_over(size, *how)
        except ValueError as error:
            raise ValueError(f"{self!r}: {error}") from None

    def label(self) -> str:
        text = f"{size_text(self.pool_size)} {self.operation}-pool{stride_text(self.stride)}"
        return text + dilation_text(self.dilation)

    def __repr__(self) -> str:
        rows, columns = self.pool_size
        return f"{type(self).__name__}({rows}×{columns})"


class MaxPool2D(_Pool2D):
    """The largest value under each window.  Report §2.5.4.

    pool_size   height and width of the window, one number or two
    stride      step of the window; the default is the window's own size
    padding     "valid", "same", "ceil", a number, or ((top, bottom), (left, right))
    dilation    distance between neighbouring cells of the window, one number or two
    Input (N, H, W, C), output (N, H', W', C).
    """

    operation = "max"
    per_image = True
    dtypes = (*Stateless.dtypes, "bfloat16")
    passes = max_pool2d_forward, max_pool2d_backward


class SumPool2D(_Pool2D):
    """The sum of the values under each window.  Report §2.5.4.  Arguments as in MaxPool2D."""

    operation = "sum"
    per_image = True
    passes = sum_pool2d_forward, sum_pool2d_backward


class AvgPool2D(_Pool2D):
    """The average of the values under each window.  Report §2.5.4.

    Arguments as in MaxPool2D, and
    count_padding   True: padding counts as zeros (PyTorch's default); False: it does not count
    """

    operation = "average"
    per_image = True
    passes = avg_pool2d_forward, avg_pool2d_backward

    def __init__(
        self,
        pool_size: int | Pair,
        stride: int | Pair | None = None,
        padding: Padding = "valid",
        count_padding: bool = False,
        dilation: int | Pair = 1,
    ) -> None:
        super().__init__(pool_size, stride, padding, dilation)
        self.count_padding = count_padding

    def settings(self) -> tuple[Any, ...]:
        return self.pool_size, self.stride, self.padding, self.count_padding, self.dilation


class GlobalAvgPool2D(Stateless):
    """The average of each channel.  Input (N, H, W, C), output (N, C)."""

    kind = "pooling"
    operation = "average"
    per_image = True
    passes: ClassVar[Any] = (global_avg_pool2d_forward, global_avg_pool2d_backward)

    def check(self, x: Array) -> None:
        check_input(self, x, (None, None, None, None), like=None)

    def output_shape(self, input_shape: Shape) -> Shape:
        check_image_shape(self, input_shape)
        return (input_shape[2],)

    def label(self) -> str:
        return f"global {self.operation} pool"


class GlobalMaxPool2D(GlobalAvgPool2D):
    """The largest value of each channel.  Input (N, H, W, C), output (N, C)."""

    operation = "max"
    per_image = True
    passes = global_max_pool2d_forward, global_max_pool2d_backward
