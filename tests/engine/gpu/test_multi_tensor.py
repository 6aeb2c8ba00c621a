"""tinynet/engine/gpu/multi_tensor.py, its kernels run on the processor, against optimizer.step."""

import numpy as np
import pytest

from tests.engine.gpu.fake_cupy import waits
from tests.engine.kernels.cuda.on_cpu import cupy_kernels
from tinynet.backend import library_of, swappable, to_device
from tinynet.engine.gpu import multi_tensor
from tinynet.engine.gpu.cuda_graph import CapturedFunction, GraphArena
from tinynet.engine.gpu.multi_tensor import MultiTensorUpdate
from tinynet.engine.kernels.cuda.launch import captured_step
from tinynet.layer import Parameter
from tinynet.optimizers import SGD, Adam, RMSProp
from tinynet.regularizers import is_weight

__all__ = ["cupy_kernels"]  # a fixture

OPTIMIZERS = {
    "gradient descent": lambda: SGD(0.1),
    "gradient descent, decay": lambda: SGD(0.1, weight_decay=0.2),
    "decoupled": lambda: SGD(0.1, weight_decay=0.2, decoupled=True, decays=is_weight),
    "momentum": lambda: SGD(0.1, momentum=0.9, weight_decay=0.2, decays=is_weight),
    "Nesterov": lambda: SGD(0.1, momentum=0.9, nesterov=True),
    "RMSProp": lambda: RMSProp(0.01, weight_decay=0.2),
    "Adam": lambda: Adam(0.01),
    "Adam of the report": lambda: Adam(0.01, bias_correction=False, epsilon=1e-6),
    "AdamW": lambda: Adam(0.01, weight_decay=0.2, decoupled=True, decays=is_weight),
}
SHAPES = {"0.weight": (7, 5), "0.bias": (1,), "1.weight": (3, 2, 11), "1.bias": (16,)}


@pytest.fixture(autouse=True)
def short_chunks(cupy_kernels, monkeypatch):
    """8 threads and 48 numbers a block: whole blocks, and ends of one."""
    monkeypatch.setattr(multi_tensor, "THREADS", 8)
    monkeypatch.setattr(multi_tensor, "CHUNK", 48)


def parameters(device, dtype="float64"):
    rng = np.random.default_rng(1)
    values = {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}
    return {name: Parameter(to_device(value, device)) for name, value in values.items()}


def set_gradients(made, step):
    rng = np.random.default_rng(step + 10)
    for p in made.values():
        g = rng.standard_normal(p.shape).astype(p.value.dtype.name)
        p.grad[...] = to_device(g, library_of(p.grad))


def on(x):
    return to_device(np.asarray(x), "cupy")


def trainable(made):
    return {name: p for name, p in made.items() if p.trainable}


def launch(by, optimizer, loss=1.0):
    optimizer.count(by.names)
    by.launch(on(by.numbers(optimizer)), on(np.array(loss, by.dtype)))


def all_state(made, optimizer):
    arrays = {name: p.value for name, p in made.items()} | optimizer.state()
    return {name: to_device(a, "numpy").copy() for name, a in arrays.items()}


def check_same(got, wanted, **tolerance):
    assert set(got) == set(wanted)
    for name, want in wanted.items():
        assert got[name].dtype == want.dtype
        np.testing.assert_allclose(got[name], want, err_msg=name, **tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-13)])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_the_optimisers(name, dtype, tolerance):
    """Several steps with a changing learning rate, one of the parameters thawed late."""
    ours, theirs = parameters("cupy", dtype), parameters("numpy", dtype)
    mine, reference = OPTIMIZERS[name](), OPTIMIZERS[name]()
    ours["1.bias"].trainable = theirs["1.bias"].trainable = False
    by = MultiTensorUpdate(mine, trainable(ours))
    for step in range(6):
        if step == 3:
            ours["1.bias"].trainable = theirs["1.bias"].trainable = True
            by = MultiTensorUpdate(mine, trainable(ours))
        mine.learning_rate = reference.learning_rate = 0.01 * (step + 1)
        for made in (ours, theirs):
            set_gradients(made, step)
        gradient = to_device(ours["0.weight"].grad, "numpy").copy()
        reference.step(theirs)
        launch(by, mine)
        np.testing.assert_array_equal(to_device(ours["0.weight"].grad, "numpy"), gradient)
    check_same(
        all_state(ours, mine), all_state(theirs, reference), rtol=tolerance, atol=tolerance / 10
    )


@pytest.mark.parametrize("loss", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["gradient descent, decay", "momentum", "RMSProp", "AdamW"])
def test_nothing_changes_if_the_loss_is_not_finite(name, loss):
    made, optimizer = parameters("cupy"), OPTIMIZERS[name]()
    by = MultiTensorUpdate(optimizer, made)
    set_gradients(made, 0)
    launch(by, optimizer)
    before = all_state(made, optimizer)
    set_gradients(made, 1)
    launch(by, optimizer, loss)
    optimizer.count(by.names, -1)
    check_same(all_state(made, optimizer), before, rtol=0)
    launch(by, optimizer)
    assert not np.array_equal(all_state(made, optimizer)["0.bias"], before["0.bias"])


