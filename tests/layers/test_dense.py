import numpy as np
import pytest

from tinynet.layers import Dense, dense_forward


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
    with pytest.raises(ValueError, match=name + r"input shape is \(5,\), want \(4,\)"):
        layer.output_shape((5,))
    with pytest.raises(ValueError, match=r"x is \(2, 5\) and w \(4, 3\)"):
        dense_forward(np.zeros((2, 5)), np.zeros((4, 3)))
