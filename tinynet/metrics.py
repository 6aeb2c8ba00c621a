"""Metrics: the quality of predictions over a whole data set.  Report §2.6.

Every function takes the labels and predictions of the whole set, as NumPy or CuPy arrays or as
lists: a mean over batches of a kappa, a rate or an AUC is not that of the set. Each takes
``sample_weight``, (n,) numbers from 0: an example of weight 2 counts as two of weight 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from tinynet.backend import Array, check_number, checked, described, to_device

Labels: TypeAlias = Array | Sequence[Any]
Weights: TypeAlias = Labels | None
Average: TypeAlias = Literal["binary", "macro", "micro", "weighted"]


class Rates(NamedTuple):
    """The four rates of a two-class problem; NaN for a rate over no examples.  Report §2.6.2."""

    true_negative_rate: float
    false_negative_rate: float
    true_positive_rate: float
    false_positive_rate: float


def accuracy(y_true: Labels, y_pred: Labels, sample_weight: Weights = None) -> float:
    """Proportion of correct predictions.  Report §2.6.1.

        (1/n) Σ_i [y_i = ŷ_i]

    y_true, y_pred   (n,)   integer labels
    Raises ValueError for labels that are empty, no integers, negative or of two lengths.
    """
    true, predicted = _labels(y_true, y_pred)
    return float(np.average(true == predicted, weights=_weights(sample_weight, len(true))))


@checked
def confusion_matrix(
    y_true: Labels,
    y_pred: Labels,
    num_classes: int | None = None,
    *,
    rows: Literal["true", "predicted"] = "true",
    sample_weight: Weights = None,
) -> Array:
    """Count the examples of each class that were predicted as each class.  Report §2.6.2.

    y_true, y_pred   (n,)   integer labels
    num_classes      K; by default, one more than the largest label
    rows             "true" as in scikit-learn; "predicted" as in the report's figure 2
    Returns counts (K, K), int64, or sums of weights, float64; columns are the other of true and
    predicted.
    Raises ValueError as ``accuracy`` does, and for labels of num_classes or more.
    """
    true, predicted = _labels(y_true, y_pred)
    largest = int(max(true.max(), predicted.max()))
    classes = largest + 1
    if num_classes is not None:
        classes = check_number("num_classes", num_classes, 1, whole=True)
    if largest >= classes:
        raise ValueError(f"labels go up to {largest}, want 0 to {classes - 1} (num_classes)")
    if rows == "predicted":
        true, predicted = predicted, true
    weights, cells = _weights(sample_weight, len(true)), true * classes + predicted
    return np.bincount(cells, weights, classes**2).reshape(classes, classes)


def rates(y_true: Labels, y_pred: Labels, sample_weight: Weights = None) -> Rates:
    """True and false, negative and positive rate, of labels 0 and 1.  Report §2.6.2.

        of the true negatives (0):   TNR = TN / (TN + FP),   FPR = FP / (TN + FP)
        of the true positives (1):   TPR = TP / (TP + FN),   FNR = FN / (TP + FN)

    y_true, y_pred   (n,)   labels, 0 (normal) or 1 (abnormal)
    Returns Rates. Without true negatives TNR and FPR are NaN, without true positives TPR and FNR:
    there is nothing they could be a proportion of.
    Raises ValueError as ``accuracy`` does, and for labels other than 0 and 1.
    """
    matrix = confusion_matrix(y_true, y_pred, num_classes=2, sample_weight=sample_weight)
    (tn, fp), (fn, tp) = matrix.tolist()
    return Rates(
        true_negative_rate=_proportion(tn, tn + fp),
        false_negative_rate=_proportion(fn, tp + fn),
        true_positive_rate=_proportion(tp, tp + fn),
        false_positive_rate=_proportion(fp, tn + fp),
    )


@checked
def precision(
    y_true: Labels, y_pred: Labels, average: Average = "binary", sample_weight: Weights = None
) -> float:
    """Share of the predicted positives that are positive: TP / (TP + FP).

    y_true, y_pred   (n,)   integer labels
    average          "binary": of class 1, the labels are 0 and 1; "macro": the mean over all
                     classes that occur in y_true or y_pred; "weighted": their mean by how often
                     they occur in y_true; "micro": from the counts of all classes together
    Returns the share; 0 for a class that was never predicted, as scikit-learn does.
    Raises ValueError as ``accuracy`` does, and for labels above 1 with "binary".
    """
    return _averaged(y_true, y_pred, average, sample_weight, 0.0)


@checked
def recall(
    y_true: Labels, y_pred: Labels, average: Average = "binary", sample_weight: Weights = None
) -> float:
    """Share of the positives that were predicted, TP / (TP + FN); else as ``precision``.

    0 for a class that does not occur in y_true.
    """
    return _averaged(y_true, y_pred, average, sample_weight, 1.0)


@checked
def f1(
    y_true: Labels, y_pred: Labels, average: Average = "binary", sample_weight: Weights = None
) -> float:
    """Harmonic mean of precision and recall, 2 TP / (2 TP + FP + FN); else as ``precision``."""
    return _averaged(y_true, y_pred, average, sample_weight, 0.5)


def _averaged(
    y_true: Labels, y_pred: Labels, average: Average, sample_weight: Any, of_true: float
) -> float:
    """TP over a mean of the positives, of weight ``of_true``, and of those predicted."""
    classes = 2 if average == "binary" else None
    matrix = confusion_matrix(y_true, y_pred, classes, sample_weight=sample_weight)
    hits, true, predicted = np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)
    if average == "micro":
        seen: Any = [True]
        hits, true, predicted = (np.array([a.sum()]) for a in (hits, true, predicted))
    else:  # a class that occurs with weight 0 counts
        seen = [1] if average == "binary" else np.union1d(*_labels(y_true, y_pred))
    whole = of_true * true + (1 - of_true) * predicted
    shares = np.divide(hits, whole, out=np.zeros(len(hits)), where=whole > 0)
    return float(np.average(shares[seen], weights=true[seen] if average == "weighted" else None))


@checked
def cohen_kappa(
    y_true: Labels,
    y_pred: Labels,
    weights: Literal["linear", "quadratic"] | None = None,
    sample_weight: Weights = None,
) -> float:
    """Agreement of labels and predictions beyond what chance would give.  Report §2.6.3.

        κ = (p_o - p_e) / (1 - p_e)

    with p_o the accuracy, p_e the sum over classes of (share in y_true) (share in y_pred).

    y_true, y_pred   (n,)   integer labels
    weights          how much labels disagree: None: 1 if they differ; "linear": |i − j|,
                     "quadratic": (i − j)², for grades. The distances are those of the labels
                     themselves (scikit-learn counts only labels that occur: give it ``labels``)
    Returns κ, 1 for perfect agreement and 0 for that of chance; see ``kappa_of`` for p_e = 1.
    Raises ValueError as ``accuracy`` does.
    """
    return kappa_of(confusion_matrix(y_true, y_pred, sample_weight=sample_weight), weights)


@checked
def kappa_of(matrix: Array, weights: Literal["linear", "quadratic"] | None = None) -> float:
    """Cohen's kappa of a confusion matrix (K, K), counts or shares, either way round.  §2.6.3.

    Where p_e = 1, which is when only one label is seen and only that one predicted, the equation
    is 0/0 and κ is defined as 0: all the agreement is what chance would give, and a constant
    prediction has κ = 0 for every other mixture of labels too. (scikit-learn gives NaN.)
    With weights d_ij of the disagreements, of which [i ≠ j] are the plain ones,

        κ = 1 - Σ_ij d_ij p_ij / Σ_ij d_ij p_i. p_.j      p_ij the shares    (Cohen 1968)

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
    steps = abs(np.subtract.outer(range(len(counts)), range(len(counts))))
    apart = {None: np.minimum(steps, 1), "linear": steps, "quadratic": steps**2}[weights]
    # Counts in Python's integers, n² times numerator and denominator, so that p_e = 1 is met
    # exactly and nothing overflows; shares (a normalised matrix) in float64.
    counts = counts.astype(np.float64 if counts.dtype.kind == "f" else object)
    by_chance = counts.sum(axis=1) @ apart @ counts.sum(axis=0)
    if by_chance == 0:
        return 0.0
    return float((by_chance - counts.sum() * (apart * counts).sum()) / by_chance)


