"""How far kappa might move with other patients: the percentile bootstrap, over patients.

Images and studies of one patient resemble each other, so patients, not images, are drawn
again with replacement. Kappa needs only the confusion matrix, and the matrix of a resample is
the sum of its patients' matrices: 2,000 resamples are one matrix product.
Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from examples.mura.studies import Cases
from tinynet.train.data import generator

CONFIDENCE = 0.95
DRAWS_AT_ONCE = 2_000_000  # patients drawn in one chunk: bounds the memory to some 50 MB


def kappas(counts: NDArray[np.number]) -> NDArray[np.float64]:
    """Cohen's kappa of many confusion matrices at once.  Report §2.6.3.

        κ = (p_o − p_e) / (1 − p_e);   0 where p_e = 1 (all labels and decisions of one class)

    counts (..., 2, 2)   rows true, columns predicted, each with at least one case
    Returns κ (...).
    """
    c = np.asarray(counts, dtype=np.float64)
    n = c.sum(axis=(-2, -1))
    # n² times numerator and denominator: whole numbers, so that p_e = 1 is met exactly
    agreed = n * (c[..., 0, 0] + c[..., 1, 1])
    by_chance = (c.sum(axis=-1) * c.sum(axis=-2)).sum(axis=-1)
    beyond = n**2 - by_chance
    return np.divide(agreed - by_chance, beyond, out=np.zeros_like(n), where=beyond > 0)


def patient_counts(cases: Cases) -> NDArray[np.int64]:
    """Confusion matrix of each patient, (patients, 2, 2), in the order of the patients' names."""
    names, index = np.unique(cases.patient, return_inverse=True)
    cell = 4 * index + 2 * cases.label + cases.abnormal
    return np.bincount(cell, minlength=4 * len(names)).reshape(-1, 2, 2)


def resampled_kappas(
    counts: NDArray[np.int64], resamples: int = 2000, seed: int = 0
) -> NDArray[np.float64]:
    """Kappa (resamples,) of as many patients drawn again with replacement.

    The draws depend only on the seed and the number of patients: two classifiers on the same
    patients meet the same resamples, so their differences are paired.

    counts (patients, 2, 2)   from ``patient_counts``
    """
    patients = len(counts)
    rng = generator(seed, "bootstrap")
    cells = counts.reshape(patients, 4).astype(np.float64)
    chunk = max(1, DRAWS_AT_ONCE // patients)
    totals = []
    for start in range(0, resamples, chunk):
        m = min(chunk, resamples - start)
        drawn = rng.integers(patients, size=(m, patients)) + patients * np.arange(m)[:, None]
        times = np.bincount(drawn.ravel(), minlength=m * patients).reshape(m, patients)
        totals.append(times @ cells)
    return kappas(np.concatenate(totals).reshape(-1, 2, 2))


def percentile_interval(values: NDArray[np.float64]) -> list[float]:
    """[low, high]: the central 95% of the resampled values."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return [float(low), float(high)]


def kappa_interval(cases: Cases, resamples: int = 2000, seed: int = 0) -> list[float] | None:
    """95% interval of kappa; None with fewer than two patients, where nothing can vary."""
    counts = patient_counts(cases)
    if len(counts) < 2:
        return None
    return percentile_interval(resampled_kappas(counts, resamples, seed))
