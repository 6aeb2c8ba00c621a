"""Wrong backward passes of convolution.

The loops are the right ones of ``tinynet.layers.conv`` with one thing changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Shape
from tinynet.layers.conv import Conv2DCache, channel_groups, conv2d_backward, conv2d_forward
from tinynet.testing.planted.bench import Arguments, FunctionBench, Gradients


def images_and_filters(
    kernel: tuple[int, int] = (3, 3), filters: int = 2, groups: int = 1
) -> Arguments:
    """Draws x (N, H, W, C), w (kernel height, kernel width, C / groups, filters), b (filters,)."""

    def draw(rng: np.random.Generator, shape: Shape) -> tuple[Array, ...]:
        w = rng.standard_normal((*kernel, max(shape[3] // groups, 1), filters))
        return rng.standard_normal(shape), w, rng.standard_normal(filters)

    return draw


conv = FunctionBench(
    "convolution", conv2d_forward, conv2d_backward, images_and_filters(), shape=(2, 5, 5, 2)
)


def taps(cache: Conv2DCache) -> Iterator[tuple[int, int, Any, slice, slice]]:
    """(i, j, cells under the tap, channels, filters), for every tap and every group."""
    for i, j, cells in cache.window.taps():
        for c, k in channel_groups(cache.padded.shape[3], cache.w.shape[3], cache.groups):
            yield i, j, cells, c, k


@conv.plant()
def dx_with_the_filter_flipped(dz: Array, cache: Conv2DCache) -> Gradients:
    """Tap (i, j) of dx takes the weight of the tap opposite."""
    dp, (_, dw, db) = cache.window.padded_zeros(like=cache.padded), conv2d_backward(dz, cache)
    for i, j, cells, c, k in taps(cache):
        dp[cells][..., c] += dz[..., k] @ cache.w[-1 - i, -1 - j, :, k].T
    return cache.window.crop(dp), dw, db


@conv.plant()
def dw_flipped(dz: Array, cache: Conv2DCache) -> Gradients:
    """dw flipped in height and width: the gradient of a true convolution."""
    dx, dw, db = conv2d_backward(dz, cache)
    return dx, dw[::-1, ::-1].copy(), db


@conv.plant()
def dw_height_and_width_swapped(dz: Array, cache: Conv2DCache) -> Gradients:
    """dw[j, i] for dw[i, j]; square filters hide it from the shape."""
    dx, dw, db = conv2d_backward(dz, cache)
    return dx, dw.swapaxes(0, 1).copy(), db


@conv.plant()
def dx_by_the_filter_not_transposed(dz: Array, cache: Conv2DCache) -> Gradients:
    """Channels in and out swapped in dx, where there are as many filters as channels."""
    dp, (_, dw, db) = cache.window.padded_zeros(like=cache.padded), conv2d_backward(dz, cache)
    for i, j, cells, c, k in taps(cache):
        dp[cells][..., c] += dz[..., k] @ cache.w[i, j, :, k]
    return cache.window.crop(dp), dw, db


@conv.plant()
def dw_rows_in_another_order(dz: Array, cache: Conv2DCache) -> Gradients:
    """dw reshaped as (C, height, width) while the rows stand as (height, width, C): im2col's."""
    dx, dw, db = conv2d_backward(dz, cache)
    return dx, dw.transpose(2, 0, 1, 3).reshape(dw.shape), db


@conv.plant()
def dx_overwritten(dz: Array, cache: Conv2DCache) -> Gradients:
    """= for +=: a cell under several windows keeps the gradient of the last."""
    dp, (_, dw, db) = cache.window.padded_zeros(like=cache.padded), conv2d_backward(dz, cache)
    for i, j, cells, c, k in taps(cache):
        dp[cells][..., c] = dz[..., k] @ cache.w[i, j, :, k].T
    return cache.window.crop(dp), dw, db


@conv.plant("cTensor #3")
def dw_averaged_over_positions(dz: Array, cache: Conv2DCache) -> Gradients:
    """dw divided by N · H' · W', the number of terms in its sum."""
    dx, dw, db = conv2d_backward(dz, cache)
    return dx, dw / dz[..., 0].size, db


