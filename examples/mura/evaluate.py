"""The content of metrics.json, from one probability per image.  Report §2.6.

Each measure is computed once over the collected predictions, for single images and for whole
studies, overall and for each body part. JSON has no NaN: what is undefined is null, and a
``note`` beside it says why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.mura.dataset import Image
from examples.mura.errors import UserError
from examples.mura.records import Schema, read_record
from examples.mura.studies import (
    INTERVAL,
    RULES,
    Cases,
    image_cases,
    kappa_interval,
    patient_counts,
    study_cases,
)
from tinynet.backend import Array
from tinynet.metrics import accuracy, auc, cohen_kappa, confusion_matrix, kappa_of, rates, roc_curve
from tinynet.train.checkpoint import write_whole

Metrics = dict[str, Any]

RATE: Schema = (float, None)
SCORES: Schema = {
    **dict.fromkeys(("n", "patients", "normal", "abnormal"), int),
    **dict.fromkeys(("accuracy", "kappa"), float),
    "kappa_interval": ([float, float], None),
    "auc": RATE,
    "confusion_matrix": [[int, int], [int, int]],
    "rates": {f"{a}_{b}_rate": RATE for a in ("true", "false") for b in ("positive", "negative")},
    "note": (str, None),
    str: object,
}
FULL: Schema = SCORES | {
    "brier": float,
    "calibration": {
        "ece": float,
        "bins": [{"n": int, str: float}],
    },
    "operating_points": [{"fixed": str, "at_least": float, str: RATE}],
    "sweep": [{str: RATE}],
}
BOTH: Schema = {"study": SCORES, "image": SCORES}
EXCEEDS: Schema = SCORES | {
    "network_exceeds_by": {"kappa": float, "interval": ([float, float], None)}
}
METRICS: Schema = {
    "synthetic": bool,
    **dict.fromkeys(("rule", "rule_in_words", "interval"), str),
    "threshold": float,
    "study": FULL,
    "image": FULL,
    "parts": {str: BOTH},
    "baselines": {str: {"study": EXCEEDS, "image": EXCEEDS, "parts": {str: BOTH}}},
    **dict.fromkeys(("computed_on?", "averaged?", "data?", "command?"), str),
    str: object,
}
BINS = 10  # of the reliability table
TARGETS = (0.80, 0.90, 0.95)  # sensitivities and specificities that users ask for
SWEEP = tuple(round(0.1 * k, 1) for k in range(1, 10))


def evaluate(
    probability: NDArray[np.floating],
    images: Sequence[Image],
    *,
    rule: str = "mean",
    threshold: float = 0.5,
    synthetic: bool,
    baselines: Mapping[str, NDArray[np.floating]] | None = None,
) -> Metrics:
    """Return the content of metrics.json.

    probability (n,)   of each image being abnormal, in the order of ``images``
    rule               how views make a study: see ``studies.RULES``
    threshold          abnormal above it; baselines always use 0.5
    baselines          name -> probability (n,), scored in the same way
    Raises UserError if there are no images, or a study has two labels.
    """
    if not images:
        raise UserError(
            "there are no images to evaluate: check that --data has the split asked for"
        )
    levels = levels_of(probability, images, rule, threshold)
    return {
        "synthetic": synthetic,
        "not_for_clinical_use": True,
        "rule": rule,
        "rule_in_words": RULES[rule],
        "threshold": threshold,
        "interval": INTERVAL,
        **{level: scores_in_full(cases) for level, cases in levels.items()},
        "parts": by_part(levels, scores_and_roc),
        "baselines": {
            name: baseline_scores(levels_of(p, images, rule), levels)
            for name, p in (baselines or {}).items()
        },
    }


def levels_of(
    probability: NDArray[np.floating], images: Sequence[Image], rule: str, threshold: float = 0.5
) -> dict[str, Cases]:
    return {
        "image": image_cases(probability, images, threshold),
        "study": study_cases(probability, images, rule, threshold),
    }


def by_part(levels: Mapping[str, Cases], score: Callable[[Cases], Metrics]) -> Metrics:
    return {
        part: {level: score(cases.of_part(part)) for level, cases in levels.items()}
        for part in np.unique(levels["image"].part).tolist()
    }


def scores(cases: Cases) -> Metrics:
    """Counts, accuracy, confusion matrix, four rates, kappa with its interval, AUC.

    The confusion matrix has the true classes as rows: [[normal called normal, normal called
    abnormal], [abnormal called normal, abnormal called abnormal]].
    """
    y, predicted = cases.label, cases.abnormal.astype(np.int64)
    counts = patient_counts(cases)
    found: Metrics = {
        "n": len(cases),
        "patients": len(counts),
        "normal": int(np.sum(y == 0)),
        "abnormal": int(np.sum(y == 1)),
        "accuracy": accuracy(y, predicted),
        "kappa": cohen_kappa(y, predicted),
        "kappa_interval": None,
        "auc": None,
        "confusion_matrix": confusion_matrix(y, predicted, num_classes=2).tolist(),
        "rates": {name: finite(rate) for name, rate in rates(y, predicted)._asdict().items()},
    }
    notes = []
    if len(counts) > 1:
        found["kappa_interval"] = kappa_interval(counts)
    else:
        notes.append("one patient only: kappa has no interval")
    if found["normal"] and found["abnormal"]:
        found["auc"] = auc(y, cases.probability)
    else:
        only = "normal" if found["normal"] else "abnormal"
        notes.append(f"only {only} cases: no ROC curve and no AUC, and kappa is 0 or says little")
    found["note"] = "; ".join(notes) or None
    return found


def scores_and_roc(cases: Cases) -> Metrics:
    found = scores(cases)
    return {**found, "roc": None if found["auc"] is None else roc_points(cases)}


def scores_in_full(cases: Cases) -> Metrics:
    """``scores_and_roc``, and what else users ask for: calibration and thresholds."""
    found = scores_and_roc(cases)
    return {
        **found,
        # mean of (p − y)²: 0 is perfect, always saying one half gives 0.25.  Source: Brier 1950
        "brier": float(np.mean((cases.probability - cases.label) ** 2)),
        "calibration": reliability(cases),
        "operating_points": [] if found["auc"] is None else operating_points(cases),
        "sweep": sweep(cases),
    }


def baseline_scores(levels: Mapping[str, Cases], network: Mapping[str, Cases]) -> Metrics:
    """Scores of a baseline, and by how much the network's kappa exceeds its kappa."""
    found: Metrics = {level: scores(cases) for level, cases in levels.items()}
    for level, cases in levels.items():
        found[level]["network_exceeds_by"] = kappa_difference(network[level], cases)
    return found | {"parts": by_part(levels, scores)}


