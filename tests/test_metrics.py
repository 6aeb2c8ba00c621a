"""Metrics against scikit-learn's over drawn labels and scores, ties included, and by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinynet.metrics import (
    Rates,
    accuracy,
    area_under_curve,
    auc,
    cohen_kappa,
    confusion_matrix,
    kappa_of,
    rates,
    roc_curve,
)

sklearn_metrics = pytest.importorskip(
    "sklearn.metrics", reason="scikit-learn is not installed: pip install scikit-learn"
)

drawn = settings(max_examples=150)
pairs_of_labels = st.integers(2, 5).flatmap(
    lambda classes: st.lists(
        st.tuples(st.integers(0, classes - 1), st.integers(0, classes - 1)), min_size=1, max_size=40
    )
)
# few distinct scores, so that most draws have ties, within a class and across
scores = st.sampled_from([0.0, 0.25, 0.5, 0.5 + 2**-50, 0.75, 1.0, -3.0, 1e300, -1e300])
scored_labels = st.lists(st.tuples(st.integers(0, 1), scores), min_size=2, max_size=40).filter(
    lambda pairs: {label for label, _ in pairs} == {0, 1}
)


def columns(pairs):
    first, second = zip(*pairs, strict=True)
    return np.array(first), np.array(second)


@drawn
@given(pairs_of_labels)
def test_label_metrics_equal_scikit_learn(pairs):
    true, predicted = columns(pairs)
    assert accuracy(true, predicted) == sklearn_metrics.accuracy_score(true, predicted)
    classes = int(max(true.max(), predicted.max())) + 1
    expected = sklearn_metrics.confusion_matrix(true, predicted, labels=range(classes + 2))
    np.testing.assert_array_equal(confusion_matrix(true, predicted), expected[:classes, :classes])
    by_rows = confusion_matrix(true, predicted, classes + 2, rows="predicted")
    np.testing.assert_array_equal(by_rows, expected.T)
    kappa = cohen_kappa(true, predicted)
    if len(set(true) | set(predicted)) == 1:
        assert kappa == 0.0
    else:
        oracle = sklearn_metrics.cohen_kappa_score(true, predicted)
        assert kappa == pytest.approx(oracle, rel=1e-12, abs=1e-14)
    assert kappa == kappa_of(by_rows)


@drawn
@given(scored_labels)
def test_roc_and_auc_equal_scikit_learn(pairs):
    true, score = columns(pairs)
    got = roc_curve(true, score)
    expected = sklearn_metrics.roc_curve(true, score, drop_intermediate=False)
    for mine, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert auc(true, score) == pytest.approx(sklearn_metrics.roc_auc_score(true, score), rel=1e-12)


@drawn
@given(scored_labels)
def test_auc_is_the_mann_whitney_probability(pairs):
    true, score = columns(pairs)
    wins = [
        1.0 if one > zero else 0.5 if one == zero else 0.0
        for one in score[true == 1]
        for zero in score[true == 0]
    ]
    assert auc(true, score) == pytest.approx(sum(wins) / len(wins), rel=1e-12, abs=1e-15)


@drawn
@given(scored_labels)
def test_roc_points_are_the_rates_at_their_thresholds(pairs):
    true, score = columns(pairs)
    fpr, tpr, thresholds = roc_curve(true, score)
    assert (fpr[0], tpr[0], thresholds[0]) == (0, 0, math.inf)
    assert (fpr[-1], tpr[-1]) == (1, 1)
    assert thresholds[1:].tolist() == sorted(set(score.tolist()), reverse=True)
    for x, y, threshold in zip(fpr, tpr, thresholds, strict=True):
        at = rates(true, (score >= threshold).astype(int))
        assert (at.false_positive_rate, at.true_positive_rate) == (x, y)


def test_report_figure_2():
    """a = 40, b = 10, c = 5, d = 45: rows predicted, columns true."""
    true = [0] * 40 + [1] * 10 + [0] * 5 + [1] * 45
    predicted = [0] * 50 + [1] * 50
    matrix = confusion_matrix(true, predicted, rows="predicted")
    assert matrix.tolist() == [[40, 10], [5, 45]]
    assert matrix.dtype == np.int64
    assert confusion_matrix(true, predicted).tolist() == [[40, 5], [10, 45]]
    assert accuracy(true, predicted) == 0.85
    assert rates(true, predicted) == Rates(
        true_negative_rate=40 / 45,
        false_negative_rate=10 / 55,
        true_positive_rate=45 / 55,
        false_positive_rate=5 / 45,
    )
    p_o, p_e = 0.85, 0.5 * 0.45 + 0.5 * 0.55
    assert cohen_kappa(true, predicted) == pytest.approx((p_o - p_e) / (1 - p_e))


def test_kappa_by_cases():
    assert cohen_kappa([0, 1, 1, 0], [0, 1, 1, 0]) == 1.0
    assert cohen_kappa([0, 1, 1, 0], [1, 0, 0, 1]) == -1.0
    assert cohen_kappa([0] * 8 + [1] * 2, [0] * 10) == 0.0  # the report's always-A classifier
    assert cohen_kappa([0] * 10, [0] * 9 + [1]) == 0.0


@pytest.mark.parametrize("label", [0, 1])
def test_kappa_where_chance_is_certain_is_zero(label):
    assert cohen_kappa([label] * 7, [label] * 7) == 0.0


def test_rates_over_no_examples_are_nan():
    no_positives = rates([0, 0, 0], [0, 1, 0])
    assert no_positives.true_negative_rate == 2 / 3
    assert no_positives.false_positive_rate == 1 / 3
    assert math.isnan(no_positives.true_positive_rate)
    assert math.isnan(no_positives.false_negative_rate)
    no_negatives = rates([1, 1], [1, 0])
    assert no_negatives.true_positive_rate == no_negatives.false_negative_rate == 0.5
    assert math.isnan(no_negatives.true_negative_rate)
    assert math.isnan(no_negatives.false_positive_rate)


def test_roc_by_hand():
    fpr, tpr, thresholds = roc_curve([0, 1, 0, 1, 1], [0.1, 0.4, 0.4, 0.8, 0.9])
    assert thresholds.tolist() == [math.inf, 0.9, 0.8, 0.4, 0.1]
    np.testing.assert_allclose(tpr, [0, 1 / 3, 2 / 3, 1, 1])
    np.testing.assert_allclose(fpr, [0, 0, 0, 0.5, 1])
    # of the 6 pairs 5 are won and 1 tied
    assert auc([0, 1, 0, 1, 1], [0.1, 0.4, 0.4, 0.8, 0.9]) == pytest.approx(5.5 / 6)


def test_auc_of_constant_scores_is_a_half():
    assert auc([0, 1, 1], [0.3, 0.3, 0.3]) == 0.5


def test_metrics_do_not_average_over_batches():
    true, score = np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    halves = [auc(true[:2], score[:2]), auc(true[2:], score[2:])]
    assert halves == [1.0, 1.0]
    assert auc(true, score) == 0.75


def test_results_are_plain_numbers():
    assert type(accuracy([0, 1], [0, 0])) is float
    assert type(cohen_kappa([0, 1], [0, 0])) is float
    assert type(auc([0, 1], np.array([0.1, 0.2], np.float32))) is float
    assert all(type(rate) is float for rate in rates([0, 1], [0, 0]))


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([], [], r"y_true is \(0,\)"),
        ([0, 1], [0], "2 labels and 1 predictions"),
        ([0, 1], [[0.2, 0.8], [0.1, 0.9]], r"y_pred is \(2, 2\)"),
        ([0, 1], [0.2, 0.8], "y_pred is float64, want integers: take p >= 0.5"),
        ([0, -1], [0, 1], "y_true has the label -1"),
    ],
)
@pytest.mark.parametrize("metric", [accuracy, confusion_matrix, rates, cohen_kappa])
def test_bad_labels_are_clear_errors(metric, true, predicted, message):
    with pytest.raises(ValueError, match=message):
        metric(true, predicted)


def test_more_labels_than_classes_is_an_error():
    with pytest.raises(ValueError, match="labels go up to 2, want 0 to 1"):
        rates([0, 1, 2], [0, 1, 1])
    with pytest.raises(ValueError, match="labels go up to 3"):
        confusion_matrix([0, 3], [0, 0], num_classes=3)
    with pytest.raises(ValueError, match="rows is 'columns'"):
        confusion_matrix([0], [0], rows="columns")
    with pytest.raises(ValueError, match=r"want \(K, K\) counts"):
        kappa_of(np.zeros((2, 2), np.int64))


@pytest.mark.parametrize(
    ("true", "score", "message"),
    [
        ([1, 1], [0.1, 0.2], r"only the labels \[1\], want both 0 and 1"),
        ([0, 2], [0.1, 0.2], r"labels \[0, 2\]"),
        ([0, 1], [0.1, math.nan], "1 of the scores are NaN or infinite"),
        ([0, 1], [math.inf, -math.inf], "2 of the scores are NaN or infinite"),
        ([0, 1], [[0.1, 0.9], [0.2, 0.8]], r"score is \(2, 2\).*probabilities\[:, 1\]"),
    ],
)
@pytest.mark.parametrize("metric", [roc_curve, auc])
def test_bad_scores_are_clear_errors(metric, true, score, message):
    with pytest.raises(ValueError, match=message):
        metric(true, score)


def test_area_under_curve_wants_x_sorted():
    assert area_under_curve(np.array([0.0, 0.5, 1.0]), np.array([0.0, 1.0, 1.0])) == 0.75
    with pytest.raises(ValueError, match="x falls"):
        area_under_curve(np.array([0.5, 0.0]), np.array([0.0, 1.0]))