@conv.plant()
def dw_of_the_last_example(dz: Array, cache: Conv2DCache) -> Gradients:
    """A loop over the batch sets dw and does not add to it."""
    dx, dw, db = conv2d_backward(dz, cache)
    for n in range(len(dz)):
        _, dw, _ = conv2d_backward(dz[n : n + 1], cache._replace(x=cache.x[n : n + 1]))
    return dx, dw, db


@conv.plant()
def last_row_of_the_filter_skipped(dz: Array, cache: Conv2DCache) -> Gradients:
    """range(height - 1): the last row of taps gives nothing to dx."""
    dp, (_, dw, db) = cache.window.padded_zeros(like=cache.padded), conv2d_backward(dz, cache)
    for i, j, cells, c, k in taps(cache):
        if i < cache.w.shape[0] - 1:
            dp[cells][..., c] += dz[..., k] @ cache.w[i, j, :, k].T
    return cache.window.crop(dp), dw, db


def spread(dz: Array, cache: Conv2DCache, **geometry: Any) -> Array:
    """The right dx, of a window whose geometry is not that of the forward pass."""
    window = replace(cache.window, **geometry)
    # the true window's output positions, under the wrong taps
    dp, (height, width) = window.padded_zeros(like=cache.padded), dz.shape[1:3]
    for i in range(window.kernel[0]):
        for j in range(window.kernel[1]):
            for c, k in channel_groups(dp.shape[3], cache.w.shape[3], cache.groups):
                for y in range(height):
                    for x in range(width):
                        row = y * window.stride[0] + i * window.dilation[0]
                        column = x * window.stride[1] + j * window.dilation[1]
                        dp[:, row, column, c] += dz[:, y, x, k] @ cache.w[i, j, :, k].T
    return window.crop(dp)


@conv.plant("deep-learning-coursera #34", stride=2, padding=1)
def stride_forgotten_in_dx(dz: Array, cache: Conv2DCache) -> Gradients:
    """dx spreads dz in steps of 1, the forward pass went in steps of 2."""
    _, dw, db = conv2d_backward(dz, cache)
    return spread(dz, cache, stride=(1, 1)), dw, db


@conv.plant(dilation=2, shape=(1, 6, 6, 2), arguments=images_and_filters((2, 2)))
def dilation_forgotten_in_dx(dz: Array, cache: Conv2DCache) -> Gradients:
    """The taps of dx lie side by side, those of the forward pass 2 apart."""
    _, dw, db = conv2d_backward(dz, cache)
    return spread(dz, cache, dilation=(1, 1)), dw, db


@conv.plant(dilation=3, shape=(1, 6, 6, 2), arguments=images_and_filters((2, 2)))
def dilation_off_by_one(dz: Array, cache: Conv2DCache) -> Gradients:
    """The taps of dx lie 2 apart, those of the forward pass 3: cells between taken for spacing."""
    _, dw, db = conv2d_backward(dz, cache)
    return spread(dz, cache, dilation=(2, 2)), dw, db


@conv.plant(
    "PyTorch #51430 is about groups in this sum",
    groups=2,
    shape=(2, 4, 4, 4),
    arguments=images_and_filters((2, 2), 4, groups=2),
)
def dw_of_the_first_group(dz: Array, cache: Conv2DCache) -> Gradients:
    """Every group's dw is made of the first group's channels."""
    p, (dx, dw, db) = cache.padded, conv2d_backward(dz, cache)
    for i, j, cells, c, k in taps(cache):
        first = p[cells][..., : c.stop - c.start]
        dw[i, j, :, k] = np.einsum("nyxc,nyxk->ck", first, dz[..., k])
    return dx, dw, db


@conv.plant(groups=2, shape=(2, 4, 4, 4), arguments=images_and_filters((2, 2), 4, groups=2))
def groups_swapped_in_dx(dz: Array, cache: Conv2DCache) -> Gradients:
    """The channels of one group receive the gradient of the other."""
    dx, dw, db = conv2d_backward(dz, cache)
    half = dx.shape[3] // 2
    return np.concatenate([dx[..., half:], dx[..., :half]], axis=3), dw, db


