"""Compiled convolutions against their references, in float64."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.layers.support import drawn, drawn_some
from tinynet.backend import without_fast
from tinynet.engine import threads
from tinynet.engine.kernels.numba import load
from tinynet.engine.memory import Workspace
from tinynet.engine.plan.epilogues import (
    NO_WINNER,
    TAILS,
    conv2d_block_backward,
    conv2d_block_forward,
)
from tinynet.layers import conv2d_backward, conv2d_forward
from tinynet.testing.strategies import conv_geometries, seeds

pytest.importorskip("numba", reason='Numba is not installed: pip install ".[fast]"')
load("conv_block")

from tinynet.engine.kernels.numba import conv_block, conv_by_im2col, conv_by_winograd, shares  # noqa: E402
from tinynet.engine.kernels.numba.vector import LANES  # noqa: E402

forward, backward = conv2d_block_forward.kernels["fast"], conv2d_block_backward.kernels["fast"]

EXACT = 2e-6  # of the largest element, for sums of some dozen products in float32
WINOGRAD = 2e-5  # of the largest element: its numbers are scaled up to 25 times on the way


def arrays(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def assert_near(got, want, tolerance):
    assert got.dtype == np.float32
    assert got.shape == want.shape
    assert abs(got - want).max(initial=0) <= tolerance * abs(want).max(initial=1e-30)


def compare(x, w, b, more, seed, tolerance, need_dx=True):
    """Forward, and backward from the compiled cache and from the reference's."""
    y, cache = forward(x, w, b, *more)
    wide = [None if a is None else a.astype(np.float64) for a in (x, w, b)]
    want, want_cache = conv2d_block_forward.reference(*wide, *more)
    assert_near(y, want, tolerance)
    assert cache.window == want_cache.window
    (dy,) = arrays(seed + 1, y.shape)
    # ReLU and pool decide by rounding where numbers are near; their decisions are the compiled ones
    same = want_cache._replace(tail=cache.tail._replace(y=cache.tail.y))
    wanted = conv2d_block_backward.reference(dy.astype(np.float64), same, need_dx)
    got = backward(dy, cache, need_dx)
    for ours, theirs in zip(got, wanted, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert_near(ours, theirs, tolerance)
    return y, cache, want_cache


@drawn
@given(g=conv_geometries(max_groups=1), tail=st.sampled_from(TAILS), seed=seeds())
def test_every_geometry(g, tail, seed):
    assume(tail != "relu_pool" or min(g.output_size) > 1)
    x, w, b = arrays(seed, g.input_shape, g.weight_shape, (g.filters,))
    more = (g.stride, g.padding, g.dilation, 1, tail)
    compare(x, w, b if g.bias else None, more, seed, EXACT)


@drawn_some
@given(g=conv_geometries(max_groups=1), tail=st.sampled_from(TAILS), seed=seeds())
def test_depthwise(g, tail, seed):
    assume(tail != "relu_pool" or min(g.output_size) > 1)
    channels = 2 * g.channels
    x, w, b = arrays(seed, (*g.input_shape[:3], channels), (*g.kernel, 1, channels), (channels,))
    more = (g.stride, g.padding, g.dilation, channels, tail)
    compare(x, w, b if g.bias else None, more, seed, EXACT)


CHANNELS = (1, 3, LANES, LANES + 3, 2 * LANES, 3 * LANES, 4 * LANES + 5)


@drawn_some
@given(
    channels=st.sampled_from(CHANNELS),
    filters=st.sampled_from(CHANNELS),
    kernel=st.sampled_from([(1, 1), (3, 3), (1, 5), (2, 3)]),
    stride=st.integers(1, 2),
    tail=st.sampled_from(TAILS),
    seed=seeds(),
)
def test_registers_full_and_part_full(channels, filters, kernel, stride, tail, seed):
    x, w, b = arrays(seed, (2, 7, 6, channels), (*kernel, channels, filters), (filters,))
    compare(x, w, b, (stride, "same", 1, 1, tail), seed, WINOGRAD)


@drawn
@given(
    batch=st.integers(1, 5),
    height=st.integers(3, 14),
    width=st.integers(3, 14),
    channels=st.sampled_from(CHANNELS[2:]),
    filters=st.sampled_from(CHANNELS[2:]),
    padding=st.sampled_from(["same", "valid", 2, ((0, 3), (2, 1))]),
    tail=st.sampled_from(TAILS),
    need_dx=st.booleans(),
    seed=seeds(),
)
def test_winograd(batch, height, width, channels, filters, padding, tail, need_dx, seed):
    x, w, b = arrays(seed, (batch, height, width, channels), (3, 3, channels, filters), (filters,))
    if tail == "relu_pool" and padding == "valid":
        assume(min(height, width) > 3)
    more = (1, padding, 1, 1, tail)
    y, cache, _ = compare(x, w, b, more, seed, WINOGRAD, need_dx)
    if tail != "relu_pool" or not filters % LANES:
        assert conv_by_winograd.fits(w, cache.window, tail)
    assert (y >= 0).all() or tail == "none"


def test_winograds_error_is_what_the_documentation_says():
    """Largest error over the largest output, for numbers of one size: grows little with C."""
    errors = {}
    for channels in (LANES, 64, 256):
        x, w = arrays(channels, (1, 20, 20, channels), (3, 3, channels, 32))
        y, _ = forward(x, w, None, 1, "same")
        want, _ = conv2d_forward.reference(x.astype(float), w.astype(float), None, 1, "same")
        errors[channels] = abs(y - want).max() / abs(want).max()
    assert min(errors.values()) > 1e-7
    assert max(errors.values()) < 2e-5


def test_the_pool_keeps_the_first_of_equals_and_nobody_below_zero():
    x = np.ones((1, 8, 8, LANES), np.float32)
    w = np.zeros((3, 3, LANES, 2 * LANES), np.float32)
    w[1, 1, :, LANES:] = 1
    b = np.where(np.arange(2 * LANES) < LANES, -1, 0).astype(np.float32)
    y, cache = forward(x, w, b, 1, "same", 1, 1, "relu_pool")
    assert (y[..., :LANES] == 0).all()
    assert (cache.tail.winner[..., :LANES] == NO_WINNER).all()
    np.testing.assert_allclose(y[..., LANES:], LANES, rtol=1e-5)
    dx, _, db = backward(np.ones_like(y), cache)
    assert (db[:LANES] == 0).all()
    assert (db[LANES:] == 16).all()


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("channels", [1, LANES])
def test_nan_is_not_hidden(tail, channels):
    x, w = arrays(0, (1, 8, 8, channels), (3, 3, channels, LANES))
    x[0, 3, 3, 0] = np.nan
    y, cache = forward(x, w, None, 1, "same", 1, 1, tail)
    assert np.isnan(y).any()
    dx, dw, _ = backward(np.ones_like(y), cache)
    assert np.isnan(dw).any()


@pytest.mark.parametrize("channels", [1, LANES])
def test_what_depends_on_the_number_of_threads(channels, monkeypatch):
    """No bit of y and dx; of dw and db, sums over all images, the last ones."""
    x, w, b = arrays(0, (9, 13, 11, channels), (3, 3, channels, 2 * LANES), (2 * LANES,))
    monkeypatch.setattr(shares, "FEW_TILES", 6)
    monkeypatch.setattr(conv_by_im2col, "AT_A_TIME", 6)
    results = []
    for count in (1, 2, 2, 3):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        y, cache = forward(x, w, b, 1, "same", 1, 1, "relu")
        results.append((y, *backward(y, cache)))
    for y, dx, dw, db in results[1:]:
        np.testing.assert_array_equal(y, results[0][0])
        np.testing.assert_array_equal(dx, results[0][1])
        for got, want in ((dw, results[0][2]), (db, results[0][3])):
            np.testing.assert_allclose(got, want, atol=1e-5 * abs(want).max())
    for again, once in zip(results[2], results[1], strict=True):  # with the same number
        np.testing.assert_array_equal(again, once)


@pytest.mark.parametrize("channels", [1, 2 * LANES])
def test_a_second_call_asks_the_system_for_nothing(channels):
    x, w, b = arrays(0, (8, 40, 40, channels), (3, 3, channels, 2 * LANES), (2 * LANES,))
    workspace = Workspace()
    sizes = []
    for _ in range(3):
        with workspace:
            y, cache = forward(x, w, b, 1, "same", 1, 1, "relu_pool")
            backward(y, cache)
            del y, cache
        sizes.append(workspace.allocated)
    assert sizes[0] > 0
    assert sizes[1] == sizes[2]


def test_what_is_not_covered_goes_to_the_numpy_kernels():
    for dtype, groups in ((np.float64, 1), (np.float32, 2)):
        x, w = (a.astype(dtype) for a in arrays(0, (2, 6, 6, 4), (3, 3, 4 // groups, 4)))
        more = (None, 1, "same", 1, groups, "relu")
        y, cache = forward(x, w, *more)
        want, _ = without_fast(conv2d_block_forward)(x, w, *more)
        np.testing.assert_array_equal(y, want)
        gradients = backward(y, cache)
        assert gradients[0].dtype == dtype


def test_arrays_with_gaps_and_read_only_ones():
    x, w = arrays(0, (2, 6, 12, 2 * LANES), (3, 3, LANES, LANES))
    gaps = x[:, :, ::2, ::2]
    want, _ = forward(np.ascontiguousarray(gaps), w, None, 1, "same")
    x.flags.writeable = False
    y, cache = forward(gaps, w, None, 1, "same")
    np.testing.assert_array_equal(y, want)
    dy = np.swapaxes(np.ascontiguousarray(np.swapaxes(y, 1, 2)), 1, 2)
    for a, c in zip(backward(dy, cache), backward(y, cache), strict=True):
        assert (a is None and c is None) or (a == c).all()


@drawn_some
@given(g=conv_geometries(max_groups=1), seed=seeds())
def test_the_single_layer_and_its_cache(g, seed):
    x, w, b = arrays(seed, g.input_shape, g.weight_shape, (g.filters,))
    b = b if g.bias else None
    more = (g.stride, g.padding, g.dilation, 1)
    y, cache = conv_block.conv2d_forward_compiled(x, w, b, *more)
    want, want_cache = conv2d_forward.reference(x, w, b, *more)
    assert_near(y, want, EXACT)
    np.testing.assert_array_equal(cache.padded, want_cache.padded)
    for other in (cache, want_cache):
        got = conv_block.conv2d_backward_compiled(y, other)
        for ours, theirs in zip(got, conv2d_backward.reference(y, want_cache), strict=True):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                assert_near(ours, theirs, EXACT)


def test_winograd_can_be_turned_off(monkeypatch):
    x, w = arrays(0, (1, 9, 9, 2 * LANES), (3, 3, 2 * LANES, LANES))
    by_winograd, _ = forward(x, w, None, 1, "same")
    monkeypatch.setattr(conv_by_winograd, "WINOGRAD", False)
    plain, _ = forward(x, w, None, 1, "same")
    want, _ = conv2d_forward.reference(x.astype(float), w.astype(float), None, 1, "same")
    assert (by_winograd != plain).any()
    assert abs(plain - want).max() < abs(by_winograd - want).max()
