"""Numbers at the edge: masked classes, half precision, batches of one, and arguments in words."""

import numpy as np
import pytest

from tinynet.backend import use_kernels
from tinynet.layer import Mode, Parameter
from tinynet.layers import (
    AvgPool2D,
    BatchNorm,
    Dense,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Sequential,
)
from tinynet.losses import BinaryCrossEntropy, SoftmaxCrossEntropy
from tinynet.metrics import kappa_of
from tinynet.optimizers import SGD, Adam, RMSProp
from tinynet.schedules import Constant, Cosine, StepDecay
from tinynet.train import TrainingError, TrainStep, fit

each_set = pytest.mark.parametrize("kernels", ["reference", "numpy", "numba"])
TRAIN = Mode(train=True)


def network():
    rng = np.random.default_rng(0)
    return Sequential(Dense(3, 4, rng=rng), BatchNorm(4), ReLU(), Dense(4, 2, rng=rng))


def examples(n):
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, 3), dtype=np.float32), np.arange(n) % 2


@each_set
def test_a_masked_class_has_no_part_in_the_loss(kernels):
    z = np.array([[1.0, -np.inf, 0.0]], np.float32)
    with use_kernels(kernels):
        loss, cache = SoftmaxCrossEntropy().forward(z, np.array([0]))
        dz = SoftmaxCrossEntropy().backward(cache)
    assert loss == pytest.approx(np.log1p(np.exp(-1)), rel=1e-6)
    p = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(dz, [[p - 1, 0, 1 - p]], rtol=1e-6, atol=1e-7)


def test_the_true_class_masked_is_an_infinite_loss():
    z = np.array([[1.0, -np.inf]])
    with np.errstate(all="ignore"):
        assert SoftmaxCrossEntropy().forward(z, np.array([1]))[0] == np.inf


def test_a_right_answer_at_infinity_costs_nothing():
    z = np.array([[np.inf], [-np.inf]])
    assert BinaryCrossEntropy().forward(z, np.array([1, 0]))[0] == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["labels", "one-hot", "soft"])
def test_class_weights_are_those_of_torch(torch, kind, smoothing):
    rng = np.random.default_rng(0)
    z, w, labels = rng.standard_normal((5, 3)), np.array([1.0, 2, 5]), np.array([0, 1, 2, 2, 1])
    y = {"labels": labels, "one-hot": np.eye(3)[labels], "soft": rng.dirichlet(np.ones(3), 5)}[kind]
    logits = torch.tensor(z, requires_grad=True)
    want = torch.nn.functional.cross_entropy(
        logits, torch.tensor(y), torch.tensor(w), label_smoothing=smoothing
    )
    want.backward()
    loss = SoftmaxCrossEntropy(w, smoothing, mean_over="weights")
    value, cache = loss.forward(z, y)
    assert value == pytest.approx(want.item(), rel=1e-12)
    np.testing.assert_allclose(loss.backward(cache), logits.grad.numpy(), rtol=1e-10, atol=1e-14)


@each_set
def test_ceil_adds_cells_that_are_never_counted(kernels):
    x = np.ones((1, 8, 8, 1), np.float32)
    with use_kernels(kernels):
        y, _ = AvgPool2D(3, 2, padding="ceil", count_padding=True).forward(x)
    np.testing.assert_allclose(y, np.ones((1, 4, 4, 1)), rtol=1e-6)


def test_an_empty_batch_has_nothing_to_normalise_by():
    norm = BatchNorm(3)
    with pytest.raises(ValueError, match="no numbers to normalise by"):
        norm.forward(np.zeros((0, 2, 2, 3), np.float32), TRAIN)
    np.testing.assert_array_equal(norm.running_mean, np.zeros(3))
    np.testing.assert_array_equal(norm.running_var, np.ones(3))


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (1, 3)])
def test_a_batch_without_a_variance_moves_no_statistics(shape):
    norm = BatchNorm(3)
    y, _ = norm.forward(np.full(shape, 7, np.float32), TRAIN)
    np.testing.assert_array_equal(y, np.zeros(shape))  # beta
    np.testing.assert_array_equal(norm.running_mean, np.zeros(3))
    np.testing.assert_array_equal(norm.running_var, np.ones(3))


def test_a_last_batch_of_one_joins_the_one_before():
    model, sizes = network(), []
    x, y = examples(25)

    def seen(*args):
        sizes.append(len(args[0]))
        return 0.0

    fit(model, SoftmaxCrossEntropy(), SGD(0.1), (x, y), epochs=1, batch_size=8, progress=False)
    moved = model.children()["1"].running_var
    assert np.isfinite(moved).all()
    assert (moved > 0).all()
    rows = fit(
        network(), SoftmaxCrossEntropy(), SGD(0.1), (x, y), epochs=1, batch_size=8,
        metrics=[seen], progress=False,
    )  # fmt: skip
    assert sizes == [25]
    assert len(rows) == 1


def test_the_default_momentum_serves_after_100_steps():
    x = 5 + 2 * np.random.default_rng(0).standard_normal((64, 3), dtype=np.float32)
    by_default, by_the_report = BatchNorm(3), BatchNorm(3, momentum=0.99)
    for _ in range(100):
        by_default.forward(x, TRAIN)
        by_the_report.forward(x, TRAIN)
    np.testing.assert_allclose(by_default.running_var, x.var(axis=0), rtol=1e-3)
    np.testing.assert_allclose(by_the_report.running_mean, x.mean(axis=0) * 0.634, rtol=1e-3)


