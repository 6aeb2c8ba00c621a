"""Everything that metrics.json says, from one probability per image.  Report §2.6.

Each measure is computed once over the collected predictions, for single images and for whole
studies, overall and for each body part. JSON has no NaN: what is undefined is null, and a
``note`` beside it says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.mura.calibration import brier_score, operating_points, reliability, sweep
from examples.mura.dataset import Image
from examples.mura.errors import UserError
from examples.mura.intervals import patient_counts, percentile_interval, resampled_kappas
from examples.mura.studies import RULES, Cases, image_cases, study_probabilities
from tinynet.metrics import accuracy, auc, cohen_kappa, confusion_matrix, rates, roc_curve
from tinynet.train.checkpoint import write_whole

Metrics = dict[str, Any]


@dataclass(frozen=True)
class Bootstrap:
    """How the intervals are drawn: number of resamples, and the seed."""

    resamples: int = 2000
    seed: int = 0


def evaluate(
    probability: NDArray[np.floating],
    images: Sequence[Image],
    *,
    rule: str = "mean",
    threshold: float = 0.5,
    resamples: int = 2000,
    seed: int = 0,
    synthetic: bool,
    baselines: Mapping[str, NDArray[np.floating]] | None = None,
) -> Metrics:
    """The content of metrics.json.

    probability (n,)   of each image being abnormal, in the order of ``images``
    rule               how views make a study: see ``studies.RULES``
    threshold          abnormal above it; baselines always use 0.5
    resamples, seed    bootstrap over patients, for the 95% intervals of kappa
    baselines          name -> probability (n,), scored in the same way
    Raises UserError if there are no images, or a study bears two labels.
    """
    if not images:
        raise UserError(
            "there are no images to evaluate: check that --data has the split asked for"
        )
    bootstrap = Bootstrap(resamples, seed)
    levels = {
        "image": image_cases(probability, images, threshold),
        "study": study_probabilities(probability, images, rule, threshold),
    }
    return {
        "synthetic": synthetic,
        "not_for_clinical_use": True,
        "rule": rule,
        "rule_in_words": RULES[rule],
        "threshold": threshold,
        "interval": f"95%, percentile bootstrap over patients, {resamples} resamples, seed {seed}",
        **{level: scores_in_full(cases, bootstrap) for level, cases in levels.items()},
        "parts": _by_part(levels, bootstrap),
        "baselines": {
            name: _baseline(p, images, rule, levels, bootstrap)
            for name, p in (baselines or {}).items()
        },
    }


def scores(cases: Cases, bootstrap: Bootstrap) -> Metrics:
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
        "rates": {name: _number(rate) for name, rate in rates(y, predicted)._asdict().items()},
    }
    notes = []
    if len(counts) > 1:
        kappas = resampled_kappas(counts, bootstrap.resamples, bootstrap.seed)
        found["kappa_interval"] = percentile_interval(kappas)
    else:
        notes.append("one patient only: kappa has no interval")
    if found["normal"] and found["abnormal"]:
        found["auc"] = auc(y, cases.probability)
    else:
        only = "normal" if found["normal"] else "abnormal"
        notes.append(f"only {only} cases: no ROC curve and no AUC, and kappa is 0 or says little")
    found["note"] = "; ".join(notes) or None
    return found


def scores_and_roc(cases: Cases, bootstrap: Bootstrap) -> Metrics:
    """``scores``, and the ROC curve where there is one."""
    found = scores(cases, bootstrap)
    return {**found, "roc": None if found["auc"] is None else roc_points(cases)}


def scores_in_full(cases: Cases, bootstrap: Bootstrap) -> Metrics:
    """``scores_and_roc``, and what else users ask for: calibration and thresholds."""
    found = scores_and_roc(cases, bootstrap)
    return {
        **found,
        "brier": brier_score(cases),
        "calibration": reliability(cases),
        "operating_points": [] if found["auc"] is None else operating_points(cases),
        "sweep": sweep(cases),
    }


def roc_points(cases: Cases) -> Metrics:
    """The ROC curve's corners; the threshold of the first, above every probability, is null.

    Points in the middle of a straight stretch are left out: the curve is the same.
    """
    fpr, tpr, thresholds = roc_curve(cases.label, cases.probability)
    turn = np.diff(fpr)[:-1] * np.diff(tpr)[1:] != np.diff(fpr)[1:] * np.diff(tpr)[:-1]
    corner = np.concatenate([[True], turn, [True]])
    return {
        "false_positive_rate": fpr[corner].tolist(),
        "true_positive_rate": tpr[corner].tolist(),
        "threshold": [_number(t) for t in thresholds[corner]],
    }


def save_metrics(path: Path, metrics: Metrics) -> None:
    """Write metrics.json, whole or not at all; CheckpointError if it cannot be written."""
    write_whole(path, (json.dumps(metrics, indent=1, allow_nan=False) + "\n").encode())


def load_metrics(path: Path) -> Metrics:
    """The content of metrics.json; raises UserError, naming the file, if it cannot be read."""
    try:
        metrics: Metrics = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"no {path}: run `python -m examples.mura evaluate` first") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read {path}: {error}; run `python -m examples.mura evaluate` again"
        ) from error
    return metrics


def _by_part(levels: Mapping[str, Cases], bootstrap: Bootstrap) -> Metrics:
    parts = np.unique(levels["image"].part).tolist()
    return {
        part: {
            level: scores_and_roc(cases.of_part(part), bootstrap) for level, cases in levels.items()
        }
        for part in parts
    }


def _baseline(
    probability: NDArray[np.floating],
    images: Sequence[Image],
    rule: str,
    network: Mapping[str, Cases],
    bootstrap: Bootstrap,
) -> Metrics:
    """Scores of a baseline, and by how much the network's kappa exceeds its own."""
    levels = {
        "image": image_cases(probability, images),
        "study": study_probabilities(probability, images, rule),
    }
    found: Metrics = {level: scores(cases, bootstrap) for level, cases in levels.items()}
    for level, cases in levels.items():
        found[level]["network_exceeds_by"] = kappa_difference(network[level], cases, bootstrap)
    found["parts"] = {
        part: {level: scores(cases.of_part(part), bootstrap) for level, cases in levels.items()}
        for part in np.unique(levels["image"].part).tolist()
    }
    return found


def kappa_difference(a: Cases, b: Cases, bootstrap: Bootstrap) -> Metrics:
    """Kappa of ``a`` less that of ``b``, two classifiers of the same cases; interval paired."""
    one, other = patient_counts(a), patient_counts(b)
    difference = cohen_kappa(a.label, a.abnormal) - cohen_kappa(b.label, b.abnormal)
    if len(one) < 2:
        return {"kappa": difference, "interval": None}
    r, seed = bootstrap.resamples, bootstrap.seed
    paired = resampled_kappas(one, r, seed) - resampled_kappas(other, r, seed)
    return {"kappa": difference, "interval": percentile_interval(paired)}


def _number(value: float) -> float | None:
    """The value as JSON has it: None where it is NaN or infinite."""
    return float(value) if np.isfinite(value) else None
