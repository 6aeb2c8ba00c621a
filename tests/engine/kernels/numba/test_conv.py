"""Compiled convolutions over drawn shapes, in float32, against the reference in float64."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.layers.support import drawn, drawn_some, normal
from tinynet.backend import load_kernels
from tinynet.engine.kernels.numpy.winograd import A_T, B_T, G
from tinynet.engine.plan.epilogues import EPILOGUES, conv2d_fused_backward, conv2d_fused_forward
from tinynet.testing.strategies import conv_geometries, seeds

pytest.importorskip("numba", reason='Numba is not installed: pip install ".[fast]"')
load_kernels("numba")

from tinynet.engine.kernels.numba import winograd as compiled  # noqa: E402
from tinynet.engine.kernels.numba.conv import fits_winograd  # noqa: E402
from tinynet.engine.kernels.numba.vectors import LANES  # noqa: E402

forward, backward = conv2d_fused_forward.kernels["numba"], conv2d_fused_backward.kernels["numba"]
EXACT = 2e-6  # of the largest element, for sums of some dozen products in float32
WINOGRAD = 2e-5  # of the largest element: its numbers are scaled up to 25 times on the way


def arrays(seed, *shapes):
    return [a.astype(np.float32) for a in normal(seed, *shapes)]


def compare(shape, w_shape, bias, more, seed, tolerance, need_dx=True):
    """Both passes, the second from either cache."""
    x, w, b = arrays(seed, shape, w_shape, w_shape[-1:])
    b = b if bias else None
    y, cache = forward(x, w, b, *more)
    wide = [None if a is None else a.astype(np.float64) for a in (x, w, b)]
    want, want_cache = conv2d_fused_forward.reference(*wide, *more)
    (dy,) = arrays(seed + 1, y.shape)
    # ReLU and pool decide by rounding where numbers are near; their decisions are the compiled ones
    same = want_cache[0], cache[1]
    wanted = conv2d_fused_backward.reference(dy.astype(np.float64), same, need_dx)
    for ours, theirs in zip((y, *backward(dy, cache, need_dx)), (want, *wanted), strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            assert (ours.dtype, ours.shape) == (np.float32, theirs.shape)
            error = abs(ours - theirs).max(initial=0)
            assert error <= tolerance * abs(theirs).max(initial=1e-30)
    return w, cache


@pytest.mark.slow
@drawn_some
@given(
    g=conv_geometries(max_groups=1, max_kernel=5),
    epilogue=st.sampled_from(EPILOGUES),
    depthwise=st.sampled_from([0, 0, 2, 33]),
    seed=seeds(),
)
def test_every_geometry(g, epilogue, depthwise, seed):
    assume(epilogue != "relu_pool" or min(g.output_size) > 1)
    shape, w_shape = g.input_shape, g.weight_shape
    if depthwise:
        shape, w_shape = (*shape[:3], depthwise), (*g.kernel, 1, depthwise)
    more = (g.stride, g.padding, g.dilation, max(depthwise, 1), epilogue)
    compare(shape, w_shape, g.bias, more, seed, EXACT)


CHANNELS = (1, 3, LANES, LANES + 3, 2 * LANES, 3 * LANES, 4 * LANES + 5)


@pytest.mark.slow
@drawn_some
@given(
    channels=st.sampled_from(CHANNELS),
    filters=st.sampled_from(CHANNELS),
    kernel=st.sampled_from([(1, 1), (3, 3), (1, 5), (2, 3)]),
    stride=st.integers(1, 2),
    epilogue=st.sampled_from(EPILOGUES),
    seed=seeds(),
)
def test_registers_full_and_part_full(channels, filters, kernel, stride, epilogue, seed):
    shapes = (2, 7, 6, channels), (*kernel, channels, filters)
    compare(*shapes, True, (stride, "same", 1, 1, epilogue), seed, WINOGRAD)


STEPS = {"transform_input": B_T, "transform_filter": G, "transform_output": A_T}
STEPS |= {"input_gradient": B_T.T, "filter_gradient": G.T, "output_gradient": A_T.T}


@pytest.mark.parametrize("name", STEPS)
def test_winograds_compiled_steps_are_numpys_matrices(name):
    step = getattr(compiled, name).py_func
    found = np.transpose([step(*row) for row in np.eye(STEPS[name].shape[1])])
    np.testing.assert_allclose(found, STEPS[name], atol=1e-15)


def draw_winograd(test):
    return given(
        size=st.tuples(st.integers(1, 5), st.integers(4, 14), st.integers(4, 14)),
        channels=st.sampled_from(CHANNELS[2:]),
        filters=st.sampled_from(CHANNELS[2:]),
        padding=st.sampled_from(["same", "valid", 2, ((0, 3), (2, 1))]),
        epilogue=st.sampled_from(EPILOGUES),
        need_dx=st.booleans(),
        seed=seeds(),
    )(test)


def winograd(size, channels, filters, padding, epilogue, need_dx, seed):
    shapes = (*size, channels), (3, 3, channels, filters)
    more = (1, padding, 1, 1, epilogue)
    w, cache = compare(*shapes, True, more, seed, WINOGRAD, need_dx)
    fits = epilogue != "relu_pool" or not filters % LANES
    assert fits_winograd(w, cache[0].window, epilogue) == fits


test_winograd = drawn_some(draw_winograd(winograd))
test_winograd_of_many_shapes = pytest.mark.slow(drawn(draw_winograd(winograd)))


def test_winograds_error_is_what_the_documentation_says():
    """Largest error over the largest output, for numbers of one size: grows little with C."""
    errors = {}
    for channels in (LANES, 64, 256):
        x, w = arrays(channels, (1, 20, 20, channels), (3, 3, channels, 32))
        y, _ = forward(x, w, None, 1, "same")
        want, _ = conv2d_fused_forward.reference(x.astype(float), w.astype(float), None, 1, "same")
        errors[channels] = abs(y - want).max() / abs(want).max()
    assert min(errors.values()) > 1e-7
    assert max(errors.values()) < 2e-5


def test_winograd_can_be_turned_off(monkeypatch):
    x, w = arrays(0, (1, 9, 9, 2 * LANES), (3, 3, 2 * LANES, LANES))
    by_winograd, _ = forward(x, w, None, 1, "same")
    monkeypatch.setenv("TINYNET_WINOGRAD", "0")
    plain, _ = forward(x, w, None, 1, "same")
    want, _ = conv2d_fused_forward.reference(x.astype(float), w.astype(float), None, 1, "same")
    assert (by_winograd != plain).any()
    assert abs(plain - want).max() < abs(by_winograd - want).max()