def test_a_refused_step_leaves_the_moving_statistics():
    model = network()
    step = TrainStep(model, SoftmaxCrossEntropy(), SGD(0.1))
    x, y = examples(8)
    step(x, y)
    before = {name: a.copy() for name, a in model.state().items()}
    x[0, 0] = np.nan
    with pytest.raises(TrainingError):
        step(x, y)
    for name, a in model.state().items():
        np.testing.assert_array_equal(a, before[name], err_msg=name)


@pytest.mark.parametrize("optimizer", [Adam(1e-3), RMSProp(1e-3)])
def test_epsilon_survives_half_precision(optimizer):
    p = Parameter(np.ones(3, np.float16))
    p.grad[...] = 0
    optimizer.step({"w": p})
    np.testing.assert_array_equal(p.value, np.ones(3))
    p.grad[...] = 1
    optimizer.step({"w": p})
    assert p.value.dtype == np.float16
    assert (p.value < 1).all()


@each_set
def test_sums_of_half_precision_do_not_overflow(kernels):
    rng = np.random.default_rng(0)
    x = (rng.standard_normal((8, 64, 64, 4)) + 100).astype(np.float16)
    with use_kernels(kernels):
        mean, _ = GlobalAvgPool2D().forward(np.full((1, 300, 300, 1), 2, np.float16))
        norm = BatchNorm(4).to(dtype="float16")
        y, cache = norm.forward(x, TRAIN)
        dx = norm.backward(np.ones_like(y), cache)
    assert mean == 2
    assert y.dtype == dx.dtype == np.float16
    wide = x.astype(np.float64)
    want = (wide - wide.mean((0, 1, 2))) / np.sqrt(wide.var((0, 1, 2)) + 1e-3)
    np.testing.assert_allclose(y, want, atol=5e-3)


@each_set
@pytest.mark.parametrize("layer", [MaxPool2D(2), AvgPool2D(2), GlobalAvgPool2D(), ReLU()])
def test_integers_are_refused_alike(kernels, layer):
    with use_kernels(kernels), pytest.raises(TypeError, match="uint8, want floating point"):
        layer.forward(np.full((1, 4, 4, 1), 200, np.uint8))


def test_no_message_advises_whole_number_weights():
    layer = Dense(3, 2, rng=np.random.default_rng(0))
    before = layer.weight.value.copy()
    with pytest.raises(TypeError) as error:
        layer.forward(np.ones((1, 3), np.uint8))
    assert "model.to" not in str(error.value)
    for dtype in ("uint8", "int64", "bool", "no dtype"):
        with pytest.raises(TypeError, match="want floating point"):
            layer.to(dtype=dtype)
    np.testing.assert_array_equal(layer.weight.value, before)


def test_the_training_loss_is_the_weighted_mean_of_the_set():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 3), dtype=np.float32) * 3
    y = (rng.random(400) < 0.1).astype(int)
    loss = SoftmaxCrossEntropy([1, 20], mean_over="weights")
    row = fit(
        Sequential(Dense(3, 2, rng=rng)), loss, SGD(0.0), (x, y), (x, y), epochs=1, batch_size=4,
        progress=False,
    )[-1]  # fmt: skip
    assert row["train_loss"] == pytest.approx(row["validation_loss"], rel=1e-5)


def test_kappa_of_shares_is_that_of_counts():
    counts = np.array([[20, 5], [10, 15]])
    assert kappa_of(counts) == pytest.approx(0.4)
    assert kappa_of(counts / counts.sum()) == pytest.approx(0.4)
    assert kappa_of(counts * 2**30) == pytest.approx(0.4)


@pytest.mark.parametrize(
    "make", [lambda: Constant(-1), lambda: StepDecay(0.1, factor=-1), lambda: Cosine(0.1, 5, -1)]
)
def test_schedules_do_not_go_below_zero(make):
    with pytest.raises(ValueError, match="want a number from 0"):
        make()


def test_a_metric_that_raises_does_not_lose_the_epoch(tmp_path):
    def broken(y, p):
        raise KeyError("oh")

    what = (SoftmaxCrossEntropy(), SGD(0.1), examples(16))
    how = {"epochs": 2, "progress": False, "folder": tmp_path / "run"}
    with pytest.raises(TrainingError, match="train_broken failed .*the epoch's weights"):
        fit(network(), *what, metrics=[broken], **how)
    assert (tmp_path / "run" / "last.safetensors").exists()
    assert len((tmp_path / "run" / "history.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"model": Dense}, {"loss": SoftmaxCrossEntropy}, {"optimizer": Adam},
        {"train": None}, {"train": [1, 2]}, {"train": ([[0.0]], [0])}, {"epochs": 1.5},
        {"epochs": "2"}, {"batch_size": 2.5}, {"patience": "3"}, {"folder": ""},
        {"metrics": "accuracy"}, {"callbacks": print}, {"schedule": Constant},
        {"regularizer": 0.1}, {"seed": None},
    ],
    ids=str,
)  # fmt: skip
def test_fit_says_what_came_and_what_was_wanted(change):
    good = {
        "model": network(), "loss": SoftmaxCrossEntropy(), "optimizer": SGD(0.1),
        "train": examples(8), "epochs": 1, "progress": False,
    }  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=r"^[^\n]*want [^\n]*$"):
        fit(**good | change)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SoftmaxCrossEntropy(class_weight={0: 1.0, 1: 2.0}),
        lambda: SoftmaxCrossEntropy(label_smoothing="a little"),
        lambda: SGD("0.1"), lambda: SGD(None), lambda: BatchNorm(3, momentum="0.9"),
        lambda: BatchNorm(3.5), lambda: ReLU().forward([[1.0, 2.0, 3.0]]),
    ],
)  # fmt: skip
def test_arguments_are_refused_in_words(make):
    with pytest.raises((TypeError, ValueError), match="want "):
        make()
