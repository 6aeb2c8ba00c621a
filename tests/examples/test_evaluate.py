"""From one probability per image to metrics.json: study rules, intervals, every measure."""

import math

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from examples.mura import printed
from examples.mura.dataset import Image
from examples.mura.errors import UserError
from examples.mura.evaluate import (
    evaluate,
    load_metrics,
    operating_points,
    reliability,
    save_metrics,
    sweep,
)
from examples.mura.studies import (
    _influences,
    image_cases,
    kappa_interval,
    kappas,
    study_cases,
)
from tinynet.metrics import rates


def image(patient=1, study=1, view=1, label=0, part="WRIST"):
    folder = f"study{study}_{'positive' if label else 'negative'}"
    return Image("valid", part, f"patient{patient:05d}", folder, f"image{view}.png", label)


def drawn(patients, seed, strength=1.0):
    """Patients with 1 or 2 parts, 1 to 4 views each, and probabilities that know something."""
    rng = np.random.default_rng(seed)
    images, p = [], []
    for patient in range(patients):
        for part in rng.choice(["ELBOW", "HAND", "WRIST"], size=rng.integers(1, 3), replace=False):
            label = int(rng.random() < 0.45)
            for view in range(rng.integers(1, 5)):
                images.append(image(patient, 1, view, label, str(part)))
                p.append(1 / (1 + np.exp(-strength * (2 * label - 1) - rng.normal(0, 1.5))))
    return np.array(p), images


# ---- from views to studies


@pytest.mark.parametrize(
    ("rule", "views", "threshold", "probability", "abnormal"),
    [
        ("mean", (0.2, 0.4, 0.9), 0.5, 0.5, False),  # a mean equal to the threshold is normal
        ("mean", (0.25, 0.5, 1.0), 0.5, 1.75 / 3, True),
        ("mean", (0.9, 0.8), 0.85, 0.85, False),  # in float64 the mean is 0.8500000000000001
        ("mean", (0.3, 0.25), 0.2, 0.275, True),
        ("max", (0.1, 0.5), 0.5, 0.5, False),
        ("max", (0.1, 0.51), 0.5, 0.51, True),
        ("vote", (0.6, 0.6, 0.1), 0.5, 0.6, True),
        ("vote", (0.9, 0.4, 0.4), 0.5, 0.4, False),
        ("vote", (0.9, 0.4), 0.5, 0.65, True),  # a tie: the mean is above the threshold
        ("vote", (0.6, 0.1), 0.5, 0.35, False),  # a tie: the mean is not
        ("vote", (0.75, 0.25), 0.5, 0.5, False),  # a tie whose mean is a tie as well
        ("vote", (0.9, 0.3, 0.25, 0.2), 0.29, 0.3, True),  # a tie: the mean is 0.4125
        ("vote", (0.5, 0.5), 0.5, 0.5, False),  # a view at the threshold does not vote
        ("vote", (0.3, 0.3, 0.1), 0.2, 0.3, True),
    ],
)
def test_rules_by_hand(rule, views, threshold, probability, abnormal):
    images = [image(view=k) for k in range(len(views))]
    cases = study_cases(np.array(views), images, rule, threshold)
    assert cases.probability.item() == pytest.approx(probability)
    assert cases.abnormal.item() == abnormal


def test_views_are_grouped_by_part_patient_and_study_in_any_order():
    views = [
        image(1, 1, 1),
        image(2, 1, 1, label=1),
        image(1, 2, 1, label=1),
        image(1, 1, 2),
        image(1, 1, 1, part="HAND"),
    ]
    p = np.array([0.2, 0.8, 0.9, 0.4, 0.7])
    cases = study_cases(p, views)
    keys = list(zip(cases.part, cases.patient, cases.study, strict=True))
    assert keys == [
        ("WRIST", "patient00001", "study1"),
        ("WRIST", "patient00002", "study1"),
        ("WRIST", "patient00001", "study2"),
        ("HAND", "patient00001", "study1"),
    ]
    np.testing.assert_allclose(cases.probability, [0.3, 0.8, 0.9, 0.7])
    assert cases.label.tolist() == [0, 1, 1, 0]
    assert cases.views.tolist() == [2, 1, 1, 1]
    other = study_cases(p[::-1], views[::-1])
    assert sorted(zip(other.part, other.patient, other.study, other.probability, strict=True)) == (
        sorted(zip(cases.part, cases.patient, cases.study, cases.probability, strict=True))
    )


