"""What all losses share: labels that are left out, weights of examples, reductions."""

import numpy as np
import pytest

from tinynet import losses
from tinynet.backend import use_kernels
from tinynet.gradient_check import check_loss
from tinynet.layers import Dense
from tinynet.losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    MeanSquaredError,
    SoftmaxCrossEntropy,
    WithAuxiliary,
)
from tinynet.optimizers import SGD
from tinynet.train import TrainStep, evaluate, fit

RNG = np.random.default_rng(0)
Z, V, DY = RNG.standard_normal((6, 3)), RNG.random(6) + 0.1, RNG.standard_normal(6)
LABELS = np.array([0, -1, 2, 1, -1, 2])
WEIGHTS = np.array([1.0, 2.0, 5.0])
P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
QUANTITIES = np.where(RNG.random((6, 3)) < 0.4, -1, RNG.random((6, 3)))
each_reduction = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
each_mean = pytest.mark.parametrize("mean_over", ["batch", "weights"])


def against(torch, loss, z, y, oracle, *, dy=None, sample_weight=None):
    """Value and gradient of ours, of which dy is the upstream gradient, and of a torch function."""
    logits = torch.tensor(z, requires_grad=True)
    want = oracle(logits)
    want.backward(None if dy is None else torch.tensor(dy))
    value, cache = loss.forward(z, y, sample_weight)
    np.testing.assert_allclose(value, want.detach().numpy(), rtol=1e-12)
    np.testing.assert_allclose(loss.backward(cache, dy), logits.grad.numpy(), atol=1e-14)


@pytest.mark.oracle
@each_reduction
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weight", [None, WEIGHTS])
def test_cross_entropy_is_torchs(torch, reduction, smoothing, weight):
    loss = SoftmaxCrossEntropy(
        weight, smoothing, mean_over="weights", ignore_index=-1, reduction=reduction
    )

    def oracle(z):
        return torch.nn.functional.cross_entropy(
            z,
            torch.tensor(LABELS),
            None if weight is None else torch.tensor(weight),
            ignore_index=-1,
            reduction=reduction,
            label_smoothing=smoothing,
        )

    against(torch, loss, Z, LABELS, oracle, dy=DY if reduction == "none" else None)


@pytest.mark.oracle
@each_reduction
@pytest.mark.parametrize("kind", [BinaryCrossEntropy, MeanSquaredError])
def test_losses_of_numbers_are_torchs(torch, reduction, kind):
    """Weights of examples and unknown targets are torch's weights of numbers."""
    weight = torch.tensor(V[:, None] * (QUANTITIES != -1))
    count = (QUANTITIES != -1).sum()
    loss = kind(ignore_index=-1, reduction=reduction)

    def oracle(z):
        y = torch.tensor(QUANTITIES).clamp(min=0)
        if kind is BinaryCrossEntropy:
            bce = torch.nn.functional.binary_cross_entropy_with_logits
            terms = bce(z, y, weight, reduction="none")
        else:
            terms = weight * torch.nn.functional.mse_loss(z, y, reduction="none")
        return {"none": terms, "sum": terms.sum(), "mean": terms.sum() / count}[reduction]

    dy = DY[:, None] * Z if reduction == "none" else None
    against(torch, loss, Z, QUANTITIES, oracle, dy=dy, sample_weight=V)


CASES = {
    "softmax": (SoftmaxCrossEntropy(WEIGHTS, 0.1, ignore_index=-1), Z, LABELS),
    "softmax, torch's mean": (
        SoftmaxCrossEntropy(WEIGHTS, 0.1, ignore_index=-1, mean_over="weights"),
        Z,
        LABELS,
    ),
    "softmax, sum": (SoftmaxCrossEntropy(ignore_index=0, reduction="sum"), Z, LABELS % 3),
    "probabilities": (CrossEntropy(WEIGHTS, ignore_index=-1), P, LABELS),
    "binary": (BinaryCrossEntropy(ignore_index=-1), Z, QUANTITIES),
    "binary, sum": (BinaryCrossEntropy(reduction="sum"), Z[:, :1], LABELS % 2),
    "squares": (MeanSquaredError(ignore_index=-1, mean_over="weights"), Z, QUANTITIES),
}
each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