def roc_curve(
    y_true: Labels, score: Labels, sample_weight: Weights = None
) -> tuple[Array, Array, Array]:
    """True against false positive rate as the threshold falls.  Report §2.6.4.

        predict 1 where score >= threshold

    y_true   (n,)   labels, 0 or 1
    score    (n,)   the larger, the surer of a 1: a probability, or any other number
    Returns fpr, tpr and thresholds, each (t + 1,): one point for each of the t distinct scores,
    so that equal scores are never parted, after (0, 0), whose threshold is ∞; the last is (1, 1).
    Raises ValueError for NaN or infinite scores, and if y_true has only one class; examples of
    weight 0 are left out before that.
    """
    true_positives, false_positives, scores = _positives(y_true, score, sample_weight)
    tpr = np.append(0, true_positives / true_positives[-1])
    fpr = np.append(0, false_positives / false_positives[-1])
    return fpr, tpr, np.append(np.inf, scores)


def _positives(y_true: Labels, score: Labels, sample_weight: Any) -> tuple[Array, Array, Array]:
    """True and false positives at each of the distinct scores, and these, from the largest."""
    true, scores, weights = _labels_and_scores(y_true, score, sample_weight)
    order = np.argsort(-scores, kind="stable")
    true, scores, weights = true[order], scores[order], weights[order]
    last_of_ties = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    positives = [np.cumsum(weights * (true == label))[last_of_ties] for label in (1, 0)]
    return positives[0], positives[1], scores[last_of_ties]