def test_bad_arguments():
    one = [image()]
    with pytest.raises(UserError, match="WRIST patient00001 study1 is labelled both"):
        study_cases(np.array([0.1, 0.9]), [image(label=0), image(label=1)])
    with pytest.raises(ValueError, match="rule is 'median', want one of mean, vote, max"):
        study_cases(np.array([0.1]), one, "median")
    with pytest.raises(ValueError, match=r"probability is \(2,\), want one per image, \(1,\)"):
        study_cases(np.zeros(2), one)
    with pytest.raises(UserError, match="NaN or outside 0 to 1"):
        study_cases(np.array([np.nan]), one)
    with pytest.raises(UserError, match="threshold is 5, want a probability"):
        study_cases(np.array([0.1]), one, threshold=5)
    with pytest.raises(UserError, match="no images to evaluate"):
        evaluate(np.array([]), [], synthetic=True)


# ---- intervals


def test_kappa_is_0_where_it_is_not_defined():
    np.testing.assert_array_equal(kappas(np.array([[[7, 0], [0, 0]], [[0, 0], [0, 7]]])), 0)


def interval_of(matrices):
    return kappa_interval(np.array(matrices))


def test_the_influence_of_a_patient_is_the_slope_of_kappa():
    counts = np.random.default_rng(0).integers(0, 4, (9, 4)).astype(float)
    weights, step = np.ones(9), 1e-6
    kappa, influence = _influences(counts, weights)
    assert kappa == pytest.approx(float(kappas(counts.sum(axis=0).reshape(2, 2))))
    for i in range(9):
        one = np.eye(9)[i] * step
        slope = (_influences(counts, weights + one)[0] - _influences(counts, weights - one)[0]) / 2
        assert influence[i] == pytest.approx(slope / step, abs=1e-9)


def test_intervals_hold_kappa_and_have_a_width_where_all_is_right():
    all_right = [[[1, 0], [0, 0]]] * 10 + [[[0, 0], [0, 1]]] * 10
    low, high = interval_of(all_right)
    assert 0.5 < low < 0.9
    assert high == 1
    more_low, _ = interval_of(all_right * 10)
    assert 0.95 < more_low < 1
    assert interval_of([[[1, 0], [0, 0]]] * 20)[0] < 0 < interval_of([[[1, 0], [0, 0]]] * 20)[1]


def test_views_of_one_patient_are_not_new_evidence():
    """All views of a patient alike: the interval is that of as many patients, not of the views."""
    rng = np.random.default_rng(1)
    one_each = np.eye(4, dtype=int)[rng.choice(4, 40, p=[0.4, 0.1, 0.1, 0.4])].reshape(-1, 2, 2)
    np.testing.assert_allclose(interval_of(7 * one_each), interval_of(one_each))


def test_a_classifier_does_not_differ_from_itself_and_the_order_changes_the_sign():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, 60)
    a, b = (np.where(rng.random(60) < right, labels, 1 - labels) for right in (0.9, 0.6))
    one, other = (np.eye(4, dtype=int)[2 * labels + x].reshape(-1, 2, 2) for x in (a, b))
    low, high = kappa_interval(one, other)
    assert 0 < low < high
    np.testing.assert_allclose(kappa_interval(other, one), [-high, -low])
    low, high = kappa_interval(one, one)
    assert low < 0 < high


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "views"), [(10, 1), (20, 1), (15, 2), (60, 3), (200, 2)])
@pytest.mark.parametrize("accuracy", [0.6, 0.8, 0.95, 0.97])
def test_the_interval_holds_the_true_kappa(patients, views, accuracy):
    rng, runs = np.random.default_rng(0), 600
    held = 0
    for _ in range(runs):
        labels = rng.integers(0, 2, (patients, views))
        calls = np.where(rng.random(labels.shape) < accuracy, labels, 1 - labels)
        counts = np.eye(4, dtype=int)[2 * labels + calls].sum(axis=1).reshape(-1, 2, 2)
        low, high = kappa_interval(counts)
        held += low <= 2 * accuracy - 1 <= high
    assert held / runs > 0.92


# ---- metrics.json


@pytest.fixture(scope="module")
def made():
    p, images = drawn(80, seed=0)
    rng = np.random.default_rng(9)
    baselines = {"majority": np.full(len(p), 0.4), "logistic_regression": rng.random(len(p))}
    return evaluate(p, images, synthetic=True, baselines=baselines)


