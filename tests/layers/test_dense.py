import math

import numpy as np
import pytest

from tinynet.backend import use_kernels
from tinynet.layer import Mode
from tinynet.layers import Dense, Flatten, LayerNorm, Sequential, dense_forward
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.optimizers import SGD
from tinynet.train import TrainStep


def dense(*sizes, seed=0, **settings):
    return Dense(*sizes, rng=np.random.default_rng(seed), **settings)


def test_starts_with_glorot_weights_of_its_generator_and_no_bias():
    layer, limit = dense(100, 50), np.sqrt(6 / 150)
    assert abs(layer.weight.value).max() <= limit
    assert layer.weight.value.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
    assert layer.weight.value.dtype == np.float32
    assert not layer.bias.value.any()
    assert np.array_equal(dense(100, 50).weight.value, layer.weight.value)
    assert not np.array_equal(dense(100, 50, seed=1).weight.value, layer.weight.value)


def test_parameters_and_cost():
    assert dense(4, 3).multiply_adds((4,)) == 12
    assert list(dense(4, 3, bias=False).parameters()) == ["weight"]


def test_errors_name_the_layer_what_came_and_what_was_wanted():
    layer, name = dense(4, 3), r"Dense\(4, 3\): "
    with pytest.raises(ValueError, match=name + r"input is \(2, 5\), want \(N, 4\)"):
        layer.forward(np.zeros((2, 5), np.float32))
    with pytest.raises(TypeError, match=name + "input is float64, .* are float32"):
        layer.forward(np.zeros((2, 4)))
    with pytest.raises(ValueError, match=name + r"input shape is \(5,\), want 4 features last"):
        layer.output_shape((5,))
    with pytest.raises(ValueError, match=r"x is \(2, 5\) and w \(4, 3\)"):
        dense_forward(np.zeros((2, 5)), np.zeros((4, 3)))


@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
@pytest.mark.parametrize("shape", [(3, 5), (2, 2, 2)])
def test_a_sequence_is_its_vectors_one_by_one(kernels, shape):
    """With weights large enough for the kernels that go through them in runs of rows."""
    rng = np.random.default_rng(0)
    layer = Dense(600, 500, rng=rng)
    x = rng.standard_normal((*shape, 600)).astype(np.float32)
    dy = rng.standard_normal((*shape, 500)).astype(np.float32)
    found = []
    with use_kernels(kernels):
        for lead in (shape, (math.prod(shape),)):
            layer.zero_grad()
            z, cache = layer.forward(x.reshape(*lead, 600))
            dx = layer.backward(dy.reshape(*lead, 500), cache)
            assert (z.shape, dx.shape) == ((*lead, 500), (*lead, 600))
            assert layer.output_shape((*lead[1:], 600)) == (*lead[1:], 500)
            assert layer.multiply_adds((*lead[1:], 600)) == 300_000 * math.prod(lead[1:])
            found.append([z, dx, layer.weight.grad.copy(), layer.bias.grad.copy()])
    for sequence, rows in zip(*found, strict=True):
        np.testing.assert_allclose(sequence, rows.reshape(sequence.shape), rtol=1e-4, atol=1e-4)


def test_a_step_on_sequences_is_the_passes_by_hand():
    rng = np.random.default_rng(1)
    model = Sequential(Dense(3, 4, rng=rng), LayerNorm(4), Dense(4, 2, rng=rng), Flatten())
    x, y = rng.standard_normal((6, 5, 3)).astype(np.float32), rng.integers(0, 10, 6)
    loss, before = SoftmaxCrossEntropy(), model.layers[0].weight.value.copy()
    z, cache = model.forward(x, Mode(train=True))
    value, kept = loss.forward(z, y)
    model.backward(loss.backward(kept), cache)
    want = before - 0.1 * model.layers[0].weight.grad
    assert TrainStep(model, loss, SGD(0.1))(x, y) == pytest.approx(value, rel=1e-6)
    np.testing.assert_allclose(model.layers[0].weight.value, want, rtol=1e-5, atol=1e-6)
    assert "5 × 4" in model.summary((5, 3))
