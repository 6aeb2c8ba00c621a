"""Exact products find a BLAS that miscomputes."""

import json

import numpy as np
import pytest

from tinynet.doctor import trial
from tinynet.doctor.trial import SHAPES, exact_products, scipy_product


def test_both_copies_of_blas_multiply_whole_numbers_exactly():
    assert exact_products() is None
    assert exact_products(scipy_product) is None


@pytest.mark.parametrize("shape", SHAPES)
def test_one_wrong_number_is_seen(shape):
    def wrong(a, b):
        z = a @ b
        if a.shape == shape[:2] and a.dtype == np.float32:
            z[-1, -1] += 1
        return z

    m, k, n = shape
    assert exact_products(wrong) == f"a float32 product ({m}, {k}) x ({k}, {n}) comes out wrong"


def test_a_number_that_is_none_is_seen():
    assert "comes out wrong" in exact_products(lambda a, b: np.full((len(a), b.shape[1]), np.nan))


def test_sums_stay_where_float32_is_exact():
    assert max(k for _, k, _ in SHAPES) * trial.LARGEST**2 < 2**24


def test_it_prints_one_line_of_json(capsys):
    trial.main(0.0)
    said = json.loads(capsys.readouterr().out)
    assert said["problem"] is None
    assert said["rate"] is None


def test_a_rate_is_measured_when_asked_for(capsys):
    trial.main(1e-3)
    assert json.loads(capsys.readouterr().out)["rate"] > 0


def test_no_rate_is_measured_of_wrong_products(capsys, monkeypatch):
    monkeypatch.setattr(trial, "exact_products", lambda *_: "wrong")
    trial.main(1.0)
    said = json.loads(capsys.readouterr().out)
    assert (said["problem"], said["rate"]) == ("wrong", None)
