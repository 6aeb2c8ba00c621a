"""Every pure pair over drawn arguments: the report's loops, torch, and its own gradients."""

import numpy as np
import pytest
from hypothesis import given, settings

from tests.layers.pairs import PAIRS, cases
from tests.layers.support import assert_close, normal, torch_pass
from tinynet import layers
from tinynet.gradient_check import check_backward

each_pair = pytest.mark.parametrize("name", PAIRS)


def draws(few, many):
    return pytest.mark.parametrize("draws", [few, pytest.param(many, marks=pytest.mark.slow)])


def over_cases(name, count, check, kinks=True):
    """Run ``check(forward, backward, case)`` on that many cases of a pair."""
    passes = getattr(layers, f"{name}_forward"), getattr(layers, f"{name}_backward")

    @settings(max_examples=count)
    @given(cases(name, kinks))
    def run(case):
        check(*passes, case)

    run()


def results(forward, backward, case):
    """(dy, [y, gradients...]) of a pair, for some dy."""
    y, cache = forward(*case.arguments)
    (dy,) = normal(1, y.shape)
    gradients = backward(dy, cache)
    return dy, [y, *(gradients if isinstance(gradients, tuple) else [gradients])]


@each_pair
@draws(20, 50)
def test_equals_the_loops(name, draws):
    def check(forward, backward, case):
        dy, found = results(forward, backward, case)
        for got, want in zip(found, case.loops(dy), strict=True):
            assert (got is None) == (want is None)
            if got is not None:
                assert_close(got, want)

    over_cases(name, draws, check)


@each_pair
@draws(20, 200)
def test_equals_torch(torch, name, draws):
    def check(forward, backward, case):
        dy, found = results(forward, backward, case)
        floats = [a for a in case.arguments if getattr(a, "dtype", None) == np.float64]
        wanted = torch_pass(torch, lambda *tensors: case.torch(torch, *tensors), dy, *floats)
        for got, want in zip([a for a in found if a is not None], wanted, strict=False):
            assert_close(got, want)

    over_cases(name, draws, check)


@each_pair
@draws(6, 100)
def test_gradients(name, draws):
    """The right layers raise no false alarm: in the slow run over 2,000 drawn geometries."""

    def check(forward, backward, case):
        assert check_backward(forward, backward, case.arguments).undecidable == 0

    over_cases(name, draws, check, kinks=False)
