"""Metrics: the quality of predictions over a whole data set.  Report §2.6.

Every function takes the labels and predictions of the whole set, as NumPy or CuPy arrays or as
lists: a mean over batches of a kappa, a rate or an AUC is not that of the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from tinynet.backend import Array, check_choice, check_number, checked, described, to_device

Labels: TypeAlias = Array | Sequence[Any]


class Rates(NamedTuple):
    """The four rates of a two-class problem; NaN for a rate over no examples.  Report §2.6.2."""

    true_negative_rate: float
    false_negative_rate: float
    true_positive_rate: float
    false_positive_rate: float


def accuracy(y_true: Labels, y_pred: Labels) -> float:
    """Proportion of correct predictions.  Report §2.6.1.

        (1/n) Σ_i [y_i = ŷ_i]

    y_true, y_pred   (n,)   integer labels
    Raises ValueError for labels that are empty, no integers, negative or of two lengths.
    """
    true, predicted = _labels(y_true, y_pred)
    return float((true == predicted).mean())


def confusion_matrix(
    y_true: Labels,
    y_pred: Labels,
    num_classes: int | None = None,
    *,
    rows: Literal["true", "predicted"] = "true",
) -> Array:
    """Count the examples of each class that were predicted as each class.  Report §2.6.2.

    y_true, y_pred   (n,)   integer labels
    num_classes      K; by default, one more than the largest label
    rows             "true" as in scikit-learn; "predicted" as in the report's figure 2
    Returns counts (K, K), int64; columns are the other of true and predicted.
    Raises ValueError as ``accuracy`` does, and for labels of num_classes or more.
    """
    true, predicted = _labels(y_true, y_pred)
    check_choice("rows", rows, ("true", "predicted"))
    largest = int(max(true.max(), predicted.max()))
    classes = largest + 1
    if num_classes is not None:
        classes = check_number("num_classes", num_classes, 1, whole=True)
    if largest >= classes:
        raise ValueError(f"labels go up to {largest}, want 0 to {classes - 1} (num_classes)")
    if rows == "predicted":
        true, predicted = predicted, true
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def rates(y_true: Labels, y_pred: Labels) -> Rates:
    """True and false, negative and positive rate, of labels 0 and 1.  Report §2.6.2.

        of the true negatives (0):   TNR = TN / (TN + FP),   FPR = FP / (TN + FP)
        of the true positives (1):   TPR = TP / (TP + FN),   FNR = FN / (TP + FN)

    y_true, y_pred   (n,)   labels, 0 (normal) or 1 (abnormal)
    Returns Rates. Without true negatives TNR and FPR are NaN, without true positives TPR and FNR:
    there is nothing they could be a proportion of.
    Raises ValueError as ``accuracy`` does, and for labels other than 0 and 1.
    """
    (tn, fp), (fn, tp) = confusion_matrix(y_true, y_pred, num_classes=2).tolist()
    return Rates(
        true_negative_rate=_proportion(tn, tn + fp),
        false_negative_rate=_proportion(fn, tp + fn),
        true_positive_rate=_proportion(tp, tp + fn),
        false_positive_rate=_proportion(fp, tn + fp),
    )


def cohen_kappa(y_true: Labels, y_pred: Labels) -> float:
    """Agreement of labels and predictions beyond what chance would give.  Report §2.6.3.

        κ = (p_o - p_e) / (1 - p_e)

    with p_o the accuracy, p_e the sum over classes of (share in y_true) (share in y_pred).

    y_true, y_pred   (n,)   integer labels
    Returns κ, 1 for perfect agreement and 0 for that of chance; see ``kappa_of`` for p_e = 1.
    Raises ValueError as ``accuracy`` does.
    """
    return kappa_of(confusion_matrix(y_true, y_pred))


@checked
def kappa_of(matrix: Array) -> float:
    """Cohen's kappa of a confusion matrix (K, K), counts or shares, either way round.  §2.6.3.

    Where p_e = 1, which is when only one label is seen and only that one predicted, the equation
    is 0/0 and κ is defined as 0: all the agreement is what chance would give, and a constant
    prediction has κ = 0 for every other mixture of labels too. (scikit-learn gives NaN.)
    Raises ValueError for a matrix that is not square, or that counts no examples.
    """
    counts = np.asarray(to_device(matrix, "numpy"))
    if (
        counts.ndim != 2
        or counts.shape[0] != counts.shape[1]
        or counts.dtype.kind not in "biuf"
        or not (np.isfinite(counts) & (counts >= 0)).all()
        or not counts.any()
    ):
        raise ValueError(
            f"the confusion matrix is {counts.tolist()}, want (K, K) counts or shares, not all 0"
        )
    # Counts in Python's integers, n² times numerator and denominator, so that p_e = 1 is met
    # exactly and nothing overflows; shares (a normalised matrix) in float64.
    counts = counts.astype(np.float64 if counts.dtype.kind == "f" else object)
    n = counts.sum()
    agreed = n * np.trace(counts)
    by_chance = counts.sum(axis=0) @ counts.sum(axis=1)
    if by_chance == n * n:
        return 0.0
    return float((agreed - by_chance) / (n * n - by_chance))


def roc_curve(y_true: Labels, score: Labels) -> tuple[Array, Array, Array]:
    """True against false positive rate as the threshold falls.  Report §2.6.4.

        predict 1 where score >= threshold

    y_true   (n,)   labels, 0 or 1
    score    (n,)   the larger, the surer of a 1: a probability, or any other number
    Returns fpr, tpr and thresholds, each (t + 1,): one point for each of the t distinct scores,
    so that equal scores are never parted, after (0, 0), whose threshold is ∞; the last is (1, 1).
    Raises ValueError for NaN or infinite scores, and if y_true has only one class.
    """
    true, scores = _labels_and_scores(y_true, score)
    order = np.argsort(-scores, kind="stable")
    true, scores = true[order], scores[order]
    last_of_ties = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    true_positives = np.cumsum(true)[last_of_ties]
    false_positives = last_of_ties + 1 - true_positives
    tpr = np.append(0, true_positives / true_positives[-1])
    fpr = np.append(0, false_positives / false_positives[-1])
    return fpr, tpr, np.append(np.inf, scores[last_of_ties])


def auc(y_true: Labels, score: Labels) -> float:
    """Area under the ROC curve.  Report §2.6.4.

        AUC = P(s₁ > s₀) + P(s₁ = s₀) / 2,   s₁ and s₀ the scores of a random 1 and a random 0

    y_true   (n,)   labels, 0 or 1
    score    (n,)   the larger, the surer of a 1
    Raises ValueError as ``roc_curve`` does.
    Source of the equality with the trapezium rule: Hanley & McNeil 1982.
    """
    fpr, tpr, _ = roc_curve(y_true, score)
    return area_under_curve(fpr, tpr)


@checked
def area_under_curve(x: Array, y: Array) -> float:
    """Area under straight lines from point to point.  Report §2.6.4.

        Σ_i (x_i - x_i₋₁) (y_i + y_i₋₁) / 2

    x, y   (t,)   coordinates, x never falling, such as fpr and tpr from ``roc_curve``
    Raises ValueError if x falls anywhere.
    """
    if (np.diff(x) < 0).any():
        raise ValueError("the curve's x falls somewhere, want it sorted: pass x first, then y")
    return float(np.trapezoid(y, x))


def _proportion(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _labels(y_true: Labels, y_pred: Labels) -> tuple[Array, Array]:
    """Both on the CPU as int64, checked."""
    true, predicted = _label_array("y_true", y_true), _label_array("y_pred", y_pred)
    if len(true) != len(predicted):
        raise ValueError(f"got {len(true)} labels and {len(predicted)} predictions, want as many")
    return true, predicted


def _label_array(name: str, labels: Labels) -> Array:
    y = _on_cpu(labels)
    if y.ndim != 1 or y.size == 0:
        advice = ": of probabilities take argmax(axis=1)" if y.ndim == 2 else ""
        raise ValueError(f"{name} is {y.shape}, want (n,) labels, n at least 1{advice}")
    if y.dtype.kind not in "biu":
        whole = y.dtype.kind == "f" and (y == y.round()).all()
        advice = "astype('int64')" if whole else "p >= 0.5, for probabilities p of class 1"
        advice = f": take {advice}" if y.dtype.kind == "f" else ""
        raise ValueError(f"{name} is {y.dtype}, want integers{advice}")
    if y.min() < 0:
        raise ValueError(f"{name} has the label {int(y.min())}, want 0 and up")
    return y.astype(np.int64)


def _labels_and_scores(y_true: Labels, score: Labels) -> tuple[Array, Array]:
    """Both on the CPU, checked: labels 0 and 1, each at least once, and finite scores."""
    true, scores = _label_array("y_true", y_true), _on_cpu(score)
    if scores.shape != true.shape or scores.dtype.kind not in "biuf":
        raise ValueError(
            f"score is {scores.shape} {scores.dtype} for {len(true)} labels, want one number for "
            "each, such as the probability of class 1: probabilities[:, 1]"
        )
    found = np.unique(true).tolist()
    if found != [0, 1]:
        raise ValueError(f"y_true has only the labels {found}, want both 0 and 1, and no others")
    scores = scores.astype(np.float64, copy=False)
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise ValueError(f"{bad} of the scores are NaN or infinite, want finite numbers")
    return true, scores


def _on_cpu(x: Labels) -> Array:
    try:
        return np.asarray(to_device(x, "numpy"))  # type: ignore[arg-type]
    except ValueError:  # rows of several lengths
        raise ValueError(f"got {described(x)} whose parts differ in length, want (n,)") from None
