"""What users ask beyond accuracy: is 0.8 right eight times in ten, and which threshold to use."""

from __future__ import annotations

from typing import Any

import numpy as np

from examples.mura.studies import Cases
from tinynet.metrics import kappa_of, roc_curve

BINS = 10
TARGETS = (0.80, 0.90, 0.95)
SWEEP = tuple(round(0.1 * k, 1) for k in range(1, 10))


def brier_score(cases: Cases) -> float:
    """Mean of (p − y)²: 0 is perfect, 0.25 is always saying one half.  Source: Brier 1950."""
    return float(np.mean((cases.probability - cases.label) ** 2))


def reliability(cases: Cases) -> dict[str, Any]:
    """Reliability table of ten equal bins, and the expected calibration error.

        ECE = Σ_b (n_b / n) |mean probability in b − share of abnormal in b|

    A probability on the border of two bins belongs to the upper one; empty bins are left out.
    Source: Naeini, Cooper & Hauskrecht 2015.
    """
    p, y = cases.probability, cases.label
    b = np.minimum((p * BINS).astype(int), BINS - 1)
    n = np.bincount(b, minlength=BINS)
    total_p = np.bincount(b, weights=p, minlength=BINS)
    total_y = np.bincount(b, weights=y, minlength=BINS)
    return {
        "ece": float(np.abs(total_p - total_y).sum() / len(p)),
        "bins": [
            {
                "from": round(k / BINS, 1),
                "to": round((k + 1) / BINS, 1),
                "n": int(n[k]),
                "mean_probability": float(total_p[k] / n[k]),
                "share_abnormal": float(total_y[k] / n[k]),
            }
            for k in np.flatnonzero(n).tolist()
        ],
    }


def operating_points(cases: Cases) -> list[dict[str, float | str | None]]:
    """The best specificity at a sensitivity of at least 80, 90, 95%, and the reverse.

    A case is abnormal at or above the threshold. The thresholds are chosen on the very cases
    they are scored on, so they flatter: choose one for use on other patients. Its threshold is
    null where only calling everything normal will do. Both classes must be present.
    """
    fpr, sensitivity, thresholds = (
        np.asarray(v) for v in roc_curve(cases.label, cases.probability)
    )
    specificity = 1 - fpr
    points: list[dict[str, float | str | None]] = []
    for fixed, other, name in (
        (sensitivity, specificity, "sensitivity"),
        (specificity, sensitivity, "specificity"),
    ):
        for target in TARGETS:
            enough = np.flatnonzero(fixed >= target - 1e-12)
            best = enough[np.lexsort((fixed[enough], other[enough]))[-1]]
            threshold = thresholds[best]
            points.append(
                {
                    "fixed": name,
                    "at_least": target,
                    "threshold": float(threshold) if np.isfinite(threshold) else None,
                    "sensitivity": float(sensitivity[best]),
                    "specificity": float(specificity[best]),
                }
            )
    return points


def sweep(cases: Cases) -> list[dict[str, float | None]]:
    """Sensitivity, specificity, accuracy and kappa, calling abnormal above 0.1, 0.2, ... 0.9."""
    rows: list[dict[str, float | None]] = []
    for threshold in SWEEP:
        cell = 2 * cases.label + (cases.probability > threshold)
        counts = np.bincount(cell, minlength=4).reshape(2, 2)
        (tn, fp), (fn, tp) = counts.tolist()
        rows.append(
            {
                "threshold": threshold,
                "sensitivity": tp / (tp + fn) if tp + fn else None,
                "specificity": tn / (tn + fp) if tn + fp else None,
                "accuracy": (tn + tp) / len(cases),
                "kappa": kappa_of(counts),
            }
        )
    return rows
