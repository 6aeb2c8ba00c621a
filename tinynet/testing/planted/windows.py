"""Wrong backward passes of convolution, of pooling and of flattening.

Not among them: which of two equal cells receives a maximum's gradient. At a tie every choice is a
subgradient; giving it to both is wrong, and shows where both are copies of one variable.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tinynet import layers
from tinynet.backend import Array
from tinynet.layer import Shape
from tinynet.layers import conv2d_backward, max_pool2d_backward, max_pool2d_forward
from tinynet.layers.conv import channel_groups
from tinynet.testing.planted.bench import (
    Arguments,
    FunctionBench,
    db,
    dw,
    dx,
    keeping_x,
    times,
    x_and,
)


def images_and_filters(kernel: int = 3, filters: int = 2, groups: int = 1) -> Arguments:
    """Draws x (N, H, W, C), w (kernel, kernel, C / groups, filters), b (filters,)."""

    def draw(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
        w = rng.standard_normal((kernel, kernel, max(shape[3] // groups, 1), filters))
        return rng.standard_normal(shape), w, rng.standard_normal(filters)

    return draw


def spread(dz: Array, c: Any, add: bool = True, **geometry: Any) -> Array:
    """dx of a convolution: dz goes from its true window positions to the cells of other windows.

    geometry   of those, where it is not that of the forward pass
    add        False: = for +=
    """
    window = replace(c.window, **geometry)
    dp = window.padded_zeros(like=c.padded)
    (sy, sx), (dy, dx) = window.stride, window.dilation
    for i, j, y, x in np.ndindex(*window.kernel, *dz.shape[1:3]):
        for channels, filters in channel_groups(dp.shape[3], c.w.shape[3], c.groups):
            cell = dp[:, y * sy + i * dy, x * sx + j * dx, channels]
            cell[...] = add * cell + dz[:, y, x, filters] @ c.w[i, j, :, filters].T
    return window.crop(dp)


def with_cache(dz: Array, c: Any, which: int, **changes: Any) -> Array:
    """Gradient 0, 1, 2 (dx, dw, db) of a convolution with another cache."""
    return conv2d_backward(dz, c._replace(**changes))[which]


def uncropped(c: Any) -> Any:
    """The window of a convolution, of an input that has its padding already."""
    return replace(c.window, padding=((0, 0), (0, 0)), size=c.padded.shape[1:3])


conv = FunctionBench(
    "convolution", (2, 5, 5, 2), layers.conv2d_forward, conv2d_backward, images_and_filters()
)
conv.plant(
    "dx with the filter flipped: Tap (i, j) of dx takes the weight of the tap opposite.",
    dx(lambda g, dz, c: with_cache(dz, c, 0, w=c.w[::-1, ::-1])),
    "dx by the filter not transposed: Channels in and out swapped in dx, if there are as many.",
    dx(lambda g, dz, c: with_cache(dz, c, 0, w=c.w.swapaxes(2, 3))),
    "dx overwritten: = for +=: a cell under several windows keeps the gradient of the last.",
    dx(lambda g, dz, c: spread(dz, c, add=False)),
    "last row of the filter skipped: range(height - 1): the last row of taps gives nothing to dx.",
    dx(lambda g, dz, c: with_cache(dz, c, 0, w=times(-1, 0)(c.w))),
    "dw flipped: dw flipped in height and width: the gradient of a true convolution.",
    dw(lambda g, dz, c: g[::-1, ::-1].copy()),
    "dw height and width swapped: dw[j, i] for dw[i, j]; square filters hide it from the shape.",
    dw(lambda g, dz, c: g.swapaxes(0, 1).copy()),
    "dw rows in another order: Reshaped as (C, height, width); im2col's are (height, width, C).",
    dw(lambda g, dz, c: g.transpose(2, 0, 1, 3).reshape(g.shape)),
    "dw averaged over positions: dw divided by N · H' · W', the number of terms in its sum. "
    "[cTensor #3]",
    dw(lambda g, dz, c: g / dz[..., 0].size),
    "dw of the last example: A loop over the batch sets dw and does not add to it.",
    dw(lambda g, dz, c: with_cache(dz[-1:], c, 1, padded=c.padded[-1:])),
    "stride forgotten in dx: dx spreads dz in steps of 1, the forward pass went in steps of 2. "
    "[deep-learning-coursera #34]",
    dx(lambda g, dz, c: spread(dz, c, stride=(1, 1)), stride=2, padding=1),
)
dilated = conv.using(shape=(1, 6, 6, 2), arguments=images_and_filters(2))
dilated.plant(
    "dilation forgotten in dx: The taps of dx lie side by side, those of the forward pass 2 apart.",
    dx(lambda g, dz, c: spread(dz, c, dilation=(1, 1)), dilation=2),
    "dilation off by one: The taps of dx lie 2 apart, not 3: cells between taken for spacing.",
    dx(lambda g, dz, c: spread(dz, c, dilation=(2, 2)), dilation=3),
)
grouped = conv.using(groups=2, shape=(2, 4, 4, 4), arguments=images_and_filters(2, 4, groups=2))
grouped.plant(
    "dw of the first group: Every group's dw is made of the first group's channels. [PyTorch "
    "#51430 is about groups in this sum]",
    dw(lambda g, dz, c: with_cache(dz, c, 1, padded=np.tile(np.split(c.padded, 2, axis=3)[0], 2))),
    "groups swapped in dx: The channels of one group receive the gradient of the other.",
    dx(lambda g, dz, c: np.roll(g, g.shape[3] // 2, axis=3)),
    "filters dealt round the groups: Filter k is taken to be of group k mod 2, not in a block.",
    dx(lambda g, dz, c: with_cache(dz[..., [0, 2, 1, 3]], c, 0, w=c.w[..., [0, 2, 1, 3]])),
)


def cropped_on_the_wrong_side(dx: Array, dz: Array, c: Any) -> Array:
    (_, bottom), (_, right) = c.window.padding
    dp = with_cache(dz, c, 0, window=uncropped(c))
    return dp[:, bottom : bottom + dx.shape[1], right : right + dx.shape[2]]


conv.plant(
    'padding cropped on the wrong side: An odd row of "same" is below; dx is cropped as if above.',
    dx(cropped_on_the_wrong_side, stride=2, padding="same", shape=(2, 4, 4, 2)),
)
padded = conv.using(padding=1)
padded.plant(
    "padding not cropped: dx has the padded input's shape.",
    dx(lambda g, dz, c: with_cache(dz, c, 0, window=uncropped(c))),
    "dw of the input in the corner: dw reads an input padded at the bottom and right only.",
    dw(lambda g, dz, c: with_cache(dz, c, 1, padded=np.roll(c.padded, (-1, -1), axis=(1, 2)))),
)
with_remainder = conv.using(stride=2, shape=(2, 6, 6, 2))
with_remainder.plant(
    "remainder rows missing: With stride 2 the last row lies under no window; dx ends before "
    "it. [BackPACK #30; a needle solution, CMU10-714 #6]",
    dx(lambda g, dz, c: g[:, :-1, :-1].copy()),
    "remainder rows first: The row that lies under no window is at the top of dx, not the last.",
    dx(lambda g, dz, c: np.roll(g, 1, axis=1)),
)
conv.plant(
    "db of all channels: Every filter's bias gets the sum over all filters.",
    db(lambda g, dz, c: np.full_like(g, dz.sum())),
    "db of one channel: Only the first filter's bias gets a gradient.",
    db(times(np.s_[1:], 0)),
    "db averaged over positions: db is the mean over the window's positions, where it is the sum.",
    db(lambda g, dz, c: dz.mean(axis=(1, 2)).sum(axis=0)),
    "db of the first example only: db is not summed over the batch.",
    db(lambda g, dz, c: dz[0].sum(axis=(0, 1))),
    "one tap of one filter: One element of 144 of dw is left at zero.",
    dw(times((-1, -1, -1, -1), 0), arguments=images_and_filters(filters=8)),
)

# Pooling.


def overwritten(dy: Array, window: Any, won: Any = None) -> Array:
    """dx where each cell keeps the gradient of the last window that it is under, or has won."""
    dp = window.padded_zeros(like=dy)
    for number, (_, _, cells) in enumerate(window.taps()):
        dp[cells] = dy if won is None else np.where(won == number, dy, dp[cells])
    return window.crop(dp)


def sum_pooled(dy: Array, window: Any) -> Array:
    """The gradient of sum pooling: all of dy to every cell."""
    return layers.sum_pool2d_backward(dy, layers.pooling.SumPoolCache(window))


def first_window_only(dx: Array, dy: Array, c: Any) -> Array:
    only = np.zeros_like(dy)
    only[:, 0, 0] = dy[:, 0, 0]
    return max_pool2d_backward(only, c)


def windows_side_by_side(dx: Array, dy: Array, c: Any) -> Array:
    tiled = replace(c.window, size=(3 * dy.shape[1], 3 * dy.shape[2]), stride=(3, 3))
    return max_pool2d_backward(dy, c._replace(window=tiled))[:, : dx.shape[1], : dx.shape[2]]


def cropped_from_the_corner(dx: Array, dy: Array, c: Any) -> Array:
    size = (dx.shape[1] + 2, dx.shape[2] + 2)
    unpadded = replace(c.window, size=size, padding=((0, 0), (0, 0)))
    return max_pool2d_backward(dy, c._replace(window=unpadded))[:, : dx.shape[1], : dx.shape[2]]


SHAPE = (2, 5, 5, 2)
max_pool = FunctionBench("max pool", SHAPE, max_pool2d_forward, max_pool2d_backward, x_and())
max_pool.plant(
    "overlapping windows overwritten: = for +=: a cell keeps the gradient of the last it won. "
    "[NNlib.jl #205; CS231n never tests overlap]",
    dx(lambda g, dy, c: overwritten(dy, c.window, c.winner), pool_size=3, stride=2),
)
max_pool = max_pool.using(pool_size=2)
max_pool.plant(
    "first window only: The return stands inside the loop: the others give no gradient back. "
    "[CNN-from-scratch #1]",
    dx(first_window_only),
    "winner of another channel: One channel's winners are used for all.",
    dx(
        lambda g, dy, c: max_pool2d_backward(
            dy, c._replace(winner=np.broadcast_to(c.winner[..., :1], dy.shape))
        )
    ),
    "winner of another example: The first example's winners are used for the whole batch.",
    dx(
        lambda g, dy, c: max_pool2d_backward(
            dy, c._replace(winner=np.broadcast_to(c.winner[:1], dy.shape))
        )
    ),
    "row and column of the winner swapped: Its number is split into column and row, in that order.",
    dx(
        lambda g, dy, c: max_pool2d_backward(
            dy, c._replace(winner=c.winner % 2 * 2 + c.winner // 2)
        )
    ),
    "windows side by side: dx is built of tiles the size of the window, as if none overlapped.",
    dx(windows_side_by_side, pool_size=3, stride=2, shape=(2, 7, 7, 1)),
    "spread like an average: Every cell of the window receives a quarter, the winner or not.",
    dx(lambda g, dy, c: sum_pooled(dy / 4, c.window)),
    "padding not cropped: dx is cut from the corner of the padded array.",
    dx(cropped_from_the_corner, padding=1),
)

padded_max_pool = keeping_x(
    "max pool, padded",
    (2, 4, 4, 1),
    max_pool2d_forward,
    max_pool2d_backward,
    lambda rng, shape: (rng.standard_normal(shape) - 1, 2, 2, 1),
)


def padding_wins(dx: Array, dy: Array, c: Any) -> Array:
    _, found = max_pool2d_forward(c.cache.window.pad(c.x), 2, 2)
    return max_pool2d_backward(dy, c.cache._replace(winner=found.winner))


padded_max_pool.plant(
    "padding wins: The winner is sought again with zeros for padding, which beat negative numbers.",
    dx(padding_wins),
)


def twice_wide_max_pool(x: Array) -> tuple[Array, Any]:
    """Max pooling 2×2 of an image in which every column stands twice: ties, yet smooth in x."""
    wide = np.repeat(x, 2, axis=2)
    y, cache = max_pool2d_forward(wide, 2)
    return y, (wide, y, cache)


def both_columns(dwide: Array) -> Array:
    return dwide[:, :, ::2] + dwide[:, :, 1::2]


def ties_given_to_all(dx: Array, dy: Array, c: Any) -> Array:
    wide, y, _ = c
    largest, upstream = (np.repeat(np.repeat(a, 2, axis=1), 2, axis=2) for a in (y, dy))
    return both_columns(upstream * (wide == largest))


tied_max_pool = FunctionBench(
    "max pool, ties",
    (2, 4, 3, 2),
    twice_wide_max_pool,
    lambda dy, c: both_columns(max_pool2d_backward(dy, c[2])),
    x_and(),
)
tied_max_pool.plant(
    "ties given to all: x == max as the mask: each of two equal cells receives the whole gradient.",
    dx(ties_given_to_all),
)


def cells_of_the_input(window: Any) -> Array:
    """How many cells of each window are not padding."""
    _, cache = layers.avg_pool2d_forward(np.ones((1, *window.size, 1)), 3, 2, 1)
    return cache.n


avg_pool = FunctionBench(
    "average pool", SHAPE, layers.avg_pool2d_forward, layers.avg_pool2d_backward, x_and()
)
overlapping = avg_pool.using(pool_size=3, stride=2)
avg_pool = avg_pool.using(pool_size=2)
overlapping.plant(
    "padding counted: Divided by the window, where the forward pass leaves padding out. [burn "
    "#5604; PyTorch #198119, compiled]",
    dx(lambda g, dy, c: sum_pooled(dy / 9, c.window), padding=1),
    "padding not counted: Divided by the cells of the input, where the forward pass counts "
    "padding.",
    dx(
        lambda g, dy, c: sum_pooled(dy / cells_of_the_input(c.window), c.window),
        padding=1,
        count_padding=True,
    ),
)
avg_pool.plant(
    "average not divided: Every cell receives the whole gradient.",
    dx(lambda g, dy, c: 4 * g),
)
overlapping.plant(
    "divided by the stride: Divided by the area of a step, 4, where the window has 9 cells.",
    dx(lambda g, dy, c: g * 9 / 4),
    "overlapping averages overwritten: = for +=: a cell keeps the gradient of its last window.",
    dx(lambda g, dy, c: overwritten(dy / 9, c.window)),
)
avg_pool.plant(
    "all to the first cell: The gradient goes to each window's first cell: upsampling, unfilled.",
    dx(
        lambda g, dy, c: max_pool2d_backward(
            dy, layers.pooling.MaxPoolCache(np.zeros(dy.shape, "uint8"), c.window)
        )
    ),
)

sum_pool = FunctionBench(
    "sum pool", SHAPE, layers.sum_pool2d_forward, layers.sum_pool2d_backward, x_and()
).using(pool_size=2)
sum_pool.plant(
    "divided by the window: The gradient of an average.",
    dx(lambda g, dy, c: g / 4),
    "remainder column first: The column under no window is put at the left, not at the right.",
    dx(lambda g, dy, c: np.roll(g, 1, axis=2)),
    "remainder filled: The column that lies under no window repeats its neighbour's gradient.",
    dx(lambda g, dy, c: np.concatenate([g[:, :, :-1], g[:, :, -2:-1]], axis=2)),
    "stride of the other axis: Steps of height and width swapped.",
    dx(lambda g, dy, c: stride_of_the_other_axis(g, dy), pool_size=(2, 3), stride=(2, 1)),
)


def stride_of_the_other_axis(dx: Array, dy: Array) -> Array:
    wrong = np.zeros_like(dx)
    for row, column in np.ndindex(*dy.shape[1:3]):
        wrong[:, row : row + 2, 2 * column : 2 * column + 3] += dy[:, row, None, None, column]
    return wrong


global_pool = FunctionBench(
    "global average pool",
    (2, 3, 4, 2),
    layers.global_avg_pool2d_forward,
    layers.global_avg_pool2d_backward,
    x_and(),
)
global_pool.plant(
    "divided by the height: Divided by H, where it is H · W.",
    dx(lambda g, dy, shape: g * shape[2]),
    "divided by the batch too: Divided by N · H · W.",
    dx(lambda g, dy, shape: g / shape[0]),
)

adaptive_pool = FunctionBench(
    "adaptive average pool",
    (1, 5, 4, 2),
    layers.adaptive_avg_pool2d_forward,
    layers.adaptive_avg_pool2d_backward,
    x_and(3),  # which need not divide the rows and columns: then windows share some
)
adaptive_pool.plant(
    "average size of a window: Divided by HW/hw, the windows' mean size; they differ in size.",
    dx(
        lambda g, dy, c: layers.adaptive_avg_pool2d_backward(
            dy, type(c)(*((m > 0) * (m.shape[0] / m.shape[1]) for m in c))
        )
    ),
)


def shared_rows_to_the_last_window(dx: Array, dy: Array, c: Any) -> Array:
    rows = c.rows.copy()
    rows[:-1][rows[1:] > 0] = 0
    return layers.adaptive_avg_pool2d_backward(dy, c._replace(rows=rows))


adaptive_pool.plant(
    "shared rows to the last window: = for +=: a row under two windows keeps the later gradient.",
    dx(shared_rows_to_the_last_window),
    "undivided among the cells: Each cell receives all of dy, not its share.",
    dx(
        lambda g, dy, c: layers.adaptive_avg_pool2d_backward(
            dy, type(c)(*((m > 0).astype(dy.dtype) for m in c))
        )
    ),
)

flatten = FunctionBench(
    "flatten", (2, 2, 3, 2), layers.flatten_forward, layers.flatten_backward, x_and()
)
flatten.plant(
    "columns first: Reshaped in Fortran's order.",
    dx(lambda g, dy, shape: dy.reshape(shape, order="F")),
    "channels first: Reshaped as (N, C, H, W), then transposed to (N, H, W, C).",
    dx(lambda g, dy, shape: dy.reshape(len(dy), -1, *shape[1:3]).transpose(0, 2, 3, 1)),
    "shape not restored: The gradient stays flat.",
    dx(lambda g, dy, shape: dy),
)