class Weighted:
    """A loss with weights of the examples."""

    def __init__(self, loss):
        self.forward, self.backward = lambda z, y: loss.forward(z, y, V), loss.backward


@each_case
@pytest.mark.parametrize("wrap", [lambda loss: loss, Weighted], ids=["plain", "weighted"])
def test_gradients(case, wrap):
    loss, z, y = case
    assert check_loss(wrap(loss), z, y).ok


@each_mean
@pytest.mark.parametrize("class_weight", [None, WEIGHTS])
def test_what_is_left_out_might_as_well_not_be_there(mean_over, class_weight):
    there = LABELS >= 0
    loss = SoftmaxCrossEntropy(class_weight, 0.1, mean_over=mean_over, ignore_index=-1)
    value, cache = loss.forward(Z, LABELS, V)
    alone, alone_cache = loss.forward(Z[there], LABELS[there], V[there])
    assert value == pytest.approx(alone, rel=1e-14)
    dz = loss.backward(cache)
    np.testing.assert_allclose(dz[there], loss.backward(alone_cache), rtol=1e-13)
    np.testing.assert_array_equal(dz[~there], 0)


@each_case
def test_whole_weights_are_repetitions(case):
    loss, z, y = case
    times = np.array([1, 3, 2, 1, 1, 2])
    weighted, _ = loss.forward(z, y, times)
    repeated, _ = loss.forward(np.repeat(z, times, axis=0), np.repeat(y, times, axis=0))
    ratio = 1.0  # of what their means divide by
    if loss.reduction == "mean" and loss.mean_over == "batch":
        ratio = loss.weight_of(np.repeat(y, times, axis=0)) / loss.weight_of(y)
    assert weighted == pytest.approx(ratio * repeated, rel=1e-13)


@each_case
def test_several_batches_together_are_the_mean_by_their_weights(case):
    loss, z, y = case
    parts = [np.s_[:2], np.s_[2:3], np.s_[3:]]
    values = [loss.forward(z[part], y[part], V[part])[0] for part in parts]
    weights = [loss.weight_of(y[part], V[part]) for part in parts]
    whole = loss.forward(z, y, V)[0]
    together = [loss.mean_of(v, w) * w for v, w in zip(values, weights, strict=True)]
    total = loss.weight_of(y, V)
    assert sum(together) / total == pytest.approx(loss.mean_of(whole, total), rel=1e-13)
    assert sum(weights) == pytest.approx(total)


@each_reduction
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_batch_with_nothing_that_counts_is_0_and_changes_nothing(reduction, dtype):
    y, z = np.full(4, -1), np.array([[1, -np.inf], [0, 0], [2, 1], [-np.inf, 3]], dtype)
    for loss, out, labels in (
        (SoftmaxCrossEntropy([1, 2], 0, ignore_index=-1, reduction=reduction), z, y),
        (BinaryCrossEntropy(ignore_index=-1, reduction=reduction), z[1:3], z[1:3] * 0 - 1),
        (MeanSquaredError(ignore_index=-1, reduction=reduction), z[1:3], z[1:3] * 0 - 1),
    ):
        value, cache = loss.forward(out, labels)
        assert np.sum(value) == loss.weight_of(labels) == 0
        assert value.dtype == loss.backward(cache).dtype == dtype
        np.testing.assert_array_equal(loss.backward(cache), 0)


def test_auxiliary_outputs_share_the_settings():
    inner = SoftmaxCrossEntropy(ignore_index=-1, reduction="none")
    loss, outputs = WithAuxiliary(inner, 0.3), (Z, 2 * Z)
    value, cache = loss.forward(outputs, LABELS, V)
    parts = [inner.forward(z, LABELS, V) for z in outputs]
    np.testing.assert_allclose(value, parts[0][0] + 0.3 * parts[1][0])
    for dz, (_, kept), share in zip(loss.backward(cache, DY), parts, (1, 0.3), strict=True):
        np.testing.assert_allclose(dz, share * inner.backward(kept, DY))
    assert loss.weight_of(LABELS) == 4


