import numpy as np
import pytest

from tests.layers.support import assert_close, normal
from tinynet.layer import EVAL, Mode
from tinynet.layers import (
    BatchNorm,
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_frozen_backward,
)

TRAIN = Mode(train=True)


def arguments(*shape):
    """x with an offset and a scale per channel, gamma, beta, dy."""
    x, offset, scale, gamma, beta, dy = normal(0, shape, *[shape[-1:]] * 4, shape)
    return x * (0.5 + abs(scale)) + offset, gamma, beta, dy


def norm(channels=2, **settings):
    return BatchNorm(channels, **settings, dtype="float64")


@pytest.mark.parametrize("mode", [TRAIN, EVAL])
@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 3, 3)])
def test_without_a_scale_is_one_whose_gamma_is_1(mode, shape):
    x, _, beta, dy = arguments(*shape)
    bare, full = norm(3, scale=False), norm(3)
    for layer in (bare, full):
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


def test_training_output_has_the_learned_mean_and_spread():
    x, _, _, _ = arguments(8, 5, 5, 3)
    gamma, beta = np.array([1.0, 2.0, 3.0]), np.array([0.0, -1.0, 4.0])
    y, _ = batchnorm_forward(x, gamma, beta, 1e-12)
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2)), beta, atol=1e-9)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2)), gamma, rtol=1e-9)


def test_training_gradient_is_blind_to_shift_and_scale_of_the_input():
    # y does not change when x moves or stretches as a whole, so dx has no part along 1 or x̂
    x, gamma, beta, dy = arguments(6, 2)
    _, cache = batchnorm_forward(x, gamma, beta, 1e-14)
    dx, _, _ = batchnorm_backward(dy, cache)
    x_hat = (x - x.mean(axis=0)) / x.std(axis=0)
    np.testing.assert_allclose(dx.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose((dx * x_hat).sum(axis=0), 0, atol=1e-12)


def test_channels_with_a_large_offset_keep_their_digits():
    x, gamma, beta, _ = arguments(50, 2)
    y, _ = batchnorm_forward(x, gamma, beta)
    moved, _ = batchnorm_forward(x + 1e6, gamma, beta)
    np.testing.assert_allclose(moved, y, atol=1e-8)


def test_a_batch_of_one_value_gives_beta_and_no_gradient():
    x, gamma, beta, dy = arguments(1, 3)
    y, cache = batchnorm_forward(x, gamma, beta)
    dx, dgamma, dbeta = batchnorm_backward(dy, cache)
    assert_close(y, beta[None])
    assert not dx.any()
    assert not dgamma.any()
    assert_close(dbeta, dy[0])


def test_moving_statistics_by_hand():
    layer = norm(1, momentum=0.9)
    layer.forward(np.array([[1.0], [3.0]]), TRAIN)  # mean 2, variance Σ/m = 1, not Σ/(m - 1)
    assert layer.running_mean == pytest.approx([0.9 * 0 + 0.1 * 2])
    assert layer.running_var == pytest.approx([0.9 * 1 + 0.1 * 1])
    layer.forward(np.array([[5.0], [5.0]]), TRAIN)  # mean 5, variance 0
    assert layer.running_mean == pytest.approx([0.9 * 0.2 + 0.1 * 5])
    assert layer.running_var == pytest.approx([0.9 * 1])


def test_outside_training_the_moving_statistics_are_used_and_kept():
    layer, (x, _, _, _) = norm(), arguments(5, 2)
    layer.running_mean[...], layer.running_var[...] = [1.0, -2.0], [4.0, 9.0]
    y, _ = layer.forward(x, EVAL)
    assert_close(y, (x - [1.0, -2.0]) / np.sqrt(np.array([4.0, 9.0]) + 1e-3))
    assert layer.running_mean.tolist() == [1.0, -2.0]
    assert layer.running_var.tolist() == [4.0, 9.0]


def test_examples_see_each_other_in_training_alone():
    layer, (x, _, _, _) = norm(), arguments(5, 2)
    for mode, alike in ((EVAL, True), (TRAIN, False)):
        whole, part = layer.forward(x, mode)[0][:2], layer.forward(x[:2].copy(), mode)[0]
        assert np.allclose(whole, part) == alike


def test_frozen_statistics_do_not_move_and_normalise_in_training_too():
    layer, (x, _, _, _) = norm(), arguments(5, 2)
    layer.freeze(parameters=False, dropout=False)
    assert_close(layer.forward(x, TRAIN)[0], layer.forward(x, EVAL)[0])
    assert layer.running_mean.tolist() == [0, 0]
    assert layer.gamma.trainable
    layer.unfreeze()
    layer.forward(x, TRAIN)
    assert layer.running_mean.any()


def test_one_layer_may_be_applied_in_both_modes_before_going_back():
    layer, (x, _, _, dy) = norm(), arguments(5, 2)
    _, trained = layer.forward(x, TRAIN)
    _, evaluated = layer.forward(x, EVAL)
    assert_close(layer.backward(dy, trained), batchnorm_backward(dy, trained)[0])
    assert_close(layer.backward(dy, evaluated), batchnorm_frozen_backward(dy, evaluated)[0])
    assert_close(layer.beta.grad, 2 * dy.sum(axis=0))


def test_parameters_and_buffers():
    layer = BatchNorm(3)
    assert list(layer.parameters()) == ["gamma", "beta"]
    assert list(layer.buffers()) == ["running_mean", "running_var"]
    layer.forward(np.ones((2, 3), np.float32), TRAIN)
    assert {a.dtype for a in layer.state().values()} == {np.dtype("float32")}


def forward(*shape):
    return lambda: BatchNorm(3).forward(np.zeros(shape, np.float32))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (forward(2, 4), r"BatchNorm\(3\): input is \(2, 4\), want \(N, 3\)"),
        (forward(2, 5, 5, 4), r"BatchNorm\(3\): input is \(2, 5, 5, 4\), want \(N, H"),
        (forward(3), r"BatchNorm\(3\): input is \(3,\), want"),
        (
            lambda: BatchNorm(3).output_shape((5, 5, 4)),
            r"BatchNorm\(3\): input shape is \(5, 5, 4\), want 3 ch",
        ),
        (
            lambda: batchnorm_forward(np.zeros((4, 3)), np.ones(2), np.ones(3)),
            r"gamma is \(2,\) and beta \(3,\), want \(3,\)",
        ),
        (lambda: BatchNorm(3, momentum=1.5), "momentum is 1.5"),
        (lambda: BatchNorm(3, epsilon=0), "epsilon is 0"),
    ],
)
def test_errors_name_the_layer_what_came_and_what_was_wanted(call, message):
    with pytest.raises(ValueError, match=message):
        call()
