import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn, drawn_few, normal, torch_pass
from tinynet.gradient_check import check_backward, check_gradients
from tinynet.layers import Flatten, flatten_backward, flatten_forward
from tinynet.testing.strategies import seeds

SHAPES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


@drawn
@given(shape=SHAPES, strided=st.booleans(), seed=seeds())
def test_equals_torch(torch, shape, strided, seed):
    flat = (shape[0], int(np.prod(shape[1:])))
    x, dy = normal(seed, shape, flat, strided=strided)
    y, cache = flatten_forward(x)
    wanted = torch_pass(torch, lambda x: x.reshape(shape[0], -1), dy, x)
    assert_close(y, wanted[0])
    assert_close(flatten_backward(dy, cache), wanted[1])


@drawn_few
@given(shape=SHAPES, seed=seeds())
def test_gradients(shape, seed):
    (x,) = normal(seed, shape)
    check_backward(flatten_forward, flatten_backward, (x,))
    check_gradients(Flatten(), x)


def test_order_is_row_by_row_channels_last():
    (x,) = normal(0, (2, 3, 4, 5))
    y, _ = flatten_forward(x)
    for n, h, w, c in np.ndindex(x.shape):
        assert y[n, (h * 4 + w) * 5 + c] == x[n, h, w, c]


def test_declares_its_output_shape():
    y, _ = Flatten().forward(np.zeros((2, 10, 10, 5), np.float32))
    assert y.shape == (2, *Flatten().output_shape((10, 10, 5))) == (2, 500)
    assert y.dtype == np.float32
