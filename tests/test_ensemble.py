"""Ensembles: averages and votes by hand, the layer against its parts."""

import numpy as np
import pytest

from tinynet.ensemble import Ensemble, average_probabilities, best_of, majority_vote
from tinynet.gradient_check import check_gradients
from tinynet.layers import Dense, Sequential, Softmax
from tinynet.losses import CrossEntropy


def make_members(count=3):
    rng = np.random.default_rng(8)
    members = [Sequential(Dense(4, 3, rng=rng), Softmax()) for _ in range(count)]
    for member in members:
        member.to(dtype="float64")
    return members


def make_input():
    return np.random.default_rng(9).normal(size=(5, 4))


def test_average_probabilities_by_hand():
    first, second = np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([[0.5, 0.5], [0.4, 0.6]])
    mean = average_probabilities([first, second])
    np.testing.assert_allclose(mean, [[0.7, 0.3], [0.3, 0.7]])
    assert average_probabilities([first.astype("float32")]).dtype == np.float32


def test_majority_vote_by_hand():
    votes = [np.array([0, 1, 2, 2]), np.array([0, 1, 1, 0]), np.array([1, 1, 0, 1])]
    # the last two examples are tied: the smallest label wins
    assert majority_vote(votes).tolist() == [0, 1, 0, 0]
    assert majority_vote(votes).dtype == np.int64
    assert majority_vote([np.array([3]), np.array([3]), np.array([0])]).tolist() == [3]


def test_majority_of_independent_voters_errs_less_than_each():
    """Hansen & Salamon's argument: 3 voters that err alone with 0.2 err together with 0.104."""
    rng = np.random.default_rng(10)
    votes = (rng.random((3, 20_000)) < 0.2).astype(np.int64)  # the true label is always 0
    exact = 3 * 0.2**2 * 0.8 + 0.2**3
    error = majority_vote(list(votes)).mean()
    assert abs(error - exact) < 6 * np.sqrt(exact * (1 - exact) / votes.shape[1])


def test_best_of_takes_the_lowest_losses_best_first():
    assert best_of(["a", "b", "c", "d"], [0.4, 0.1, 0.9, 0.2], 3) == ["b", "d", "a"]
    assert best_of(["a", "b"], [0.5, 0.5], 1) == ["a"]


def test_ensemble_averages_its_members():
    members, x = make_members(), make_input()
    y, _ = Ensemble(members).forward(x)
    expected = sum(member.forward(x)[0] for member in members) / 3
    np.testing.assert_allclose(y, expected, rtol=1e-14)
    np.testing.assert_allclose(y.sum(axis=1), 1)
    np.testing.assert_array_equal(CrossEntropy().probabilities(y), y)


def test_ensemble_gradients_are_those_of_its_number():
    report = check_gradients(Ensemble(make_members()), make_input())
    names = {f"{m}.0.{p}" for m in "012" for p in ("weight", "bias")}
    assert {check.name for check in report.arrays} == {"x", *names}


def test_ensemble_of_one_is_that_model():
    (member,), x = make_members(1), make_input()
    np.testing.assert_array_equal(Ensemble([member]).forward(x)[0], member.forward(x)[0])


def test_ensemble_declares_its_shape_and_walks_its_layers():
    ensemble = Ensemble(make_members(2))
    assert ensemble.output_shape((4,)) == (3,)
    assert ensemble.multiply_adds((4,)) == 2 * ensemble.models[0].multiply_adds((4,))
    assert [name for name, _, _ in ensemble.walk((4,))] == ["0.0", "0.1", "1.0", "1.1"]


def test_errors_are_clear():
    rng = np.random.default_rng(0)
    logits = Dense(4, 3, rng=rng).to(dtype="float64")
    with pytest.raises(ValueError, match="model 1 returns numbers outside 0 to 1"):
        Ensemble([make_members(1)[0], logits]).forward(make_input())
    with pytest.raises(ValueError, match="no models"):
        Ensemble([])
    with pytest.raises(TypeError, match="want a list of layers"):
        Ensemble(["model"])
    with pytest.raises(ValueError, match="want one shape"):
        Ensemble([Dense(4, 3, rng=rng), Dense(4, 2, rng=rng)]).output_shape((4,))
    with pytest.raises(ValueError, match="at least one array"):
        average_probabilities([])
    with pytest.raises(ValueError, match="one shape for all"):
        majority_vote([np.array([0, 1]), np.array([0])])
    with pytest.raises(ValueError, match="want integers from 0"):
        majority_vote([np.array([0.2, 0.8])])
    with pytest.raises(ValueError, match="want 2 numbers"):
        best_of(["a", "b"], [0.1], 1)
    with pytest.raises(ValueError, match="want 2 numbers"):
        best_of(["a", "b"], [0.1, float("nan")], 1)
    with pytest.raises(ValueError, match="count is 3, want 1 to 2"):
        best_of(["a", "b"], [0.1, 0.2], 3)
