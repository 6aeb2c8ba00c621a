"""tinynet/gradient_check/steadiness.py"""

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_backward, steadiness
from tinynet.gradient_check.checkable import CheckablePair
from tinynet.gradient_check.steadiness import unsteadiness


def square_forward(x, far):
    """y = x²; ``far`` has no part in it."""
    return x**2, (x, far)


def square_backward(dy, cache):
    """dx = 2x dy, and right, but for the digits that two large products lose."""
    x, far = cache
    return dy * (far * x - (far - 2) * x)


FAR = np.full(3, 1e8)  # a product of this size is rounded by 1e-8


def inputs():
    return np.random.default_rng(0).uniform(0.2, 0.8, (4, 3))


def test_a_right_gradient_that_rounding_moves_is_right(monkeypatch):
    assert check_backward(square_forward, square_backward, [inputs(), FAR]).ok
    monkeypatch.setattr(steadiness, "LIMIT", 0.0)
    with pytest.raises(GradientError, match="the gradient of x is wrong"):
        check_backward(square_forward, square_backward, [inputs(), FAR])


def test_an_error_beyond_what_rounding_moves_is_found():
    def wrong(dy, cache):
        dx = square_backward(dy, cache)
        dx[2, 1] *= 1 + 1e-5
        return dx

    with pytest.raises(GradientError, match=r"wrong in 1 of 12 elements.*\(2, 1\)"):
        check_backward(square_forward, wrong, [inputs(), FAR])


def subject(forward, backward, *arrays):
    made = CheckablePair("f", (forward, backward), arrays, ["x", "far"][: len(arrays)])
    y, cache = made.forward()
    dy = np.ones_like(y)
    return made, dy, made.backward(dy, cache)


def test_it_measures_the_growth_and_leaves_the_arrays_as_they_were():
    made, dy, got = subject(square_forward, square_backward, inputs(), FAR)
    assert 1e-9 < unsteadiness(made, dy, got)["x"] < 5e-8
    np.testing.assert_array_equal(made.arrays["x"], inputs())
    np.testing.assert_array_equal(made.arrays["far"], FAR)

    steady, dy, got = subject(lambda x: (3 * x, None), lambda dy, _: 3 * dy, inputs())
    assert unsteadiness(steady, dy, got) == {"x": 0}


def test_it_is_never_more_than_the_limit():
    made, dy, got = subject(square_forward, square_backward, inputs(), 1e4 * FAR)
    largest = abs(got["x"]).max()
    assert unsteadiness(made, dy, got)["x"] == steadiness.LIMIT * largest


def test_a_gradient_of_nan_is_still_wrong():
    def wrong(dy, cache):
        dx = square_backward(dy, cache)
        dx[0, 0] = np.nan
        return dx

    with pytest.raises(GradientError, match="the gradient of x is wrong in 1 of 12"):
        check_backward(square_forward, wrong, [inputs(), FAR])


def test_a_kink_that_the_last_bit_decides_is_no_rounding():
    x = np.linspace(0.5, 1.5, 41)  # 1 among them, where the slope jumps

    def forward(x):
        return np.where(x > x[20], 5 * x, 0 * x), x > 1

    made, dy, got = subject(forward, lambda dy, above: 5 * dy * above, x)
    assert unsteadiness(made, dy, got)["x"] == 0


def test_what_refuses_the_changed_arrays_is_left_alone():
    def forward(x):
        if (x > 1).any():
            raise ValueError("a probability is above 1")
        return x**2, x

    made, dy, got = subject(forward, lambda dy, x: 2 * x * dy, np.ones(5))
    assert unsteadiness(made, dy, got) == {"x": 0.0}
    np.testing.assert_array_equal(made.arrays["x"], np.ones(5))
