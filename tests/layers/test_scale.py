import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn, drawn_few, normal, torch_pass
from tinynet.gradient_check import check_backward, check_gradients
from tinynet.layers import Dense, Residual, Scale, Sequential, scale_backward, scale_forward
from tinynet.testing.strategies import seeds

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
FACTORS = st.sampled_from([0.1, 0.3, 1.0, -2.0, 0.0])


@drawn
@given(shape=SHAPES, factor=FACTORS, strided=st.booleans(), seed=seeds())
def test_equals_torch(torch, shape, factor, strided, seed):
    x, dy = normal(seed, shape, shape, strided=strided)
    y, cache = scale_forward(x, factor)
    wanted = torch_pass(torch, lambda x: x * factor, dy, x)
    assert_close(y, wanted[0])
    assert_close(scale_backward(dy, cache), wanted[1])


@drawn_few
@given(shape=SHAPES, factor=FACTORS, seed=seeds())
def test_gradients(shape, factor, seed):
    (x,) = normal(seed, shape)
    check_backward(scale_forward, scale_backward, (x, factor))
    check_gradients(Scale(factor), x)


def test_a_scaled_residual_branch_is_its_branch_with_smaller_weights():
    x, dy = normal(0, (2, 3), (2, 3))
    dense = Dense(3, 3, rng=np.random.default_rng(0)).to(dtype="float64")
    scaled = Residual(Sequential(dense, Scale(0.25)))
    y, cache = scaled.forward(x)
    assert_close(y, x + 0.25 * (x @ dense.weight.value + dense.bias.value))
    dx = scaled.backward(dy, cache)
    assert_close(dx, dy + 0.25 * dy @ dense.weight.value.T)
    assert_close(dense.weight.grad, 0.25 * x.T @ dy)


def test_keeps_shape_and_dtype():
    x = np.ones((2, 3, 4), np.float32)
    layer = Scale(np.float64(0.5))  # a NumPy float64 must not widen float32
    y, cache = layer.forward(x)
    assert y.dtype == layer.backward(y, cache).dtype == np.float32
    assert y.shape == (2, *layer.output_shape((3, 4)))
    assert repr(layer) == "Scale(0.5)"
    assert not layer.parameters()
