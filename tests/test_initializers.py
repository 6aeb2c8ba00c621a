"""Ranges and variances of starting weights.

A mean of n draws is within 6 standard errors of its expectation but for 2 seeds in 1e9; the seeds
are fixed besides, so these tests either always pass or never.
"""

import math

import numpy as np
import pytest

from tinynet.initializers import fan_in_uniform, fans, glorot_uniform, he_normal, zeros

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
    check_uniform(glorot_uniform(shape, generator(), "float64"), math.sqrt(6 / (fan_in + fan_out)))


@pytest.mark.parametrize("shape", SHAPES)
def test_fan_in_uniform_has_the_report_limit(shape):
    check_uniform(fan_in_uniform(shape, generator(), "float64"), 1 / math.sqrt(fans(shape)[0]))


def check_uniform(w, limit):
    """w fills [-limit, limit], with the mean 0 and the variance limit² / 3."""
    n = w.size
    assert np.abs(w).max() <= limit
    # the largest of n is below limit · (1 - 25 / n) with probability e⁻²⁵
    assert w.max() > limit * (1 - 50 / n)
    assert w.min() < -limit * (1 - 50 / n)
    assert abs(w.mean()) < 6 * limit / math.sqrt(3 * n)
    # the variance of (w / limit)² is 1/5 - 1/9 = 4/45
    assert abs((w**2).mean() - limit**2 / 3) < 6 * limit**2 * math.sqrt(4 / 45 / n)


@pytest.mark.parametrize("shape", SHAPES)
def test_he_normal_has_variance_two_over_fan_in(shape):
    w = he_normal(shape, generator(), "float64")
    variance = 2 / fans(shape)[0]
    n = w.size
    assert abs(w.mean()) < 6 * math.sqrt(variance / n)
    assert abs((w**2).mean() - variance) < 6 * variance * math.sqrt(2 / n)
    assert np.abs(w).max() > 3 * math.sqrt(variance)  # not truncated at 2σ


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
