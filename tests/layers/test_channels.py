import numpy as np
import pytest

from tests.layers.support import normal
from tinynet.layers import (
    ChannelShuffle,
    ChannelSlice,
    Concat,
    channel_shuffle_backward,
    channel_shuffle_forward,
    channel_slice_backward,
    channel_slice_forward,
)


def test_shuffle_deals_each_group_out_to_all():
    x = np.array([[0.0, 1, 2, 10, 11, 12]])  # two groups of three
    y, cache = channel_shuffle_forward(x, 2)
    assert y.tolist() == [[0, 10, 1, 11, 2, 12]]
    assert channel_shuffle_backward(y, cache).tolist() == x.tolist()


@pytest.mark.parametrize("groups", [1, 2, 3, 4, 6, 12])
def test_shuffling_by_g_and_then_by_c_over_g_changes_nothing(groups):
    (x,) = normal(0, (2, 3, 3, 12))
    y = channel_shuffle_forward(channel_shuffle_forward(x, groups)[0], 12 // groups)[0]
    assert np.array_equal(y, x)


def test_slices_side_by_side_are_the_input_and_their_gradients_add_up():
    (x,) = normal(0, (2, 3, 3, 5))
    model = Concat(ChannelSlice(0, 2), ChannelSlice(2, 5))
    y, cache = model.forward(x)
    assert np.array_equal(y, x)
    assert np.array_equal(model.backward(x, cache), x)
    overlapping = Concat(ChannelSlice(0, 3), ChannelSlice(2, 5))
    y, cache = overlapping.forward(x)
    dx = overlapping.backward(np.ones_like(y), cache)
    assert dx[0, 0, 0].tolist() == [1, 1, 2, 1, 1]


def test_channels_that_are_not_taken_have_no_gradient():
    y, cache = channel_slice_forward(normal(0, (2, 6))[0], 2, 4)
    assert channel_slice_backward(np.ones_like(y), cache).tolist() == [[0, 0, 1, 1, 0, 0]] * 2


X = np.zeros((1, 2, 2, 6))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ChannelShuffle(4).forward(X), r"Shuffle\(4\): groups is 4, want .* 6 channels"),
        (lambda: ChannelShuffle(4).output_shape((2, 2, 6)), r"ChannelShuffle\(4\): groups is 4"),
        (lambda: ChannelShuffle(0), "groups is 0, want a whole number from 1"),
        (lambda: channel_shuffle_forward(X, 5), "channel_shuffle: groups is 5"),
        (lambda: ChannelSlice(4, 7).forward(X), r"Slice\(4, 7\): start is 4 and stop 7, .* ≤ 6"),
        (lambda: ChannelSlice(4, 7).output_shape((2, 2, 6)), r"Slice\(4, 7\): start is 4 and stop"),
    ],
)
def test_errors_name_the_layer_what_came_and_what_was_wanted(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (3, 3), (4, 2)])
def test_an_empty_slice_is_refused(start, stop):
    with pytest.raises(ValueError, match=f"start is {start} and stop {stop}, want 0 ≤ start"):
        ChannelSlice(start, stop)
    with pytest.raises(ValueError, match=f"channel_slice: start is {start} and stop {stop}"):
        channel_slice_forward(X, start, stop)
