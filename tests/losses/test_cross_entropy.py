"""Cross-entropy against the report's sum, torch in float64, and its own gradients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.layers import loops
from tinynet.gradient_check import check_loss
from tinynet.losses import (
    CrossEntropy,
    SoftmaxCrossEntropy,
    cross_entropy_backward,
    cross_entropy_forward,
    softmax_cross_entropy_backward,
    softmax_cross_entropy_forward,
)

SETTINGS = [
    {},
    {"class_weight": (0.5, 2.0, 1.25, 0.0)},
    {"label_smoothing": 0.1},
    {"class_weight": (0.5, 2.0, 1.25, 3.0), "label_smoothing": 0.3},
    {"class_weight": (0.5, 2.0, 1.25, 3.0), "label_smoothing": 0.3, "mean_over": "weights"},
]
CLASSES = 4
each_loss = pytest.mark.parametrize("kind", [SoftmaxCrossEntropy, CrossEntropy])
each_setting = pytest.mark.parametrize("options", SETTINGS)


def draw(seed=0, examples=6):
    """Logits (N, K), labels (N,), and soft labels (N, K)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(scale=2, size=(examples, CLASSES))
    return z, rng.integers(0, CLASSES, examples), rng.dirichlet(np.ones(CLASSES), examples)


def softmax(z):
    exponentials = np.exp(z)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_report_equation_literally():
    z, labels, _ = draw()
    predicted, y = softmax(z), np.eye(CLASSES)[labels]
    value, cache = cross_entropy_forward(predicted, y)
    wanted, gradient = loops.cross_entropy(predicted, y, None)
    assert value == pytest.approx(wanted, rel=1e-14)
    np.testing.assert_allclose(cross_entropy_backward(cache), gradient, rtol=1e-14)
    fused, cache = softmax_cross_entropy_forward(z, y)
    assert fused == pytest.approx(wanted, rel=1e-13)
    dz = softmax_cross_entropy_backward(cache)
    np.testing.assert_allclose(dz, (predicted - y) / len(z), atol=1e-15)
    chained = loops.softmax(z, gradient)[1]
    np.testing.assert_allclose(dz, chained, atol=1e-14)


@each_setting
@each_loss
@pytest.mark.parametrize("of", ["integers", "soft"])
def test_gradient_is_that_of_the_number_returned(kind, options, of):
    z, labels, soft = draw(1)
    x = z if kind is SoftmaxCrossEntropy else softmax(z)
    report = check_loss(kind(**options), x, labels if of == "integers" else soft)
    assert [array.method for array in report.arrays] == ["complex step"]


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    examples=st.integers(1, 7),
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    weighted=st.booleans(),
)
def test_equals_torch(torch, seed, examples, smoothing, weighted):
    z, labels, soft = draw(seed, examples)
    weight = np.random.default_rng(seed).uniform(0.1, 3, CLASSES) if weighted else None
    torch_weight = None if weight is None else torch.tensor(weight)

    def oracle(y, **options):
        logits = torch.tensor(z, requires_grad=True)
        value = torch.nn.functional.cross_entropy(
            logits, torch.tensor(y), weight=torch_weight, **options
        ).mean()
        value.backward()
        return value.item(), logits.grad.numpy()

    def check(loss, y, **options):
        value, cache = loss.forward(z, y)
        expected, gradient = oracle(y, **options)
        assert value == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(loss.backward(cache), gradient, atol=1e-13)

    loss = SoftmaxCrossEntropy(weight, smoothing, mean_over="weights")
    check(loss, labels, label_smoothing=smoothing)
    if weight is None:  # with weights and a distribution as label, torch divides by N
        check(loss, soft, label_smoothing=smoothing)
    if not smoothing:
        check(SoftmaxCrossEntropy(weight), labels, reduction="none")


@pytest.mark.parametrize("options", [o for o in SETTINGS if "mean_over" not in o])  # torch's form
@each_loss
@pytest.mark.parametrize("dtype", ["float64", "int64"])
def test_integer_and_one_hot_labels_are_the_same(kind, options, dtype):
    z, labels, _ = draw(2)
    loss, x = kind(**options), softmax(z)
    by_integers, integer_cache = loss.forward(x, labels)
    by_one_hot, cache = loss.forward(x, np.eye(CLASSES, dtype=dtype)[labels])
    assert by_one_hot == by_integers
    np.testing.assert_array_equal(loss.backward(cache), loss.backward(integer_cache))


@each_setting
def test_both_losses_are_one_function(options):
    z, labels, _ = draw(3)
    on_logits, on_probabilities = SoftmaxCrossEntropy(**options), CrossEntropy(**options)
    value, _ = on_logits.forward(z, labels)
    assert on_probabilities.forward(on_logits.probabilities(z), labels)[0] == pytest.approx(value)


