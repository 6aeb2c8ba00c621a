import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers import loops
from tests.layers.support import (
    assert_close,
    channels_first,
    channels_last,
    drawn,
    drawn_few,
    drawn_some,
    normal,
    torch_pass,
)
from tinynet.gradient_check import check_backward, check_gradients
from tinynet.layers import (
    ChannelShuffle,
    ChannelSlice,
    Concat,
    Sequential,
    channel_shuffle_backward,
    channel_shuffle_forward,
    channel_slice_backward,
    channel_slice_forward,
)
from tinynet.testing.strategies import seeds

LEADING = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
GROUPS = st.tuples(st.integers(1, 4), st.integers(1, 4))  # groups, channels of each


@st.composite
def slices(draw):
    """(C, start, stop)."""
    channels = draw(st.integers(1, 6))
    start = draw(st.integers(0, channels - 1))
    return channels, start, draw(st.integers(start + 1, channels))


@drawn
@given(size=st.tuples(*[st.integers(1, 4)] * 3), groups=GROUPS, strided=st.booleans(), seed=seeds())
def test_shuffle_equals_torch(torch, size, groups, strided, seed):
    shape = (*size, groups[0] * groups[1])
    x, dy = normal(seed, shape, shape, strided=strided)
    y, cache = channel_shuffle_forward(x, groups[0])
    shuffle = torch.nn.ChannelShuffle(groups[0])
    wanted = torch_pass(torch, lambda x: channels_last(shuffle(channels_first(x))), dy, x)
    assert_close(y, wanted[0])
    assert_close(channel_shuffle_backward(dy, cache), wanted[1])


@drawn
@given(leading=LEADING, part=slices(), strided=st.booleans(), seed=seeds())
def test_slice_equals_torch(torch, leading, part, strided, seed):
    channels, start, stop = part
    x, dy = normal(seed, (*leading, channels), (*leading, stop - start), strided=strided)
    y, cache = channel_slice_forward(x, start, stop)
    wanted = torch_pass(torch, lambda x: x[..., start:stop], dy, x)
    assert_close(y, wanted[0])
    assert_close(channel_slice_backward(dy, cache), wanted[1])


@drawn_some
@given(leading=LEADING, groups=GROUPS, part=slices(), seed=seeds())
def test_equal_the_loops(leading, groups, part, seed):
    x, dy = normal(seed, *[(*leading, groups[0] * groups[1])] * 2)
    y, cache = channel_shuffle_forward(x, groups[0])
    want_y, want_dx = loops.channel_shuffle(x, groups[0], dy)
    assert_close(y, want_y)
    assert_close(channel_shuffle_backward(dy, cache), want_dx)

    channels, start, stop = part
    x, dy = normal(seed, (*leading, channels), (*leading, stop - start))
    y, cache = channel_slice_forward(x, start, stop)
    want_y, want_dx = loops.channel_slice(x, start, stop, dy)
    assert_close(y, want_y)
    assert_close(channel_slice_backward(dy, cache), want_dx)


@drawn_few
@given(leading=LEADING, groups=GROUPS, part=slices(), seed=seeds())
def test_gradients(leading, groups, part, seed):
    channels, start, stop = part
    x, v = normal(seed, (*leading, groups[0] * groups[1]), (*leading, channels))
    check_backward(channel_shuffle_forward, channel_shuffle_backward, (x, groups[0]))
    check_backward(channel_slice_forward, channel_slice_backward, (v, start, stop))
    check_gradients(ChannelShuffle(groups[0]), x)
    check_gradients(ChannelSlice(start, stop), v)


def test_shuffle_deals_each_group_out_to_all():
    x = np.array([[0.0, 1, 2, 10, 11, 12]])  # two groups of three
    y, cache = channel_shuffle_forward(x, 2)
    assert y.tolist() == [[0, 10, 1, 11, 2, 12]]
    assert channel_shuffle_backward(y, cache).tolist() == x.tolist()


def test_shuffling_by_g_and_then_by_c_over_g_changes_nothing():
    (x,) = normal(0, (2, 3, 3, 12))
    for groups in (1, 2, 3, 4, 6, 12):
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
    (x,) = normal(0, (2, 6))
    y, cache = channel_slice_forward(x, 2, 4)
    assert channel_slice_backward(np.ones_like(y), cache).tolist() == [[0, 0, 1, 1, 0, 0]] * 2


def test_declare_their_output_shape_and_keep_the_dtype():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 6)).astype(np.float32)
    for layer in (ChannelShuffle(3), ChannelSlice(1, 3), ChannelSlice(0, 6)):
        y, cache = layer.forward(x)
        dx = layer.backward(y, cache)
        assert y.shape == (2, *layer.output_shape((3, 4, 6)))
        assert dx.shape == x.shape
        assert y.dtype == dx.dtype == np.float32
        assert not layer.parameters()
    assert repr(Sequential(ChannelShuffle(3), ChannelSlice(1, 3))) == (
        "Sequential(ChannelShuffle(3), ChannelSlice(1, 3))"
    )


def test_errors_name_the_layer_what_came_and_what_was_wanted():
    x = np.zeros((1, 2, 2, 6))
    with pytest.raises(ValueError, match=r"ChannelShuffle\(4\): groups is 4, want .* 6 channels"):
        ChannelShuffle(4).forward(x)
    with pytest.raises(ValueError, match=r"ChannelShuffle\(4\): groups is 4"):
        ChannelShuffle(4).output_shape((2, 2, 6))
    with pytest.raises(ValueError, match="groups is 0, want a whole number from 1"):
        ChannelShuffle(0)
    with pytest.raises(ValueError, match="channel_shuffle: groups is 5"):
        channel_shuffle_forward(x, 5)
    with pytest.raises(ValueError, match=r"ChannelSlice\(4, 7\): start is 4 and stop 7, .* ≤ 6"):
        ChannelSlice(4, 7).forward(x)
    with pytest.raises(ValueError, match=r"ChannelSlice\(4, 7\): start is 4 and stop 7"):
        ChannelSlice(4, 7).output_shape((2, 2, 6))
    for start, stop in ((-1, 3), (3, 3), (4, 2)):
        with pytest.raises(ValueError, match=f"start is {start} and stop {stop}, want 0 ≤ start"):
            ChannelSlice(start, stop)
        with pytest.raises(ValueError, match=f"channel_slice: start is {start} and stop {stop}"):
            channel_slice_forward(x, start, stop)