def average_precision(y_true: Labels, score: Labels, sample_weight: Weights = None) -> float:
    """Mean of the precision over the recalls that the falling threshold reaches.

        AP = Σ_t (R_t - R_t₋₁) P_t      over the distinct scores, from the largest

    y_true   (n,)   labels, 0 or 1
    score    (n,)   the larger, the surer of a 1
    Raises ValueError as ``roc_curve`` does.  Source: scikit-learn's, without interpolation.
    """
    true_positives, false_positives, _ = _positives(y_true, score, sample_weight)
    precisions = true_positives / (true_positives + false_positives)
    return float(np.diff(true_positives, prepend=0) @ precisions / true_positives[-1])


def log_loss(y_true: Labels, probabilities: Labels, sample_weight: Weights = None) -> float:
    """Mean of -log p, p the probability that an example's true class was given.

    y_true          (n,)            labels from 0 to K - 1
    probabilities   (n,) or (n, K)  of class 1, or of each class: rows that sum to 1. As in
                    scikit-learn they count as at least their dtype's ε, and at most 1 - ε
    Raises ValueError for labels as ``accuracy`` does, for K or more, and for what is no
    probability.
    """
    true, p = _label_array("y_true", y_true), _on_cpu(probabilities)
    if p.dtype.kind not in "biuf":
        raise ValueError(f"probabilities are {described(probabilities)}, want numbers from 0 to 1")
    p = p if p.dtype.kind == "f" else p.astype(np.float64)
    p = np.stack([1 - p, p], axis=1) if p.ndim == 1 else p
    epsilon = np.finfo(p.dtype).eps
    if (
        p.shape[:-1] != true.shape
        or not ((p >= 0) & (p <= 1)).all()
        or not (abs(p.sum(axis=1) - 1) <= epsilon**0.5).all()
        or true.max() >= p.shape[1]
    ):
        raise ValueError(
            f"probabilities are {p.shape} for {len(true)} labels up to {true.max()}, want (n,) of "
            "class 1, or (n, K) rows from 0 to 1 that sum to 1, K above all labels"
        )
    losses = -np.log(np.clip(p[np.arange(len(true)), true], epsilon, 1 - epsilon))
    return float(np.average(losses, weights=_weights(sample_weight, len(true))))


