"""The usual checks as restated: each catches a plain bug, passes right code, and has its hole."""

import numpy as np
import pytest

from tinynet.testing.planted import BENCHES, PLANTED
from tinynet.testing.usual_checks import USUAL_CHECKS, passes

BY_NAME = {planted.name: planted for planted in PLANTED}
ONE_EACH = [bench.bugs[0].name for bench in BENCHES]
CHECKS = {check.name: check for check in USUAL_CHECKS}
SINGLE = "the same, float32"  # rejects right code too, so what it rejects says little
each_check = pytest.mark.parametrize("name", CHECKS)
each_check_but_that = pytest.mark.parametrize("name", [name for name in CHECKS if name != SINGLE])


def rejected(check, bug, *, wrong=True, draws=20):
    """In how many draws of the check's random numbers it rejects the bug."""
    subject = BY_NAME[bug].case().subject(wrong=wrong, dtype=check.dtype)
    return sum(not passes(check, subject, seed) for seed in range(draws))


@each_check
@pytest.mark.parametrize("bug", ["dense: sign of dx", "flatten: shape not restored"])
def test_a_plain_bug_is_caught_and_the_arrays_are_as_before(name, bug):
    check = CHECKS[name]
    subject = BY_NAME[bug].case().subject(dtype=check.dtype)
    before = {name: a.copy() for name, a in subject.arrays.items()}
    assert sum(not passes(check, subject, seed) for seed in range(20)) >= 10
    for array, a in subject.arrays.items():
        assert a.dtype == check.dtype
        assert np.array_equal(a, before[array])


@pytest.mark.parametrize("bugs", [ONE_EACH, pytest.param([*BY_NAME], marks=pytest.mark.slow)])
@each_check
def test_right_code_passes_except_in_single_precision(name, bugs):
    alarms = [bug for bug in bugs if rejected(CHECKS[name], bug, wrong=False, draws=1)]
    assert len(alarms) > len(bugs) / 4 if name == SINGLE else alarms == []


HOLES = {
    "one direction": "dense: one weight off by a thousandth",
    "upstream ones": "softmax: any factor",
    "float32": "batch norm: epsilon left out",
    "random index": "convolution: one tap of one filter",
    "sum of norms": "batch norm of 12-bit pixels: every other example halved",
    "full Jacobian": "dense layer: overwrites its gradients",
}


@each_check_but_that
def test_its_hole_and_bookkeeping_which_is_out_of_sight(name):
    assert rejected(CHECKS[name], HOLES[name]) <= 4
    assert rejected(CHECKS[name], "ReLU layer: keeps its mask") == 0
