"""Tests for what no gradient check can see: is the randomness right?

    check_share(mask, 0.5)                     half of the neurons are kept
    check_mask(mask, 0.5)                      ... and none has to do with its neighbour
    check_independent(first, second, 0.5)      masks of two steps, or of two layers
    check_uniform(w, -limit, limit)            initialisers
    check_normal(w, 0, 2 / fan_in)
    check_shuffles(orders)                     an order for each epoch

A dropout whose mask is drawn from a normal instead of a uniform keeps 0.69 for 0.5, and its
backward pass is right: it is the derivative of the wrong function. Only counting finds it.

Each check raises AssertionError, and does so for right code with probability ``rate`` at most,
10⁻⁹ unless told: a thousand of them raise one false alarm in a million runs. The bounds are those
of the exact distributions, binomial, chi-square and Kolmogorov's, not of their limits for large
samples, and a check made of several shares its rate among them (Boole's inequality).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from tinynet.backend import Array, to_device

RATE = 1e-9


def binomial_bounds(n: int, p: float, rate: float = RATE) -> tuple[int, int]:
    """The least and the most successes of n that are still believed.

    n      independent trials
    p      probability of a success in each
    rate   the count falls outside with probability rate at most, half of it on either side
    Raises ValueError if p or rate is not a probability.
    """
    if not 0 <= p <= 1 or not 0 < rate < 1:
        raise ValueError(f"p is {p} and rate {rate}, want p in [0, 1] and rate in (0, 1)")
    return int(stats.binom.ppf(rate / 2, n, p)), int(stats.binom.isf(rate / 2, n, p))


def check_share(hits: Array, share: float, what: str = "True", rate: float = RATE) -> None:
    """Independent events happen as often as they should.

    hits    booleans of any shape, True for an event that happened
    share   the probability of each
    what    a word for an event, for the message
    Raises AssertionError if the number of events is not within ``binomial_bounds``.
    """
    hits = to_device(hits, "numpy")
    count = int(np.count_nonzero(hits))
    least, most = binomial_bounds(hits.size, share, rate)
    _want(
        least <= count <= most,
        f"{count} of {hits.size} are {what}, a share of {count / max(hits.size, 1):.4g}, "
        f"want {share:.4g}: {least} to {most}",
        rate,
    )


def check_independent(first: Array, second: Array, share: float, rate: float = RATE) -> None:
    """Two masks have nothing to do with each other.

        P(both kept or both removed) = p² + (1 − p)²,   p the share

    first, second   booleans of one shape, each True with probability p; the pairs of elements in
                    one place must be independent of the other pairs
    Raises AssertionError if too many, or too few, agree.
    """
    agree = to_device(first, "numpy") == to_device(second, "numpy")
    check_share(agree, share**2 + (1 - share) ** 2, "the same in both masks", rate)


def check_mask(mask: Array, keep_prob: float, rate: float = RATE) -> None:
    """A dropout mask keeps the right share, and neighbours along every axis are independent.

    Along the first axis that compares examples: one mask shared by a whole batch is caught.

    mask        booleans of any shape, True with probability keep_prob
    Raises AssertionError if either fails.
    """
    mask = to_device(mask, "numpy")
    axes = [axis for axis, size in enumerate(mask.shape) if size > 1]
    part = rate / (1 + len(axes))
    check_share(mask, keep_prob, "kept", part)
    for axis in axes:  # in pairs that do not overlap, so that they are independent trials
        along = np.moveaxis(mask, axis, 0)
        check_independent(along[:-1:2], along[1::2], keep_prob, part)


def check_uniform(sample: Array, low: float, high: float, rate: float = RATE) -> None:
    """Independent draws from U[low, high]: never outside, nearly reaching both ends, evenly spread.

        P(max < high − t (high − low)) = (1 − t)ⁿ

    sample   any shape, n independent elements
    Raises AssertionError if an element is outside, if either end is not reached as nearly as that
    allows, or if the distribution is not uniform (Kolmogorov's test).
    """
    u = _flat(sample)
    # 'low' and 'high' may themselves be rounded to the sample's dtype
    slack = np.finfo(sample.dtype).eps * max(abs(low), abs(high))
    smallest, largest = u.min(), u.max()
    _want(
        low - slack <= smallest and largest <= high + slack,
        f"draws reach from {smallest:.6g} to {largest:.6g}, want none outside {low:.6g} to "
        f"{high:.6g}",
        0,
    )
    reach = (high - low) * -np.expm1(np.log(rate / 3) / u.size)
    _want(
        smallest <= low + reach and largest >= high - reach,
        f"{u.size} draws reach from {smallest:.6g} to {largest:.6g} only, want within {reach:.2g} "
        f"of {low:.6g} and {high:.6g}",
        2 * rate / 3,
    )
    _check_distribution(stats.uniform.cdf(np.sort(u), low, high - low), "uniform", rate / 3)


def check_normal(sample: Array, mean: float, variance: float, rate: float = RATE) -> None:
    """Independent draws from N(mean, variance): the mean, the variance and the shape.

        Σ (wᵢ − mean) / √(n variance) ~ N(0, 1),      Σ (wᵢ − mean)² / variance ~ χ² of n degrees

    sample   any shape, n independent elements
    Raises AssertionError if one of the three is off (the shape by Kolmogorov's test).
    """
    z = (_flat(sample) - mean) / np.sqrt(variance)
    part = rate / 3
    average, limit = float(z.mean()), stats.norm.isf(part / 2) / np.sqrt(z.size)
    _want(
        abs(average) <= limit,
        f"the mean of {z.size} draws is {mean + average * np.sqrt(variance):.6g}, "
        f"want {mean:.6g} ± {limit * np.sqrt(variance):.2g}",
        part,
    )
    square = float((z * z).mean())
    least, most = (
        stats.chi2.ppf(part / 2, z.size) / z.size,
        stats.chi2.isf(part / 2, z.size) / z.size,
    )
    _want(
        least <= square <= most,
        f"the variance of {z.size} draws is {square * variance:.6g}, want {variance:.6g}: "
        f"{least * variance:.6g} to {most * variance:.6g}",
        part,
    )
    _check_distribution(stats.norm.cdf(np.sort(z)), "normal", part)


def check_shuffles(orders: Array, rate: float = RATE) -> None:
    """Independent shuffles of 0 ... n − 1: no repeats, every number as often in every place.

    The step from the first number to the second is looked at too: an order that is only begun
    somewhere else (a rotation) puts every number everywhere, but always takes the same step.

    orders   (R, n) integers, a shuffle in each row
    Raises AssertionError for a row that is not a permutation, or if one of the n² counts
    (binomial of R and 1/n) or of the n − 1 steps (R and 1/(n − 1)) is out of bounds.
    """
    orders = to_device(orders, "numpy")
    rounds, n = orders.shape
    repeats = np.flatnonzero((np.sort(orders, axis=1) != np.arange(n)).any(axis=1))
    _want(
        not len(repeats),
        f"{len(repeats)} of {rounds} orders are not permutations of 0 to {n - 1}, the first "
        f"{orders[repeats[:1]].tolist()}: drawn with replacement?",
        0,
    )
    part = rate / (n * n + n - 1)
    for place in range(n):
        counts = np.bincount(orders[:, place], minlength=n)
        _check_even(counts, rounds, part, f"in place {place}: number")
    if n > 1:
        steps = np.bincount((orders[:, 1] - orders[:, 0]) % n, minlength=n)[1:]
        _check_even(steps, rounds, part, "from first to second number: step of 1 +")


def _check_even(counts: Array, trials: int, rate: float, what: str) -> None:
    """Every outcome equally often, each within the bounds of a binomial count."""
    least, most = binomial_bounds(trials, 1 / len(counts), rate)
    worst = int(abs(counts - trials / len(counts)).argmax())
    _want(
        least <= counts[worst] <= most,
        f"{what} {worst} came in {counts[worst]} of {trials} orders, want {least} to {most}",
        rate * len(counts),
    )


def _check_distribution(cdf: Array, name: str, rate: float) -> None:
    """Kolmogorov's test: F at the sorted sample against the share of draws up to there."""
    n = len(cdf)
    steps = np.arange(n + 1) / n
    distance = float(max((steps[1:] - cdf).max(), (cdf - steps[:-1]).max()))
    most = float(stats.kstwo.isf(rate, n))
    _want(
        distance <= most,
        f"the distribution of {n} draws is {distance:.3g} away from the {name} one, "
        f"want {most:.3g} at most",
        rate,
    )


def _flat(sample: Array) -> Array:
    return to_device(sample, "numpy").astype(np.float64).ravel()


def _want(ok: bool, message: str, rate: float) -> None:
    if not ok:
        odds = f"in {rate:.0e} of runs at most" if rate else "never"
        raise AssertionError(f"{message} (right code is out of these bounds {odds})")
