"""Wrong backward passes of convolution, of pooling and of flattening.

Not among them: which of two equal cells receives a maximum's gradient. At a tie every choice is a
subgradient; giving it to both is wrong, and shows where both are copies of one variable.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tinynet import layers
from tinynet.backend import Array, output_like
from tinynet.layer import Shape
from tinynet.layers import adaptive_avg_pool2d_backward, max_pool2d_backward, max_pool2d_forward
from tinynet.layers.pooling import MaxPoolCache, SumPoolCache
from tinynet.testing.planted import bench
from tinynet.testing.planted.bench import FunctionBench, db, dw, dx, pair, times, x_and


def images_and_filters(kernel: int = 3, filters: int = 2, groups: int = 1) -> bench.Arguments:
    """Draws x (N, H, W, C), w (kernel, kernel, C / groups, filters), b (filters,)."""

    def draw(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
        w = rng.standard_normal((kernel, kernel, max(shape[3] // groups, 1), filters))
        return rng.standard_normal(shape), w, rng.standard_normal(filters)

    return draw


def another(dz: Array, c: Any, which: int, **changes: Any) -> Any:
    """Gradient 0, 1 or 2 (dx, dw, db) of a convolution with other arguments."""
    window = c.cache.window
    arguments = {"x": c.x, "w": c.cache.w, "b": None, "groups": c.cache.groups}
    geometry = {name: getattr(window, name) for name in ("stride", "padding", "dilation")}
    _, cache = layers.conv2d_forward(**{**arguments, **geometry, **changes})
    return layers.conv2d_backward(dz, cache)[which]


def of_padded(dz: Array, c: Any) -> Array:
    """dx with the shape of the padded input."""
    return another(dz, c, 0, x=c.cache.window.pad(c.x), padding="valid")


def spread(dz: Array, c: Any, add: bool = True, **geometry: Any) -> Array:
    """dx of a convolution: dz goes from its true window positions to the cells of other windows.

    geometry   of those, where it is not that of the forward pass
    add        False: = for +=
    """
    window = replace(c.cache.window, **geometry)
    dp, (sy, sx), (dy, dx) = 0 * window.pad(c.x), window.stride, window.dilation
    for i, j, y, x in np.ndindex(*window.kernel, *dz.shape[1:3]):
        cell = dp[:, y * sy + i * dy, x * sx + j * dx]
        cell[...] = add * cell + dz[:, y, x] @ c.cache.w[i, j].T
    return window.crop(dp)


def cropped_on_the_wrong_side(g: Array, dz: Array, c: Any) -> Array:
    (_, bottom), (_, right) = c.cache.window.padding
    return of_padded(dz, c)[:, bottom : bottom + g.shape[1], right : right + g.shape[2]]


conv = pair("convolution", (2, 5, 5, 2), "conv2d", images_and_filters(), keep_x=True)
padded = conv.using(padding=1)
dilated = conv.using(shape=(1, 6, 6, 2), arguments=images_and_filters(2))
grouped = conv.using(groups=2, shape=(2, 4, 4, 4), arguments=images_and_filters(2, 4, groups=2))
with_remainder = conv.using(stride=2, shape=(2, 6, 6, 2))
conv.plant(
    "dx with the filter flipped: Tap (i, j) of dx takes the weight of the tap opposite.",
    dx(lambda g, dz, c: another(dz, c, 0, w=c.cache.w[::-1, ::-1])),
    "dx by the filter not transposed: Channels in and out swapped in dx, if there are as many.",
    dx(lambda g, dz, c: another(dz, c, 0, w=c.cache.w.swapaxes(2, 3))),
    "dx overwritten: = for +=: a cell under several windows keeps the gradient of the last.",
    dx(lambda g, dz, c: spread(dz, c, add=False)),
    "last row of the filter skipped: range(height - 1): the last row of taps gives nothing to dx.",
    dx(lambda g, dz, c: another(dz, c, 0, w=times(-1, 0)(c.cache.w))),
    "stride forgotten in dx: dx spreads dz in steps of 1, the forward pass went in steps of 2. "
    "[deep-learning-coursera #34]",
    dx(lambda g, dz, c: spread(dz, c, stride=(1, 1)), stride=2, padding=1),
    'padding cropped on the wrong side: An odd row of "same" is below; dx is cropped as if above.',
    dx(cropped_on_the_wrong_side, stride=2, padding="same", shape=(2, 4, 4, 2)),
    "dw flipped: dw flipped in height and width: the gradient of a true convolution.",
    dw(lambda g, dz, c: g[::-1, ::-1].copy()),
    "dw height and width swapped: dw[j, i] for dw[i, j]; square filters hide it from the shape.",
    dw(lambda g, dz, c: g.swapaxes(0, 1).copy()),
    "dw rows in another order: Reshaped as (C, height, width); im2col's are (height, width, C).",
    dw(lambda g, dz, c: g.transpose(2, 0, 1, 3).reshape(g.shape)),
    "dw averaged over positions: dw divided by N H' W', the terms in its sum. [cTensor #3]",
    dw(lambda g, dz, c: g / dz[..., 0].size),
    "dw of the last example: A loop over the batch sets dw and does not add to it.",
    dw(lambda g, dz, c: another(dz[-1:], c, 1, x=c.x[-1:])),
    "one tap of one filter: One element of 144 of dw is left at zero.",
    dw(times((-1, -1, -1, -1), 0), arguments=images_and_filters(filters=8)),
    "db of all channels: Every filter's bias gets the sum over all filters.",
    db(lambda g, dz, c: np.full_like(g, dz.sum())),
    "db of one channel: Only the first filter's bias gets a gradient.",
    db(times(np.s_[1:], 0)),
    "db averaged over positions: db is the mean over the window's positions, where it is the sum.",
    db(lambda g, dz, c: dz.mean(axis=(1, 2)).sum(axis=0)),
    "db of the first example only: db is not summed over the batch.",
    db(lambda g, dz, c: dz[0].sum(axis=(0, 1))),
)
dilated.plant(
    "dilation forgotten in dx: The taps of dx lie side by side, those of the forward pass 2 apart.",
    dx(lambda g, dz, c: spread(dz, c, dilation=(1, 1)), dilation=2),
    "dilation off by one: The taps of dx lie 2 apart, not 3: cells between taken for spacing.",
    dx(lambda g, dz, c: spread(dz, c, dilation=(2, 2)), dilation=3),
)
grouped.plant(
    "dw of the first group: Every group's dw is made of the first group's channels. [PyTorch "
    "#51430 is about groups in this sum]",
    dw(lambda g, dz, c: another(dz, c, 1, x=np.tile(np.split(c.x, 2, axis=3)[0], 2))),
    "groups swapped in dx: The channels of one group receive the gradient of the other.",
    dx(lambda g, dz, c: np.roll(g, g.shape[3] // 2, axis=3)),
    "filters dealt round the groups: Filter k is taken to be of group k mod 2, not in a block.",
    dx(lambda g, dz, c: another(dz[..., [0, 2, 1, 3]], c, 0, w=c.cache.w[..., [0, 2, 1, 3]])),
)
padded.plant(
    "padding not cropped: dx has the padded input's shape.",
    dx(lambda g, dz, c: of_padded(dz, c)),
    "dw of the input in the corner: dw reads an input padded at the bottom and right only.",
    dw(lambda g, dz, c: another(dz, c, 1, padding=((0, 2), (0, 2)))),
)
with_remainder.plant(
    "remainder rows missing: With stride 2 the last row lies under no window; dx ends before "
    "it. [BackPACK #30; a needle solution, CMU10-714 #6]",
    dx(lambda g, dz, c: g[:, :-1, :-1].copy()),
    "remainder rows first: The row that lies under no window is at the top of dx, not the last.",
    dx(lambda g, dz, c: np.roll(g, 1, axis=1)),
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
    return layers.sum_pool2d_backward(dy, SumPoolCache(window, output_like(dy)))


def won_by(dy: Array, c: Any, winner: Array) -> Array:
    return max_pool2d_backward(dy, MaxPoolCache(winner, c.window))


def from_the_corner(g: Array, dy: Array, c: Any, **geometry: Any) -> Array:
    """The gradient of max pooling with another window, cut to the shape of g."""
    dx = max_pool2d_backward(dy, c._replace(window=replace(c.window, **geometry)))
    return dx[:, : g.shape[1], : g.shape[2]]


def side_by_side(g: Array, dy: Array, c: Any) -> Array:
    size = (3 * dy.shape[1], 3 * dy.shape[2])
    return from_the_corner(g, dy, c, size=size, stride=(3, 3))


def not_cropped(g: Array, dy: Array, c: Any) -> Array:
    size = (g.shape[1] + 2, g.shape[2] + 2)
    return from_the_corner(g, dy, c, size=size, padding=((0, 0), (0, 0)))


def side_by_side_cells(g: Array, dy: Array, c: Any) -> Array:
    size = (g.shape[1] - 1, g.shape[2] - 1)
    part = from_the_corner(g, dy, c, size=size, dilation=(1, 1))
    return np.pad(part, [(0, 0), (0, 1), (0, 1), (0, 0)])


def first_window(dy: Array) -> Array:
    return np.pad(dy[:, :1, :1], [(0, 0), (0, dy.shape[1] - 1), (0, dy.shape[2] - 1), (0, 0)])


SHAPE = (2, 5, 5, 2)
max_pool = pair("max pool", SHAPE, "max_pool2d", x_and(2))
overlapping = max_pool.using(arguments=x_and(3, 2))
overlapping.plant(
    "overlapping windows overwritten: = for +=: a cell keeps the gradient of the last it won. "
    "[NNlib.jl #205; CS231n never tests overlap]",
    dx(lambda g, dy, c: overwritten(dy, c.window, c.winner)),
    "windows side by side: dx is built of tiles the size of the window, as if none overlapped.",
    dx(side_by_side, shape=(2, 7, 7, 1)),
)
max_pool.plant(
    "first window only: The return stands inside the loop: the others give no gradient back. "
    "[CNN-from-scratch #1]",
    dx(lambda g, dy, c: max_pool2d_backward(first_window(dy), c)),
    "winner of another channel: One channel's winners are used for all.",
    dx(lambda g, dy, c: won_by(dy, c, np.broadcast_to(c.winner[..., :1], dy.shape))),
    "winner of another example: The first example's winners are used for the whole batch.",
    dx(lambda g, dy, c: won_by(dy, c, np.broadcast_to(c.winner[:1], dy.shape))),
    "row and column of the winner swapped: Its number is split into column and row, in that order.",
    dx(lambda g, dy, c: won_by(dy, c, c.winner % 2 * 2 + c.winner // 2)),
    "spread like an average: Every cell of the window receives a quarter, the winner or not.",
    dx(lambda g, dy, c: sum_pooled(dy / 4, c.window)),
    "padding not cropped: dx is cut from the corner of the padded array.",
    dx(not_cropped, padding=1),
)

max_pool.using(arguments=x_and(2, 1, "valid", 2)).plant(
    "dilation forgotten: The winner is put back as if the window's cells were side by side.",
    dx(side_by_side_cells),
)

padded_max_pool = pair(
    "max pool, padded",
    (2, 4, 4, 1),
    "max_pool2d",
    lambda rng, shape: (rng.standard_normal(shape) - 1, 2, 2, 1),
    keep_x=True,
)
padded_max_pool.plant(
    "padding wins: The winner is sought again with zeros for padding, which beat negative numbers.",
    dx(
        lambda g, dy, c: won_by(
            dy, c.cache, max_pool2d_forward(c.cache.window.pad(c.x), 2)[1].winner
        )
    ),
)


def twice_wide_max_pool(x: Array) -> tuple[Array, Any]:
    """Max pooling 2×2 of an image in which every column stands twice: ties, yet smooth in x."""
    wide = np.repeat(x, 2, axis=2)
    y, cache = max_pool2d_forward(wide, 2)
    return y, (wide, y, cache)


def both_columns(dwide: Array) -> Array:
    return dwide[:, :, ::2] + dwide[:, :, 1::2]


def ties_given_to_all(g: Array, dy: Array, c: Any) -> Array:
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


avg_pool = pair("average pool", SHAPE, "avg_pool2d", x_and(2))
avg_pool.plant(
    "average not divided: Every cell receives the whole gradient.",
    dx(lambda g, dy, c: 4 * g),
    "all to the first cell: The gradient goes to each window's first cell: upsampling, unfilled.",
    dx(lambda g, dy, c: won_by(dy, c, np.zeros(dy.shape, "uint8"))),
)
avg_pool.using(arguments=x_and(3, 2)).plant(
    "divided by the stride: Divided by the area of a step, 4, where the window has 9 cells.",
    dx(lambda g, dy, c: g * 9 / 4),
    "overlapping averages overwritten: = for +=: a cell keeps the gradient of its last window.",
    dx(lambda g, dy, c: overwritten(dy / 9, c.window)),
    "padding counted: Divided by the window, where the forward pass leaves padding out. [burn "
    "#5604; PyTorch #198119, compiled]",
    dx(lambda g, dy, c: sum_pooled(dy / 9, c.window), padding=1),
    "padding not counted: Divided by the cells that are not padding; the forward pass counts all.",
    dx(
        lambda g, dy, c: sum_pooled(dy / cells_of_the_input(c.window), c.window),
        padding=1,
        count_padding=True,
    ),
)


def stride_of_the_other_axis(g: Array, dy: Array, c: Any) -> Array:
    wrong = np.zeros_like(g)
    for row, column in np.ndindex(*dy.shape[1:3]):
        wrong[:, row : row + 2, 2 * column : 2 * column + 3] += dy[:, row, None, None, column]
    return wrong


sum_pool = pair("sum pool", SHAPE, "sum_pool2d", x_and(2))
sum_pool.plant(
    "divided by the window: The gradient of an average.",
    dx(lambda g, dy, c: g / 4),
    "remainder column first: The column under no window is put at the left, not at the right.",
    dx(lambda g, dy, c: np.roll(g, 1, axis=2)),
    "remainder filled: The column that lies under no window repeats its neighbour's gradient.",
    dx(lambda g, dy, c: np.concatenate([g[:, :, :-1], g[:, :, -2:-1]], axis=2)),
    "stride of the other axis: Steps of height and width swapped.",
    dx(stride_of_the_other_axis, arguments=x_and((2, 3), (2, 1))),
)

global_pool = pair("global average pool", (2, 3, 4, 2), "global_avg_pool2d", x_and())
global_pool.plant(
    "divided by the height: Divided by H, where it is H · W.",
    dx(lambda g, dy, shape: g * shape[2]),
    "divided by the batch too: Divided by N · H · W.",
    dx(lambda g, dy, shape: g / shape[0]),
)


global_max_pool = pair("global max pool", (2, 3, 4, 2), "global_max_pool2d", x_and())
global_max_pool.plant(
    "spread like an average: Every cell receives dy / HW, the winner or not.",
    dx(lambda g, dy, c: 0 * g + dy[:, None, None] / g[0, ..., 0].size),
    "winner of the first image: The first image's winners are used for the whole batch.",
    dx(
        lambda g, dy, c: layers.global_max_pool2d_backward(
            dy, c._replace(winner=np.broadcast_to(c.winner[:1], dy.shape))
        )
    ),
)


def matrices_like(c: Any, change: Any) -> Any:
    """The cache of adaptive pooling with its matrices of rows and of columns changed."""
    return c._replace(rows=change(c.rows), columns=change(c.columns))


# 3 need not divide the rows and columns: then windows share some
adaptive_pool = pair("adaptive average pool", (1, 5, 4, 2), "adaptive_avg_pool2d", x_and(3))
adaptive_pool.plant(
    "average size of a window: Divided by HW/hw, the windows' mean size; they differ in size.",
    dx(
        lambda g, dy, c: adaptive_avg_pool2d_backward(
            dy, matrices_like(c, lambda m: (m > 0) * (m.shape[0] / m.shape[1]))
        )
    ),
    "shared rows to the last window: = for +=: a row under two windows keeps the later gradient.",
    dx(
        lambda g, dy, c: adaptive_avg_pool2d_backward(
            dy, c._replace(rows=c.rows * (np.append(c.rows[1:], 0 * c.rows[:1], axis=0) == 0))
        )
    ),
    "undivided among the cells: Each cell receives all of dy, not its share.",
    dx(
        lambda g, dy, c: adaptive_avg_pool2d_backward(
            dy, matrices_like(c, lambda m: (m > 0).astype(dy.dtype))
        )
    ),
)

flatten = pair("flatten", (2, 2, 3, 2), "flatten", x_and())
flatten.plant(
    "columns first: Reshaped in Fortran's order.",
    dx(lambda g, dy, shape: dy.reshape(shape, order="F")),
    "channels first: Reshaped as (N, C, H, W), then transposed to (N, H, W, C).",
    dx(lambda g, dy, shape: dy.reshape(len(dy), -1, *shape[1:3]).transpose(0, 2, 3, 1)),
    "shape not restored: The gradient stays flat.",
    dx(lambda g, dy, shape: dy),
)
