import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import (
    assert_close,
    channels_first,
    channels_last,
    drawn,
    drawn_few,
    normal,
    torch_pass,
)
from tinynet.gradient_check import check_backward, check_gradients
from tinynet.layers import (
    AdaptiveAvgPool2D,
    AvgPool2D,
    GlobalAvgPool2D,
    adaptive_avg_pool2d_backward,
    adaptive_avg_pool2d_forward,
)
from tinynet.testing.strategies import seeds

SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 15), st.integers(1, 15), st.just(3))
SIZES = st.tuples(st.integers(1, 6), st.integers(1, 6))


@drawn
@given(shape=SHAPES, size=SIZES, strided=st.booleans(), seed=seeds())
def test_equals_torch(torch, shape, size, strided, seed):
    x, dy = normal(seed, shape, (shape[0], *size, shape[3]), strided=strided)
    y, cache = adaptive_avg_pool2d_forward(x, size)

    def oracle(x):
        return channels_last(torch.nn.functional.adaptive_avg_pool2d(channels_first(x), size))

    wanted = torch_pass(torch, oracle, dy, x)
    assert_close(y, wanted[0])
    assert_close(adaptive_avg_pool2d_backward(dy, cache), wanted[1])


@drawn_few
@given(size=SIZES, seed=seeds())
def test_gradients(size, seed):
    (x,) = normal(seed, (2, 5, 7, 2))
    check_backward(adaptive_avg_pool2d_forward, adaptive_avg_pool2d_backward, (x, size))
    check_gradients(AdaptiveAvgPool2D(size), x)


def test_is_average_pooling_where_the_windows_meet_and_global_for_one_window():
    (x,) = normal(0, (2, 12, 8, 3))
    assert_close(AdaptiveAvgPool2D(4).forward(x)[0], AvgPool2D((3, 2)).forward(x)[0])
    assert_close(AdaptiveAvgPool2D(1).forward(x)[0][:, 0, 0], GlobalAvgPool2D().forward(x)[0])


def test_windows_that_do_not_meet_share_a_cell():
    x = np.arange(5.0).reshape(1, 1, 5, 1)
    y, cache = adaptive_avg_pool2d_forward(x, (1, 2))  # cells 0, 1, 2 and 2, 3, 4
    assert y.ravel().tolist() == [1, 3]
    dx = adaptive_avg_pool2d_backward(np.array([3.0, 30.0]).reshape(y.shape), cache)
    np.testing.assert_allclose(dx.ravel(), [1, 1, 11, 10, 10], rtol=1e-15)


def test_declares_its_output_shape_and_keeps_the_dtype():
    layer = AdaptiveAvgPool2D((4, 3))
    y, cache = layer.forward(np.ones((2, 9, 2, 5), np.float32))
    assert y.shape == (2, *layer.output_shape((9, 2, 5))) == (2, 4, 3, 5)
    assert y.dtype == layer.backward(y, cache).dtype == np.float32
    assert repr(layer) == "AdaptiveAvgPool2D(4×3)"


def test_errors():
    with pytest.raises(ValueError, match="output_size is 0"):
        AdaptiveAvgPool2D(0)
    with pytest.raises(ValueError, match=r"AdaptiveAvgPool2D\(2×2\): input is \(4, 4, 1\), want"):
        AdaptiveAvgPool2D(2).forward(np.zeros((4, 4, 1)))
    with pytest.raises(ValueError, match=r"x is \(4, 4\), want \(N, H, W, C\)"):
        adaptive_avg_pool2d_forward(np.zeros((4, 4)), 2)
    with pytest.raises(ValueError, match=r"AdaptiveAvgPool2D\(2×2\): input shape is \(4, 4\)"):
        AdaptiveAvgPool2D(2).output_shape((4, 4))
