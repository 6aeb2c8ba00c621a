"""Wrong backward passes of pooling and of flattening.

Not among them: which of two equal cells receives a maximum's gradient. At a tie every choice is a
subgradient; giving it to both is wrong, and shows where both are copies of one variable.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Shape
from tinynet.layers.adaptive_pooling import (
    AdaptiveAvgPoolCache,
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool2d_forward,
)
from tinynet.layers.flatten import flatten_backward, flatten_forward
from tinynet.layers.pooling import (
    AvgPoolCache,
    MaxPoolCache,
    SumPoolCache,
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_backward,
    global_avg_pool2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    sum_pool2d_backward,
    sum_pool2d_forward,
)
from tinynet.testing.planted.bench import FunctionBench, Gradients


def images(rng: np.random.Generator, shape: Shape) -> tuple[Array]:
    """x (N, H, W, C)."""
    return (rng.standard_normal(shape),)


SHAPE = (2, 5, 5, 2)
max_pool = FunctionBench("max pool", max_pool2d_forward, max_pool2d_backward, images, SHAPE)


@max_pool.plant("NNlib.jl #205; CS231n never tests overlap", pool_size=3, stride=2)
def overlapping_windows_overwritten(dy: Array, cache: MaxPoolCache) -> Gradients:
    """= for +=: a cell that won several windows keeps the gradient of the last."""
    dp = cache.window.padded_zeros(like=dy)
    for number, (_, _, cells) in enumerate(cache.window.taps()):
        won = cache.winner == number
        dp[cells] = np.where(won, dy, dp[cells])
    return cache.window.crop(dp)


@max_pool.plant("CNN-from-scratch #1", pool_size=2)
def first_window_only(dy: Array, cache: MaxPoolCache) -> Gradients:
    """The return stands inside the loop: only the first window gives its gradient back."""
    only = np.zeros_like(dy)
    only[:, 0, 0] = dy[:, 0, 0]
    return max_pool2d_backward(only, cache)


@max_pool.plant(pool_size=2)
def winner_of_another_channel(dy: Array, cache: MaxPoolCache) -> Gradients:
    """One channel's winners are used for all."""
    first = np.broadcast_to(cache.winner[..., :1], cache.winner.shape)
    return max_pool2d_backward(dy, cache._replace(winner=first))


@max_pool.plant(pool_size=2)
def winner_of_another_example(dy: Array, cache: MaxPoolCache) -> Gradients:
    """The first example's winners are used for the whole batch."""
    first = np.broadcast_to(cache.winner[:1], cache.winner.shape)
    return max_pool2d_backward(dy, cache._replace(winner=first))


@max_pool.plant(pool_size=2)
def row_and_column_of_the_winner_swapped(dy: Array, cache: MaxPoolCache) -> Gradients:
    """The winner's number is split into column and row, in that order."""
    row, column = np.divmod(cache.winner, 2)
    return max_pool2d_backward(dy, cache._replace(winner=column * 2 + row))


@max_pool.plant(pool_size=3, stride=2, shape=(2, 7, 7, 1))
def windows_side_by_side(dy: Array, cache: MaxPoolCache) -> Gradients:
    """dx is built of tiles the size of the window, as if the windows did not overlap; cut to x."""
    window, (height, width) = cache.window, cache.window.size
    tiles = np.zeros((len(dy), 3 * dy.shape[1], 3 * dy.shape[2], dy.shape[3]))
    side_by_side = replace(window, size=tiles.shape[1:3], stride=(3, 3))
    return max_pool2d_backward(dy, MaxPoolCache(cache.winner, side_by_side))[:, :height, :width]


@max_pool.plant(pool_size=2)
def spread_like_an_average(dy: Array, cache: MaxPoolCache) -> Gradients:
    """Every cell of the window receives a quarter, the winner or not."""
    return sum_pool2d_backward(dy / 4, SumPoolCache(cache.window))


@max_pool.plant(pool_size=2, padding=1)
def padding_not_cropped(dy: Array, cache: MaxPoolCache) -> Gradients:
    """dx is cut from the corner of the padded array, not from within the padding."""
    height, width = cache.window.size
    unpadded = replace(cache.window, size=(height + 2, width + 2), padding=((0, 0), (0, 0)))
    return max_pool2d_backward(dy, cache._replace(window=unpadded))[:, :height, :width]


def padded_max_pool_forward(x: Array) -> tuple[Array, Any]:
    """Max pooling 2×2 of the padded input, which keeps x for its backward pass."""
    y, cache = max_pool2d_forward(x, 2, 2, 1)
    return y, (x, cache)


padded_max_pool = FunctionBench(
    "max pool, padded",
    padded_max_pool_forward,
    lambda dy, cache: max_pool2d_backward(dy, cache[1]),
    lambda rng, shape: (rng.standard_normal(shape) - 1,),
    shape=(2, 4, 4, 1),
)


@padded_max_pool.plant()
def padding_wins(dy: Array, cache: Any) -> Gradients:
    """The winner is sought again with zeros for padding, which beat negative numbers."""
    x, (winner, window) = cache
    _, found = max_pool2d_forward(window.pad(x), 2, 2)
    return max_pool2d_backward(dy, MaxPoolCache(found.winner, window))


def twice_wide_max_pool_forward(x: Array) -> tuple[Array, Any]:
    """Max pooling 2×2 of an image in which every column stands twice: ties, yet smooth in x."""
    wide = np.repeat(x, 2, axis=2)
    y, cache = max_pool2d_forward(wide, 2)
    return y, (wide, y, cache)


def twice_wide_max_pool_backward(dy: Array, cache: Any) -> Array:
    """The two copies of a column add up."""
    dwide = max_pool2d_backward(dy, cache[2])
    return dwide[:, :, ::2] + dwide[:, :, 1::2]


tied_max_pool = FunctionBench(
    "max pool, ties",
    twice_wide_max_pool_forward,
    twice_wide_max_pool_backward,
    images,
    shape=(2, 4, 3, 2),
)


@tied_max_pool.plant()
def ties_given_to_all(dy: Array, cache: Any) -> Gradients:
    """x == max as the mask: each of two equal cells receives the whole gradient."""
    wide, y, _ = cache
    largest, upstream = (np.repeat(np.repeat(a, 2, axis=1), 2, axis=2) for a in (y, dy))
    dwide = upstream * (wide == largest)
    return dwide[:, :, ::2] + dwide[:, :, 1::2]


avg_pool = FunctionBench("average pool", avg_pool2d_forward, avg_pool2d_backward, images, SHAPE)


@avg_pool.plant("burn #5604; PyTorch #198119, compiled", pool_size=3, stride=2, padding=1)
def padding_counted(dy: Array, cache: AvgPoolCache) -> Gradients:
    """Divided by the window, where the forward pass leaves out the cells of padding."""
    return sum_pool2d_backward(dy / 9, SumPoolCache(cache.window))


@avg_pool.plant(pool_size=3, stride=2, padding=1, count_padding=True)
def padding_not_counted(dy: Array, cache: AvgPoolCache) -> Gradients:
    """Divided by the cells of the input alone, where the forward pass counts padding."""
    ones = np.ones((1, *cache.window.size, 1))
    _, real = avg_pool2d_forward(ones, 3, 2, 1)
    return sum_pool2d_backward(dy / real.n, SumPoolCache(cache.window))


@avg_pool.plant(pool_size=2)
def average_not_divided(dy: Array, cache: AvgPoolCache) -> Gradients:
    """Every cell receives the whole gradient."""
    return sum_pool2d_backward(dy, SumPoolCache(cache.window))


@avg_pool.plant(pool_size=3, stride=2)
def divided_by_the_stride(dy: Array, cache: AvgPoolCache) -> Gradients:
    """Divided by the area of a step, 4, where the window has 9 cells."""
    return sum_pool2d_backward(dy / 4, SumPoolCache(cache.window))


@avg_pool.plant(pool_size=3, stride=2)
def overlapping_averages_overwritten(dy: Array, cache: AvgPoolCache) -> Gradients:
    """= for +=: a cell under several windows keeps the gradient of the last."""
    dp = cache.window.padded_zeros(like=dy)
    for _, _, cells in cache.window.taps():
        dp[cells] = dy / cache.n
    return cache.window.crop(dp)


@avg_pool.plant(pool_size=2)
def all_to_the_first_cell(dy: Array, cache: AvgPoolCache) -> Gradients:
    """The gradient goes to each window's first cell: upsampling without filling."""
    dp = cache.window.padded_zeros(like=dy)
    _, _, cells = next(iter(cache.window.taps()))
    dp[cells] += dy
    return cache.window.crop(dp)


