import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.layers.support import assert_close, drawn, drawn_few, normal, torch_pass
from tinynet.gradient_check import check_backward, check_gradients
from tinynet.layer import EVAL, Mode
from tinynet.layers import (
    BatchNorm,
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_frozen_backward,
    batchnorm_frozen_forward,
)
from tinynet.testing.strategies import seeds

TRAIN = Mode(train=True)
DENSE = st.tuples(st.integers(2, 6), st.integers(1, 5))
IMAGES = st.tuples(st.integers(2, 4), *[st.integers(1, 4)] * 3)
SHAPES = DENSE | IMAGES
EPSILONS = st.sampled_from([1e-3, 1e-5, 0.1])


def arguments(seed, shape, strided=False):
    """x with an offset and a scale per channel, gamma, beta, dy."""
    x, offset, scale, gamma, beta, dy = normal(
        seed, shape, *[shape[-1:]] * 4, shape, strided=strided
    )
    return x * (0.5 + abs(scale)) + offset, gamma, beta, dy


def torch_batch_norm(torch, mean, variance, training, momentum, epsilon):
    """torch's batch norm on (..., C), which moves ``mean`` and ``variance`` in training."""

    def oracle(x, gamma, beta):
        x = x.movedim(-1, 1)
        y = torch.nn.functional.batch_norm(
            x, mean, variance, gamma, beta, training, momentum, epsilon
        )
        return y.movedim(1, -1)

    return oracle


@drawn
@given(shape=SHAPES, epsilon=EPSILONS, strided=st.booleans(), seed=seeds())
def test_training_equals_torch(torch, shape, epsilon, strided, seed):
    x, gamma, beta, dy = arguments(seed, shape, strided)
    y, cache = batchnorm_forward(x, gamma, beta, epsilon)
    oracle = torch_batch_norm(torch, None, None, True, 0.1, epsilon)
    wanted = torch_pass(torch, oracle, dy, x, gamma, beta)
    for got, want in zip((y, *batchnorm_backward(dy, cache)), wanted, strict=True):
        assert_close(got, want)


@drawn
@given(shape=SHAPES, epsilon=EPSILONS, strided=st.booleans(), seed=seeds())
def test_frozen_equals_torch(torch, shape, epsilon, strided, seed):
    x, gamma, beta, dy = arguments(seed, shape, strided)
    mean, variance = normal(seed + 1, shape[-1:], shape[-1:])
    variance = variance**2 + 0.1
    y, cache = batchnorm_frozen_forward(x, gamma, beta, mean, variance, epsilon)
    statistics = torch.tensor(np.array(mean)), torch.tensor(variance)
    oracle = torch_batch_norm(torch, *statistics, False, 0.1, epsilon)
    wanted = torch_pass(torch, oracle, dy, x, gamma, beta)
    for got, want in zip((y, *batchnorm_frozen_backward(dy, cache)), wanted, strict=True):
        assert_close(got, want)


@drawn
@given(shape=SHAPES, momentum=st.sampled_from([0.0, 0.9, 0.99, 1.0]), seed=seeds())
def test_moving_statistics_equal_torch_s(torch, shape, momentum, seed):
    layer = BatchNorm(shape[-1], momentum).to(dtype="float64")
    mean, variance = torch.zeros(shape[-1]).double(), torch.ones(shape[-1]).double()
    oracle = torch_batch_norm(torch, mean, variance, True, 1 - momentum, 1e-3)
    m = int(np.prod(shape[:-1]))
    for step in range(3):
        x, gamma, beta, dy = arguments(seed + step, shape)
        old = variance.clone()
        torch_pass(torch, oracle, dy, x, gamma, beta)
        # torch averages Σ/(m − 1), we, as Keras and the paper's text, Σ/m
        variance.copy_(old * momentum + (variance - old * momentum) * (m - 1) / m)
        layer.forward(x, TRAIN)
        assert_close(layer.running_mean, mean.numpy())
        assert_close(layer.running_var, variance.numpy())


@drawn_few
@given(shape=SHAPES, epsilon=EPSILONS, seed=seeds())
def test_gradients(shape, epsilon, seed):
    x, gamma, beta, _ = arguments(seed, shape)
    mean, variance = normal(seed + 1, shape[-1:], shape[-1:])
    check_backward(batchnorm_forward, batchnorm_backward, (x, gamma, beta, epsilon))
    frozen = (x, gamma, beta, mean, variance**2 + 0.1, epsilon)
    check_backward(batchnorm_frozen_forward, batchnorm_frozen_backward, frozen)
    layer = BatchNorm(shape[-1], epsilon=epsilon)
    for mode in (TRAIN, EVAL):
        check_gradients(layer, x, mode)
    layer.freeze()
    check_gradients(layer, x, TRAIN)


