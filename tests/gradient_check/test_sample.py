"""A random subset of the elements, with a true statement of what it finds."""

import re

import numpy as np
import pytest

from tinynet.gradient_check import GradientError, check_backward, check_gradients
from tinynet.gradient_check.report import Sample, draw_sample
from tinynet.layer import Mode
from tinynet.layers import BatchNorm, Dense, Sequential, sigmoid_forward

X = np.random.default_rng(0).standard_normal((50, 40))


def test_the_probability_is_that_of_drawing_without_replacement():
    sample = Sample(total=98_304, checked=1_000)
    assert str(sample) == (
        "checked 1,000 of 98,304 elements: an error in 1% of them is found with probability "
        "0.99996, in a single one with 0.0102"
    )
    assert sample.detects(1) == pytest.approx(1_000 / 98_304)
    assert sample.detects(0) == 0
    assert Sample(10, 4).detects(2) == pytest.approx(1 - (6 / 10) * (5 / 9))
    assert Sample(10, 4).detects(7) == 1
    assert "over 0.999999999" in str(Sample(1_000_000, 100_000))
    with pytest.raises(ValueError, match="wrong is 11, want 0 to 10"):
        Sample(10, 4).detects(11)


def test_the_probability_is_that_of_a_simulation():
    total, checked, wrong, rng = 60, 12, 4, np.random.default_rng(0)
    hits = 0
    for _ in range(4000):
        drawn = draw_sample({"a": 45, "b": 15}, checked, None, rng)
        hits += (drawn["a"] < 3).any() or (drawn["b"] < 1).any()
    expected = Sample(total, checked).detects(wrong)
    assert abs(hits / 4000 - expected) < 5 * np.sqrt(expected * (1 - expected) / 4000)


def test_a_sample_has_each_element_at_most_once_and_only_those_that_are():
    drawn = draw_sample({"a": 7, "b": 0, "c": 5}, 8, None, np.random.default_rng(1))
    assert sum(map(len, drawn.values())) == 8
    assert len(drawn["b"]) == 0
    for name, size in {"a": 7, "c": 5}.items():
        assert len(set(drawn[name].tolist())) == len(drawn[name])
        assert set(drawn[name].tolist()) <= set(range(size))


def test_all_elements_are_no_sample():
    rng = np.random.default_rng(0)
    assert draw_sample({"a": 5}, None, None, rng) is None
    assert draw_sample({"a": 5}, 5, None, rng) is None
    assert draw_sample({"a": 5}, None, 1.0, rng) is None
    assert len(draw_sample({"a": 5}, None, 0.01, rng)["a"]) == 1


def test_misuse_is_a_clear_error():
    for settings, said in (
        ({"elements": 0}, "elements is 0, want a number from 1"),
        ({"fraction": 1.5}, "fraction is 1.5, want a part"),
        ({"elements": 3, "fraction": 0.5}, "got elements and fraction, want one of them"),
        ({"margin": -1}, "margin is -1, want a number above 0"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            check_gradients(Dense(40, 2, rng=np.random.default_rng(0)), X, **settings)


def test_a_right_network_passes_and_the_report_says_what_was_checked():
    rng = np.random.default_rng(0)
    model = Sequential(Dense(40, 10, rng=rng), BatchNorm(10), Dense(10, 3, rng=rng))
    report = check_gradients(model, X, Mode(train=True), elements=100)
    assert sum(int(c.checked.sum()) for c in report.arrays) == 100
    assert str(report).endswith(f"\n  {report.sample}")
    assert "checked 100 of 2,463 elements" in str(report)
    assert " of 2000 " in str(report)
    for check in report.arrays:
        assert np.array_equal(np.isnan(check.wanted), ~check.checked)
        assert not check.wrong.any()
        assert not check.undecidable.any()


def test_an_array_without_a_drawn_element_is_not_called_right():
    report = check_gradients(Dense(40, 2, rng=np.random.default_rng(0)), X, elements=5)
    last = next(c for c in report.arrays if c.name == "bias")
    assert not last.checked.any()
    assert last.row()[-1] == "not in the sample"


def test_it_finds_about_as_often_as_it_says():
    def backward(dy, y):
        dx = dy * y * (1 - y)
        dx[7:9] *= 1.001  # 80 of 2000
        return dx

    found = 0
    for seed in range(30):
        try:
            rng = np.random.default_rng(seed)
            check_backward(sigmoid_forward, backward, (X,), elements=20, rng=rng)
        except GradientError:
            found += 1
    assert Sample(2000, 20).detects(80) == pytest.approx(0.56, abs=0.01)
    assert 8 <= found <= 26


def test_the_same_generator_draws_the_same_sample():
    layer = Dense(40, 3, rng=np.random.default_rng(0))
    first, again, other = (
        check_gradients(layer, X, fraction=0.01, rng=np.random.default_rng(seed)).arrays[0].checked
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
