"""Layers that only move channels: shuffled among groups, or some of them taken out.  Report §2.5.2.

A convolution in groups sees the channels of its own group alone; what moves channels between
groups lets them mix. Nothing is computed, so the backward passes move the gradients back.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from tinynet.backend import Array, Output, array_module, backward_of, output_like, swappable
from tinynet.layer import Shape, Stateless

# fmt: off
__all__ = [
    "ChannelShuffle", "ChannelSlice",
    "channel_shuffle_backward", "channel_shuffle_forward", "channel_slice_backward",
    "channel_slice_forward",
]
# fmt: on


class ChannelShuffleCache(NamedTuple):
    """Cache for ``channel_shuffle_backward``."""

    groups: int
    output: Output  # what dy must be like


class ChannelSliceCache(NamedTuple):
    """Cache for ``channel_slice_backward``."""

    start: int
    stop: int
    channels: int  # C of the input
    output: Output  # (..., stop − start), what dy must be like


@swappable
def channel_shuffle_forward(x: Array, groups: int) -> tuple[Array, ChannelShuffleCache]:
    """Deal the channels of each group out to all groups, as cards.  Report §2.5.2.

        y[…, j·g + i] = x[…, i·(C/g) + j]      group i < g, place j < C/g

    The last axis is seen as a matrix (g, C/g), transposed and flattened.

    x       (..., C)   the last axis is the channels
    groups  g, a divisor of C
    Returns y (..., C); cache: g.
    Raises ValueError if g does not divide C.
    Source: Zhang, Zhou, Lin & Sun 2018, "ShuffleNet".
    """
    channels = x.shape[-1]
    _check_groups("channel_shuffle", channels, groups)
    matrix = x.reshape(*x.shape[:-1], groups, channels // groups)
    y = matrix.swapaxes(-1, -2).reshape(x.shape)
    return y, ChannelShuffleCache(groups, output_like(y))


@backward_of()
def channel_shuffle_backward(dy: Array, cache: ChannelShuffleCache) -> Array:
    """Each channel's gradient goes back to where the channel came from.  Report §2.5.2.

        ∂L/∂x[…, i·(C/g) + j] = ∂L/∂y[…, j·g + i]

    The inverse is a shuffle too, with C/g groups.
    dy (..., C) ∂L/∂y; cache: g.  Returns dx (..., C).
    """
    groups = cache.groups
    matrix = dy.reshape(*dy.shape[:-1], dy.shape[-1] // groups, groups)
    return matrix.swapaxes(-1, -2).reshape(dy.shape)


@swappable
def channel_slice_forward(x: Array, start: int, stop: int) -> tuple[Array, ChannelSliceCache]:
    """Take out neighbouring channels.  Report §2.5.2.

        y[…, c] = x[…, start + c]      0 ≤ c < stop − start

    x            (..., C)   the last axis is the channels
    start, stop  0 ≤ start < stop ≤ C
    Returns y (..., stop − start) and the cache (start, stop, C).
    Raises ValueError if the channels are not among those of x.
    """
    _check_slice("channel_slice", x.shape[-1], start, stop)
    y = x[..., start:stop]
    return y, ChannelSliceCache(start, stop, x.shape[-1], output_like(y))


@backward_of()
def channel_slice_backward(dy: Array, cache: ChannelSliceCache) -> Array:
    """The gradient returns to the channels that were taken; the others had no effect, so 0.

        ∂L/∂x[…, c] = ∂L/∂y[…, c − start] if start ≤ c < stop else 0

    Report §2.5.2.  dy (..., stop − start) ∂L/∂y.  Returns dx (..., C).
    """
    start, stop, channels, _ = cache
    dx = array_module(dy).zeros((*dy.shape[:-1], channels), dtype=dy.dtype)
    dx[..., start:stop] = dy
    return dx


class ChannelShuffle(Stateless):
    """The channels of each of ``groups`` groups dealt out to all of them.

    Input (..., C), output (..., C); groups divides C.
    Source: Zhang, Zhou, Lin & Sun 2018, "ShuffleNet".
    """

    kind = "reshape"
    per_image = True
    passes = channel_shuffle_forward, channel_shuffle_backward

    def __init__(self, groups: int) -> None:
        if groups < 1:
            raise ValueError(f"ChannelShuffle: groups is {groups}, want a whole number from 1")
        self.groups = groups

    def check(self, x: Array) -> None:
        self.output_shape(x.shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        _check_groups(repr(self), input_shape[-1], self.groups)
        return input_shape

    def label(self) -> str:
        return f"channel shuffle, {self.groups} groups"

    def settings(self) -> tuple[Any, ...]:
        return (self.groups,)

    def __repr__(self) -> str:
        return f"ChannelShuffle({self.groups})"


class ChannelSlice(Stateless):
    """The channels from ``start`` up to, not including, ``stop``.

    Input (..., C), output (..., stop − start); 0 ≤ start < stop ≤ C.
    """

    kind = "reshape"
    per_image = True
    passes = channel_slice_forward, channel_slice_backward

    def __init__(self, start: int, stop: int) -> None:
        if not 0 <= start < stop:
            raise ValueError(
                f"ChannelSlice: start is {start} and stop {stop}, want 0 ≤ start < stop"
            )
        self.start, self.stop = start, stop

    def check(self, x: Array) -> None:
        self.output_shape(x.shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        _check_slice(repr(self), input_shape[-1], self.start, self.stop)
        return (*input_shape[:-1], self.stop - self.start)

    def label(self) -> str:
        return f"channels {self.start}–{self.stop - 1}"

    def settings(self) -> tuple[Any, ...]:
        return self.start, self.stop

    def __repr__(self) -> str:
        return f"ChannelSlice({self.start}, {self.stop})"


def _check_groups(name: str, channels: int, groups: int) -> None:
    if groups < 1 or channels % groups:
        raise ValueError(
            f"{name}: groups is {groups}, want a divisor of the input's {channels} channels"
        )


def _check_slice(name: str, channels: int, start: int, stop: int) -> None:
    if not 0 <= start < stop <= channels:
        raise ValueError(
            f"{name}: start is {start} and stop {stop}, want 0 ≤ start < stop ≤ {channels}, "
            "the input's channels"
        )
