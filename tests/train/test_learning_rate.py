"""The search for a learning rate: what it finds, and that it leaves everything as it was."""

import numpy as np
import pytest

from tests.small_run import LOSS, assert_same, copy_of, history_of, two_classes
from tinynet.layers import BatchNorm, Dense, Dropout, ReLU, Sequential
from tinynet.optimizers import SGD, Adam
from tinynet.schedules import Constant
from tinynet.train import TrainingError, TrainStep, find_learning_rate


def network():
    rng = np.random.default_rng(0)
    layers = Dense(2, 16, rng=rng), BatchNorm(16), ReLU(), Dropout(0.8), Dense(16, 2, rng=rng)
    return Sequential(*layers).to(dtype="float64")


def everything(model, optimizer):
    grads = {f"grad.{name}": p.grad.copy() for name, p in model.parameters().items()}
    state = {f"optimizer.{name}": x.copy() for name, x in optimizer.state().items()}
    return copy_of(model) | grads | state


@pytest.mark.parametrize("steps_before", [0, 3])
@pytest.mark.parametrize("highest", [1.0, 1e300])
def test_it_leaves_all_as_it_was(highest, steps_before):
    """Whether it ends by itself or by weights that overflow; the next step is what it was."""
    model, optimizer, data = network(), Adam(0.02), two_classes()
    step = TrainStep(model, LOSS, optimizer, seed=3)
    for _ in range(steps_before):
        step(*data)
    before = everything(model, optimizer)
    settings = {"highest": highest, "steps": 20, "batch_size": 8, "seed": 3}
    rates, losses = find_learning_rate(model, LOSS, optimizer, data, **settings)
    assert (len(rates) == len(losses) == 20) == (highest == 1.0)
    assert_same(before, everything(model, optimizer))
    assert (optimizer.learning_rate, optimizer.steps) == (0.02, steps_before)
    other, its = network(), Adam(0.02)
    twin = TrainStep(other, LOSS, its, seed=3)
    for _ in range(steps_before):
        twin(*data)
    assert [step(*data) for _ in range(3)] == [twin(*data) for _ in range(3)]


def test_losses_are_those_of_a_training_at_these_rates():
    seen = []

    def rate(step, history):
        seen.append(rates[step])
        return rates[step]

    data, settings = two_classes(48), {"batch_size": 8, "seed": 5}
    more = {"lowest": 1e-3, "highest": 0.1, "steps": 6}
    rates, losses = find_learning_rate(network(), LOSS, SGD(9.0), data, **settings, **more)
    np.testing.assert_allclose(rates, np.geomspace(1e-3, 0.1, 6), rtol=1e-12)
    settings |= {"schedule": rate, "schedule_per": "step"}
    (row,) = history_of(network(), SGD(9.0), data, **settings)
    assert seen == rates.tolist()
    assert losses.mean() == pytest.approx(row["train_loss"], rel=1e-12)


def test_what_it_finds_trains():
    """A third of the rate of the lowest loss learns, and one far below does not."""
    data = two_classes(200)
    rates, losses = find_learning_rate(network(), LOSS, Adam(), data, highest=1e3, lowest=1e-5)
    assert len(rates) < 100  # the weights ran away
    assert losses[-1] > 2 * losses.min()
    found = rates[losses.argmin()] / 3
    final = {}
    for rate in (found, 1e-5):
        history = history_of(network(), Adam(), data, epochs=10, schedule=Constant(rate))
        final[rate] = history[-1]["train_loss"]
    assert final[found] < 0.7 * final[1e-5]


def test_a_first_loss_that_is_not_finite_is_an_error():
    x, y = two_classes()
    x[:] = np.nan
    with pytest.raises(TrainingError, match="inputs hold NaN"):
        find_learning_rate(network(), LOSS, SGD(), (x, y))


@pytest.mark.parametrize(
    ("settings", "error", "match"),
    [
        ({"lowest": 0}, ValueError, "rates go from 0 to 1.0, want 0 < lowest < highest"),
        ({"lowest": 2.0}, ValueError, "rates go from 2.0 to 1.0"),
        ({"highest": np.inf}, ValueError, "highest is inf"),
        ({"lowest": "1"}, TypeError, "lowest is '1', want a finite number"),
        ({"steps": 1}, ValueError, "steps is 1, want a whole number from 2"),
        ({"steps": 10.5}, ValueError, "steps is 10.5, want a whole number"),
        ({"batch_size": 0}, ValueError, "batches of 0"),
        ({"optimizer": Adam}, TypeError, "optimizer is the class Adam, want an optimizer"),
        ({"optimizer": "adam"}, TypeError, "optimizer is 'adam', want an optimizer"),
        ({"model": None}, TypeError, "model is None, want a layer"),
        ({"train": two_classes()[0]}, TypeError, "want a pair of arrays"),
    ],
)
def test_nonsense_is_refused(settings, error, match):
    given = {"model": network(), "loss": LOSS, "optimizer": SGD(), "train": two_classes()}
    with pytest.raises(error, match=match):
        find_learning_rate(**given | settings)