@checked
def auc(
    y_true: Labels,
    score: Labels,
    sample_weight: Weights = None,
    *,
    multi_class: Literal["ovr", "ovo"] | None = None,
    average: Literal["macro", "weighted"] = "macro",
) -> float:
    """Area under the ROC curve.  Report §2.6.4.

        AUC = P(s₁ > s₀) + P(s₁ = s₀) / 2,   s₁ and s₀ the scores of a random 1 and a random 0

    y_true        (n,)             labels, 0 or 1; with multi_class 0 to K - 1, each at least once
    score         (n,) or (n, K)   the larger, the surer of a 1, or of each class
    multi_class   "ovr": the mean over the classes, each against the rest; "ovo": over the pairs of
                  classes, of both their areas (Hand & Till 2001), without sample_weight
    average       of these: "macro" or "weighted" by how often the class, or the pair, occurs
    Raises ValueError as ``roc_curve`` does.
    Source of the equality with the trapezium rule: Hanley & McNeil 1982.
    """
    if multi_class is None:
        fpr, tpr, _ = roc_curve(y_true, score, sample_weight)
        return area_under_curve(fpr, tpr)
    true, scores = _label_array("y_true", y_true), _on_cpu(score)
    classes = np.arange(scores.shape[-1])
    found = np.unique(true)
    if scores.shape != (len(true), len(classes)) or not np.array_equal(found, classes):
        raise ValueError(
            f"score is {scores.shape} for {len(true)} labels, of which there are {found.tolist()}: "
            "want (n, K), and each label from 0 to K - 1 at least once"
        )
    weights = _weights(sample_weight, len(true))
    if multi_class == "ovr":
        areas = [auc(true == k, scores[:, k], weights) for k in classes]
        occurs = np.bincount(true, weights)
    elif weights is not None:
        raise ValueError("sample_weight is not defined for pairs of classes: use multi_class='ovr'")
    else:
        pairs = list(combinations(classes, 2))
        of_pair = [(true == a) | (true == b) for a, b in pairs]
        areas = [
            sum(auc(true[i] == k, scores[i, k]) for k in pair) / 2
            for i, pair in zip(of_pair, pairs, strict=True)
        ]
        occurs = np.array([i.sum() for i in of_pair])
    return float(np.average(areas, weights=occurs if average == "weighted" else None))


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


def _weights(sample_weight: Labels | None, n: int) -> Array | None:
    """Weights of n examples on the CPU, float64, checked; None for none."""
    if sample_weight is None:
        return None
    w = _on_cpu(sample_weight)
    if w.shape != (n,) or w.dtype.kind not in "biuf" or not ((w >= 0) & (w < np.inf)).all():
        raise ValueError(
            f"sample_weight is {w.shape} {w.dtype}, want ({n},) numbers from 0, one for each label"
        )
    if not w.any():
        raise ValueError("sample_weight is 0 for every example, want at least one above 0")
    return w.astype(np.float64)


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


def _labels_and_scores(
    y_true: Labels, score: Labels, sample_weight: Weights
) -> tuple[Array, Array, Array]:
    """All on the CPU, checked: labels 0 and 1, each at least once, finite scores, weights not 0."""
    true, scores = _label_array("y_true", y_true), _on_cpu(score)
    if scores.shape != true.shape or scores.dtype.kind not in "biuf":
        raise ValueError(
            f"score is {scores.shape} {scores.dtype} for {len(true)} labels, want one number for "
            "each, such as the probability of class 1: probabilities[:, 1]"
        )
    weights = _weights(sample_weight, len(true))
    weights = np.ones(len(true), np.int64) if weights is None else weights
    there = weights > 0
    true, scores, weights = true[there], scores[there], weights[there]
    found = np.unique(true).tolist()
    if found != [0, 1]:
        raise ValueError(f"y_true has only the labels {found}, want both 0 and 1, and no others")
    scores = scores.astype(np.float64, copy=False)
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).sum())
        raise ValueError(f"{bad} of the scores are NaN or infinite, want finite numbers")
    return true, scores, weights


def _on_cpu(x: Labels) -> Array:
    try:
        return np.asarray(to_device(x, "numpy"))  # type: ignore[arg-type]
    except ValueError:  # rows of several lengths
        raise ValueError(f"got {described(x)} whose parts differ in length, want (n,)") from None
