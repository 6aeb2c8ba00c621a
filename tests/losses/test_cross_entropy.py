"""Cross-entropy against the report's sum, torch in float64, and difference quotients."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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


def draw(seed=0, examples=6):
    """Logits (N, K), labels (N,), and soft labels (N, K)."""
    rng = np.random.default_rng(seed)
    z = rng.normal(scale=2, size=(examples, CLASSES))
    return z, rng.integers(0, CLASSES, examples), rng.dirichlet(np.ones(CLASSES), examples)


def softmax(z):
    exponentials = np.exp(z)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def difference_quotients(function, x, step=1e-5):
    """Central differences of a scalar function at every element of x."""
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        up, down = x.copy(), x.copy()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


def test_report_equation_literally():
    z, labels, _ = draw()
    predicted, y = softmax(z), np.eye(CLASSES)[labels]
    total = 0.0
    for i in range(len(z)):
        for j in range(CLASSES):
            if y[i, j]:
                total -= y[i, j] * np.log(predicted[i, j])
    loss, cache = cross_entropy_forward(predicted, y)
    assert loss == pytest.approx(total / len(z), rel=1e-14)
    np.testing.assert_allclose(cross_entropy_backward(cache), -y / predicted / len(z), rtol=1e-14)
    loss, cache = softmax_cross_entropy_forward(z, y)
    assert loss == pytest.approx(total / len(z), rel=1e-13)
    dz = softmax_cross_entropy_backward(cache)
    np.testing.assert_allclose(dz, (predicted - y) / len(z), atol=1e-15)


def test_fused_gradient_is_the_chain_of_softmax_and_cross_entropy():
    z, labels, _ = draw()
    predicted = softmax(z)
    _, cache = cross_entropy_forward(predicted, labels)
    dy = cross_entropy_backward(cache)
    chained = predicted * (dy - (dy * predicted).sum(axis=1, keepdims=True))
    _, cache = softmax_cross_entropy_forward(z, labels)
    np.testing.assert_allclose(softmax_cross_entropy_backward(cache), chained, atol=1e-14)


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("kind", ["integers", "soft"])
def test_gradient_is_that_of_the_number_returned(options, kind):
    z, labels, soft = draw(1)
    y = labels if kind == "integers" else soft
    for loss, x, tolerance in [
        (SoftmaxCrossEntropy(**options), z, 1e-9),
        (CrossEntropy(**options), softmax(z), 1e-5),
    ]:
        value, cache = loss.forward(x, y)
        assert np.ndim(value) == 0
        expected = difference_quotients(lambda x, loss=loss: loss.forward(x, y)[0], x, 1e-6)
        np.testing.assert_allclose(loss.backward(cache), expected, rtol=tolerance, atol=tolerance)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    examples=st.integers(1, 7),
    smoothing=st.sampled_from([0.0, 0.1, 0.9]),
    weighted=st.booleans(),
)
def test_equals_torch(seed, examples, smoothing, weighted):
    torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch==2.13.0")
    z, labels, soft = draw(seed, examples)
    weight = np.random.default_rng(seed).uniform(0.1, 3, CLASSES) if weighted else None
    torch_weight = None if weight is None else torch.tensor(weight)

    def oracle(y):
        logits = torch.tensor(z, requires_grad=True)
        value = torch.nn.functional.cross_entropy(
            logits, torch.tensor(y), weight=torch_weight, label_smoothing=smoothing
        )
        value.backward()
        return value.item(), logits.grad.numpy()

    loss = SoftmaxCrossEntropy(weight, smoothing, mean_over="weights")
    value, cache = loss.forward(z, labels)
    expected, gradient = oracle(labels)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(loss.backward(cache), gradient, atol=1e-13)

    if weight is None:  # with weights and a distribution as label, torch divides by N
        value, cache = loss.forward(z, soft)
        expected, gradient = oracle(soft)
        assert value == pytest.approx(expected, rel=1e-12)
        np.testing.assert_allclose(loss.backward(cache), gradient, atol=1e-13)
    if not smoothing:
        mean = SoftmaxCrossEntropy(weight).forward(z, labels)[0]
        logits = torch.tensor(z)
        terms = torch.nn.functional.cross_entropy(
            logits, torch.tensor(labels), weight=torch_weight, reduction="none"
        )
        assert mean == pytest.approx(terms.mean().item(), rel=1e-12)


@pytest.mark.parametrize("options", SETTINGS)
@pytest.mark.parametrize("kind", [SoftmaxCrossEntropy, CrossEntropy])
def test_integer_and_one_hot_labels_are_the_same(kind, options):
    z, labels, _ = draw(2)
    x = softmax(z)
    loss = kind(**options)
    by_integers, integer_cache = loss.forward(x, labels)
    for one_hot in (np.eye(CLASSES)[labels], np.eye(CLASSES, dtype=np.int64)[labels]):
        by_one_hot, cache = loss.forward(x, one_hot)
        assert by_one_hot == by_integers
        np.testing.assert_array_equal(loss.backward(cache), loss.backward(integer_cache))


@pytest.mark.parametrize("options", SETTINGS)
def test_both_losses_are_one_function(options):
    z, labels, _ = draw(3)
    on_logits, on_probabilities = SoftmaxCrossEntropy(**options), CrossEntropy(**options)
    value, _ = on_logits.forward(z, labels)
    assert on_probabilities.forward(on_logits.probabilities(z), labels)[0] == pytest.approx(value)


def test_class_weights_and_smoothing_by_hand():
    z = np.log(np.array([[0.5, 0.5], [0.25, 0.75]]))
    labels = np.array([0, 1])
    log = np.log
    weighted = (2 * log(2) - 3 * log(0.75)) / 2
    assert SoftmaxCrossEntropy((2.0, 3.0)).forward(z, labels)[0] == pytest.approx(weighted)
    by_weights = SoftmaxCrossEntropy((2.0, 3.0), mean_over="weights")
    assert by_weights.forward(z, labels)[0] == pytest.approx(weighted * 2 / 5)
    # s = 0.2: the true class keeps 0.9, the other gets 0.1
    smoothed = (log(2) - 0.1 * log(0.25) - 0.9 * log(0.75)) / 2
    smoothing = SoftmaxCrossEntropy(label_smoothing=0.2)
    assert smoothing.forward(z, labels)[0] == pytest.approx(smoothed)
    both = (2 * log(2) + 3 * (-0.1 * log(0.25) - 0.9 * log(0.75))) / 2
    loss = SoftmaxCrossEntropy((2.0, 3.0), 0.2)
    assert loss.forward(z, labels)[0] == pytest.approx(both)


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


def test_probability_zero_costs_infinity_for_the_true_class_and_nothing_elsewhere():
    probabilities = np.array([[1.0, 0.0]])
    loss = CrossEntropy()
    value, cache = loss.forward(probabilities, np.array([0]))
    assert value == 0.0
    np.testing.assert_array_equal(loss.backward(cache), [[-1.0, 0.0]])
    value, cache = loss.forward(probabilities, np.array([1]))
    assert value == np.inf
    np.testing.assert_array_equal(loss.backward(cache), [[0.0, -np.inf]])


def test_minimum_clips_loss_and_gradient_alike():
    probabilities = np.array([[1.0, 0.0], [0.4, 0.6]])
    loss = CrossEntropy(minimum=1e-3)
    value, cache = loss.forward(probabilities, np.array([1, 1]))
    assert value == pytest.approx((-np.log(1e-3) - np.log(0.6)) / 2)
    np.testing.assert_allclose(loss.backward(cache), [[0, 0], [0, -0.5 / 0.6]])


@pytest.mark.parametrize("kind", [SoftmaxCrossEntropy, CrossEntropy])
@pytest.mark.parametrize("options", SETTINGS)
def test_complex_step_gives_the_gradient(kind, options):
    z, labels, _ = draw(4, examples=3)
    x = softmax(z)
    loss = kind(**options)
    _, cache = loss.forward(x, labels)
    dx = loss.backward(cache)
    for index in np.ndindex(x.shape):
        nudged = x.astype(complex)
        nudged[index] += 1e-30j
        value, _ = loss.forward(nudged, labels)
        assert value.imag / 1e-30 == pytest.approx(dx[index], rel=1e-12, abs=1e-15)


def test_arguments_are_not_modified_and_float32_is_kept():
    z, labels, soft = draw(5)
    z, soft = softmax(z).astype("float32"), soft.astype("float32")
    for array in (z, labels, soft):
        array.setflags(write=False)
    for kind in (SoftmaxCrossEntropy, CrossEntropy):
        for y in (labels, soft):
            loss = kind((1.0, 2.0, 3.0, 4.0), 0.1)
            value, cache = loss.forward(z, y)
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


def test_bad_predictions_are_clear_errors():
    with pytest.raises(ValueError, match="down to -2, want 0 to 1: end the model with Softmax"):
        CrossEntropy().forward(np.array([[3.0, -2.0]]), np.array([0]))
    with pytest.raises(ValueError, match=r"predictions are \(3,\), want \(N, K\)"):
        SoftmaxCrossEntropy().forward(np.zeros(3), np.array([0]))
    with pytest.raises(ValueError, match="predictions are int64, want floating point"):
        SoftmaxCrossEntropy().forward(np.zeros((1, 2), np.int64), np.array([0]))
    with pytest.raises(ValueError, match="batch is empty"):
        SoftmaxCrossEntropy().forward(np.zeros((0, 2)), np.zeros(0, np.int64))


@pytest.mark.parametrize(
    "options",
    [
        {"label_smoothing": -0.1},
        {"label_smoothing": 1.5},
        {"class_weight": (1.0, -1.0)},
        {"class_weight": (1.0, float("nan"))},
        {"class_weight": 2.0},
        {"mean_over": "examples"},
    ],
)
def test_settings_out_of_range_are_errors(options):
    with pytest.raises(ValueError, match="want"):
        SoftmaxCrossEntropy(**options)


def test_class_weights_that_do_not_fit_are_errors():
    z, labels = np.zeros((2, 3)), np.array([0, 1])
    with pytest.raises(ValueError, match="2 numbers, the predictions have 3 classes"):
        SoftmaxCrossEntropy((1.0, 2.0)).forward(z, labels)
    with pytest.raises(ValueError, match="every label of this batch has class weight 0"):
        SoftmaxCrossEntropy((0.0, 0.0, 1.0), mean_over="weights").forward(z, labels)
    with pytest.raises(ValueError, match=r"weights are \(3,\), want \(2,\)"):
        softmax_cross_entropy_forward(z, labels, np.ones(3))
    with pytest.raises(ValueError, match="minimum is 1"):
        CrossEntropy(minimum=1)
