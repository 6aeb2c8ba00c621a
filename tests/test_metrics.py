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
    average_precision,
    cohen_kappa,
    confusion_matrix,
    f1,
    kappa_of,
    log_loss,
    precision,
    rates,
    recall,
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


def weights_of(n):
    """Weights of examples: none, whole ones, or with zeros and any others."""
    some = st.sampled_from([0.0, 0.3, 1.0, 7.5])
    return st.none() | st.lists(st.integers(1, 3) | some, min_size=n, max_size=n).filter(any)


AVERAGES = ["binary", "macro", "micro", "weighted"]
SHARES = {
    precision: sklearn_metrics.precision_score,
    recall: sklearn_metrics.recall_score,
    f1: sklearn_metrics.f1_score,
}


@pytest.mark.filterwarnings("ignore")  # scikit-learn's, of what is 0/0
@settings(max_examples=100)
@given(st.data(), pairs_of_labels)
def test_weighted_label_metrics_equal_scikit_learn(data, pairs):
    true, predicted = columns(pairs)
    w, average = data.draw(weights_of(len(true))), data.draw(st.sampled_from(AVERAGES))
    if average == "binary":
        true, predicted = true % 2, predicted % 2
    for ours, theirs in SHARES.items():
        want = theirs(true, predicted, average=average, sample_weight=w)
        assert ours(true, predicted, average, w) == pytest.approx(want, rel=1e-12)
    want = sklearn_metrics.accuracy_score(true, predicted, sample_weight=w)
    assert accuracy(true, predicted, w) == pytest.approx(want, rel=1e-12)
    labels = range(int(max(true.max(), predicted.max())) + 1)
    want = sklearn_metrics.confusion_matrix(true, predicted, labels=labels, sample_weight=w)
    np.testing.assert_allclose(confusion_matrix(true, predicted, sample_weight=w), want)
    for weights in (None, "linear", "quadratic"):
        kappa = sklearn_metrics.cohen_kappa_score
        want = kappa(true, predicted, labels=labels, weights=weights, sample_weight=w)
        found = cohen_kappa(true, predicted, weights, w)
        assert found == pytest.approx(0.0 if np.isnan(want) else want, rel=1e-9, abs=1e-12)
        matrix = confusion_matrix(true, predicted, sample_weight=w)
        assert kappa_of(matrix / matrix.sum(), weights) == pytest.approx(found, abs=1e-12)


@settings(max_examples=100)
@given(st.data(), scored_labels)
def test_weighted_curves_equal_scikit_learn(data, pairs):
    true, score = columns(pairs)
    w = data.draw(weights_of(len(true)))
    there = np.ones(len(true), bool) if w is None else np.array(w) > 0
    if len(set(true[there])) < 2:
        for metric in (roc_curve, auc, average_precision):
            with pytest.raises(ValueError, match="want both 0 and 1"):
                metric(true, score, w)
        return
    want = sklearn_metrics.roc_curve(true, score, sample_weight=w, drop_intermediate=False)
    for mine, theirs in zip(roc_curve(true, score, w), want, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-12)
    want = sklearn_metrics.roc_auc_score(true, score, sample_weight=w)
    assert auc(true, score, w) == pytest.approx(want, rel=1e-12, abs=1e-12)
    want = sklearn_metrics.average_precision_score(true, score, sample_weight=w)
    assert average_precision(true, score, w) == pytest.approx(want, rel=1e-12)


