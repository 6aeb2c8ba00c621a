"""A training step as a CUDA graph: NumPy's numbers, on the processor by stand-ins, and on a GPU."""

import warnings

import numpy as np
import pytest

from tests.engine.gpu.fake_cupy import waits
from tests.engine.kernels.cuda.few_threads import few_threads
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tinynet.backend import library_of, to_device, use_reference
from tinynet.layers import (
    BatchNorm,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool2D,
    MaxPool2D,
    ReLU,
    Residual,
    Sequential,
)
from tinynet.losses import CrossEntropy, SoftmaxCrossEntropy
from tinynet.optimizers import SGD, Adam, RMSProp
from tinynet.regularizers import L1, L2
from tinynet.train import fit
from tinynet.train.evaluation import evaluate, predict
from tinynet.train.step import TrainingError, TrainStep

__all__ = ["cupy_kernels", "few_threads"]  # fixtures

pytestmark = pytest.mark.usefixtures("few_threads")


def network(dtype="float64"):
    """Every kind of block: with and without a pool, batch norm, a residual block, dropout."""
    rng = np.random.default_rng(0)
    conv = {"padding": "same", "rng": rng}
    return Sequential(
        *(Conv2D(1, 4, 3, **conv), ReLU()),
        *(Conv2D(4, 4, 3, **conv), ReLU(), MaxPool2D(2)),
        *(Conv2D(4, 6, 3, bias=False, **conv), BatchNorm(6), ReLU()),
        Residual(Sequential(Conv2D(6, 6, 3, **conv), ReLU())),
        *(Flatten(), Dense(6 * 3 * 3, 5, rng=rng), ReLU(), Dropout(0.6), Dense(5, 3, rng=rng)),
    ).to(dtype=dtype)


def data(count=6, dtype="float64", seed=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 6, 6, 1)).astype(dtype), rng.integers(0, 3, count)


def trained(device, make_optimizer, steps=4, loss=None, regularizer=None, change=None, **more):
    """(losses, state, gradients) after some steps, NumPy's."""
    model = network().to(device)
    how = {"regularizer": regularizer, "seed": 5, **more}
    step = TrainStep(model, loss or SoftmaxCrossEntropy(), make_optimizer(), **how)
    values = []
    for i in range(steps):
        if change is not None:
            change(i, step)
        values.append(step(*data(seed=i)))
    arrays = model.state() | {f"grad.{name}": p.grad for name, p in model.parameters().items()}
    return values, {name: to_device(a, "numpy") for name, a in arrays.items()}


def assert_same(*args, rtol=1e-7, **kwargs):
    values, arrays = trained("numpy", *args, **kwargs)
    on_gpu, found = trained("cupy", *args, **kwargs)
    np.testing.assert_allclose(on_gpu, values, rtol=1e-9)
    for name, want in arrays.items():
        np.testing.assert_allclose(found[name], want, rtol=rtol, atol=1e-9, err_msg=name)


OPTIMIZERS = {
    "gradient descent": lambda: SGD(0.1),
    "momentum": lambda: SGD(0.1, momentum=0.9, weight_decay=0.01),
    "Nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "RMSProp": lambda: RMSProp(0.01, weight_decay=0.1, decoupled=True),
    "Adam": lambda: Adam(0.01, weight_decay=0.01),
    "the report's Adam": lambda: Adam(0.01, bias_correction=False),
    "AdamW": lambda: Adam(
        0.01, weight_decay=0.1, decoupled=True, decays=lambda name: name.endswith("weight")
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_with_each_optimiser(name):
    assert_same(OPTIMIZERS[name])


@pytest.mark.parametrize("regularizer", [L2(0.1), L1(0.01)])
def test_a_penalty(regularizer):
    assert_same(OPTIMIZERS["momentum"], regularizer=regularizer)


@pytest.mark.parametrize(
    "loss",
    [
        SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.5), label_smoothing=0.1),
        SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.5), mean_over="weights"),
    ],
)
def test_weights_of_classes(loss):
    assert_same(OPTIMIZERS["gradient descent"], loss=loss)


def test_probabilities_and_their_cross_entropy():
    from tinynet.layers import Softmax

    def values(device):
        rng = np.random.default_rng(0)
        model = Sequential(Flatten(), Dense(36, 3, rng=rng), Softmax()).to(device, "float64")
        step = TrainStep(model, CrossEntropy(), SGD(0.1))
        return [step(*data(seed=i)) for i in range(3)]

    np.testing.assert_allclose(values("cupy"), values("numpy"), rtol=1e-9)