def test_numbers_are_those_of_the_step_that_is_counted():
    made, optimizer = parameters("cupy"), Adam(0.01, 0.5, 0.75)
    by = MultiTensorUpdate(optimizer, made)
    assert optimizer.steps == 0
    state = optimizer.state()
    assert all(int(state[f"updates.{name}"]) == 0 for name in made)
    optimizer.count(by.names)
    first = by.numbers(optimizer)
    assert first.shape == by.shape == (4, 9)
    # λ, shrink, rate / (1 - β₁), 1 - β₁, β₁, 1 - β₂, β₂, ε, 1 - β₂
    np.testing.assert_allclose(first[0], [0, 1, 0.02, 0.5, 0.5, 0.25, 0.75, 1e-8, 0.25])
    optimizer.count(by.names)
    np.testing.assert_allclose(by.numbers(optimizer)[2, [2, 8]], [0.01 / 0.75, 1 - 0.75**2])
    optimizer.count(by.names, -1)
    np.testing.assert_array_equal(by.numbers(optimizer), first)
    assert optimizer.steps == 1


def test_a_state_that_was_saved_before_the_first_step_can_be_loaded():
    made, optimizer = parameters("cupy"), Adam(0.01)
    MultiTensorUpdate(optimizer, made)
    other = Adam(0.01)
    other.load_state(optimizer.state())
    assert other.steps == 0


def test_weight_decay_of_an_infinite_weight_is_left_out_where_there_is_none():
    made = {"weight": Parameter(on(np.array([np.inf, 1.0])))}
    made["weight"].grad[...] = 1
    launch(MultiTensorUpdate(SGD(0.5), made), SGD(0.5))
    np.testing.assert_array_equal(to_device(made["weight"].value, "numpy"), [np.inf, 0.5])


def test_a_captured_update_takes_the_numbers_of_its_step():
    """The same graph with another learning rate, and with a loss that is not finite."""
    made, optimizer, arena = parameters("cupy"), Adam(0.01), GraphArena()
    twin, reference = parameters("numpy"), Adam(0.01)
    by = MultiTensorUpdate(optimizer, made)
    numbers, loss = on(np.zeros(by.shape)), on(np.zeros(()))
    run = CapturedFunction(arena, lambda: by.launch(numbers, loss), "the update")
    for step, value in enumerate([1.0, 2.0, np.nan, 3.0]):
        optimizer.learning_rate = reference.learning_rate = 0.01 * (step + 1)
        for which in (made, twin):
            set_gradients(which, step)
        optimizer.count(by.names)
        with arena(), captured_step():
            numbers.set(by.numbers(optimizer))
            loss.set(np.array(value))
            waits.clear()
            run()
            assert waits == []
            found = {name: to_device(p.value, "numpy") for name, p in made.items()}
        if np.isnan(value):
            optimizer.count(by.names, -1)
        else:
            reference.step(twin)
        for name, p in twin.items():
            np.testing.assert_allclose(found[name], p.value, rtol=1e-12)


class OwnUpdate(SGD):
    def update(self, name, w, g):
        w -= g


class OwnRule(SGD):
    @property
    def rule(self):
        return swappable(lambda w, g, rate: w.fill(0))


@pytest.mark.parametrize(
    ("optimizer", "device", "only", "message"),
    [
        (OwnUpdate(0.1), "cupy", SHAPES, "OwnUpdate has its own update"),
        (OwnRule(0.1), "cupy", SHAPES, "updates by <lambda>, which has no kernel"),
        (SGD(0.1), "numpy", SHAPES, "want CuPy's arrays"),
        (SGD(0.1), "cupy", (), "no parameter is trainable"),
    ],
)
def test_what_is_not_covered_is_an_error_that_says_why(optimizer, device, only, message):
    made = {name: p for name, p in parameters(device).items() if name in only}
    with pytest.raises(ValueError, match=message):
        MultiTensorUpdate(optimizer, made)


def test_dtypes_and_sizes_that_differ():
    made = parameters("cupy")
    by = MultiTensorUpdate(SGD(0.1), made)
    for numbers, loss, message in (
        (np.zeros((4, 2)), np.zeros(()), r"want \(4, 3\)"),
        (np.zeros((4, 3)), np.zeros((), "float32"), "the loss float32"),
    ):
        with pytest.raises(ValueError, match=message):
            by.launch(on(numbers), on(loss))
    made["0.bias"] = Parameter(made["0.bias"].value.astype("float32"))
    with pytest.raises(ValueError, match="0.bias is float32"):
        MultiTensorUpdate(SGD(0.1), made)


@pytest.mark.parametrize("optimizer", [OwnUpdate(0.1), OwnRule(0.1)])
def test_an_optimiser_with_its_own_update_or_rule_still_steps(optimizer):
    made = {"weight": Parameter(np.ones(2))}
    made["weight"].grad[...] = 1
    optimizer.step(made)
    np.testing.assert_array_equal(made["weight"].value, 0)
