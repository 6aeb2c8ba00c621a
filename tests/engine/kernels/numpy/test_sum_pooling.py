"""Sum and average pooling of the NumPy kernels against their references."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn_some, normal
from tinynet.layers.pooling import (
    avg_pool2d_backward,
    avg_pool2d_forward,
    global_avg_pool2d_forward,
    sum_pool2d_backward,
    sum_pool2d_forward,
)
from tinynet.testing.strategies import pool_geometries, seeds


@pytest.mark.parametrize(
    ("forward", "backward", "more"),
    [
        (sum_pool2d_forward, sum_pool2d_backward, ()),
        (avg_pool2d_forward, avg_pool2d_backward, (False,)),
        (avg_pool2d_forward, avg_pool2d_backward, (True,)),
    ],
)
@drawn_some
@given(g=pool_geometries(), seed=seeds())
def test_sums_and_averages(forward, backward, more, g, seed):
    x, dy = normal(seed, g.input_shape, g.output_shape, strided=bool(seed % 2))
    arguments = (x, g.pool_size, g.stride, g.padding, *more)
    want, reference_cache = forward.reference(*arguments)
    y, cache = forward.kernels["numpy"](*arguments)
    assert_close(y, want)
    wanted = backward.reference(dy, reference_cache)
    assert_close(backward.kernels["numpy"](dy, reference_cache), wanted)
    assert_close(backward.reference(dy, cache), wanted)


@drawn_some
@given(shape=st.tuples(*[st.integers(1, 5)] * 4), seed=seeds())
def test_global_average(shape, seed):
    (x,) = normal(seed, shape)
    want, shape = global_avg_pool2d_forward.reference(x)
    y, cache = global_avg_pool2d_forward.kernels["numpy"](x)
    assert_close(y, want)
    assert cache == shape


def test_whole_numbers_are_left_to_the_references():
    x = np.arange(16).reshape(1, 4, 4, 1)
    for forward, arguments in (
        (sum_pool2d_forward, (x, 2)),
        (avg_pool2d_forward, (x, 2)),
        (global_avg_pool2d_forward, (x,)),
    ):
        want, got = forward.reference(*arguments)[0], forward.kernels["numpy"](*arguments)[0]
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype
