"""engine/plan/epilogues.py: the references of blocks are the single layers, one after the other."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn_few, drawn_some, normal
from tinynet.engine.plan.epilogues import (
    NO_WINNER,
    TAILS,
    batchnorm_block_backward,
    batchnorm_block_forward,
    conv2d_block_backward,
    conv2d_block_forward,
    tail_forward,
)
from tinynet.gradient_check import check_backward
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Conv2D, MaxPool2D, ReLU, Sequential
from tinynet.testing.strategies import conv_geometries, seeds

TAIL_LAYERS = {
    "none": lambda: [],
    "relu": lambda: [ReLU()],
    "relu_pool": lambda: [ReLU(), MaxPool2D(2)],
}
each_tail = pytest.mark.parametrize("tail", TAILS)


@drawn_some
@given(g=conv_geometries(), tail=st.sampled_from(TAILS), seed=seeds())
def test_a_convolution_block_is_its_layers(g, tail, seed):
    assume(tail != "relu_pool" or min(g.output_size) > 1)
    x, w, b = normal(seed, g.input_shape, g.weight_shape, (g.filters,))
    rng = np.random.default_rng(0)
    conv = Conv2D(
        *(g.channels, g.filters, g.kernel, g.stride, g.padding, g.dilation, g.groups),
        rng=rng,
        dtype="float64",
    )
    conv.weight.value[...], conv.bias.value[...] = w, b
    layers = Sequential(conv, *TAIL_LAYERS[tail]())
    want, layers_cache = layers.forward(x)
    more = (g.stride, g.padding, g.dilation, g.groups, tail)
    y, cache = conv2d_block_forward.reference(x, w, b, *more)
    assert_close(y, want)
    (dy,) = normal(seed + 1, y.shape)
    dx, dw, db = conv2d_block_backward.reference(dy, cache)
    assert_close(dx, layers.backward(dy, layers_cache))
    assert_close(dw, conv.weight.grad)
    assert_close(db, conv.bias.grad)
    without, same_dw, _ = conv2d_block_backward.reference(dy, cache, False)
    assert without is None
    assert_close(same_dw, dw)
    no_bias, cache = conv2d_block_forward.reference(x, w, None, *more)
    assert conv2d_block_backward.reference(dy, cache)[2] is None


@each_tail
def test_a_batch_norm_block_is_its_layers(tail):
    x, gamma, beta = normal(0, (3, 5, 4, 2), (2,), (2,))
    norm = BatchNorm(2, epsilon=0.1, dtype="float64")
    norm.gamma.value[...], norm.beta.value[...] = gamma, beta
    layers = Sequential(norm, *TAIL_LAYERS[tail]())
    want, layers_cache = layers.forward(x, Mode(train=True))
    y, cache = batchnorm_block_forward.reference(x, gamma, beta, 0.1, tail)
    assert_close(y, want)
    assert_close(cache.mean, x.mean(axis=(0, 1, 2)))
    assert_close(cache.variance, x.var(axis=(0, 1, 2)))
    (dy,) = normal(1, y.shape)
    dx, dgamma, dbeta = batchnorm_block_backward.reference(dy, cache)
    assert_close(dx, layers.backward(dy, layers_cache))
    assert_close(dgamma, norm.gamma.grad)
    assert_close(dbeta, norm.beta.grad)


@each_tail
@drawn_few
@given(seed=seeds())
def test_gradients_of_a_convolution_block(tail, seed):
    x, w, b = normal(seed, (2, 4, 5, 2), (3, 3, 2, 3), (3,))
    more = (1, "same", 1, 1, tail)
    check_backward(
        lambda x, w, b: conv2d_block_forward.reference(x, w, b, *more),
        conv2d_block_backward.reference,
        (x, w, b),
    )


@each_tail
@drawn_few
@given(seed=seeds())
def test_gradients_of_a_batch_norm_block(tail, seed):
    x, gamma, beta = normal(seed, (2, 4, 5, 2), (2,), (2,))
    check_backward(
        lambda x, gamma, beta: batchnorm_block_forward.reference(x, gamma, beta, 1e-3, tail),
        batchnorm_block_backward.reference,
        (x, gamma, beta),
    )


def test_the_winner_is_the_first_of_equals_and_nobody_where_relu_is_0():
    z = np.array([[-1.0, -2, 3, 3], [-3, 0, 1, 3]]).reshape(1, 2, 4, 1)
    y, tail = tail_forward(z, "relu_pool")
    np.testing.assert_array_equal(y.reshape(-1), [0, 3])
    np.testing.assert_array_equal(tail.winner.reshape(-1), [NO_WINNER, 0])
    assert tail.winner.dtype == np.uint8


def test_an_unknown_tail():
    with pytest.raises(ValueError, match="tail is 'pool', want one of none, relu, relu_pool"):
        tail_forward(np.zeros((1, 2, 2, 1)), "pool")
