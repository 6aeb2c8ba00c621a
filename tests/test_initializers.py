"""Ranges and variances of starting weights, by tinynet.testing.statistics."""

import math

import numpy as np
import pytest

from tinynet.initializers import fan_in_uniform, fans, glorot_uniform, he_normal, zeros
from tinynet.layers import Conv2D, Dense
from tinynet.testing.statistics import check_normal, check_uniform

SHAPES = [(300, 200), (3, 5, 40, 60), (2, 1, 7, 900)]


def generator():
    return np.random.Generator(np.random.Philox(11))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((7, 3), (7, 3)), ((3, 5, 4, 8), (60, 120)), ((1, 1, 1, 6), (1, 6)), ((3, 2, 4), (6, 12))],
)
def test_fans_are_receptive_field_times_channels(shape, expected):
    assert fans(shape) == expected


@pytest.mark.parametrize("shape", [(), (3,), (3, 0), (3, 3, 0, 2)])
def test_fans_of_a_shape_without_them_is_a_clear_error(shape):
    with pytest.raises(ValueError, match="want \\(in, out\\)"):
        fans(shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_glorot_uniform_has_the_keras_limit(shape):
    fan_in, fan_out = fans(shape)
    limit = math.sqrt(6 / (fan_in + fan_out))
    check_uniform(glorot_uniform(shape, generator(), "float64"), -limit, limit)


@pytest.mark.parametrize("shape", SHAPES)
def test_fan_in_uniform_has_the_report_limit(shape):
    limit = 1 / math.sqrt(fans(shape)[0])
    check_uniform(fan_in_uniform(shape, generator(), "float64"), -limit, limit)


@pytest.mark.parametrize("shape", SHAPES)
def test_he_normal_has_variance_two_over_fan_in(shape):
    check_normal(he_normal(shape, generator(), "float64"), 0, 2 / fans(shape)[0])


@pytest.mark.parametrize(
    "layer", [Dense(300, 200, rng=generator()), Conv2D(40, 60, 3, rng=generator())]
)
def test_layers_start_with_glorots_unless_told(layer):
    w = layer.weight.value
    limit = math.sqrt(6 / sum(fans(w.shape)))
    check_uniform(w, -limit, limit)


@pytest.mark.parametrize("initializer", [glorot_uniform, fan_in_uniform, he_normal])
def test_same_generator_same_weights_whatever_the_dtype(initializer):
    w32 = initializer((4, 5), generator())
    w64 = initializer((4, 5), generator(), "float64")
    assert w32.dtype == np.float32
    assert w64.dtype == np.float64
    np.testing.assert_array_equal(w32, w64.astype(np.float32))
    other = initializer((4, 5), np.random.Generator(np.random.Philox(12)))
    assert not np.array_equal(w32, other)


def test_zeros_are_zeros_and_draw_nothing():
    rng = generator()
    w = zeros((2, 3), rng, "float64")
    assert w.dtype == np.float64
    np.testing.assert_array_equal(w, np.zeros((2, 3)))
    assert rng.random() == generator().random()


def test_glorot_uniform_equals_torch_in_its_limit():
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    # torch keeps dense weights as (out, in) and filters as (out, in, h, w)
    dense = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(3, 7))
    filters = torch.nn.init._calculate_fan_in_and_fan_out(torch.empty(8, 4, 3, 5))
    assert fans((7, 3)) == dense
    assert fans((3, 5, 4, 8)) == filters