LOG2, LOG4, LOG_3_4 = np.log(2), np.log(0.25), np.log(0.75)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"class_weight": (2.0, 3.0)}, (2 * LOG2 - 3 * LOG_3_4) / 2),
        ({"class_weight": (2.0, 3.0), "mean_over": "weights"}, (2 * LOG2 - 3 * LOG_3_4) / 5),
        # s = 0.2: the true class keeps 0.9, the other gets 0.1
        ({"label_smoothing": 0.2}, (LOG2 - 0.1 * LOG4 - 0.9 * LOG_3_4) / 2),
        (
            {"class_weight": (2.0, 3.0), "label_smoothing": 0.2},
            (2 * LOG2 - 3 * (0.1 * LOG4 + 0.9 * LOG_3_4)) / 2,
        ),
    ],
)
def test_class_weights_and_smoothing_by_hand(options, wanted):
    z, labels = np.log(np.array([[0.5, 0.5], [0.25, 0.75]])), np.array([0, 1])
    assert SoftmaxCrossEntropy(**options).forward(z, labels)[0] == pytest.approx(wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_finite_at_extreme_logits(dtype):
    z = np.array([[1e4, -1e4], [1e4, -1e4], [-1e4, -1e4]], dtype)
    loss = SoftmaxCrossEntropy()
    value, cache = loss.forward(z, np.array([0, 1, 0]))
    dz = loss.backward(cache)
    assert value.dtype == dz.dtype == dtype
    assert float(value) == pytest.approx((0 + 2e4 + np.log(2)) / 3, rel=1e-6)
    expected = np.array([[0, 0], [1, -1], [-0.5, 0.5]]) / 3
    np.testing.assert_allclose(dz, expected, rtol=1e-6)
    np.testing.assert_array_equal(loss.probabilities(z), np.array([[1, 0], [1, 0], [0.5, 0.5]]))


@pytest.mark.parametrize(
    ("label", "wanted", "gradient"), [(0, 0.0, [[-1.0, 0.0]]), (1, np.inf, [[0.0, -np.inf]])]
)
def test_probability_zero_costs_infinity_for_the_true_class_and_nothing_elsewhere(
    label, wanted, gradient
):
    value, cache = CrossEntropy().forward(np.array([[1.0, 0.0]]), np.array([label]))
    assert value == wanted
    np.testing.assert_array_equal(CrossEntropy().backward(cache), gradient)


def test_minimum_clips_loss_and_gradient_alike():
    probabilities = np.array([[1.0, 0.0], [0.4, 0.6]])
    loss = CrossEntropy(minimum=1e-3)
    value, cache = loss.forward(probabilities, np.array([1, 1]))
    assert value == pytest.approx((-np.log(1e-3) - np.log(0.6)) / 2)
    np.testing.assert_allclose(loss.backward(cache), [[0, 0], [0, -0.5 / 0.6]])


@each_loss
@pytest.mark.parametrize("of", ["integers", "soft"])
def test_arguments_are_not_modified_and_float32_is_kept(kind, of):
    z, labels, soft = draw(5)
    x, y = softmax(z).astype("float32"), labels if of == "integers" else soft.astype("float32")
    for array in (x, y):
        array.setflags(write=False)
    loss = kind((1.0, 2.0, 3.0, 4.0), 0.1)
    value, cache = loss.forward(x, y)
    assert value.dtype == loss.backward(cache).dtype == np.float32


def test_example_weights_of_the_pure_functions():
    z, labels, _ = draw(6, examples=3)
    weights = np.array([1.0, 0.0, 2.5])
    single = [softmax_cross_entropy_forward(z[i : i + 1], labels[i : i + 1])[0] for i in range(3)]
    value, cache = softmax_cross_entropy_forward(z, labels, weights)
    assert value == pytest.approx((single[0] + 2.5 * single[2]) / 3)
    np.testing.assert_array_equal(softmax_cross_entropy_backward(cache)[1], 0)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0, 1, 4], "run from 0 to 4, want 0 to 3"),
        ([0, -1, 2], "run from -1 to 2, want 0 to 3"),
        ([0.0, 1.0, 2.0], "float64, want integers"),
        ([0, 1], r"\(2,\) for predictions \(3, 4\)"),
        ([[0], [1], [2]], r"\(3, 1\) for predictions \(3, 4\)"),
        ([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]], "row 1 of the labels is .*sum to 1"),
        ([[1, 0, 0, 0], [2, -1, 0, 0], [0, 0, 0, 1]], "row 1 of the labels"),
        ([[1, 0, 0, 0], [0, 0, 0, 1], [float("nan"), 1, 0, 0]], "row 2 of the labels"),
    ],
)
def test_bad_labels_are_clear_errors(y, message):
    with pytest.raises(ValueError, match=message):
        SoftmaxCrossEntropy().forward(np.zeros((3, 4)), np.array(y))


@pytest.mark.parametrize(
    ("loss", "predictions", "message"),
    [
        (CrossEntropy(), [[3.0, -2.0]], "down to -2, want 0 to 1: end the model with Softmax"),
        (SoftmaxCrossEntropy(), [0.0], r"predictions are \(1,\), want \(N, K\)"),
        (SoftmaxCrossEntropy(), [[0, 0]], "predictions are int64, want floating point"),
        (SoftmaxCrossEntropy((1.0, 2.0, 3.0)), [[0.0, 1.0]], "3 numbers, .* have 2 classes"),
        (
            SoftmaxCrossEntropy((0.0, 1.0), mean_over="weights"),
            [[0.0, 1.0]],
            "every label of this batch has class weight 0",
        ),
    ],
)
def test_bad_predictions_are_clear_errors(loss, predictions, message):
    with pytest.raises(ValueError, match=message):
        loss.forward(np.array(predictions), np.array([0]))


def test_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="batch is empty"):
        SoftmaxCrossEntropy().forward(np.zeros((0, 2)), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match=r"weights are \(3,\), want \(2,\)"):
        softmax_cross_entropy_forward(np.zeros((2, 3)), np.array([0, 1]), np.ones(3))


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": -0.1},
        {"label_smoothing": 1.5},
        {"class_weight": (1.0, -1.0)},
        {"class_weight": (1.0, float("nan"))},
        {"class_weight": 2.0},
        {"mean_over": "examples"},
        {"minimum": 1},
    ],
)
def test_settings_out_of_range_are_errors(options):
    with pytest.raises(ValueError, match="want|minimum is 1"):
        CrossEntropy(**options)
