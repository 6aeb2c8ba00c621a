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
    Softmax,
)
from tinynet.losses import CrossEntropy, SoftmaxCrossEntropy
from tinynet.optimizers import SGD, Adam, RMSProp
from tinynet.regularizers import L1, L2
from tinynet.train import fit
from tinynet.train.evaluation import evaluate, predict
from tinynet.train.step import TrainingError, TrainStep

__all__ = ["cupy_kernels", "few_threads"]  # fixtures

pytestmark = pytest.mark.usefixtures("few_threads")
LOSS = SoftmaxCrossEntropy()


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


def small(last, dtype="float64"):
    """One dense layer, and the given one behind it."""
    dense = Dense(36, 3, rng=np.random.default_rng(0))
    return Sequential(Flatten(), dense, last).to(dtype=dtype)


def data(count=6, dtype="float64", seed=3):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 6, 6, 1)).astype(dtype), rng.integers(0, 3, count)


def trained(
    device,
    make_optimizer=lambda: Adam(0.01),
    steps=4,
    loss=LOSS,
    change=None,
    model=network,
    **more,
):
    """(losses, state, gradients) after some steps, NumPy's."""
    network = model().to(device)
    step = TrainStep(network, loss, make_optimizer(), **{"seed": 5} | more)
    values = []
    for i in range(steps):
        if change is not None:
            change(i, step)
        values.append(step(*data(seed=i)))
    grads = {f"grad.{name}": p.grad for name, p in network.parameters().items()}
    return values, on_numpy(network.state() | grads)


def on_numpy(arrays):
    return {name: to_device(a, "numpy").copy() for name, a in arrays.items()}


def assert_same(*args, **kwargs):
    values, arrays = trained("numpy", *args, **kwargs)
    on_gpu, found = trained("cupy", *args, **kwargs)
    np.testing.assert_allclose(on_gpu, values, rtol=1e-9)
    for name, want in arrays.items():
        np.testing.assert_allclose(found[name], want, rtol=1e-7, atol=1e-9, err_msg=name)


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
    "groups, the norm of each": lambda: SGD(0.1, 0.9, rates={"0": 0.1}, clip=0.01, clip_by="norm"),
    "by value": lambda: RMSProp(0.01, clip=0.003, clip_by="value"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_with_each_optimiser(name):
    assert_same(OPTIMIZERS[name])


@pytest.mark.parametrize("regularizer", [L2(0.1), L1(0.01)])
def test_a_penalty(regularizer):
    assert_same(OPTIMIZERS["momentum"], regularizer=regularizer)


@pytest.mark.parametrize("settings", [{"label_smoothing": 0.1}, {"mean_over": "weights"}])
def test_weights_of_classes(settings):
    loss = SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.5), **settings)
    assert_same(OPTIMIZERS["gradient descent"], loss=loss)


def test_probabilities_and_their_cross_entropy():
    assert_same(loss=CrossEntropy(), model=lambda: small(Softmax()))


def learning_rate_of_the_day(i, step):
    step.optimizer.learning_rate = 0.01 * (i + 1)


def clipping(i, step):
    step.optimizer.clip = (1e-3, 1e-3, 1e-3, 2e-3, None, 1e-2, 1e-2)[i]


def freezing(i, step):
    if i == 2:
        step.model.layers[0].freeze()
        step.model.freeze(parameters=False, dropout=False)  # the statistics


def loading(i, step):
    if i == 2:
        step.model.load_state(network().state())
    if i == 3:
        step.optimizer.load_state(step.optimizer.state())


@pytest.mark.parametrize("change", [learning_rate_of_the_day, freezing, loading])
def test_changes_between_steps_are_noticed(change):
    assert_same(change=change, steps=5)


def test_clipping_and_groups_in_a_graph():
    assert_same(lambda: SGD(0.5, rates={"10": 0.1}), change=clipping, steps=7)


@pytest.mark.parametrize("weights", [None, (1.0, 2.0, 0.5), (0.0, 1.0, 0.5)])
def test_micro_batches(weights):
    """Three pieces in one graph; where a piece's labels weigh nothing, kernel by kernel."""
    loss = SoftmaxCrossEntropy(weights, mean_over="weights")
    assert_same(loss=loss, micro_batch=2, regularizer=L2(0.1))


def test_groups_that_fit_nothing_are_refused():
    with pytest.raises(ValueError, match="rates has 'base'"):
        TrainStep(network().to("cupy"), LOSS, SGD(0.1, rates={"base": 0.1}))(*data())


def steps_of(model, device="cupy", **more):
    return TrainStep(model.to(device), LOSS, Adam(0.01), seed=1, **more)


def test_batches_of_several_sizes_and_libraries():
    found = []
    for device in ("numpy", "cupy"):
        step, values = steps_of(network(), device), []
        for i, count in enumerate([6, 6, 2, 6, 2, 6, 3, 1, 4, 5, 6]):
            x, y = data(count, seed=i)
            if i % 3 == 0:
                x, y = to_device(x, device), to_device(y, device)
            values.append(step(x, np.eye(3)[y] if i == 1 else y))  # one-hot once
        found.append(values)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-9)


def test_the_same_bits_in_every_run():
    (first, arrays), (second, again) = (trained("cupy") for _ in range(2))
    assert first == second
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array, err_msg=name)


def graph_of(step):
    (graph,) = step._step.graphs._steps.values()
    return graph.run


def test_a_step_waits_once_for_its_loss():
    step = steps_of(network())
    step(*data())
    step(*data())
    waits.clear()
    step(*data())
    assert waits in (["__float__"], [])  # a real GPU's are not counted
    assert graph_of(step).launched