def test_a_graph_reads_the_learning_rate_of_the_day():
    def change(i, step):
        step.optimizer.learning_rate = 0.01 * (i + 1)

    assert_same(OPTIMIZERS["Adam"], change=change)


def test_freezing_makes_a_new_graph():
    def change(i, step):
        if i == 2:
            step.model.layers[0].freeze()
            step.model.freeze(parameters=False, dropout=False)  # the statistics

    assert_same(OPTIMIZERS["Adam"], change=change, steps=5)


def test_loading_weights_and_the_optimisers_state_between_steps():
    def change(i, step):
        if i == 2:
            step.model.load_state(network().state())
        if i == 3:
            step.optimizer.load_state(step.optimizer.state())

    assert_same(OPTIMIZERS["Adam"], change=change, steps=5)


def steps_of(model, **more):
    return TrainStep(model.to("cupy"), SoftmaxCrossEntropy(), Adam(0.01), **more)


def test_batches_of_several_sizes_and_libraries():
    found = []
    for device in ("numpy", "cupy"):
        step = TrainStep(network().to(device), SoftmaxCrossEntropy(), Adam(0.01), seed=1)
        values = []
        for i, count in enumerate([6, 6, 2, 6, 2, 6, 3, 1, 4, 5, 6]):
            x, y = data(count, seed=i)
            if i % 3 == 0:
                x, y = to_device(x, device), to_device(y, device)
            values.append(step(x, y))
        found.append(values)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)


def test_one_hot_labels():
    found = []
    for device in ("numpy", "cupy"):
        step = TrainStep(network().to(device), SoftmaxCrossEntropy(), Adam(0.01), seed=1)
        found.append([step(data(seed=i)[0], np.eye(3)[data(seed=i)[1]]) for i in range(3)])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)


def test_the_same_bits_in_every_run():
    (first, arrays), (second, again) = (trained("cupy", OPTIMIZERS["Adam"]) for _ in range(2))
    assert first == second
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def test_a_step_waits_once_for_its_loss():
    step = steps_of(network())
    step(*data())
    step(*data())
    waits.clear()
    step(*data())
    assert waits in (["__float__"], [])  # a real GPU's are not counted
    (graph,) = step._step.graphs._steps.values()
    assert graph.run.launched


class Remembers(ReLU):
    """A layer that keeps its input's shape, a new tuple each time."""

    def forward(self, x, mode=None):
        self.seen = (*x.shape,)
        return super().forward(x)


def test_a_layer_may_keep_what_it_saw():
    rng = np.random.default_rng(0)
    model = Sequential(Flatten(), Dense(36, 3, rng=rng), Remembers()).to(dtype="float64")
    step = steps_of(model)
    for _ in range(3):
        step(*data())
    (graph,) = step._step.graphs._steps.values()
    assert graph.run.launched


def state_of(step):
    arrays = step.model.state() | step.optimizer.state()
    return {name: to_device(a, "numpy").copy() for name, a in arrays.items()}


@pytest.mark.parametrize("steps_before", [0, 1, 3])
@pytest.mark.parametrize("bad", [-1, 3])
def test_a_wrong_label_is_said_and_changes_nothing(bad, steps_before):
    step = steps_of(network())
    for i in range(steps_before):
        step(*data(seed=i))
    before = {name: a for name, a in state_of(step).items() if "running" not in name}
    x, y = data()
    y[2] = bad
    with pytest.raises(ValueError, match="labels run from"):
        step(x, y)
    after = state_of(step)
    for name, a in before.items():
        np.testing.assert_array_equal(after[name], a, err_msg=name)


@pytest.mark.parametrize("steps_before", [1, 3])
def test_a_loss_that_is_not_finite_changes_no_weight(steps_before):
    step = steps_of(network())
    for i in range(steps_before):
        step(*data(seed=i))
    before = {name: a for name, a in state_of(step).items() if "running" not in name}
    x, y = data()
    x[1, 0, 0, 0] = np.nan
    with pytest.raises(TrainingError, match="1 of the 6 inputs hold NaN"):
        step(x, y)
    after = state_of(step)
    for name, a in before.items():
        np.testing.assert_array_equal(after[name], a, err_msg=name)


class Waits(ReLU):
    """A layer that asks how large its input is."""

    def forward(self, x, mode=None):
        self.largest = float(x.max())
        return super().forward(x)