sum_pool = FunctionBench("sum pool", sum_pool2d_forward, sum_pool2d_backward, images, SHAPE)


@sum_pool.plant(pool_size=2)
def divided_by_the_window(dy: Array, cache: SumPoolCache) -> Gradients:
    """The gradient of an average."""
    return sum_pool2d_backward(dy / 4, cache)


@sum_pool.plant(pool_size=2)
def remainder_column_first(dy: Array, cache: SumPoolCache) -> Gradients:
    """The column that lies under no window is put at the left, where it is at the right."""
    return np.roll(sum_pool2d_backward(dy, cache), 1, axis=2)


@sum_pool.plant(pool_size=2)
def remainder_filled(dy: Array, cache: SumPoolCache) -> Gradients:
    """The column that lies under no window repeats its neighbour's gradient."""
    dx = sum_pool2d_backward(dy, cache)
    dx[:, :, -1] = dx[:, :, -2]
    return dx


@sum_pool.plant(pool_size=(2, 3), stride=(2, 1))
def stride_of_the_other_axis(dy: Array, cache: SumPoolCache) -> Gradients:
    """Steps of height and width swapped."""
    dx = np.zeros((len(dy), *cache.window.size, dy.shape[3]))
    for row in range(dy.shape[1]):
        for column in range(dy.shape[2]):
            dx[:, row : row + 2, 2 * column : 2 * column + 3] += dy[:, row, None, None, column]
    return dx


global_pool = FunctionBench(
    "global average pool",
    global_avg_pool2d_forward,
    global_avg_pool2d_backward,
    images,
    (2, 3, 4, 2),
)


@global_pool.plant()
def divided_by_the_height(dy: Array, cache: Shape) -> Gradients:
    """Divided by H, where it is H · W."""
    return global_avg_pool2d_backward(dy, cache) * cache[2]


@global_pool.plant()
def divided_by_the_batch_too(dy: Array, cache: Shape) -> Gradients:
    """Divided by N · H · W."""
    return global_avg_pool2d_backward(dy, cache) / cache[0]


flatten = FunctionBench("flatten", flatten_forward, flatten_backward, images, (2, 2, 3, 2))


@flatten.plant()
def columns_first(dy: Array, cache: Shape) -> Gradients:
    """Reshaped in Fortran's order."""
    return dy.reshape(cache, order="F")


@flatten.plant()
def channels_first(dy: Array, cache: Shape) -> Gradients:
    """Reshaped as (N, C, H, W), then transposed to (N, H, W, C)."""
    n, height, width, channels = cache
    return dy.reshape(n, channels, height, width).transpose(0, 2, 3, 1)


@flatten.plant()
def shape_not_restored(dy: Array, cache: Shape) -> Gradients:
    """The gradient stays flat."""
    return dy


def three_by_three(rng: np.random.Generator, shape: Shape) -> tuple[Any, ...]:
    """x, whose rows and columns 3 need not divide: then windows share some."""
    return rng.standard_normal(shape), 3


adaptive_pool = FunctionBench(
    "adaptive average pool",
    adaptive_avg_pool2d_forward,
    adaptive_avg_pool2d_backward,
    three_by_three,
    (1, 5, 4, 2),
)


@adaptive_pool.plant()
def average_size_of_a_window(dy: Array, cache: AdaptiveAvgPoolCache) -> Gradients:
    """Divided by HW/hw, the windows' mean size, where each has a size of its own."""
    shares = [(m > 0) * (m.shape[0] / m.shape[1]) for m in cache]
    return adaptive_avg_pool2d_backward(dy, AdaptiveAvgPoolCache(*shares))


@adaptive_pool.plant()
def shared_rows_to_the_last_window(dy: Array, cache: AdaptiveAvgPoolCache) -> Gradients:
    """= for +=: a row under two windows keeps the gradient of the later one."""
    rows = cache.rows.copy()
    rows[:-1][rows[1:] > 0] = 0
    return adaptive_avg_pool2d_backward(dy, cache._replace(rows=rows))


@adaptive_pool.plant()
def undivided_among_the_cells(dy: Array, cache: AdaptiveAvgPoolCache) -> Gradients:
    """Each cell receives all of dy, not its share."""
    whole = AdaptiveAvgPoolCache(*((m > 0).astype(dy.dtype) for m in cache))
    return adaptive_avg_pool2d_backward(dy, whole)
