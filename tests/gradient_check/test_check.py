"""Right backward passes pass, wrong ones are caught: of bare functions, at kinks, at any scale.

The mistakes that people make are planted in tinynet/testing/planted/.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynet.gradient_check import (
    GradientError,
    check_backward,
    check_gradients,
    check_loss,
)
from tinynet.layer import Mode
from tinynet.layers import (
    BatchNorm,
    Dense,
    Dropout,
    ReLU,
    Sequential,
    Softmax,
    relu_forward,
)
from tinynet.losses import CrossEntropy, SoftmaxCrossEntropy
from tinynet.testing.strategies import labels, probabilities, seeds

drawn = settings(max_examples=50)
TRAIN = Mode(train=True, rng=np.random.default_rng(1))


def normal(*shapes, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape) for shape in shapes]


def message(check, *args, **kwargs):
    """What the check says of a wrong backward pass."""
    with pytest.raises(GradientError) as caught:
        check(*args, **kwargs)
    return str(caught.value)


# A layer norm as a user of this library would write it.


def layer_norm_forward(x, gamma, beta):
    mean = x.mean(axis=1, keepdims=True)
    inv_std = 1 / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)
    x_hat = (x - mean) * inv_std
    return gamma * x_hat + beta, (x_hat, gamma, inv_std)


def layer_norm_backward(dy, cache):
    x_hat, gamma, inv_std = cache
    g = dy * gamma
    mean, along = g.mean(axis=1, keepdims=True), (g * x_hat).mean(axis=1, keepdims=True)
    return inv_std * (g - mean - x_hat * along), (dy * x_hat).sum(axis=0), dy.sum(axis=0)


def test_a_pair_of_functions_from_outside_the_library():
    report = check_backward(layer_norm_forward, layer_norm_backward, normal((4, 5), (5,), (5,)))
    assert report.ok
    assert [check.name for check in report.arrays] == ["x", "gamma", "beta"]
    assert str(report).startswith(
        "right: the backward pass of layer_norm_forward / layer_norm_backward\n"
    )


def test_the_same_pair_with_a_term_of_the_chain_rule_dropped():
    def wrong(dy, cache):
        x_hat, gamma, inv_std = cache
        _, dgamma, dbeta = layer_norm_backward(dy, cache)
        g = dy * gamma
        return inv_std * (g - x_hat * (g * x_hat).mean(axis=1, keepdims=True)), dgamma, dbeta

    said = message(check_backward, layer_norm_forward, wrong, normal((4, 5), (5,), (5,)))
    assert "the gradient of x is wrong in 20 of 20 elements" in said
    assert "gamma        (5,)    5" in said
    assert said.count("right") == 2


# Shapes and kinds of gradients.

(X,) = normal((3, 4))


def test_a_gradient_of_another_shape_is_named():
    said = message(check_backward, lambda x: (x * 1.0, None), lambda dy, c: dy.T, (X,))
    assert "the gradient of x is (4, 3), want (3, 4): is it transposed?" in said
    said = message(check_backward, lambda x: (x * 1.0, None), lambda dy, c: dy[:2], (X,))
    assert "the gradient of x is (2, 4), want (3, 4)" in said


def test_a_sum_taken_for_a_mean_in_a_scalar():
    said = message(
        check_backward, lambda z: ((z**2).sum() / len(z), z), lambda dy, z: dy * 2 * z, (X,)
    )
    assert "all elements are 3 times what they should be" in said


def test_the_layer_and_the_input_are_not_touched():
    layer = Sequential(Dense(3, 4, rng=np.random.default_rng(0)), BatchNorm(4), Dropout(0.5))
    layer.parameters()["0.weight"].grad += 7
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    mode = Mode(train=True, rng=np.random.default_rng(3))
    state = {name: a.copy() for name, a in layer.state().items()}
    x_before, drawn_before = x.copy(), mode.rng.bit_generator.state
    check_gradients(layer, x, mode)
    assert np.array_equal(x, x_before)
    assert mode.rng.bit_generator.state == drawn_before
    assert layer.parameters()["0.weight"].grad.tolist() == [[7] * 4] * 3
    for name, a in layer.state().items():
        assert a.dtype == np.float32
        assert np.array_equal(a, state[name]), name


def test_arguments_of_a_pair_are_not_touched():
    args = normal((4, 5), (5,), (5,))
    before = [a.copy() for a in args]
    check_backward(layer_norm_forward, layer_norm_backward, args)
    for a, b in zip(args, before, strict=True):
        assert np.array_equal(a, b)


def test_read_only_and_float32_arguments_are_fine():
    args = [a.astype(np.float32) for a in normal((4, 5), (5,), (5,))]
    for a in args:
        a.flags.writeable = False
    assert check_backward(layer_norm_forward, layer_norm_backward, args).ok


# Kinks.


def test_an_element_at_a_kink_is_undecidable_whatever_the_gradient_says():
    x = np.linspace(-2, 2, 41)
    x[20] = 0.0
    for slope in (0.0, 0.5, 1.0, 17.0):

        def backward(dy, cache, slope=slope):
            dx = dy * cache
            dx[20] = slope * dy[20]
            return dx

        report = check_backward(relu_forward, backward, (x,))
        assert report.undecidable == 1
        assert np.flatnonzero(report.arrays[0].undecidable).tolist() == [20]
        assert "right, 1 undecidable" in str(report)


def test_many_undecidable_elements_are_an_error():
    x = np.array([-1.0, 0.0, 0.0, 1.0])
    said = message(check_gradients, ReLU(), x[None])
    assert "2 of 4 elements of x cannot be decided, the first at (0, 1)" in said
    assert check_gradients(ReLU(), x[None], allow_undecidable=0.5).undecidable == 2


@pytest.mark.parametrize("distance", [1e-6, 1e-5, 1e-4, 1e-3, 1e-2])
def test_an_element_near_a_kink_is_decided_with_a_smaller_step(distance):
    x = np.array([distance, -distance, 1.0, -1.0])
    report = check_backward(relu_forward, lambda dy, cache: dy * cache, (x,))
    assert report.undecidable == 0
    said = message(check_backward, relu_forward, lambda dy, cache: dy * 0.999 * cache, (x,))
    assert "wrong in 2 of 4" in said
    assert "all elements are 0.999 times" in said


# Shapes and kinds of arguments.


def test_scalars_empty_arrays_and_scalar_outputs():
    def forward(a, x):
        return a * (x**2).sum(), (a, x)

    def backward(dy, cache):
        a, x = cache
        return dy * (x**2).sum(), dy * 2 * a * x

    assert check_backward(forward, backward, (np.array(3.0), normal((5,))[0])).ok
    assert check_backward(forward, backward, (np.array(3.0), np.zeros((0, 2)))).ok


def test_arguments_that_are_not_float_arrays_are_passed_on():
    def forward(x, index, factor, name, nothing):
        assert index.dtype == np.int64
        assert (factor, name, nothing) == (2.0, "a", None)
        return factor * x[index], (x.shape, index)

    def backward(dy, cache):
        shape, index = cache
        dx = np.zeros(shape)
        np.add.at(dx, index, 2.0 * dy)
        return dx

    args = (normal((4,))[0], np.array([0, 2, 2]), 2.0, "a", None)
    assert check_backward(forward, backward, args).ok


def test_a_missing_gradient_is_listed_not_passed():
    def forward(x, mean):
        return x - mean, None

    for backward in (lambda dy, cache: dy, lambda dy, cache: (dy, None), lambda dy, cache: (dy,)):
        report = check_backward(forward, backward, normal((3, 2), (2,)))
        assert report.unchecked == ["mean"]
        assert "no gradient returned" in str(report)
    said = message(check_backward, forward, lambda dy, cache: None, normal((3, 2), (2,)))
    assert "backward returns no gradient at all" in said


def test_arguments_without_names_are_numbered():
    report = check_backward(
        lambda *args: (args[0] * args[1], args),
        lambda dy, args: (dy * args[1], dy * args[0]),
        normal((3,), (3,)),
    )
    assert [check.name for check in report.arrays] == ["argument 0", "argument 1"]


def test_misuse_is_a_clear_error():
    with pytest.raises(TypeError, match="x is int64, want a float array"):
        check_gradients(ReLU(), np.arange(6).reshape(2, 3))
    with pytest.raises(TypeError, match="z is .*, want an array"):
        check_loss(SoftmaxCrossEntropy(), [1.0], [0])
    with pytest.raises(TypeError, match="none of args is a float array"):
        check_backward(relu_forward, lambda dy, cache: dy, (np.arange(3),))
    with pytest.raises(ValueError, match=r"returned 2 gradients for 1 float arrays \(x\)"):
        check_backward(relu_forward, lambda dy, cache: (dy, dy), (np.ones(3),))


def test_an_error_inside_the_layer_comes_through():
    with pytest.raises(ValueError, match=r"Dense\(4, 3\): input is \(2, 5\)"):
        check_gradients(Dense(4, 3, rng=np.random.default_rng(0)), np.zeros((2, 5)))


# Losses.


@drawn
@given(data=st.data(), n=st.integers(1, 5), k=st.integers(2, 5), one_hot=st.booleans())
def test_losses(data, n, k, one_hot):
    y = data.draw(labels(n, k, one_hot=one_hot))
    p = data.draw(probabilities(n, k))
    weight = list(range(1, k + 1))
    for settings_ in ({}, {"class_weight": weight, "label_smoothing": 0.1}):
        check_loss(CrossEntropy(**settings_), p, y)
        check_loss(SoftmaxCrossEntropy(**settings_), np.log(p), y)


# No false alarms, no misses, at any scale.

FUNCTIONS = {
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "exp": (np.exp, np.exp),
    "cubic": (lambda x: x**3, lambda x: 3 * x**2),
    "oscillating": (lambda x: np.sin(20 * x), lambda x: 20 * np.cos(20 * x)),
    "steep": (lambda x: 1 / (x**2 + 0.01), lambda x: -2 * x / (x**2 + 0.01) ** 2),
}


@drawn
@given(
    name=st.sampled_from(sorted(FUNCTIONS)),
    scale=st.sampled_from([1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e8]),
    n=st.integers(1, 20),
    seed=seeds(),
)
def test_right_passes_and_one_element_off_by_a_thousandth_fails(name, scale, n, seed):
    f, slope = FUNCTIONS[name]
    (x,) = normal((n,), seed=seed)

    def forward(x):
        return scale * f(x), x

    assert check_backward(forward, lambda dy, x: dy * scale * slope(x), (x,)).undecidable == 0

    def wrong(dy, x):
        dx = dy * scale * slope(x)
        dx[np.argmax(abs(dx))] *= 1.001
        return dx

    assert "wrong in 1 of" in message(check_backward, forward, wrong, (x,))


def test_large_and_small_inputs():
    for size in (1e-6, 1e6):
        (x,) = normal((10,))
        assert check_backward(lambda x: (x**2, x), lambda dy, x: 2 * dy * x, (size * x,)).ok


def test_the_upstream_gradient_is_not_the_input_that_a_test_would_draw():
    # with dy = x, xᵀ dy is symmetric, and a transposed one would pass
    x = np.random.default_rng(0).standard_normal((4, 4))
    report = check_backward(lambda x: (x * 1.0, None), lambda dy, cache: dy, (x,))
    assert not np.allclose(report.arrays[0].got, x)


def test_the_upstream_gradient_is_drawn_from_the_given_generator():
    x = normal((2, 3))[0]
    first, again, other = (
        check_gradients(Softmax(), x, rng=np.random.default_rng(seed)).arrays[0].got
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_report_prints_as_a_table():
    layer = Dense(2, 3, rng=np.random.default_rng(0))
    lines = str(check_gradients(layer, normal((4, 2))[0])).splitlines()
    assert lines[0] == "right: the backward pass of Dense(2, 3)"
    for heading in ("gradient of", "shape", "elements", "worst error", "tolerance", "verdict"):
        assert heading in lines[1]
    assert [line.split()[0] for line in lines[2:]] == ["x", "weight", "bias"]
    assert all(line.endswith("right") for line in lines[2:])
    assert "(2, 3)  6" in lines[3]


def test_the_error_carries_the_report():
    with pytest.raises(GradientError) as caught:
        check_backward(relu_forward, lambda dy, cache: 2 * dy * cache, (X,))
    report = caught.value.report
    assert not report.ok
    assert report.arrays[0].wrong.sum() == (X > 0).sum()
    assert report.arrays[0].wanted[X < 0].tolist() == [0] * int((X < 0).sum())
    assert isinstance(caught.value, AssertionError)
