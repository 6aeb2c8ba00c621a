"""Equations of the report's chapter 2 that the tests of single functions have no place for."""

from math import prod

import numpy as np
import pytest
from scipy.signal import convolve2d, correlate2d

from tinynet import layers, losses, optimizers
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential


@pytest.fixture
def normal():
    return np.random.default_rng(0).standard_normal


def parameter_count(layer):
    return sum(p.value.size for p in layer.parameters().values())


def test_parameter_counts():
    rng = np.random.default_rng(0)
    assert parameter_count(Dense(3, 4, rng=rng)) == 3 * 4 + 4
    assert parameter_count(Dense(100 * 100, 10, bias=False, rng=rng)) == 100_000
    assert parameter_count(Conv2D(1, 30, 3, bias=False, rng=rng)) == 270
    assert parameter_count(Conv2D(3, 1, 3, rng=rng)) == 28
    assert parameter_count(Conv2D(32, 1, 5, rng=rng)) == 801


def test_linear_layers_collapse_into_one(normal):
    x, w1, b1, w2, b2 = (normal(s) for s in ((5, 4), (4, 6), 6, (6, 3), 3))
    hidden, _ = layers.dense_forward(x, w1, b1)
    output, _ = layers.dense_forward(hidden, w2, b2)
    one, _ = layers.dense_forward(x, w1 @ w2, w2.T @ b1 + b2)
    np.testing.assert_allclose(output, one, rtol=1e-12)


def test_a_threshold_is_a_shift(normal):
    x = normal(100)
    y, _ = layers.relu_forward(x, 0.3)
    np.testing.assert_allclose(y, 0.3 + layers.relu_forward(x - 0.3)[0], rtol=1e-12)


