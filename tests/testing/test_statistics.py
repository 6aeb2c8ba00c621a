"""The statistical tests are tested: they alarm as seldom as they say, and they see what is planted.

Every sample comes from a seed; nothing here can pass one day and fail the next.
"""

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


def mask(seed, shape=(64, 500), keep=0.5):
    return rng(seed).random(shape) < keep


def orders(seed, rounds=4000, n=8):
    r = rng(seed)
    return np.array([r.permutation(n) for _ in range(rounds)])


def alarms(check, samples):
    """How many of the samples the check refuses."""
    count = 0
    for sample in samples:
        try:
            check(sample)
        except AssertionError:
            count += 1
    return count


@pytest.mark.parametrize(("n", "p"), [(1, 0.5), (10, 0.3), (60, 0.5), (60, 0.9), (300, 0.01)])
@pytest.mark.parametrize("rate", [0.2, 1e-3, 1e-9])
def test_binomial_bounds_are_exact(n, p, rate):
    least, most = binomial_bounds(n, p, rate)
    q = Fraction(p)
    chance = [comb(n, k) * q**k * (1 - q) ** (n - k) for k in range(n + 1)]  # no rounding
    half = Fraction(rate / 2)
    assert sum(chance[:least]) <= half
    assert sum(chance[most + 1 :]) <= half
    assert sum(chance[: least + 1]) > half  # and no wider than need be
    assert sum(chance[most:]) > half


@pytest.mark.parametrize(("p", "rate"), [(1.5, 0.1), (0.5, 0), (0.5, 1)])
def test_binomial_bounds_refuse_what_is_no_probability(p, rate):
    with pytest.raises(ValueError, match=r"want p in \[0, 1\] and rate in \(0, 1\)"):
        binomial_bounds(10, p, rate)


RIGHT = {
    "share": lambda s, rate: check_share(mask(s, (500,), 0.3), 0.3, rate=rate),
    "independent": lambda s, rate: check_independent(
        mask(s, (500,), 0.3), mask([s, 1], (500,), 0.3), 0.3, rate
    ),
    "mask": lambda s, rate: check_mask(mask(s, (10, 5, 20), 0.7), 0.7, rate),
    "uniform": lambda s, rate: check_uniform(rng(s).uniform(-2, 3, 500), -2, 3, rate),
    "normal": lambda s, rate: check_normal(rng(s).normal(1, 2, 500), 1, 4, rate),
    "shuffles": lambda s, rate: check_shuffles(orders(s, 300, 4), rate),
}


@pytest.mark.parametrize("name", RIGHT)
def test_false_alarms_are_no_more_frequent_than_stated(name):
    rate, runs = 0.1, 400
    count = alarms(lambda s: RIGHT[name](s, rate), range(runs))
    assert count <= binomial_bounds(runs, rate, 1e-9)[1]
    assert count >= 1  # nor can it never fail


@pytest.mark.parametrize("name", RIGHT)
def test_no_false_alarm_at_the_default_rate(name):
    assert alarms(lambda s: RIGHT[name](s, RATE), SEEDS) == 0


def same_for_the_batch(seed):
    return np.broadcast_to(mask(seed, (1, 500)), (64, 500))


def in_whole_channels(seed):
    return np.repeat(mask(seed, (64, 250)), 2, axis=1)


def alternating(seed):
    """Half are kept, and every neuron half of the time, but never two neighbours alike."""
    start = mask(seed, (64, 1))
    return start ^ (np.arange(500) % 2 == 0)


def biased_shuffles(seed, rounds=20_000, n=8):
    """Each number exchanged with any other, not with one of those that are left."""
    r, result = rng(seed), np.tile(np.arange(n), (rounds, 1))
    rows = np.arange(rounds)
    for place in range(n):
        other = r.integers(0, n, rounds)
        kept = result[rows, other]
        result[rows, other] = result[:, place].copy()
        result[:, place] = kept
    return result


