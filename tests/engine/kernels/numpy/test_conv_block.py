"""Convolution blocks of the NumPy kernels against their references."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn, drawn_some, normal
from tinynet.backend import use_kernels
from tinynet.engine import threads
from tinynet.engine.kernels import winograd_switch
from tinynet.engine.kernels.numpy import conv_ways
from tinynet.engine.kernels.numpy.planes import Planes
from tinynet.engine.kernels.numpy.winograd_rows import Rows
from tinynet.engine.kernels.numpy.winograd_tiles import Tiles
from tinynet.engine.memory import Workspace
from tinynet.engine.plan.epilogues import (
    NO_WINNER,
    TAILS,
    conv2d_block_backward,
    conv2d_block_forward,
)
from tinynet.layers.window import window_over
from tinynet.testing.strategies import conv_geometries, seeds

forward, backward = conv2d_block_forward.kernels["numpy"], conv2d_block_backward.kernels["numpy"]


def assert_equal_gradients(got, want, close):
    for one, other in zip(got, want, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            close(one, other)


@drawn
@given(g=conv_geometries(), tail=st.sampled_from(TAILS), need_dx=st.booleans(), seed=seeds())
def test_every_geometry_and_either_cache(g, tail, need_dx, seed):
    assume(tail != "relu_pool" or min(g.output_size) > 1)
    x, w, b = normal(seed, g.input_shape, g.weight_shape, (g.filters,))
    arguments = (x, w, b if g.bias else None, g.stride, g.padding, g.dilation, g.groups, tail)
    want, reference_cache = conv2d_block_forward.reference(*arguments)
    y, cache = forward(*arguments)
    assert_close(y, want)
    assert cache.window == reference_cache.window
    assert cache.x is x
    if tail == "relu_pool":
        np.testing.assert_array_equal(cache.tail.winner, reference_cache.tail.winner)
        assert cache.tail.winner.dtype == np.uint8
    (dy,) = normal(seed + 1, y.shape)
    gradients = conv2d_block_backward.reference(dy, reference_cache, need_dx)
    assert (gradients[0] is not None) == need_dx
    assert_equal_gradients(backward(dy, reference_cache, need_dx), gradients, assert_close)
    assert_equal_gradients(
        conv2d_block_backward.reference(dy, cache, need_dx), gradients, assert_close
    )


THREE = {"max_kernel": 3, "max_stride": 1, "max_dilation": 1, "max_groups": 1, "max_padding": 3}


def near(got, want):
    """Equal to 2e-5 of the largest element: float32, and numbers as large as 100."""
    assert got.dtype == np.float32
    assert got.shape == want.shape
    if want.size:
        assert abs(got - want).max() <= 2e-5 * max(1e-3, abs(want).max())


@pytest.mark.parametrize("many", [False, True])
@drawn_some
@given(g=conv_geometries(**THREE), tail=st.sampled_from(TAILS), seed=seeds())
def test_float32_against_float64(many, g, tail, seed):
    """All channels by Winograd's ways: with many channels down and across, else down only."""
    shapes = (*g.input_shape[:3], 5), (3, 3, 5, 6), (6,)
    padded = [n + sum(side) for n, side in zip(g.input_shape[1:3], g.sides, strict=True)]
    assume(min(padded) >= (4 if tail == "relu_pool" else 3))
    x, w, b = (a.astype(np.float32) for a in normal(seed, *shapes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(conv_ways, "FEWEST_CHANNELS", 1)
        patch.setattr(conv_ways, "TILES_CHANNELS", 1 if many else 99)
        patch.setattr(conv_ways, "TILES_POSITIONS", 1)
        y, cache = forward(x, w, b, 1, g.sides, 1, 1, tail)
        exact = [a.astype(np.float64) for a in (x, w, b)]
        want, exact_cache = conv2d_block_forward.reference(*exact, 1, g.sides, 1, 1, tail)
        near(y, want)
        (dy,) = normal(seed + 1, y.shape)
        gradients = conv2d_block_backward.reference(dy, exact_cache)
        # the same cells are alive and win: rounding may not decide what is compared
        tail_kept = exact_cache.tail
        if tail_kept.y is not None:
            tail_kept = tail_kept._replace(y=tail_kept.y.astype(np.float32))
        got = backward(dy.astype(np.float32), cache._replace(tail=tail_kept))
        assert_equal_gradients(got, gradients, near)


def way_of(x_shape, w_shape, dtype="float32", groups=1, padding="same", need_dx=True):
    x, w = np.empty(x_shape, dtype), np.empty(w_shape, dtype)
    window = window_over(x_shape[1:3], w_shape[:2], padding=padding)
    chosen = conv_ways.strip_way(x, w, groups, window, need_dx)
    return None if chosen is None else chosen[0]


def test_each_shape_has_its_way(monkeypatch):
    wide, deep = (16, 24, 24, 32), (16, 24, 24, 64)
    assert way_of(wide, (3, 3, 32, 64)) is Rows
    assert way_of(deep, (3, 3, 64, 64)) is Tiles
    assert way_of((1, 8, 8, 64), (3, 3, 64, 64)) is Rows  # four tiles do not pay for 36 filters
    assert way_of((16, 24, 24, 1), (3, 3, 1, 32), need_dx=False) is Planes
    assert way_of((16, 24, 24, 1), (3, 3, 1, 32)) is None
    assert way_of(wide, (3, 3, 32, 4)) is None
    assert way_of(wide, (3, 3, 32, 32), "float64") is None
    assert way_of(wide, (3, 3, 16, 32), groups=2) is None
    assert way_of(wide, (5, 5, 32, 32)) is None
    assert way_of(wide, (3, 3, 32, 32), padding=3) is None
    monkeypatch.setattr(winograd_switch, "WINOGRAD", False)
    assert way_of(deep, (3, 3, 64, 64)) is None
    assert way_of((16, 24, 24, 1), (3, 3, 1, 32), need_dx=False) is Planes


SHAPES = {
    "planes": ((12, 12, 11, 1), 12),
    "rows": ((12, 12, 11, 8), 12),
    "tiles": ((12, 20, 13, 64), 64),
    "im2col": ((12, 12, 11, 6), 3),
}


def case(name, tail="relu_pool"):
    shape, filters = SHAPES[name]
    x, w, b = normal(0, shape, (3, 3, shape[3], filters), (filters,))
    return (*(a.astype(np.float32) for a in (x, w, b)), 1, "same", 1, 1, tail)


def both_passes(name, tail="relu_pool"):
    arguments = case(name, tail)
    y, cache = forward(*arguments)
    return [y, *backward(np.ones_like(y), cache, need_dx=name != "planes")]


@pytest.mark.parametrize("name", SHAPES)
def test_results_do_not_depend_on_the_number_of_threads(name, monkeypatch):
    results = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        results.append(both_passes(name))
    for one, two, three in zip(*results, strict=True):
        if one is not None:
            np.testing.assert_array_equal(one, two)
            np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", ["planes", "rows", "tiles"])
def test_a_workspace_is_enough_for_later_calls(name, tail, monkeypatch):
    monkeypatch.setattr(threads, "thread_count", lambda: 1)  # two may overlap more, or less
    workspace, sizes = Workspace(), []
    for _ in range(4):
        with workspace:
            both_passes(name, tail)
        sizes.append(workspace.allocated)
    assert sizes[0] > 0
    assert sizes[2] == sizes[3]


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("name", SHAPES)
def test_a_nan_stays_visible(name, tail):
    x, *others = case(name, tail)
    x = x.copy()
    x[5, 6, 6, 0] = np.nan
    y, cache = forward(x, *others)
    assert np.isnan(y[5]).any()
    assert not np.isnan(np.delete(y, 5, axis=0)).any()
    x[5, 6, 6, 0] = 0
    y, cache = forward(x, *others)
    dy = np.zeros_like(y)
    dy[2, 3, 3] = np.nan
    dx, dw, db = backward(dy, cache, name != "planes")
    assert np.isnan(dw).any()
    assert np.isnan(db).any()
    assert dx is None or np.isnan(dx[2]).any()


@pytest.mark.parametrize("name", SHAPES)
def test_ties_go_to_the_first_and_nobody_wins_below_zero(name):
    x, w, b, *others = case(name)
    x, w = np.zeros_like(x), np.zeros_like(w)
    y, cache = forward(x, w, np.ones_like(b), *others)
    np.testing.assert_array_equal(y, np.ones_like(y))
    np.testing.assert_array_equal(cache.tail.winner, np.zeros(y.shape))
    for bias in (0, -1):
        y, cache = forward(x, w, np.full_like(b, bias), *others)
        np.testing.assert_array_equal(y, np.zeros_like(y))
        np.testing.assert_array_equal(cache.tail.winner, np.full(y.shape, NO_WINNER))
        dx, dw, db = backward(np.ones_like(y), cache, name != "planes")
        assert not dw.any()
        assert not db.any()


def test_a_tie_across_the_diagonal_goes_to_the_upper_right():
    x = np.zeros((1, 2, 2, 1))
    x[0, 0, 1] = x[0, 1, 0] = 3
    _, cache = forward(x, np.ones((1, 1, 1, 1)), None, 1, 0, 1, 1, "relu_pool")
    assert cache.tail.winner.item() == 1


def test_an_image_too_small_for_the_pool_is_an_error():
    with use_kernels("numpy"), pytest.raises(ValueError, match="covers 2 × 2 cells"):
        conv2d_block_forward(np.ones((1, 3, 4, 1)), np.ones((3, 3, 1, 1)), tail="relu_pool")


def test_an_unknown_tail_is_an_error():
    with use_kernels("numpy"), pytest.raises(ValueError, match="tail is 'pool', want one of none"):
        conv2d_block_forward(np.ones((1, 4, 4, 1)), np.ones((3, 3, 1, 1)), tail="pool")