def test_training_and_evaluation_leave_the_same_out():
    x = RNG.standard_normal((40, 3)).astype(np.float32)
    y = np.where(RNG.random(40) < 0.3, -1, RNG.integers(0, 2, 40))
    y[:4] = -1  # a whole batch
    rows = {}
    for reduction in ("mean", "sum"):
        model = Dense(3, 2, rng=np.random.default_rng(1))
        loss = SoftmaxCrossEntropy(
            [1, 4], mean_over="weights", ignore_index=-1, reduction=reduction
        )
        how = {"epochs": 1, "batch_size": 4, "progress": False}
        rows[reduction] = row = fit(model, loss, SGD(0.0), (x, y), (x, y), **how)[-1]
        assert row["train_loss"] == pytest.approx(row["validation_loss"], rel=1e-5)
        assert row["train_accuracy"] == row["validation_accuracy"]
        value, labels, p = evaluate(model, loss, (x, y))
        assert len(labels) == len(p) == (y >= 0).sum()
        assert value == pytest.approx(row["validation_loss"])
    assert rows["sum"]["train_loss"] == pytest.approx(rows["mean"]["train_loss"], rel=1e-5)
    with pytest.raises(ValueError, match="no label of the set counts"):
        evaluate(model, loss, (x[:4], y[:4]))
    with pytest.raises(ValueError, match="a loss for each example, want one"):
        TrainStep(model, SoftmaxCrossEntropy(reduction="none"), SGD(0.1))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_pieces_of_a_batch_make_its_step(reduction):
    x, y = Z.astype(np.float32), LABELS
    found = []
    for micro_batch in (None, 2):
        model = Dense(3, 3, rng=np.random.default_rng(1))
        loss = SoftmaxCrossEntropy(WEIGHTS, ignore_index=-1, reduction=reduction)
        value = TrainStep(model, loss, SGD(0.1), micro_batch=micro_batch)(x, y)
        found.append((value, model.weight.value))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: SoftmaxCrossEntropy(reduction="average"),
            "reduction is 'average', want one of mean, sum",
        ),
        (lambda: BinaryCrossEntropy(mean_over="all"), "mean_over is 'all', want one of"),
        (lambda: MeanSquaredError(ignore_index=0.5), "ignore_index is 0.5, want a whole number"),
        (lambda: SoftmaxCrossEntropy().forward(Z, LABELS % 3, V[:4]), r"of \(4,\), want \(6,\)"),
        (lambda: SoftmaxCrossEntropy().forward(Z, LABELS % 3, -V), "a number from 0 for each"),
        (lambda: MeanSquaredError().forward(Z, Z, "heavy"), "sample_weight are 'heavy', want an"),
        (lambda: SoftmaxCrossEntropy().forward(Z, LABELS), "labels run from -1 to 2, want 0 to 2"),
        (lambda: BinaryCrossEntropy().forward(Z, QUANTITIES), "labels run from -1.0"),
        (
            lambda: upstream(SoftmaxCrossEntropy(reduction="none"), DY[:5]),
            r"is \(5,\), want \(6,\)",
        ),
        (lambda: upstream(SoftmaxCrossEntropy(reduction="none"), 1.0), r"is \(\), want \(6,\)"),
        (lambda: upstream(SoftmaxCrossEntropy(), DY), r"is \(6,\), want \(\)"),
    ],
)
def test_mistakes_are_refused_in_words(call, message):
    with pytest.raises((ValueError, TypeError), match=message):
        call()


def upstream(loss, dy):
    return loss.backward(loss.forward(Z, LABELS % 3)[1], dy)


PURE = {
    "softmax_cross_entropy": (Z, LABELS % 3, V),
    "cross_entropy": (P, LABELS % 3, V),
    "binary_cross_entropy": (Z, QUANTITIES.clip(0), P),
    "mean_squared_error": (Z, QUANTITIES, P),
}


@pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
def test_pure_losses_refuse_arrays_of_other_shapes(kernels):
    names = {name[:-8] for name in vars(losses) if name.endswith("_forward")}
    assert names == set(PURE), "give it arguments in PURE"
    for name, arguments in PURE.items():
        for which, shape in ((1, (5,)), (1, (6, 4)), (2, (5,)), (2, (1, 1)), (2, (6, 4))):
            wrong = [*arguments]
            wrong[which] = np.ones(shape, int if which == 1 else float)
            with use_kernels(kernels), pytest.raises(ValueError, match="want"):
                getattr(losses, f"{name}_forward")(*wrong)