@conv.plant(groups=2, shape=(2, 4, 4, 4), arguments=images_and_filters((2, 2), 4, groups=2))
def filters_dealt_round_the_groups(dz: Array, cache: Conv2DCache) -> Gradients:
    """Filter k is taken to be of group k mod 2; the forward pass gives each group a block."""
    _, dw, db = conv2d_backward(dz, cache)
    dealt = cache._replace(w=np.concatenate([cache.w[..., ::2], cache.w[..., 1::2]], axis=3))
    dx, _, _ = conv2d_backward(np.concatenate([dz[..., ::2], dz[..., 1::2]], axis=3), dealt)
    return dx, dw, db


@conv.plant(stride=2, padding="same", shape=(2, 4, 4, 2))
def padding_cropped_on_the_wrong_side(dz: Array, cache: Conv2DCache) -> Gradients:
    """ "same" with an odd number of rows has one more below; dx is cropped as if it were above."""
    dp, (_, dw, db) = cache.window.padded_zeros(like=cache.padded), conv2d_backward(dz, cache)
    for i, j, cells, c, k in taps(cache):
        dp[cells][..., c] += dz[..., k] @ cache.w[i, j, :, k].T
    (_, bottom), (_, right) = cache.window.padding
    height, width = cache.window.size
    return dp[:, bottom : bottom + height, right : right + width], dw, db


@conv.plant(padding=1)
def padding_not_cropped(dz: Array, cache: Conv2DCache) -> Gradients:
    """dx has the padded input's shape."""
    _, dw, db = conv2d_backward(dz, cache)
    unpadded = replace(cache.window, padding=((0, 0), (0, 0)), size=cache.padded.shape[1:3])
    return conv2d_backward(dz, cache._replace(window=unpadded))[0], dw, db


@conv.plant(padding=1)
def dw_of_the_input_in_the_corner(dz: Array, cache: Conv2DCache) -> Gradients:
    """dw reads an input that was padded at the bottom and right only."""
    dx, _, db = conv2d_backward(dz, cache)
    (top, bottom), (left, right) = cache.window.padding
    moved = replace(cache.window, padding=((0, top + bottom), (0, left + right)))
    return dx, conv2d_backward(dz, cache._replace(window=moved))[1], db


@conv.plant("BackPACK #30; a needle solution, CMU10-714 #6", stride=2, shape=(2, 6, 6, 2))
def remainder_rows_missing(dz: Array, cache: Conv2DCache) -> Gradients:
    """With stride 2 the last row lies under no window; dx ends before it."""
    dx, dw, db = conv2d_backward(dz, cache)
    return dx[:, :-1, :-1].copy(), dw, db


@conv.plant(stride=2, shape=(2, 6, 6, 2))
def remainder_rows_first(dz: Array, cache: Conv2DCache) -> Gradients:
    """The row that lies under no window is put at the top of dx, where it is the last."""
    dx, dw, db = conv2d_backward(dz, cache)
    return np.roll(dx, 1, axis=1), dw, db


@conv.plant()
def db_of_all_channels(dz: Array, cache: Conv2DCache) -> Gradients:
    """Every filter's bias gets the sum over all filters."""
    dx, dw, db = conv2d_backward(dz, cache)
    return dx, dw, np.full_like(db, dz.sum())


@conv.plant()
def db_of_one_channel(dz: Array, cache: Conv2DCache) -> Gradients:
    """Only the first filter's bias gets a gradient."""
    dx, dw, db = conv2d_backward(dz, cache)
    return dx, dw, db * (np.arange(dz.shape[3]) == 0)


@conv.plant()
def db_averaged_over_positions(dz: Array, cache: Conv2DCache) -> Gradients:
    """db is the mean over the window's positions, where it is the sum."""
    dx, dw, _ = conv2d_backward(dz, cache)
    return dx, dw, dz.mean(axis=(1, 2)).sum(axis=0)


@conv.plant()
def db_of_the_first_example_only(dz: Array, cache: Conv2DCache) -> Gradients:
    """db is not summed over the batch."""
    dx, dw, _ = conv2d_backward(dz, cache)
    return dx, dw, dz[0].sum(axis=(0, 1))


@conv.plant(arguments=images_and_filters(filters=8))
def one_tap_of_one_filter(dz: Array, cache: Conv2DCache) -> Gradients:
    """One element of 144 of dw is left at zero."""
    dx, dw, db = conv2d_backward(dz, cache)
    dw[-1, -1, -1, -1] = 0
    return dx, dw, db
