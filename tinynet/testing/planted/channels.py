"""Wrong backward passes of the layers that move channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Shape
from tinynet.layers.channels import (
    ChannelSliceCache,
    channel_shuffle_backward,
    channel_shuffle_forward,
    channel_slice_backward,
    channel_slice_forward,
)
from tinynet.testing.planted.bench import FunctionBench, Gradients


def two_groups(rng: np.random.Generator, shape: Shape) -> tuple[Any, ...]:
    """x, in two groups."""
    return rng.standard_normal(shape), 2


def all_but_the_first(rng: np.random.Generator, shape: Shape) -> tuple[Any, ...]:
    """x, from its second channel to the one before the last."""
    return rng.standard_normal(shape), 1, shape[-1] - 1


shuffle = FunctionBench(
    "channel shuffle", channel_shuffle_forward, channel_shuffle_backward, two_groups, (1, 2, 2, 6)
)


@shuffle.plant()
def not_inverted(dy: Array, groups: int) -> Gradients:
    """Shuffled with g groups once more: its own inverse only for C = g²."""
    return channel_shuffle_forward(dy, groups)[0]


@shuffle.plant()
def left_where_it_is(dy: Array, groups: int) -> Gradients:
    """dx = dy: the channels are not moved back."""
    return dy.copy()


@shuffle.plant()
def order_reversed(dy: Array, groups: int) -> Gradients:
    """The channels in the reverse order for the inverse of their permutation."""
    return dy[..., ::-1].copy()


slicing = FunctionBench(
    "channel slice",
    channel_slice_forward,
    channel_slice_backward,
    all_but_the_first,
    (1, 2, 2, 4),
)


@slicing.plant()
def placed_at_0(dy: Array, cache: ChannelSliceCache) -> Gradients:
    """The gradient goes to the first channels, wherever the slice began."""
    return channel_slice_backward(
        dy, ChannelSliceCache(0, cache.stop - cache.start, cache.channels)
    )


@slicing.plant()
def last_channel_lost(dy: Array, cache: ChannelSliceCache) -> Gradients:
    """stop is taken for the last channel, less one: that channel's gradient is 0."""
    dx = channel_slice_backward(dy, cache)
    dx[..., cache.stop - 1] = 0
    return dx


@slicing.plant()
def others_not_0(dy: Array, cache: ChannelSliceCache) -> Gradients:
    """The channels that were left out receive the nearest one's gradient, as if padded by it."""
    ends = [(0, 0)] * (dy.ndim - 1) + [(cache.start, cache.channels - cache.stop)]
    return np.pad(dy, ends, mode="edge")