@settings(max_examples=60)
@given(st.data(), st.integers(2, 4), st.integers(0, 2**32 - 1))
def test_probabilities_of_several_classes_equal_scikit_learn(data, classes, seed):
    rng = np.random.default_rng(seed)
    true = np.concatenate([np.arange(classes), rng.integers(0, classes, 12)])
    p = rng.integers(0, 4, (len(true), classes)) + 1e-9 * rng.integers(0, 2)  # with ties
    p[p.sum(axis=1) == 0] = 1
    p = p / p.sum(axis=1, keepdims=True)
    p = p.astype(data.draw(st.sampled_from(["float64", "float32"])))
    w = data.draw(weights_of(len(true)).filter(lambda w: w is None or all(w)))
    want = sklearn_metrics.log_loss(true, p, sample_weight=w, labels=range(classes))
    assert log_loss(true, p, w) == pytest.approx(want, rel=1e-5)
    if classes == 2:
        assert log_loss(true, p[:, 1], w) == pytest.approx(want, rel=1e-5)
        return
    p = p.astype(float) / p.astype(float).sum(axis=1, keepdims=True)
    for average in ("macro", "weighted"):
        roc = sklearn_metrics.roc_auc_score
        for way, weights in (("ovr", w), ("ovo", None)):
            want = roc(true, p, sample_weight=weights, multi_class=way, average=average)
            found = auc(true, p, weights, multi_class=way, average=average)
            assert found == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize(
    ("true", "predicted", "average", "wanted"),  # precision, recall, F1
    [
        ([0, 0], [0, 0], "binary", (0, 0, 0)),  # no positives
        ([1, 1], [1, 1], "binary", (1, 1, 1)),
        ([0, 1], [0, 0], "binary", (0, 0, 0)),  # none predicted
        ([0, 3, 3], [0, 3, 0], "macro", (0.75, 0.75, 2 / 3)),  # 1 and 2 do not occur
        ([0, 0, 2], [0, 0, 1], "macro", (1 / 3, 1 / 3, 1 / 3)),
    ],
)
def test_shares_of_classes_that_do_not_occur(true, predicted, average, wanted):
    for metric, want in zip(SHARES, wanted, strict=True):
        assert metric(true, predicted, average) == pytest.approx(want)


def test_weighted_kappa_is_by_the_distances_of_the_labels_themselves():
    assert cohen_kappa([0, 4, 4, 0], [0, 4, 0, 0], "linear") == cohen_kappa(
        [0, 1, 1, 0], [0, 1, 0, 0]
    )
    near, far = (cohen_kappa([0, 1, 2], [0, 1, wrong], "quadratic") for wrong in (1, 0))
    assert near > cohen_kappa([0, 1, 2], [0, 1, 1]) > far


def test_a_certain_wrong_answer_costs_what_its_dtype_can_tell_from_0():
    assert log_loss([0], [1.0]) == pytest.approx(-np.log(np.finfo(float).eps))
    assert log_loss([0], np.float32([1])) == pytest.approx(-np.log(np.finfo(np.float32).eps))


SCORES = [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: accuracy([0, 1], [0, 1], [1]), r"sample_weight is \(1,\) int64, want \(2,\)"),
        (lambda: f1([0, 1], [0, 1], "macro", [1, -1]), "numbers from 0, one for each"),
        (lambda: auc([0, 1], [0, 1], [0, 0]), "is 0 for every example"),
        (lambda: precision([0, 2], [0, 1]), "labels go up to 2, want 0 to 1"),
        (lambda: recall([0, 1], [0, 1], "samples"), "average is 'samples', want one of binary"),
        (lambda: cohen_kappa([0, 1], [0, 1], "cubic"), "weights is 'cubic', want one of linear"),
        (lambda: average_precision([0, 0], [0.1, 0.2]), r"only the labels \[0\]"),
        (lambda: log_loss([0, 1], [0.5, 1.5]), "rows from 0 to 1 that sum to 1"),
        (lambda: log_loss([0, 1], [[0.5, 0.4], [1, 0]]), "rows from 0 to 1 that sum to 1"),
        (lambda: log_loss([0, 2], [0.5, 0.5]), r"\(2, 2\) for 2 labels up to 2"),
        (lambda: log_loss([0, 1], [0.5]), "for 2 labels up to 1, want"),
        (lambda: auc([0, 1, 1], SCORES, multi_class="ovr"), r"there are \[0, 1\]: want \(n, K\)"),
        (lambda: auc([0, 1, 2], SCORES, [1, 1, 2], multi_class="ovo"), "not defined for pairs"),
        (lambda: auc([0, 1, 2], SCORES, multi_class="all"), "multi_class is 'all', want one of"),
        (lambda: auc([0, 1, 2], SCORES), r"score is \(3, 3\)"),
    ],
)
def test_other_mistakes_are_clear_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


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