@pytest.mark.parametrize("part", [None, "ELBOW", "HAND", "WRIST"])
@pytest.mark.parametrize("level", ["image", "study"])
def test_equals_scikit_learn(made, level, part):
    p, images = drawn(80, seed=0)
    cases = image_cases(p, images) if level == "image" else study_cases(p, images)
    found = made[level]
    if part:
        cases, found = cases.of_part(part), made["parts"][part][level]
    y, called = cases.label, cases.abnormal.astype(int)
    assert found["n"] == len(y)
    assert found["patients"] == len({*cases.patient})
    assert (found["normal"], found["abnormal"]) == (np.sum(y == 0), np.sum(y == 1))
    assert found["confusion_matrix"] == sklearn_metrics.confusion_matrix(y, called).tolist()
    assert found["accuracy"] == pytest.approx(sklearn_metrics.accuracy_score(y, called))
    assert found["kappa"] == pytest.approx(sklearn_metrics.cohen_kappa_score(y, called))
    assert found["auc"] == pytest.approx(sklearn_metrics.roc_auc_score(y, cases.probability))
    recall = sklearn_metrics.recall_score
    assert found["rates"]["true_positive_rate"] == pytest.approx(recall(y, called))
    assert found["rates"]["true_negative_rate"] == pytest.approx(recall(y, called, pos_label=0))
    low, high = found["kappa_interval"]
    assert low < found["kappa"] < high
    roc = found["roc"]  # thinned, with the same area
    area = np.trapezoid(roc["true_positive_rate"], roc["false_positive_rate"])
    assert area == pytest.approx(found["auc"], abs=1e-12)
    assert len(roc["threshold"]) < found["n"]
    assert roc["threshold"][0] is None
    for k, t in enumerate(roc["threshold"][1:], start=1):
        assert np.mean(cases.probability[y == 1] > t) == pytest.approx(roc["true_positive_rate"][k])


def test_calibration_equals_scikit_learn(made):
    p, images = drawn(80, seed=0)
    y = np.array([i.label for i in images])
    share, mean = calibration_curve(y, p, n_bins=10)
    bins = made["image"]["calibration"]["bins"]
    np.testing.assert_allclose([b["share_abnormal"] for b in bins], share)
    np.testing.assert_allclose([b["mean_probability"] for b in bins], mean)
    assert made["image"]["brier"] == pytest.approx(sklearn_metrics.brier_score_loss(y, p))


def test_baselines_and_what_the_network_exceeds_them_by(made):
    majority = made["baselines"]["majority"]
    assert majority["study"]["kappa"] == 0
    assert majority["study"]["auc"] == 0.5
    low, high = majority["study"]["kappa_interval"]
    assert -0.2 < low < 0 < high < 0.2
    exceeds = majority["study"]["network_exceeds_by"]
    assert exceeds["kappa"] == pytest.approx(made["study"]["kappa"])
    np.testing.assert_allclose(exceeds["interval"], made["study"]["kappa_interval"], atol=0.1)
    assert set(majority["parts"]) == {"ELBOW", "HAND", "WRIST"}


def test_the_same_predictions_give_the_same_file(made):
    p, images = drawn(80, seed=0)
    again = evaluate(p, images, synthetic=True)
    assert again["study"] == made["study"]
    assert (again["synthetic"], again["not_for_clinical_use"]) == (True, True)


