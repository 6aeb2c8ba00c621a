import math

import numpy as np
import pytest

from tests.layers.support import assert_close, normal
from tinynet.gradient_check import GradientError, check_gradients
from tinynet.layers import (
    ReLU,
    ReLU6,
    Residual,
    Scale,
    Softmax,
    gelu_backward,
    gelu_forward,
    leaky_relu_backward,
    leaky_relu_forward,
    relu6_backward,
    relu6_forward,
    relu_backward,
    relu_forward,
    sigmoid_backward,
    sigmoid_forward,
    softmax_backward,
    softmax_forward,
    tanh_backward,
    tanh_forward,
)


def test_relu_keeps_its_threshold_not_zero_below_it():
    y, cache = relu_forward(np.array([-1.0, 0.5, 1.0, 2.0]), threshold=1.0)
    assert y.tolist() == [1.0, 1.0, 1.0, 2.0]
    assert relu_backward(np.full(4, 5.0), cache).tolist() == [0, 0, 0, 5]  # slope 0 at x = m
    assert [repr(ReLU()), repr(ReLU(0.5))] == ["ReLU()", "ReLU(0.5)"]


def test_relu6_is_flat_at_and_beyond_both_kinks():
    y, cache = relu6_forward(np.array([-1.0, 0, 1, 5, 6, 7]))
    assert y.tolist() == [0, 0, 1, 5, 6, 6]
    assert relu6_backward(np.full(6, 5.0), cache).tolist() == [0, 0, 5, 5, 0, 0]


@pytest.mark.parametrize(("layer", "kink"), [(ReLU(1.0), 1), (ReLU6(), 0), (ReLU6(), 6)])
def test_gradient_at_a_kink_is_undecidable(layer, kink):
    with pytest.raises(GradientError, match="kink"):
        check_gradients(layer, np.array([[kink, 2.0, 8.0]]))


def test_sigmoid_is_softmax_in_one_dimension():
    (x,) = normal(0, (5,))
    pairs = np.stack([x, np.zeros(5)], axis=1)  # e^x / (e^x + e^0)
    assert_close(sigmoid_forward(x)[0], softmax_forward(pairs)[0][:, 0])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extreme_scores_stay_finite(dtype):
    x = np.array([[-1e4, 0.0, 1e4], [1e4, 1e4, 1e4]], dtype)
    assert softmax_forward(x)[0].tolist()[0] == [0.0, 0.0, 1.0]
    np.testing.assert_allclose(softmax_forward(x)[0][1], 1 / 3, rtol=1e-6)
    assert sigmoid_forward(x)[0].tolist() == [[0.0, 0.5, 1.0], [1.0, 1.0, 1.0]]
    assert np.isfinite(softmax_backward(x, softmax_forward(x)[1])).all()
    assert np.isfinite(sigmoid_backward(x, sigmoid_forward(x)[1])).all()


@pytest.mark.parametrize("forward", [relu_forward, relu6_forward])
def test_nan_passes_through(forward):
    y, _ = forward(np.array([np.nan, 1.0]))
    assert np.isnan(y[0])
    assert y[1] == 1


def test_leaky_relu_has_a_slope_on_either_side():
    x = np.array([-2.0, 0.0, 3.0])
    y, cache = leaky_relu_forward(x, 0.1)
    np.testing.assert_allclose(y, [-0.2, 0.0, 3.0])
    np.testing.assert_allclose(leaky_relu_backward(np.ones(3), cache), [0.1, 0.1, 1.0])


def test_tanh_is_a_sigmoid_about_0():
    x = np.linspace(-30, 30, 61)
    y, cache = tanh_forward(x)
    np.testing.assert_allclose(y, 2 * sigmoid_forward(2 * x)[0] - 1, rtol=1e-12, atol=1e-15)
    assert tanh_backward(np.ones_like(x), cache)[[0, 30, 60]].tolist() == [0, 1, 0]


def test_gelu_of_known_numbers():
    x = np.array([-40.0, -1.0, 0.0, 1.0, 40.0])
    y, cache = gelu_forward(x)
    np.testing.assert_allclose(y, [0, -0.15865525393145707, 0, 0.8413447460685429, 40], rtol=1e-15)
    slopes = gelu_backward(np.ones(5), cache)  # Φ(1) ± φ(1), φ(1) = 0.2419707245191434
    np.testing.assert_allclose(slopes, [0, -0.0833154705876864, 0.5, 1.0833154705876863, 1])


def test_a_scaled_branch_adds_a_share_and_does_not_widen_float32():
    x = np.ones((2, 3), np.float32)
    y, _ = Residual(Scale(np.float64(0.25))).forward(x)
    assert y.dtype == np.float32
    assert (y == 1.25).all()
    assert repr(Scale(0.25)) == "Scale(0.25)"


def test_a_softmax_layer_over_another_axis():
    (x,) = normal(0, (2, 3, 4))
    for axis in (1, -2):
        y, _ = Softmax(axis).forward(x)
        np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-12)
    assert_close(Softmax(2).forward(x)[0], Softmax().forward(x)[0])
    for axis, message in (
        (0, "axis is 0, the batch"),
        (3, "the input has 2 axes"),
        (-3, "has 2 axes"),
    ):
        with pytest.raises(ValueError, match=message):
            Softmax(axis).forward(x)
    with pytest.raises(ValueError, match="axis is 1.5, want a whole number"):
        Softmax(1.5)


def test_gelu_keeps_its_digits_far_below_zero():
    x = np.array([-6.0, -10.0, -30.0])
    y, _ = gelu_forward(x)
    np.testing.assert_allclose(y, [0.5 * v * math.erfc(-v / math.sqrt(2)) for v in x], rtol=1e-12)
