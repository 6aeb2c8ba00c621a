"""Examining: trials only where a setting is exported, no products where they crash."""

from tests.doctor.facts import RATES
from tinynet.doctor.findings import examine
from tinynet.doctor.openblas import Trial


def test_nothing_is_tried_where_nothing_is_exported():
    found = examine({"OMP_NUM_THREADS": "1", "HOME": "/"}, lambda machine: RATES, trial=None)
    assert (found.settings, found.as_is, found.bare) == ({}, None, None)
    assert found.variables == {"OMP_NUM_THREADS": "1"}
    assert found.rates == RATES


def test_a_setting_is_tried_as_it_is_and_without():
    tried = []

    def trial(environ, seconds):
        tried.append(dict(environ))
        assert seconds > 0
        return Trial(None, rate=float(len(tried)))

    environ = {"OPENBLAS_L2_SIZE": "64", "HOME": "/"}
    found = examine(environ, lambda machine: RATES, trial)
    assert tried == [environ, {"HOME": "/"}]
    assert (found.as_is.rate, found.bare.rate) == (1.0, 2.0)


def test_products_that_crash_a_child_are_not_made_here():
    def measure(machine):
        raise AssertionError("measured")

    crash = Trial("it ends with SIGILL")
    found = examine({"OPENBLAS_CORETYPE": "SkylakeX"}, measure, lambda environ, seconds: crash)
    assert found.rates is None