class Remembers(ReLU):
    """A layer that keeps its input's shape, a new tuple each time."""

    def forward(self, x, mode=None):
        self.seen = (*x.shape,)
        return super().forward(x)


def test_a_layer_may_keep_what_it_saw():
    step = steps_of(small(Remembers()))
    for _ in range(3):
        step(*data())
    assert graph_of(step).launched


@pytest.mark.parametrize("steps_before", [0, 1, 3])
@pytest.mark.parametrize("bad", [-1, 3, np.nan])
def test_a_wrong_label_or_a_loss_that_is_not_finite_changes_no_weight(bad, steps_before):
    step = steps_of(network())
    for i in range(steps_before):
        step(*data(seed=i))

    def weights_and_memory():
        arrays = step.model.state() | step.optimizer.state()
        return on_numpy({name: a for name, a in arrays.items() if "running" not in name})

    before, (x, y) = weights_and_memory(), data()
    error, message = ValueError, "labels run from"
    if np.isnan(bad):
        error, message, x[1, 0, 0, 0] = TrainingError, "1 of the 6 inputs hold NaN", bad
    else:
        y[2] = bad
    with pytest.raises(error, match=message):
        step(x, y)
    after = weights_and_memory()
    for name, a in before.items():
        np.testing.assert_array_equal(after[name], a, err_msg=name)


class Waits(ReLU):
    """A layer that asks how large its input is."""

    def forward(self, x, mode=None):
        self.largest = float(x.max())
        return super().forward(x)


def test_what_cannot_be_captured_runs_without_a_graph_and_says_so():
    want = steps_of(small(Waits()), "numpy")
    step = steps_of(small(Waits()))
    wanted = [want(*data()) for _ in range(3)]
    found = [step(*data())]
    with pytest.warns(RuntimeWarning, match="the training step cannot be made a CUDA gra"):
        found.append(step(*data()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is said once
        found.append(step(*data()))
    np.testing.assert_allclose(found, wanted, rtol=1e-9)


class Own(SGD):
    """A rule that has no kernel."""

    def update(self, name, w, g):
        w -= 0.1 * g


def test_an_optimiser_of_ones_own():
    with pytest.warns(RuntimeWarning, match="Own has its own update"):
        assert_same(lambda: Own(0.5))


def test_without_kernels_the_references_run():
    with use_reference():
        assert_same()


TOLERANCES = {"tf32": 2e-3, "bf16": 3e-2}  # of losses near 1: 11 and 8 bits of significand


@pytest.mark.slow
@pytest.mark.parametrize("precision", TOLERANCES)
def test_precisions(precision):
    x, y = data(dtype="float32")
    values = []
    for device, how in (("numpy", "fp32"), ("cupy", precision)):
        model = network("float32").to(device)
        step = TrainStep(model, LOSS, SGD(0.05), precision=how)
        values.append([step(x, y) for _ in range(4)])
        assert {a.dtype.name for a in model.state().values()} == {"float32"}
        assert step.last_output.dtype == np.float32
        assert library_of(step.last_probabilities()) == device
    np.testing.assert_allclose(values[1], values[0], atol=TOLERANCES[precision])
    assert values[1] != values[0]


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "rough"), [("fp32", 1e-5), ("bf16", 2e-2)])
def test_evaluation(precision, rough):
    x, y = data(7, "float32")
    model = network("float32")
    value, labels, p = evaluate(model, LOSS, (x, y), 2)
    model.to("cupy")
    found, found_labels, found_p = evaluate(model, LOSS, (x, y), 2, precision=precision)
    assert found == pytest.approx(value, rel=rough)
    np.testing.assert_array_equal(found_labels, labels)
    np.testing.assert_allclose(found_p, p, atol=rough)
    np.testing.assert_array_equal(predict(model, LOSS, x, 2, precision=precision), found_p)


@pytest.mark.slow
def test_bfloat16_through_layers_without_kernels_for_it():
    losses = []
    for device, precision in (("numpy", "fp32"), ("cupy", "bf16")):
        rng = np.random.default_rng(0)
        model = Sequential(
            *(Conv2D(1, 4, 3, rng=rng), BatchNorm(4), MaxPool2D(2)),
            *(GlobalAvgPool2D(), Dense(4, 3, rng=rng)),
        ).to(device)
        step = TrainStep(model, LOSS, SGD(0.05), precision=precision)
        losses.append([step(*data(dtype="float32")) for _ in range(3)])
    np.testing.assert_allclose(losses[1], losses[0], atol=0.03)


def test_fit_is_the_same_with_both_and_says_how_much_memory_it_held(capsys):
    (x, y), rows = data(20), []
    settings = {"epochs": 2, "batch_size": 6, "seed": 1}
    for device in ("numpy", "cupy"):
        model = network().to(device)
        history = fit(model, LOSS, Adam(0.01), (x, y), (x[:5], y[:5]), **settings)
        rows.append([[row["train_loss"], row["validation_loss"]] for row in history])
        said = capsys.readouterr().err
        assert ("GPU memory held at most:" in said) == (device == "cupy")
        assert " 0 MiB" not in said
    np.testing.assert_allclose(rows[1], rows[0], rtol=1e-8)


def test_wrong_precisions():
    with pytest.raises(ValueError, match="want one of fp32, tf32, bf16"):
        steps_of(network(), precision="half")
    with pytest.raises(ValueError, match=r"model.to\('cupy'\)"):
        steps_of(network(), "numpy", precision="bf16")(*data())
