"""The complex step: exact where the forward pass is analytic, and never trusted where it is not."""

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_backward, check_gradients, check_loss
from tinynet.gradient_check.complex_step import ComplexStep, takes_complex
from tinynet.layer import Mode
from tinynet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    relu_backward,
    relu_forward,
    sigmoid_forward,
)
from tinynet.losses import CrossEntropy, SoftmaxCrossEntropy

X = np.random.default_rng(0).standard_normal((4, 3))


def rng():
    return np.random.default_rng(1)


def pair(f, slope):
    return (lambda x: (f(x), x)), (lambda dy, x: dy * slope(x))


def test_it_is_exact_where_differences_are_not():
    x = np.linspace(0.1, 2, 12)
    z, dy = x + 0j, np.ones(12)
    step = ComplexStep(lambda: (np.exp(z) / (np.sin(z) ** 3 + np.cos(z) ** 3), None), z, dy)
    slopes, sizes = step.slopes(np.arange(12))
    s, c = np.sin(x), np.cos(x)
    below = s**3 + c**3
    exact = np.exp(x) * (below - 3 * (s * s * c - c * c * s)) / below**2
    assert abs(slopes / exact - 1).max() < 1e-14
    assert np.array_equal(sizes, abs(slopes))
    assert np.array_equal(z, x + 0j)


@pytest.mark.parametrize("mode", [Mode(), Mode(train=True, rng=rng())])
@pytest.mark.parametrize(
    "layer", [Dense(3, 2, rng=rng()), BatchNorm(3), Sigmoid(), Softmax(), Dropout(0.5), ReLU()]
)
def test_tinynet_s_layers_are_checked_by_it(layer, mode):
    report = check_gradients(layer, X, mode)
    for check in report.arrays:
        assert check.exact.all(), check.name
        assert check.method == "complex step"
        assert (check.tolerance < 1e-8 * abs(check.wanted).max() + 1e-13).all()


def test_convolutions_and_losses_are_too():
    image = rng().standard_normal((2, 5, 5, 2))
    reports = [
        check_gradients(Conv2D(2, 2, 3, groups=2, rng=rng()), image),
        check_loss(SoftmaxCrossEntropy(label_smoothing=0.1), X, np.array([0, 1, 2, 0])),
        check_loss(CrossEntropy(), np.full((4, 3), 1 / 3), np.array([0, 1, 2, 0])),
    ]
    assert all(check.exact.all() for report in reports for check in report.arrays)


def test_an_error_of_a_hundred_millionth_is_found():
    def backward(dy, x):
        dx = dy * np.cos(x)
        dx[2, 1] *= 1 + 1e-8
        return dx

    with pytest.raises(GradientError, match=r"wrong in 1 of 12 elements; at \(2, 1\)"):
        check_backward(lambda x: (np.sin(x), x), backward, (X,))
    assert check_backward(lambda x: (np.sin(x), x), backward, (X,), tolerance=1e-6).ok


# name: (function of real numbers, its slope): none is analytic as it is written
NOT_ANALYTIC = {
    "abs": (np.abs, np.sign),
    "real": (lambda x: np.sin(x.real), np.cos),
    "conj": (lambda x: x * np.conj(x), lambda x: 2 * x),
    "one of two factors real": (lambda x: x * x.real, lambda x: 2 * x),
    "float64 inside": (lambda x: np.asarray(x, "float64") ** 2, lambda x: 2 * x),
    "real for some": (
        lambda x: np.where(x.real > 0, x.real**2, x),
        lambda x: np.where(x > 0, 2 * x, 1),
    ),
    "refuses complex numbers": (lambda x: np.cbrt(x), lambda x: np.cbrt(x) / (3 * x)),
    "another for complex numbers": (
        lambda x: 2 * x if np.iscomplexobj(x) else 3 * x,
        lambda x: 3 + 0 * x,
    ),
    "another slope for complex numbers": (
        lambda x: x + 1j * x.imag if np.iscomplexobj(x) else x * 1.0,
        lambda x: 1 + 0 * x,
    ),
}


@pytest.mark.parametrize("name", NOT_ANALYTIC)
def test_what_is_not_analytic_is_left_to_the_differences(name):
    forward, backward = pair(*NOT_ANALYTIC[name])
    report = check_backward(forward, backward, (X,))
    assert not report.arrays[0].exact.any()
    assert report.arrays[0].method == "differences"
    with pytest.raises(GradientError, match="all elements are 1.001 times"):
        check_backward(forward, lambda dy, x: 1.001 * backward(dy, x), (X,))


def test_a_kink_is_undecidable_although_the_complex_step_has_an_answer():
    x = np.array([-1.0, 0.0, 2.0])
    report = check_backward(relu_forward, relu_backward, (x,), allow_undecidable=0.5)
    assert report.arrays[0].undecidable.tolist() == [False, True, False]
    assert report.arrays[0].exact.tolist() == [True, False, True]


def test_no_warning_escapes_where_an_imaginary_part_is_dropped():
    # pytest turns warnings into errors, so the check itself would fail
    def forward(x):
        y = np.empty(x.shape)
        y[...] = x
        return y, None

    assert check_backward(forward, lambda dy, cache: dy, (X,)).arrays[0].method == "differences"


def test_a_forward_pass_must_give_the_same_result_for_complex_numbers():
    y = np.sin(X)
    assert takes_complex(lambda: (np.sin(X + 0j), None), y)
    assert not takes_complex(lambda: (np.sin(X + 0j) + 1e-6, None), y)
    assert not takes_complex(lambda: (np.sin(X + 0j)[:2], None), y)
    assert not takes_complex(lambda: (np.sin(X), None), y)
    assert not takes_complex(lambda: (np.sin(X) * 1j, None), y)


def test_a_gradient_that_cancels_to_nothing_is_no_false_alarm():
    # a bias in front of batch norm moves nothing: its gradient is what rounding leaves
    for seed in range(8):
        x = np.random.default_rng(seed).standard_normal((5, 1))
        model = Sequential(Dense(1, 4, rng=np.random.default_rng(seed)), BatchNorm(4), Sigmoid())
        for scale in (1e-3, 1.0, 1e3):
            assert check_gradients(model, scale * x, Mode(train=True)).undecidable == 0


@pytest.mark.parametrize(
    "x", [-18.1174778, -22.83073619, -28.22866459, -34.3982471, -37.0, -36.9, -800.0, 37.0, 800.0]
)
def test_a_saturated_sigmoid_is_no_false_alarm_and_a_wrong_one_is_found(x):
    # 1 + tanh is rounded to 2⁻⁵³ here, whatever its size; y (1 - y) is not
    x = np.full((1, 1), x)
    report = check_gradients(Sigmoid(), x, allow_undecidable=1)
    assert not report.arrays[0].wrong.any()
    with pytest.raises(GradientError, match="wrong in 1 of 1"):
        check_backward(sigmoid_forward, lambda dy, y: dy * y * (1 - y) + 1e-6 * dy, (x,))