def numbers(value):
    """Every number anywhere in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from numbers(inner)
    elif isinstance(value, int | float):
        yield value


@pytest.mark.parametrize("rule", ["mean", "vote", "max"])
def test_one_class_one_patient_one_view_are_defined(rule, tmp_path):
    images = [image(1), image(2, label=1, part="HAND"), image(3, label=1, part="HAND")]
    found = evaluate(np.array([0.1, 0.9, 0.9]), images, rule=rule, synthetic=False)
    wrist = found["parts"]["WRIST"]["study"]
    assert (wrist["auc"], wrist["roc"], wrist["kappa"]) == (None, None, 0)
    assert wrist["kappa_interval"] is None
    assert wrist["rates"]["true_positive_rate"] is None
    assert "only normal cases" in wrist["note"]
    assert "one patient only" in wrist["note"]
    assert found["parts"]["HAND"]["study"]["kappa_interval"][0] < -0.5
    save_metrics(tmp_path / "metrics.json", found)
    assert load_metrics(tmp_path / "metrics.json") == found
    assert all(math.isfinite(number) for number in numbers(found))


# ---- thresholds and calibration


def cases_of(probability, label):
    views = [image(k, label=y) for k, y in enumerate(label)]
    return image_cases(np.array(probability), views)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.0, 0.37, 0.5, 1.0])
def test_a_vote_is_what_most_views_say(seed, threshold):
    p, images = drawn(20, seed)
    p = p.round(1) if seed % 2 else p  # ties
    cases = study_cases(p, images, "vote", threshold)
    for k, (part, patient) in enumerate(zip(cases.part, cases.patient, strict=True)):
        views = p[[(i.part, i.patient) == (part, patient) for i in images]]
        votes = 2 * np.sum(views > threshold) - len(views)
        said = views.mean().round(12) > threshold if votes == 0 else votes > 0
        assert cases.abnormal[k] == said


@pytest.mark.parametrize("rule", ["mean", "vote", "max"])
@pytest.mark.parametrize("digits", [1, 3, 17])
def test_a_printed_threshold_does_what_its_row_says(rule, digits):
    """Typed back as ``--threshold``, for studies and images, whatever the ties and digits."""
    for seed in range(3):
        p, images = drawn(25, seed, strength=0.5)
        p = p.round(digits) if seed else 1 - p.round(digits) * 1e-9
        found = evaluate(p, images, rule=rule, synthetic=True)
        for level, cases_at in (
            ("study", lambda t: study_cases(p, images, rule, t)),  # noqa: B023
            ("image", lambda t: image_cases(p, images, t)),  # noqa: B023
        ):
            points = found[level]["operating_points"]
            for row in points + found[level]["sweep"]:
                cases = cases_at(float(printed.threshold(row["threshold"])))
                again = rates(cases.label, cases.abnormal)
                assert again.true_positive_rate == row["sensitivity"]
                assert again.true_negative_rate == row["specificity"]
            assert all(point[point["fixed"]] >= point["at_least"] for point in points)


def test_thresholds_by_hand():
    cases = cases_of([0.1, 0.3, 0.4, 0.6, 0.35, 0.5, 0.7, 0.8, 0.9, 0.95], [0] * 4 + [1] * 6)
    points = {(p["fixed"], p["at_least"]): p for p in operating_points(cases)}
    # five of six abnormal lie above 0.4, and one of four normal (0.6)
    at_80 = points["sensitivity", 0.8]
    assert (at_80["threshold"], at_80["specificity"]) == (0.45, 0.75)
    assert at_80["sensitivity"] == pytest.approx(5 / 6)
    # 0.35 has to be above it; 0.4 and 0.6 are normal
    assert points["sensitivity", 0.95]["threshold"] == 0.3
    assert points["sensitivity", 0.95]["specificity"] == 0.5
    # no false alarm allowed: the four above 0.6
    assert points["specificity", 0.9]["threshold"] == 0.6
    assert points["specificity", 0.9]["sensitivity"] == pytest.approx(4 / 6)

    points = operating_points(cases_of([0.9, 0.8, 0.1], [0, 1, 1]))
    strict = next(p for p in points if p["fixed"] == "specificity")  # everything is called normal
    assert 0.9 <= strict["threshold"] <= 1
    assert (strict["sensitivity"], strict["specificity"]) == (0, 1)
    none = operating_points(cases_of([0.9, 0.0], [0, 1]))[0]  # nothing is below 0
    assert (none["threshold"], none["sensitivity"]) == (None, None)

    half = next(row for row in sweep(cases) if row["threshold"] == 0.5)
    assert half["sensitivity"] == pytest.approx(4 / 6)  # 0.5 itself is normal
    assert half["specificity"] == pytest.approx(3 / 4)
    assert half["accuracy"] == pytest.approx(7 / 10)


def test_ece_by_hand():
    # bin 0.2-0.3: mean 0.25, none abnormal; bin 0.9-1: mean 0.95, 1 of 2 abnormal
    table = reliability(cases_of([0.25, 0.25, 0.9, 1.0], [0, 0, 0, 1]))
    assert table["ece"] == pytest.approx(0.5 * 0.25 + 0.5 * 0.45)
    assert [b["n"] for b in table["bins"]] == [2, 2]


# ---- the file


def test_missing_and_broken_files_are_named(tmp_path):
    path = tmp_path / "metrics.json"
    with pytest.raises(ValueError, match="JSON"):
        save_metrics(path, {"kappa": float("nan")})
    with pytest.raises(UserError, match=r"no .*metrics\.json"):
        load_metrics(path)
    path.write_text('{"kappa": ')
    with pytest.raises(UserError, match=r"metrics\.json cannot be read .*evaluate the run again"):
        load_metrics(path)
    path.write_text('{"kappa": 1}')
    with pytest.raises(UserError, match=r"metrics\.json cannot be read \(it lacks 'synthetic'\)"):
        load_metrics(path)