@drawn_few
@given(shape=SHAPES, seed=seeds())
def test_gradients_without_a_scale(shape, seed):
    x, _, beta, _ = arguments(seed, shape)
    layer = BatchNorm(shape[-1], scale=False).to(dtype="float64")
    layer.beta.value[...] = beta
    for mode in (TRAIN, EVAL):
        check_gradients(layer, x, mode)


@pytest.mark.parametrize("mode", [TRAIN, EVAL])
@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3, 3)])
def test_without_a_scale_is_one_whose_gamma_is_1(mode, shape):
    x, _, beta, dy = arguments(0, shape)
    bare, full = BatchNorm(3, scale=False), BatchNorm(3)
    for layer in (bare, full):
        layer.to(dtype="float64")
        layer.beta.value[...] = beta
        layer.running_mean[...], layer.running_var[...] = [1, -1, 0.5], [4, 0.5, 2]
    y, cache = bare.forward(x, mode)
    want, full_cache = full.forward(x, mode)
    assert np.array_equal(y, want)
    assert np.array_equal(bare.backward(dy, cache), full.backward(dy, full_cache))
    assert np.array_equal(bare.beta.grad, full.beta.grad)
    assert np.array_equal(bare.running_var, full.running_var)


def test_without_a_scale_has_no_gamma_anywhere():
    layer = BatchNorm(3, 0.9, 1e-5, "float64", scale=False)
    assert layer.gamma is None
    assert list(layer.state()) == ["beta", "running_mean", "running_var"]
    assert repr(layer) == "BatchNorm(3, scale=False)"
    assert layer.to(dtype="float32").forward(np.ones((2, 3), np.float32))[0].dtype == np.float32
    layer.freeze()
    assert not layer.beta.trainable
    with pytest.raises(ValueError, match="unexpected gamma"):
        layer.load_state(BatchNorm(3).state())
    with pytest.raises(ValueError, match="missing gamma"):
        BatchNorm(3).load_state(layer.state())
    with pytest.raises(TypeError, match=r"scale=False\): input is float64"):
        layer.forward(np.ones((2, 3)))


def test_is_the_report_s_formula():
    x, gamma, beta, _ = arguments(0, (5, 3))
    y, cache = batchnorm_forward(x, gamma, beta, 1e-3)
    for c in range(3):
        mean = sum(x[i, c] for i in range(5)) / 5
        variance = sum((x[i, c] - mean) ** 2 for i in range(5)) / 5
        assert cache.mean[c] == pytest.approx(mean)
        assert cache.variance[c] == pytest.approx(variance)
        for i in range(5):
            x_hat = (x[i, c] - mean) / np.sqrt(variance + 1e-3)
            assert y[i, c] == pytest.approx(gamma[c] * x_hat + beta[c])


def test_training_output_has_the_learned_mean_and_spread():
    x, _, _, _ = arguments(0, (8, 5, 5, 3))
    gamma, beta = np.array([1.0, 2.0, 3.0]), np.array([0.0, -1.0, 4.0])
    y, _ = batchnorm_forward(x, gamma, beta, 1e-12)
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), beta, atol=1e-9)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), gamma, rtol=1e-9)


def test_training_gradient_is_blind_to_shift_and_scale_of_the_input():
    # y does not change when x moves or stretches as a whole, so dx has no part along 1 or x̂
    x, gamma, beta, dy = arguments(0, (6, 2))
    _, cache = batchnorm_forward(x, gamma, beta, 1e-14)
    dx, _, _ = batchnorm_backward(dy, cache)
    np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose((dx * cache.x_hat).sum(axis=0), 0, atol=1e-12)


def test_channels_with_a_large_offset_keep_their_digits():
    x, gamma, beta, _ = arguments(0, (50, 2))
    y, _ = batchnorm_forward(x, gamma, beta)
    moved, _ = batchnorm_forward(x + 1e6, gamma, beta)
    np.testing.assert_allclose(moved, y, atol=1e-8)


def test_a_batch_of_one_value_gives_beta_and_no_gradient():
    x, gamma, beta, dy = arguments(0, (1, 3))
    y, cache = batchnorm_forward(x, gamma, beta)
    dx, dgamma, dbeta = batchnorm_backward(dy, cache)
    assert_close(y, beta[None])
    assert not dx.any()
    assert not dgamma.any()
    assert_close(dbeta, dy[0])


