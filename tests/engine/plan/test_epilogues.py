"""engine/plan/epilogues.py: the references of fused operations are the layers, one by one."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn_some, normal
from tinynet.engine.plan.epilogues import (
    EPILOGUES,
    NO_WINNER,
    batchnorm_fused_backward,
    batchnorm_fused_forward,
    conv2d_fused_backward,
    conv2d_fused_forward,
    epilogue_backward,
    epilogue_forward,
)
from tinynet.gradient_check import check_backward
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Conv2D, MaxPool2D, ReLU, Sequential
from tinynet.testing.strategies import conv_geometries, seeds

LAYERS = {
    "none": lambda: [],
    "relu": lambda: [ReLU()],
    "relu_pool": lambda: [ReLU(), MaxPool2D(2)],
}
each_epilogue = pytest.mark.parametrize("epilogue", EPILOGUES)


@drawn_some
@given(g=conv_geometries(), epilogue=st.sampled_from(EPILOGUES), seed=seeds())
def test_a_fused_convolution_is_its_layers(g, epilogue, seed):
    assume(epilogue != "relu_pool" or min(g.output_size) > 1)
    x, w, b = normal(seed, g.input_shape, g.weight_shape, (g.filters,))
    conv = Conv2D(
        *(g.channels, g.filters, g.kernel, g.stride, g.padding, g.dilation, g.groups),
        rng=np.random.default_rng(0),
        dtype="float64",
    )
    conv.weight.value[...], conv.bias.value[...] = w, b
    layers = Sequential(conv, *LAYERS[epilogue]())
    want, layers_cache = layers.forward(x)
    more = (g.stride, g.padding, g.dilation, g.groups, epilogue)
    y, cache = conv2d_fused_forward.reference(x, w, b, *more)
    assert_close(y, want)
    (dy,) = normal(seed + 1, y.shape)
    dx, dw, db = conv2d_fused_backward.reference(dy, cache)
    assert_close(dx, layers.backward(dy, layers_cache))
    assert_close(dw, conv.weight.grad)
    assert_close(db, conv.bias.grad)
    without, same_dw, _ = conv2d_fused_backward.reference(dy, cache, False)
    assert without is None
    assert_close(same_dw, dw)
    _, no_bias = conv2d_fused_forward.reference(x, w, None, *more)
    assert conv2d_fused_backward.reference(dy, no_bias)[2] is None


@each_epilogue
def test_a_fused_batch_norm_is_its_layers(epilogue):
    x, gamma, beta = normal(0, (3, 5, 4, 2), (2,), (2,))
    norm = BatchNorm(2, epsilon=0.1, dtype="float64")
    norm.gamma.value[...], norm.beta.value[...] = gamma, beta
    layers = Sequential(norm, *LAYERS[epilogue]())
    want, layers_cache = layers.forward(x, Mode(train=True))
    y, cache = batchnorm_fused_forward.reference(x, gamma, beta, 0.1, epilogue)
    assert_close(y, want)
    assert_close(cache[0].mean, x.mean(axis=(0, 1, 2)))
    assert_close(cache[0].variance, x.var(axis=(0, 1, 2)))
    (dy,) = normal(1, y.shape)
    dx, dgamma, dbeta = batchnorm_fused_backward.reference(dy, cache)
    assert_close(dx, layers.backward(dy, layers_cache))
    assert_close(dgamma, norm.gamma.grad)
    assert_close(dbeta, norm.beta.grad)


@each_epilogue
def test_gradients(epilogue):
    """The reference's, by finite differences; everything else is compared with the reference."""
    z = normal(0, (2, 4, 5, 2))
    forward = lambda z: epilogue_forward(z, epilogue)  # noqa: E731
    check_backward(forward, epilogue_backward, tuple(z))


def test_the_winner_is_the_first_of_equals_and_no_cell_where_relu_is_0():
    z = np.array([[-1.0, -2, 3, 3], [-3, 0, 1, 3]]).reshape(1, 2, 4, 1)
    y, epilogue = epilogue_forward(z, "relu_pool")
    np.testing.assert_array_equal(y.reshape(-1), [0, 3])
    np.testing.assert_array_equal(epilogue.winner.reshape(-1), [NO_WINNER, 0])
    assert epilogue.winner.dtype == np.uint8


def test_a_tie_across_the_diagonal_goes_to_the_upper_right():
    z = np.array([[0.0, 3], [3, 0]]).reshape(1, 2, 2, 1)
    for forward in (conv2d_fused_forward, conv2d_fused_forward.reference):
        _, (_, epilogue) = forward(z, np.ones((1, 1, 1, 1)), epilogue="relu_pool")
        assert epilogue.winner.item() == 1


def test_an_unknown_epilogue():
    with pytest.raises(ValueError, match="epilogue is 'pool', want one of none, relu, relu_pool"):
        epilogue_forward(np.zeros((1, 2, 2, 1)), "pool")
