"""Compiled depthwise convolution beside the NumPy kernels, over drawn geometries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import drawn, frozen
from tinynet.engine.kernels.numpy import depthwise as by_numpy
from tinynet.layers.window import pair, window_over
from tinynet.testing.strategies import conv_geometries, seeds

pytest.importorskip("numba", reason='Numba is not installed: pip install ".[fast]"')

from tinynet.engine.kernels.numba import depthwise  # noqa: E402


def three(way, p, w, b, dz, window):
    """z, dw and dx by one module."""
    return (
        way.product(p, w, b, window),
        way.weight_gradient(dz, p, w, window),
        way.input_gradient(dz, w, window, p.shape[3]),
    )


@drawn
@given(
    g=conv_geometries(max_kernel=5),
    channels=st.sampled_from([1, 3, 33]),
    filters_each=st.sampled_from([1, 1, 1, 2]),
    dtype=st.sampled_from(["float32", "float64"]),
    seed=seeds(),
)
def test_the_numpy_kernels_numbers(g, channels, filters_each, dtype, seed):
    window = window_over(
        (g.height, g.width),
        g.kernel,
        pair(g.stride, "stride"),
        g.padding,
        pair(g.dilation, "dilation"),
    )
    filters, rng = channels * filters_each, np.random.default_rng(seed)
    x, w, b, dz = (
        frozen(rng.standard_normal(shape).astype(dtype))
        for shape in (
            (g.batch, g.height, g.width, channels),
            (*g.kernel, 1, filters),
            (filters,),
            (g.batch, *window.output_size, filters),
        )
    )
    arguments = window.pad(x), w, b if g.bias else None, dz, window
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for got, want in zip(three(depthwise, *arguments), three(by_numpy, *arguments), strict=True):
        assert got.dtype == want.dtype
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def test_one_filter_a_channel_is_covered():
    x = np.zeros((1, 4, 4, 6), "float32")
    for filters, covered in ((6, True), (12, False)):
        w = np.zeros((3, 3, 1, filters), "float32")
        assert depthwise.covers(w, 6, x) is covered