def test_softmax_is_a_distribution_whatever_the_shift(normal):
    v = 10 * normal((20, 5))
    w, _ = layers.softmax_forward(v)
    assert (w > 0).all()
    np.testing.assert_allclose(w.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(w, layers.softmax_forward(v - 7)[0], rtol=1e-12)
    e = np.exp(v)
    others = (e.sum(axis=1, keepdims=True) - e) / e.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(1 - w, others, rtol=1e-9, atol=1e-12)


def test_output_layer_gradients_are_the_report_s(normal):
    a, w, b, y = normal((1, 4)), normal((4, 3)), normal(3), np.array([[0.0, 1.0, 0.0]])
    z, cache = layers.dense_forward(a, w, b)
    _, loss_cache = losses.softmax_cross_entropy_forward(z, y)
    da, dw, db = layers.dense_backward(losses.softmax_cross_entropy_backward(loss_cache), cache)
    error = (np.exp(z) / np.exp(z).sum() - y)[0]
    for i in range(4):
        assert da[0, i] == pytest.approx(sum(error[j] * w[i, j] for j in range(3)))
        assert dw[i].tolist() == pytest.approx([error[j] * a[0, i] for j in range(3)])
    assert db.tolist() == pytest.approx(error.tolist())


def test_the_first_step_of_rmsprop_and_adam():
    g = np.array([1e-3, -1.0, 1e3])
    w, v = np.zeros(3), np.zeros(3)
    optimizers.rmsprop_update(w, v, g, 0.01, 0.1, 0.0)
    np.testing.assert_allclose(w, -0.01 / np.sqrt(0.1) * np.sign(g), rtol=1e-12)
    for corrections, size in [
        ((1.0, 1.0), 0.01 * 0.1 / np.sqrt(0.001)),
        (optimizers.bias_corrections(1, 0.1, 0.001), 0.01),
    ]:
        w, m, v = np.zeros(3), np.zeros(3), np.zeros(3)
        optimizers.adam_update(w, m, v, g, 0.01, 0.1, 0.001, 0.0, corrections)
        np.testing.assert_allclose(w, -size * np.sign(g), rtol=1e-12)
    weights = sum(0.1 * 0.9 ** (7 - s) for s in range(1, 8))
    assert optimizers.bias_corrections(7, 0.1, 0.001)[0] == pytest.approx(weights)


def test_all_zero_weights_leave_only_the_output_biases_to_learn(normal):
    rng = np.random.default_rng(0)
    model = Sequential(Dense(4, 5, rng=rng), ReLU(), Dense(5, 3, rng=rng)).to(dtype="float64")
    for parameter in model.parameters().values():
        parameter.value[...] = 0
    labels = np.array([0, 0, 1, 2, 0, 1])
    z, cache = model.forward(normal((6, 4)))
    _, loss_cache = losses.softmax_cross_entropy_forward(z, labels)
    model.backward(losses.softmax_cross_entropy_backward(loss_cache), cache)
    learns = [name for name, p in model.parameters().items() if p.grad.any()]
    assert learns == ["2.bias"]
    np.testing.assert_allclose(
        model.parameters()["2.bias"].grad, 1 / 3 - np.bincount(labels) / 6, atol=1e-12
    )


def test_one_dropout_mask_may_serve_the_whole_batch(normal):
    x, dy, row = normal((6, 4)), normal((6, 4)), np.array([[True, False, True, True]])
    y, cache = layers.dropout_forward(x, row, 0.75)
    each, each_cache = layers.dropout_forward(x, np.repeat(row, 6, axis=0), 0.75)
    np.testing.assert_array_equal(y, each)
    assert not y[:, 1].any()
    np.testing.assert_array_equal(
        layers.dropout_backward(dy, cache), layers.dropout_backward(dy, each_cache)
    )


def test_a_bias_before_batch_norm_is_redundant(normal):
    u, w, b = normal((8, 4)), normal((4, 3)), 10 * normal(3)
    norm = BatchNorm(3, dtype="float64")
    without, _ = norm.forward(layers.dense_forward(u, w)[0], Mode(train=True))
    with_bias, _ = norm.forward(layers.dense_forward(u, w, b)[0], Mode(train=True))
    np.testing.assert_allclose(with_bias, without, atol=1e-12)


def test_batch_norm_backward_is_the_sum_of_three_paths(normal):
    x, gamma, dy, epsilon = normal((7, 3)), normal(3), normal((7, 3)), 1e-3
    _, cache = layers.batchnorm_forward(x, gamma, np.zeros(3), epsilon)
    m, centred, spread = 7, x - x.mean(axis=0), x.var(axis=0) + epsilon
    dx_hat = gamma * dy
    dvariance = (dx_hat * centred).sum(axis=0) * -0.5 * spread**-1.5
    dmean = -(dx_hat.sum(axis=0)) / np.sqrt(spread)
    paths = dx_hat / np.sqrt(spread) + dvariance * 2 * centred / m + dmean / m
    dx, _, _ = layers.batchnorm_backward(dy, cache)
    np.testing.assert_allclose(dx, paths, atol=1e-12)


def test_what_the_field_calls_convolution_is_a_correlation(normal):
    p, w = normal((6, 7)), normal((3, 2))
    z = layers.conv2d_forward(p[None, :, :, None], w[:, :, None, None])[0][0, :, :, 0]
    np.testing.assert_allclose(z, correlate2d(p, w, mode="valid"), atol=1e-12)
    np.testing.assert_allclose(z, convolve2d(p, w[::-1, ::-1], mode="valid"), atol=1e-12)
    assert abs(z - convolve2d(p, w, mode="valid")).max() > 0.1


def test_a_convolution_moves_with_its_input(normal):
    p, w = np.zeros((1, 12, 12, 2)), normal((3, 3, 2, 4))
    p[:, 3:7, 3:7] = normal((4, 4, 2))
    z, _ = layers.conv2d_forward(p, w, padding="same")
    moved, _ = layers.conv2d_forward(np.roll(p, (2, 3), (1, 2)), w, padding="same")
    np.testing.assert_allclose(moved, np.roll(z, (2, 3), (1, 2)), atol=1e-12)
    assert abs(moved - z).max() > 0.1  # equivariant, not invariant
    means = [layers.global_avg_pool2d_forward(y)[0] for y in (z, moved)]
    np.testing.assert_allclose(*means, atol=1e-12)


def test_convolution_backward_is_a_convolution_with_the_filter_turned(normal):
    p, w, dz = normal((2, 6, 7, 3)), normal((3, 2, 3, 4)), normal((2, 4, 6, 4))
    _, cache = layers.conv2d_forward(p, w)
    dp, _, _ = layers.conv2d_backward(dz, cache)
    turned = w[::-1, ::-1].transpose(0, 1, 3, 2)
    full, _ = layers.conv2d_forward(dz, turned, padding=((2, 2), (1, 1)))
    np.testing.assert_allclose(dp, full, atol=1e-12)


def test_sizes_of_section_2_5():
    def conv(k, padding):
        return Conv2D(1, 5, k, padding=padding, rng=np.random.default_rng(0))

    assert conv(3, "valid").output_shape((9, 8, 1)) == (7, 6, 5)
    assert conv(3, 1).output_shape((9, 8, 1)) == conv(3, "same").output_shape((9, 8, 1))
    assert conv(5, 2).output_shape((9, 8, 1)) == conv(5, "same").output_shape((9, 8, 1))
    assert conv(5, "same").output_shape((9, 8, 1)) == (9, 8, 5)
    assert MaxPool2D(2).output_shape((8, 6, 3)) == (4, 3, 3)
    assert MaxPool2D(2).output_shape((9, 7, 3)) == (4, 3, 3)
    assert Flatten().output_shape((10, 10, 5)) == (500,)
    second = Conv2D(5, 7, 3, padding="same", rng=np.random.default_rng(0))
    base = [conv(3, "same"), MaxPool2D(2), second]
    assert Sequential(*base, MaxPool2D(2), Flatten()).output_shape((40, 24, 1)) == (10 * 6 * 7,)


@pytest.mark.parametrize(
    ("kinds", "size"),
    [("cc", 5), ("cpc", 8), ("cpcp", 10), ("c", 3), ("ccc", 7)],
)
def test_receptive_field(kinds, size):
    """One output cell's gradient is non-zero on size × size cells of the input."""
    rng = np.random.default_rng(0)
    parts = {"c": lambda: Conv2D(1, 1, 3, rng=rng), "p": lambda: MaxPool2D(2)}
    kernels, strides = {"c": 3, "p": 2}, {"c": 1, "p": 2}
    before = [prod(strides[kind] for kind in kinds[:i]) for i in range(len(kinds))]
    assert size == 1 + sum((kernels[k] - 1) * s for k, s in zip(kinds, before, strict=True))
    reached = np.zeros((size + 6, size + 6), bool)
    model = Sequential(*(parts[kind]() for kind in kinds)).to(dtype="float64")
    for seed in range(60):  # a maximum passes the gradient to one cell: many draws reach them all
        x = np.random.default_rng(seed).standard_normal((1, size + 6, size + 6, 1))
        y, cache = model.forward(x)
        dy = np.zeros_like(y)
        dy[0, 0, 0, 0] = 1
        reached |= model.backward(dy, cache)[0, :, :, 0] != 0
    wanted = np.zeros_like(reached)
    wanted[:size, :size] = True
    np.testing.assert_array_equal(reached, wanted)
