"""Rates from clocks whose every tick is known."""

import itertools

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from tests.doctor.facts import MACHINE
from tinynet.doctor import rates
from tinynet.doctor.rates import (
    Clock,
    array_bytes,
    blas_threads,
    copy_rate,
    durations,
    fitting_side,
    fresh_rate,
    measure,
    product_rate,
    repeat_product,
    thread_counts,
    write_rate,
)


def ticking(step=0.25, running=1.0):
    """Each look at the clock finds ``step`` more seconds gone, and running·step at work."""
    wall, thread = itertools.count(), itertools.count()
    return Clock(lambda: step * next(wall), lambda: running * step * next(thread))


def test_a_rate_is_work_over_the_best_time():
    assert product_rate(50, 1, 0.0, ticking()) == pytest.approx(2e-9 * 50**3 / 0.25)
    a, b = np.ones(1000, np.float32), np.zeros(1000, np.float32)
    assert write_rate(b, 0.0, ticking()) == pytest.approx(4e-6 / 0.25)
    assert fresh_rate(1000, 0.0, ticking()) == pytest.approx(4e-6 / 0.25)
    assert copy_rate(a, b, 3, 0.0, ticking()) == pytest.approx(8e-6 / 0.25)
    np.testing.assert_array_equal(a, b)  # every piece was copied


def test_repetitions_end_when_the_time_is_over_and_not_before_three():
    calls = []
    assert durations(lambda: calls.append(1), 0.0, ticking()) == [0.25] * 3
    assert len(calls) == 4  # the first does not count
    # three looks at the clock a repetition, of 0.25 s each; the first follows the start's by one
    assert len(durations(lambda: None, 6.0, ticking())) == 6.0 / 0.75 + 1


def test_steadiness_is_of_the_times_and_of_the_share_at_work():
    # the start; the end that is aimed at; three repetitions of 1, 3 and 2 s; the end
    times = iter([0.0, 0.0, 0.0, 1.0, 1.0, 4.0, 4.0, 6.0, 6.0, 20.0])
    steady = repeat_product(8, 0.0, Clock(lambda: next(times), ticking(5.0).thread), True)
    assert (steady.repetitions, steady.best, steady.median) == (3, 1.0, 2.0)
    assert steady.running == pytest.approx(5.0 / 20.0)


def test_the_side_of_a_product_fits_its_time(monkeypatch):
    monkeypatch.setattr(rates, "SIDES", (8, 16, 32))
    assert fitting_side(1, ticking(step=1.0)) == rates.SIDES[0]
    assert fitting_side(1, ticking(step=0.05)) == rates.SIDES[0]  # 8 times that is too much
    assert fitting_side(1, ticking(step=0.01)) == rates.SIDES[-1]


def test_arrays_are_large_but_leave_memory_to_others():
    assert array_bytes(None) == rates.COPY_BYTES
    assert array_bytes(1 << 40) == rates.COPY_BYTES
    assert array_bytes(1 << 30) == 1 << 27
    assert array_bytes(1) == 1 << 16


@pytest.mark.parametrize(
    ("usable", "counts"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (64, [1, 2, 64])]
)
def test_numbers_of_threads(usable, counts):
    assert thread_counts(usable) == counts


def test_blas_is_held_to_its_threads():
    def counts():
        return {i["num_threads"] for i in threadpool_info() if i["user_api"] == "blas"}

    before = counts()
    with blas_threads(1):
        assert counts() in ({1}, set())
    with blas_threads(0):
        assert counts() == before
    assert counts() == before


def test_all_rates_of_a_small_measurement(monkeypatch):
    monkeypatch.setattr(rates, "SIDES", (16,))
    monkeypatch.setattr(rates, "COPY_BYTES", 1 << 16)
    found = measure(MACHINE, seconds=0.0)
    assert set(found.copies) == {1, 2, 4}
    assert set(found.products) in ({1, 2, 4}, {0})
    numbers = [*found.copies.values(), *found.products.values(), found.fresh, found.reused]
    assert all(number > 0 for number in numbers)


def test_without_a_blas_that_can_be_told_one_rate_is_measured(monkeypatch):
    class Nothing:
        def select(self, **_):
            return ()

    monkeypatch.setattr(rates, "ThreadpoolController", Nothing)
    monkeypatch.setattr(rates, "SIDES", (16,))
    monkeypatch.setattr(rates, "COPY_BYTES", 1 << 16)
    found = measure(MACHINE, seconds=0.0)
    assert set(found.products) == {0}
    assert found.scaling(2) is None
    assert found.steadiness.running is None