def kappa_difference(a: Cases, b: Cases) -> Metrics:
    """Kappa of ``a`` less that of ``b``, two classifiers of the same cases; interval paired."""
    one, other = patient_counts(a), patient_counts(b)
    difference = cohen_kappa(a.label, a.abnormal) - cohen_kappa(b.label, b.abnormal)
    if len(one) < 2:
        return {"kappa": difference, "interval": None}
    return {"kappa": difference, "interval": kappa_interval(one, other)}


def roc_points(cases: Cases) -> Metrics:
    """The ROC curve's corners; the threshold of the first, above every probability, is null.

    Points in the middle of a straight stretch are left out: the curve is the same.
    """
    fpr, tpr, thresholds = thresholds_of(cases)
    turn = np.diff(fpr)[:-1] * np.diff(tpr)[1:] != np.diff(fpr)[1:] * np.diff(tpr)[:-1]
    corner = np.concatenate([[True], turn, [True]])
    return {
        "false_positive_rate": fpr[corner].tolist(),
        "true_positive_rate": tpr[corner].tolist(),
        "threshold": [None, *(finite(t) for t in thresholds[corner][1:])],
    }


def thresholds_of(cases: Cases) -> tuple[Array, Array, Array]:
    """The ROC curve, false and true positive rates (t,), with a threshold (t,) for each point.

    A case is abnormal above the threshold, which lies between two of the probabilities and has as
    few digits as that allows; it is NaN where a case of probability 0 would have to be above it.
    """
    fpr, tpr, lowest = roc_curve(cases.label, cases.probability)  # abnormal from the lowest up
    edges = [1.0, *lowest[1:].tolist(), 0.0]
    return fpr, tpr, np.array([between(*pair) for pair in zip(edges[1:], edges, strict=False)])


def reliability(cases: Cases) -> Metrics:
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


def operating_points(cases: Cases) -> list[Metrics]:
    """The best specificity at a sensitivity of at least 80, 90, 95%, and the reverse.

    The thresholds are chosen on the very cases they are scored on, so they flatter: choose one for
    use on other patients. Where none will do, it and the rates are null. Both classes must be
    present.
    """
    fpr, sensitivity, thresholds = thresholds_of(cases)
    normal = np.sum(cases.label == 0)
    specificity = (normal - np.rint(fpr * normal)) / normal  # to the last digit as in ``rates``
    points = []
    for fixed, other, name in (
        (sensitivity, specificity, "sensitivity"),
        (specificity, sensitivity, "specificity"),
    ):
        for target in TARGETS:
            point: Metrics = {"fixed": name, "at_least": target}
            point |= dict.fromkeys(("threshold", "sensitivity", "specificity"))
            enough = np.flatnonzero((fixed >= target - 1e-12) & np.isfinite(thresholds))
            if len(enough):
                best = enough[np.lexsort((fixed[enough], other[enough]))[-1]]
                point["threshold"] = float(thresholds[best])
                point["sensitivity"] = float(sensitivity[best])
                point["specificity"] = float(specificity[best])
            points.append(point)
    return points


def between(low: float, high: float) -> float:
    """The number of the fewest digits that is at least low and below high, near their middle.

    Of two that are equal: NaN if they are 0, else the number itself, 1.
    """
    for digits in range(1, 17):
        rounded = round((low + high) / 2, digits)
        if low <= rounded < high:
            return rounded
    return low if high else float("nan")


def sweep(cases: Cases) -> list[Metrics]:
    """Sensitivity, specificity, accuracy and kappa, calling abnormal above 0.1, 0.2, ... 0.9."""
    rows = []
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


def finite(value: float) -> float | None:
    """The value as JSON has it: None where it is NaN or infinite."""
    return float(value) if np.isfinite(value) else None


def save_metrics(path: Path, metrics: Metrics) -> None:
    write_whole(path, (json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode())


def load_metrics(path: Path) -> Metrics:
    """Read metrics.json; raises UserError, naming the file, if that is not possible."""
    again = "evaluate the run again"
    if not path.exists():
        raise UserError(f"there is no {path}: {again}")
    metrics: Metrics = read_record(path, METRICS, again)
    return metrics
