"""The statistical tests alarm as seldom as they say, and see what is planted."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest

from tinynet.testing.statistics import (
    RATE,
    binomial_bounds,
    check_independent,
    check_mask,
    check_normal,
    check_share,
    check_shuffles,
    check_uniform,
)

SEEDS = range(20)


def rng(seed, which=0):
    return np.random.default_rng([seed, which])


def mask(seed, shape=(64, 500), keep=0.5, which=0):
    return rng(seed, which).random(shape) < keep


def uniform(seed, factor=1.0):
    return rng(seed).uniform(-1, 1, 20_000) * factor


def normal(seed, factor=1.0):
    return rng(seed).standard_normal(60_000) * factor


@pytest.mark.parametrize(("n", "p"), [(1, 0.5), (10, 0.3), (60, 0.5), (60, 0.9), (300, 0.01)])
@pytest.mark.parametrize("rate", [0.2, 1e-3, 1e-9])
def test_binomial_bounds_are_exact(n, p, rate):
    least, most = binomial_bounds(n, p, rate)
    q = Fraction(p)
    chance = [comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)]  # no rounding
    half = Fraction(rate / 2)
    assert max(sum(chance[:least]), sum(chance[most + 1 :])) <= half
    assert min(sum(chance[: least + 1]), sum(chance[most:])) > half  # and no wider than need be


@pytest.mark.parametrize(("p", "rate"), [(1.5, 0.1), (0.5, 0), (0.5, 1)])
def test_binomial_bounds_refuse_what_is_not_a_probability(p, rate):
    with pytest.raises(ValueError, match=r"want p in \[0, 1\] and rate in \(0, 1\)"):
        binomial_bounds(10, p, rate)


RIGHT = {
    check_share: lambda s: (mask(s, (500,), 0.3), 0.3),
    check_independent: lambda s: (mask(s, (500,), 0.3), mask(s, (500,), 0.3, which=1), 0.3),
    check_mask: lambda s: (mask(s, (10, 5, 20), 0.7), 0.7),
    check_uniform: lambda s: (rng(s).uniform(-2, 3, 500), -2, 3),
    check_normal: lambda s: (rng(s).normal(1, 2, 500), 1, 4),
    check_shuffles: lambda s: (rng(s).permuted(np.tile(np.arange(4), (300, 1)), axis=1),),
}


@pytest.mark.parametrize("check", RIGHT, ids=lambda check: check.__name__)
def test_false_alarms_are_no_more_frequent_than_stated(check):
    def alarm(seed, rate):
        try:
            check(*RIGHT[check](seed), rate=rate)
        except AssertionError:
            return True
        return False

    count = sum(alarm(seed, 0.1) for seed in range(400))
    assert 1 <= count <= binomial_bounds(400, 0.1, 1e-9)[1]  # nor can it never fail
    assert not any(alarm(seed, RATE) for seed in SEEDS)


def biased_shuffles(seed, rounds=20_000, n=8):
    """Each number exchanged with any other, not with one of those that are left."""
    r, result, rows = rng(seed), np.tile(np.arange(n), (rounds, 1)), np.arange(rounds)
    for place in range(n):
        other = r.integers(0, n, rounds)
        kept = result[rows, other]
        result[rows, other] = result[:, place].copy()
        result[:, place] = kept
    return result


def rotations(seed):
    return (np.arange(8) + rng(seed).integers(0, 8, (4000, 1))) % 8


# fault: the check that finds it, a faulty sample for a seed, and a word of what the check says
FAULTS = {
    "normal": (check_mask, lambda s: (rng(s).standard_normal((64, 500)) < 0.5, 0.5), "0.6[89]"),
    "keep and drop exchanged": (check_mask, lambda s: (mask(s, keep=0.3), 0.7), "want 0.7"),
    "keeps 2% too few": (check_share, lambda s: (mask(s, (200, 500), 0.48), 0.5), "want 0.5"),
    "one for all": (check_mask, lambda s: (mask(s, (1, 500)).repeat(64, 0), 0.5), "same|kept"),
    "pairs": (check_mask, lambda s: (mask(s, (64, 250)).repeat(2, axis=1), 0.5), "the same"),
    "in turns": (check_mask, lambda s: (mask(s, (64, 1)) ^ (np.arange(500) % 2 > 0), 0.5), "same"),
    "the same every step": (check_independent, lambda s: (mask(s), mask(s), 0.5), "a share of 1"),
    "the opposite": (check_independent, lambda s: (mask(s), ~mask(s), 0.5), "a share of 0"),
    "5% too wide": (check_uniform, lambda s: (uniform(s, 1.05**0.5), -1, 1), "none outside"),
    "5% too narrow": (check_uniform, lambda s: (uniform(s, 0.95**0.5), -1, 1), "want within"),
    "cubed": (check_uniform, lambda s: (uniform(s) ** 3, -1, 1), "away from the uniform one"),
    "variance 5% too large": (check_normal, lambda s: (normal(s, 1.05**0.5), 0, 1), "variance"),
    "variance 5% too small": (check_normal, lambda s: (normal(s, 0.95**0.5), 0, 1), "variance"),
    "off centre": (check_normal, lambda s: (normal(s) + 0.05, 0, 1), "the mean"),
    "not normal": (check_normal, lambda s: (uniform(s, 3**0.5), 0, 1), "variance|normal one"),
    "replaced": (check_shuffles, lambda s: (rng(s).integers(0, 8, (99, 8)),), "not permutations"),
    "constant": (check_shuffles, lambda s: (np.tile(rng(s).permutation(8), (99, 1)),), "place 0"),
    "biased": (check_shuffles, lambda s: (biased_shuffles(s),), "in place"),
    "rotated": (check_shuffles, lambda s: (rotations(s),), "step of 1 [+] 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught_whatever_the_seed(name):
    check, sample, words = FAULTS[name]
    for seed in SEEDS:
        with pytest.raises(AssertionError, match=words):
            check(*sample(seed))


def test_the_message_says_what_came_what_was_wanted_and_how_sure_it_is():
    with pytest.raises(AssertionError) as caught:
        check_share(np.arange(1000) < 690, 0.5, "kept")
    assert str(caught.value) == (
        "690 of 1000 are kept, a share of 0.69, want 0.5: 404 to 596 "
        "(right code is out of these bounds in 1e-09 of runs at most)"
    )


def test_small_and_degenerate_samples():
    check_mask(np.ones((3, 1, 4), bool), 1.0)
    check_shuffles(np.zeros((5, 1), int))
    with pytest.raises(AssertionError, match="11 of 12 are kept"):
        check_mask(np.arange(12) > 0, 1.0)
