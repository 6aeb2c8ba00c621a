import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn, drawn_few, normal, torch_pass
from tinynet.gradient_check import GradientError, check_backward, check_gradients
from tinynet.layer import Mode
from tinynet.layers import (
    ReLU,
    ReLU6,
    Sigmoid,
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
from tinynet.testing.strategies import seeds, tie_free_arrays, tie_full_arrays

SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
THRESHOLDS = st.sampled_from([0.0, 1.0, -0.5])


@drawn
@given(shape=SHAPES, threshold=THRESHOLDS, strided=st.booleans(), seed=seeds())
def test_relu_equals_torch(torch, shape, threshold, strided, seed):
    x, dy = normal(seed, shape, shape, strided=strided)
    y, cache = relu_forward(x, threshold)
    dx = relu_backward(dy, cache)
    # torch's threshold(x, m, m) is m where x <= m: max{x, m}
    wanted = torch_pass(
        torch, lambda x: torch.nn.functional.threshold(x, threshold, threshold), dy, x
    )
    assert_close(y, wanted[0])
    assert_close(dx, wanted[1])


@drawn
@given(data=st.data(), shape=SHAPES, threshold=st.sampled_from([0.0, 1.0, -1.0]), seed=seeds())
def test_relu_equals_torch_at_the_threshold(torch, data, shape, threshold, seed):
    x = data.draw(tie_full_arrays(shape))
    (dy,) = normal(seed, shape)
    y, cache = relu_forward(x, threshold)
    wanted = torch_pass(
        torch, lambda x: torch.nn.functional.threshold(x, threshold, threshold), dy, x
    )
    assert_close(y, wanted[0])
    assert_close(relu_backward(dy, cache), wanted[1])


@drawn
@given(data=st.data(), shape=SHAPES, kinks=st.booleans(), strided=st.booleans(), seed=seeds())
def test_relu6_equals_torch(torch, data, shape, kinks, strided, seed):
    x, dy = normal(seed, shape, shape, strided=strided)
    x = 3 + 3 * (data.draw(tie_full_arrays(shape)) if kinks else x)  # kinks: 0, 3 and 6 alone
    y, cache = relu6_forward(x)
    wanted = torch_pass(torch, torch.nn.functional.relu6, dy, x)
    assert_close(y, wanted[0])
    assert_close(relu6_backward(dy, cache), wanted[1])


@drawn
@given(shape=SHAPES, size=st.sampled_from([1.0, 30.0]), strided=st.booleans(), seed=seeds())
def test_sigmoid_equals_torch(torch, shape, size, strided, seed):
    x, dy = normal(seed, shape, shape, strided=strided)
    x = x * size
    y, cache = sigmoid_forward(x)
    wanted = torch_pass(torch, torch.sigmoid, dy, x)
    assert_close(y, wanted[0])
    assert_close(sigmoid_backward(dy, cache), wanted[1])


@drawn
@given(shape=SHAPES, size=st.sampled_from([1.0, 30.0]), strided=st.booleans(), seed=seeds())
def test_softmax_equals_torch(torch, shape, size, strided, seed):
    x, dy = normal(seed, shape, shape, strided=strided)
    x = x * size
    y, cache = softmax_forward(x)
    wanted = torch_pass(torch, lambda x: torch.softmax(x, dim=-1), dy, x)
    assert_close(y, wanted[0])
    assert_close(softmax_backward(dy, cache), wanted[1])


@drawn_few
@given(data=st.data(), shape=SHAPES, threshold=THRESHOLDS)
def test_gradients(data, shape, threshold):
    x = data.draw(tie_free_arrays(shape))
    x = x + 0.02  # off the thresholds, which a grid of tenths around 0 may hit
    check_backward(relu_forward, relu_backward, (x, threshold))
    check_backward(sigmoid_forward, sigmoid_backward, (x,))
    check_backward(softmax_forward, softmax_backward, (x,))
    x6 = 20 * x + 1  # beyond 6 too; no element at 0 or 6
    check_backward(relu6_forward, relu6_backward, (x6,))
    check_gradients(ReLU6(), x6)
    for layer in (ReLU(threshold), Sigmoid(), Softmax()):
        check_gradients(layer, x)


def test_relu_keeps_its_threshold_not_zero_below_it():
    y, cache = relu_forward(np.array([-1.0, 0.5, 1.0, 2.0]), threshold=1.0)
    assert y.tolist() == [1.0, 1.0, 1.0, 2.0]
    assert relu_backward(np.full(4, 5.0), cache).tolist() == [0, 0, 0, 5]  # slope 0 at x = m


def test_gradient_at_the_threshold_is_undecidable():
    with pytest.raises(GradientError, match="kink"):
        check_gradients(ReLU(1.0), np.array([[1.0, 2.0, 3.0]]))


def test_relu6_is_flat_at_and_beyond_both_kinks():
    y, cache = relu6_forward(np.array([-1.0, 0, 1, 5, 6, 7]))
    assert y.tolist() == [0, 0, 1, 5, 6, 6]
    assert relu6_backward(np.full(6, 5.0), cache).tolist() == [0, 0, 5, 5, 0, 0]


@pytest.mark.parametrize("kink", [0.0, 6.0])
def test_gradient_of_relu6_at_a_kink_is_undecidable(kink):
    with pytest.raises(GradientError, match="kink"):
        check_gradients(ReLU6(), np.array([[kink, 2.0, 8.0]]))


def test_softmax_is_the_report_s_formula():
    (x,) = normal(0, (3, 4))
    y, _ = softmax_forward(x)
    for row, y_row in zip(x, y, strict=True):
        for j in range(4):
            assert y_row[j] == pytest.approx(np.exp(row[j]) / sum(np.exp(v) for v in row))


def test_softmax_jacobian_is_the_report_s_case_by_case():
    (x,) = normal(0, (1, 4))
    y, cache = softmax_forward(x)
    for i in range(4):
        row = softmax_backward(np.eye(4)[None, i], cache)[0]  # ∂y_i/∂x_j for every j
        for j in range(4):
            same = y[0, i] * (1 - y[0, i])
            assert row[j] == pytest.approx(same if i == j else -y[0, i] * y[0, j])


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


@pytest.mark.parametrize("layer", [ReLU(), ReLU(0.5), ReLU6(), Sigmoid(), Softmax()])
def test_layers_keep_shape_and_dtype(layer):
    x = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    y, cache = layer.forward(x, Mode(train=True))
    dx = layer.backward(np.ones_like(y), cache)
    assert y.shape == dx.shape == (2, *layer.output_shape((3, 4)))
    assert y.dtype == dx.dtype == np.float32
    assert not layer.parameters()


def test_relu_shows_its_threshold():
    assert repr(ReLU()) == "ReLU()"
    assert repr(ReLU(0.5)) == "ReLU(0.5)"


def test_relu_lets_nan_through():
    y, _ = relu_forward(np.array([np.nan, 1.0]))
    assert np.isnan(y[0])
    assert y[1] == 1
    assert np.isnan(relu6_forward(np.array([[np.nan, 1.0]]))[0][0, 0])


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