def test_moving_statistics_by_hand():
    layer = BatchNorm(1, momentum=0.9).to(dtype="float64")
    layer.forward(np.array([[1.0], [3.0]]), TRAIN)  # mean 2, variance 1
    assert layer.running_mean == pytest.approx([0.9 * 0 + 0.1 * 2])
    assert layer.running_var == pytest.approx([0.9 * 1 + 0.1 * 1])
    layer.forward(np.array([[5.0], [5.0]]), TRAIN)  # mean 5, variance 0
    assert layer.running_mean == pytest.approx([0.9 * 0.2 + 0.1 * 5])
    assert layer.running_var == pytest.approx([0.9 * 1])


def test_outside_training_the_moving_statistics_are_used_and_kept():
    layer = BatchNorm(2).to(dtype="float64")
    layer.running_mean[...] = [1.0, -2.0]
    layer.running_var[...] = [4.0, 9.0]
    x, _, _, _ = arguments(0, (5, 2))
    y, _ = layer.forward(x, EVAL)
    assert_close(y, (x - [1.0, -2.0]) / np.sqrt(np.array([4.0, 9.0]) + 1e-3))
    assert layer.running_mean.tolist() == [1.0, -2.0]
    assert layer.running_var.tolist() == [4.0, 9.0]


def test_outside_training_examples_do_not_see_each_other():
    layer = BatchNorm(2).to(dtype="float64")
    x, _, _, _ = arguments(0, (5, 2))
    assert_close(layer.forward(x)[0][:1], layer.forward(x[:1].copy())[0])
    together, alone = layer.forward(x, TRAIN)[0][:1], layer.forward(x[:2].copy(), TRAIN)[0][:1]
    assert not np.allclose(together, alone)


def test_frozen_statistics_do_not_move_and_normalise_in_training_too():
    layer = BatchNorm(2).to(dtype="float64")
    x, _, _, _ = arguments(0, (5, 2))
    layer.freeze(parameters=False, dropout=False)
    assert_close(layer.forward(x, TRAIN)[0], layer.forward(x, EVAL)[0])
    assert layer.running_mean.tolist() == [0, 0]
    assert layer.gamma.trainable
    layer.unfreeze()
    layer.forward(x, TRAIN)
    assert layer.running_mean.any()


def test_one_layer_may_be_applied_in_both_modes_before_going_back():
    layer = BatchNorm(2).to(dtype="float64")
    x, _, _, dy = arguments(0, (5, 2))
    _, trained = layer.forward(x, TRAIN)
    _, evaluated = layer.forward(x, EVAL)
    first = layer.backward(dy, trained)
    second = layer.backward(dy, evaluated)
    assert_close(first, batchnorm_backward(dy, trained)[0])
    assert_close(second, batchnorm_frozen_backward(dy, evaluated)[0])
    assert_close(layer.beta.grad, 2 * dy.sum(axis=0))


def test_declares_its_output_shape_and_keeps_float32():
    layer = BatchNorm(3)
    for shape in ((4, 3), (2, 5, 6, 3)):
        x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        for mode in (TRAIN, EVAL):
            y, cache = layer.forward(x, mode)
            dx = layer.backward(y, cache)
            assert y.shape == dx.shape == (shape[0], *layer.output_shape(shape[1:]))
            assert y.dtype == dx.dtype == layer.gamma.grad.dtype == np.float32
    assert {a.dtype for a in layer.buffers().values()} == {np.dtype("float32")}
    assert list(layer.parameters()) == ["gamma", "beta"]
    assert list(layer.buffers()) == ["running_mean", "running_var"]


def test_errors_name_the_layer_what_came_and_what_was_wanted():
    layer = BatchNorm(3)
    with pytest.raises(ValueError, match=r"BatchNorm\(3\): input is \(2, 4\), want \(N, 3\)"):
        layer.forward(np.zeros((2, 4), np.float32))
    with pytest.raises(ValueError, match=r"BatchNorm\(3\): input is \(2, 5, 5, 4\), want \(N, H"):
        layer.forward(np.zeros((2, 5, 5, 4), np.float32))
    with pytest.raises(ValueError, match=r"BatchNorm\(3\): input is \(3,\), want"):
        layer.forward(np.zeros(3, np.float32))
    with pytest.raises(TypeError, match=r"BatchNorm\(3\): input is float64"):
        layer.forward(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"BatchNorm\(3\): input shape is \(5, 5, 4\), want 3 ch"):
        layer.output_shape((5, 5, 4))
    with pytest.raises(ValueError, match=r"gamma is \(2,\) and beta \(3,\), want \(3,\)"):
        batchnorm_forward(np.zeros((4, 3)), np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match="momentum is 1.5"):
        BatchNorm(3, momentum=1.5)
    with pytest.raises(ValueError, match="epsilon 0"):
        BatchNorm(3, epsilon=0)