def test_what_cannot_be_captured_runs_without_a_graph_and_says_so():
    found = []
    for device in ("numpy", "cupy"):
        rng = np.random.default_rng(0)
        model = Sequential(Flatten(), Dense(36, 3, rng=rng), Waits()).to(device, "float64")
        step = TrainStep(model, SoftmaxCrossEntropy(), Adam(0.01))
        values = [step(*data())]
        if device == "cupy":
            with pytest.warns(RuntimeWarning, match="the training step cannot be made a CUDA gra"):
                values.append(step(*data()))
        else:
            values.append(step(*data()))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it is said once
            found.append([*values, step(*data())])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)


class Own(SGD):
    """A rule that has no kernel."""

    def update(self, name, w, g):
        w -= 0.1 * g


def test_an_optimiser_of_ones_own():
    with pytest.warns(RuntimeWarning, match="Own has its own update"):
        assert_same(lambda: Own(0.5))


def test_without_kernels_the_references_run():
    with use_reference():
        assert_same(OPTIMIZERS["Adam"])


TOLERANCES = {"tf32": 2e-3, "bf16": 3e-2}  # of losses near 1: 11 and 8 bits of significand


@pytest.mark.parametrize("precision", TOLERANCES)
def test_precisions(precision):
    x, y = data(dtype="float32")
    values = []
    for device, how in (("numpy", "fp32"), ("cupy", precision)):
        model = network("float32").to(device)
        step = TrainStep(model, SoftmaxCrossEntropy(), SGD(0.05), precision=how)
        values.append([step(x, y) for _ in range(4)])
        assert {a.dtype.name for a in model.state().values()} == {"float32"}
        assert step.last_output.dtype == np.float32
        assert library_of(step.last_probabilities()) == device
    np.testing.assert_allclose(values[1], values[0], atol=TOLERANCES[precision])
    assert values[1] != values[0]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_evaluation(precision):
    (x, y), loss = data(7, "float32"), SoftmaxCrossEntropy()
    model = network("float32")
    value, labels, p = evaluate(model, loss, (x, y), 2)
    model.to("cupy")
    found, found_labels, found_p = evaluate(model, loss, (x, y), 2, precision=precision)
    rough = {"fp32": 1e-5, "bf16": 2e-2}[precision]
    assert found == pytest.approx(value, rel=rough)
    np.testing.assert_array_equal(found_labels, labels)
    np.testing.assert_allclose(found_p, p, atol=rough)
    np.testing.assert_array_equal(predict(model, loss, x, 2, precision=precision), found_p)


def test_bfloat16_through_layers_without_kernels_for_it():
    rng = np.random.default_rng(0)
    (x, y), losses = data(dtype="float32"), []
    for device, precision in (("numpy", "fp32"), ("cupy", "bf16")):
        model = Sequential(
            *(Conv2D(1, 4, 3, rng=rng), BatchNorm(4), MaxPool2D(2)),
            *(GlobalAvgPool2D(), Dense(4, 3, rng=np.random.default_rng(1))),
        ).to(device)
        rng = np.random.default_rng(0)
        step = TrainStep(model, SoftmaxCrossEntropy(), SGD(0.05), precision=precision)
        losses.append([step(x, y) for _ in range(3)])
    np.testing.assert_allclose(losses[1], losses[0], atol=0.03)


def test_fit_is_the_same_with_both():
    x, y = data(20)
    rows = []
    for device in ("numpy", "cupy"):
        model = network().to(device)
        how = {"epochs": 2, "batch_size": 6, "seed": 1, "progress": False}
        history = fit(model, SoftmaxCrossEntropy(), Adam(0.01), (x, y), (x[:5], y[:5]), **how)
        rows.append([[row["train_loss"], row["validation_loss"]] for row in history])
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-8)


def test_fit_says_how_much_of_the_gpus_memory_it_held(capsys):
    x, y = data(6)
    for device in ("numpy", "cupy"):
        fit(network().to(device), SoftmaxCrossEntropy(), Adam(0.01), (x, y), epochs=1)
        said = capsys.readouterr().err
        assert ("GPU memory held at most:" in said) == (device == "cupy")
        assert " 0 MiB" not in said


def test_wrong_precisions():
    with pytest.raises(ValueError, match="want one of fp32, tf32, bf16"):
        steps_of(network(), precision="half")
    step = TrainStep(network(), SoftmaxCrossEntropy(), SGD(0.1), precision="bf16")
    with pytest.raises(ValueError, match=r"model.to\('cupy'\)"):
        step(*data())