def rotations(seed, rounds=4000, n=8):
    return (np.arange(n) + rng(seed).integers(0, n, (rounds, 1))) % n


def uniform(seed, factor=1.0, n=20_000):
    return rng(seed).uniform(-1, 1, n) * factor


def normal(seed, factor=1.0, n=60_000):
    return rng(seed).standard_normal(n) * factor


# Each fault with the check that finds it, and a word of what it then says.
FAULTS = {
    "mask from a normal: 0.69 kept for 0.5": (
        lambda s: check_mask(rng(s).standard_normal((64, 500)) < 0.5, 0.5),
        "kept, a share of 0.(68|69|70)",
    ),
    "keep probability and drop probability exchanged": (
        lambda s: check_mask(mask(s, keep=0.3), 0.7),
        "want 0.7",
    ),
    "keeps 2% too few": (lambda s: check_share(mask(s, (200, 500), 0.48), 0.5), "want 0.5"),
    "one mask for the whole batch": (
        lambda s: check_mask(same_for_the_batch(s), 0.5),
        "the same in both masks|kept",
    ),
    "neighbours share their fate": (
        lambda s: check_mask(in_whole_channels(s), 0.5),
        "the same in both masks",
    ),
    "neighbours never share it": (
        lambda s: check_mask(alternating(s), 0.5),
        "the same in both masks",
    ),
    "the same mask at every step": (
        lambda s: check_independent(mask(s), mask(s), 0.5),
        "a share of 1",
    ),
    "the opposite mask at the next step": (
        lambda s: check_independent(mask(s), ~mask(s), 0.5),
        "a share of 0",
    ),
    "uniform, variance 5% too large": (
        lambda s: check_uniform(uniform(s, 1.05**0.5), -1, 1),
        "none outside",
    ),
    "uniform, variance 5% too small": (
        lambda s: check_uniform(uniform(s, 0.95**0.5), -1, 1),
        "want within",
    ),
    "uniform from 0 up": (lambda s: check_uniform(abs(uniform(s)), -1, 1), "want within"),
    "crowded in the middle": (
        lambda s: check_uniform(np.sign(uniform(s)) * abs(uniform(s)) ** 1.2, -1, 1),
        "away from the uniform one",
    ),
    "normal for uniform": (
        lambda s: check_uniform(normal(s, 3**-0.5), -1, 1),
        "none outside",
    ),
    "normal, variance 5% too large": (
        lambda s: check_normal(normal(s, 1.05**0.5), 0, 1),
        "the var",
    ),
    "normal, variance 5% too small": (
        lambda s: check_normal(normal(s, 0.95**0.5), 0, 1),
        "the var",
    ),
    "normal, the variance for the deviation": (
        lambda s: check_normal(normal(s, 0.25), 0, 0.25),
        "the variance",
    ),
    "normal, off centre": (lambda s: check_normal(normal(s) + 0.05, 0, 1), "the mean"),
    "uniform for normal": (
        lambda s: check_normal(uniform(s, 3**0.5), 0, 1),
        "variance|away from the normal one",
    ),
    "shuffled with replacement": (
        lambda s: check_shuffles(rng(s).integers(0, 8, (4000, 8))),
        "no permutation of 0 to 7",
    ),
    "not shuffled": (lambda s: check_shuffles(np.tile(np.arange(8), (4000, 1))), "in place 0"),
    "the same shuffle every epoch": (
        lambda s: check_shuffles(np.tile(rng(s).permutation(8), (4000, 1))),
        "in place 0",
    ),
    "a biased shuffle": (lambda s: check_shuffles(biased_shuffles(s)), "in place"),
    "only begun somewhere else": (lambda s: check_shuffles(rotations(s)), "step of 1 [+] 0"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_caught_whatever_the_seed(name):
    check, words = FAULTS[name]
    for seed in SEEDS:
        with pytest.raises(AssertionError, match=words):
            check(seed)


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
