"""Every CPU kernel against its reference, cut into blocks as small as one image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn, drawn_some, normal
from tinynet import use_reference
from tinynet.engine import threads
from tinynet.engine.kernels.numpy import conv_ways, depthwise, grouped, im2col
from tinynet.layers import (
    batchnorm_backward,
    batchnorm_forward,
    conv2d_backward,
    conv2d_forward,
    max_pool2d_backward,
    max_pool2d_forward,
    relu6_backward,
    relu6_forward,
    relu_backward,
    relu_forward,
)
from tinynet.layers.window import window_over
from tinynet.testing.strategies import conv_geometries, pool_geometries, seeds, tie_full_arrays

pytestmark = pytest.mark.usefixtures("numpy_kernels")


def both(forward, backward, arguments, dy=None):
    """(y, gradients...) by the kernels, and by the references, on the same arguments."""
    results = []
    for f, b in ((forward, backward), (forward.reference, backward.reference)):
        y, cache = f(*arguments)
        upstream = np.random.default_rng(7).standard_normal(y.shape) if dy is None else dy
        gradients = b(upstream.astype(y.dtype), cache)
        results.append((y, *(gradients if isinstance(gradients, tuple) else (gradients,))))
    return zip(*results, strict=True)


@drawn
@given(g=conv_geometries(), strided=st.booleans(), seed=seeds())
def test_conv2d(g, strided, seed):
    x, w, b = normal(seed, g.input_shape, g.weight_shape, (g.filters,), strided=strided)
    settings = (g.stride, g.padding, g.dilation, g.groups)
    for got, want in both(
        conv2d_forward, conv2d_backward, (x, w, b if g.bias else None, *settings)
    ):
        assert (got is None) == (want is None)
        if want is not None:
            assert_close(got, want)


@drawn
@given(g=conv_geometries(), seed=seeds())
def test_conv2d_caches_are_exchangeable(g, seed):
    x, w, dz = normal(seed, g.input_shape, g.weight_shape, g.output_shape)
    arguments = (x, w, None, g.stride, g.padding, g.dilation, g.groups)
    _, cache = conv2d_forward(*arguments)
    _, reference_cache = conv2d_forward.reference(*arguments)
    for one, other in zip(
        conv2d_backward.reference(dz, cache), conv2d_backward(dz, reference_cache), strict=True
    ):
        if one is not None:
            assert_close(one, other)


@drawn_some
@given(g=pool_geometries(), data=st.data())
def test_max_pool2d(g, data):
    x = data.draw(tie_full_arrays(g.input_shape))
    arguments = (x, g.pool_size, g.stride, g.padding)
    for got, want in both(max_pool2d_forward, max_pool2d_backward, arguments):
        np.testing.assert_array_equal(got, want)


def test_max_pool2d_of_a_nan():
    x = np.arange(32.0).reshape(1, 4, 4, 2)
    x[0, 1, 0, 0] = np.nan
    for got, want in both(max_pool2d_forward, max_pool2d_backward, (x, 2)):
        np.testing.assert_array_equal(got, want)


@drawn_some
@given(shape=st.tuples(*[st.integers(1, 5)] * 4), seed=seeds())
def test_batchnorm(shape, seed):
    x, gamma, beta = normal(seed, shape, shape[-1:], shape[-1:])
    for got, want in both(batchnorm_forward, batchnorm_backward, (x, gamma, beta)):
        assert_close(got, want)


@drawn_some
@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), seed=seeds())
def test_relu(shape, seed):
    (x,) = normal(seed, tuple(shape))
    for got, want in both(relu_forward, relu_backward, (x, 0.25)):
        np.testing.assert_array_equal(got, want)
    for got, want in both(relu6_forward, relu6_backward, (3 + 4 * x,)):
        np.testing.assert_array_equal(got, want)


def test_each_kind_of_convolution_has_its_way():
    for shape, groups, way in (
        ((3, 3, 8, 8), 1, im2col),
        ((3, 3, 1, 8), 1, im2col),  # one channel is no group
        ((3, 3, 4, 8), 2, grouped),
        ((3, 3, 1, 8), 8, depthwise),
        ((3, 3, 1, 16), 8, depthwise),
    ):
        assert conv_ways.way_for(np.zeros(shape), groups) is way


def test_bundles_hold_whole_groups_and_every_channel_once(monkeypatch):
    monkeypatch.setattr(grouped, "BUNDLE", 32)
    w = np.zeros((3, 3, 12, 20))  # five groups of 12 channels and 4 filters, two to a bundle
    parts = list(grouped.bundles(60, w))
    assert [(c.start, c.stop) for c, _ in parts] == [(0, 24), (24, 48), (48, 60)]
    assert [(k.start, k.stop) for _, k in parts] == [(0, 8), (8, 16), (16, 20)]
    wide = list(grouped.bundles(128, np.zeros((3, 3, 64, 10))))
    assert [c.stop - c.start for c, _ in wide] == [64, 64]


def test_filters_of_a_bundle_are_0_between_the_groups():
    (w,) = normal(0, (2, 3, 2, 6))
    dense = grouped.dense_filters(w, 4)
    assert_close(dense[:, :, :2, :3], w[..., :3])
    assert_close(dense[:, :, 2:, 3:], w[..., 3:])
    assert not dense[:, :, :2, 3:].any()
    assert not dense[:, :, 2:, :3].any()
    assert_close(grouped.blocks_of(dense, 2), w)


def test_pieces_cover_every_row_once_and_stay_small(monkeypatch):
    monkeypatch.setattr(threads, "BLOCK_BYTES", 1 << 20)
    w = np.zeros((3, 3, 64, 64), np.float32)  # VGG16's second layer: A of one image is 110 MiB
    window = window_over((224, 224), (3, 3), padding="same")
    pieces = list(im2col.pieces(slice(0, 2), window, w))
    rows = [(some.start, row) for some, out, _, _ in pieces for row in range(out.start, out.stop)]
    assert rows == [(n, row) for n in range(2) for row in range(224)]
    for _, out, under, part in pieces:
        assert part.output_size == (out.stop - out.start, 224)
        assert under.stop - under.start == part.size[0] == out.stop - out.start + 2
        assert part.output_size[0] * 224 * w[..., 0].nbytes <= 1 << 20
    wide = np.zeros((3, 3, 512, 512), np.float32)  # 9 MiB, read for every piece: no strips
    deep = window_over((14, 14), (3, 3), padding="same")
    assert [out for _, out, _, _ in im2col.pieces(slice(0, 2), deep, wide)] == [slice(0, 14)] * 2


def test_use_reference_leaves_the_kernels_out(monkeypatch):
    def kernel(*_):
        raise AssertionError("the kernel was called")

    monkeypatch.setitem(relu_forward.kernels, "numpy", kernel)
    with pytest.raises(AssertionError, match="the kernel was called"):
        relu_forward(np.ones(3))
    with use_reference():
        np.testing.assert_array_equal(relu_forward(np.ones(3))[0], np.ones(3))


@pytest.mark.parametrize("groups", [1, 3, 6])
def test_results_do_not_depend_on_the_number_of_threads(groups, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 6, 7, 6), dtype=np.float32)
    w = rng.standard_normal((3, 3, 6 // groups, 12), dtype=np.float32)
    results = []
    for count in (1, 2, 3):
        monkeypatch.setattr(threads, "thread_count", lambda count=count: count)
        z, cache = conv2d_forward(x, w, None, 1, "same", 1, groups)
        results.append([z, *conv2d_backward(np.ones_like(z), cache)[:2]])
    for one, two, three in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
