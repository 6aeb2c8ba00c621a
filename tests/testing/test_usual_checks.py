"""The usual checks as restated: each catches a plain bug, passes right code, and has its hole."""

import numpy as np
import pytest

from tinynet.testing.planted import PLANTED
from tinynet.testing.usual_checks import USUAL_CHECKS, passes

BY_NAME = {planted.name: planted for planted in PLANTED}
CHECKS = {check.name: check for check in USUAL_CHECKS}
each_check = pytest.mark.parametrize("name", CHECKS)
SINGLE = "the same, float32"  # rejects right code too, so what it rejects says little
each_check_but_that = pytest.mark.parametrize("name", [name for name in CHECKS if name != SINGLE])


def rejected(check, bug, *, wrong=True, draws=20):
    """In how many draws of its own randomness the check rejects the bug."""
    subject = BY_NAME[bug].case().subject(wrong=wrong, dtype=check.dtype)
    return sum(not passes(check, subject, seed) for seed in range(draws))


@each_check
@pytest.mark.parametrize("bug", ["dense: sign of dx", "average pool: average not divided"])
def test_a_plain_bug_is_caught(name, bug):
    assert rejected(CHECKS[name], bug) >= 10


@each_check_but_that
def test_right_code_passes(name):
    for bug in BY_NAME:
        assert rejected(CHECKS[name], bug, wrong=False, draws=1) == 0, bug


def test_one_direction_in_single_precision_rejects_right_code():
    check = CHECKS[SINGLE]
    assert sum(rejected(check, bug, wrong=False, draws=1) for bug in BY_NAME) > len(BY_NAME) / 4


@each_check
def test_a_gradient_of_another_shape_is_caught(name):
    assert rejected(CHECKS[name], "flatten: shape not restored") == 20


@each_check
def test_the_arrays_are_as_before(name):
    check = CHECKS[name]
    subject = BY_NAME["convolution: dw flipped"].case().subject(dtype=check.dtype)
    before = {name: a.copy() for name, a in subject.arrays.items()}
    passes(check, subject, 0)
    for name, a in subject.arrays.items():
        assert a.dtype == check.dtype
        assert np.array_equal(a, before[name])


HOLES = {
    "one direction": "dense: one weight off by a thousandth",
    "upstream ones": "softmax: any factor",
    "float32": "batch norm: epsilon left out",
    "random index": "convolution: one tap of one filter",
    "sum of norms": "batch norm of 12-bit pixels: every other example halved",
    "full Jacobian": "dense layer: overwrites its gradients",
}


@each_check_but_that
def test_its_hole(name):
    assert rejected(CHECKS[name], HOLES[name]) <= 4


@each_check_but_that
def test_bookkeeping_is_out_of_sight(name):
    assert rejected(CHECKS[name], "ReLU layer: keeps its mask") == 0
