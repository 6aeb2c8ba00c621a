"""``fit``: it learns, measures what it says it measures, and stops when told to."""

import math
import signal

import numpy as np
import pytest

from tests.small_run import LOSS, assert_same, copy_of, history_of, network, rising, two_classes
from tinynet.layers import BatchNorm, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sequential
from tinynet.metrics import accuracy, cohen_kappa
from tinynet.optimizers import SGD, Adam
from tinynet.regularizers import L2
from tinynet.schedules import Cosine, OneCycle, ReduceOnPlateau
from tinynet.train import TrainStep, best_row, evaluate, fit, predict
from tinynet.train.data import ArrayDataset
from tinynet.train.fit import stalled


@pytest.mark.slow
def test_handwritten_digits_reach_98_percent():
    """A real set: 1797 digits of 8 × 8 pixels, one fifth of them held back."""
    datasets = pytest.importorskip(
        "sklearn.datasets", reason="scikit-learn is not installed: pip install scikit-learn"
    )
    x, y = datasets.load_digits(return_X_y=True)
    x = (x / 16).reshape(-1, 8, 8, 1).astype("float32")
    order = np.random.default_rng(0).permutation(len(x))
    held_back, rest = order[:360], order[360:]

    rng = np.random.default_rng(0)
    model = Sequential(
        *(Conv2D(1, 16, 3, padding="same", rng=rng), BatchNorm(16, momentum=0.9), ReLU()),
        *(Conv2D(16, 32, 3, padding="same", rng=rng), BatchNorm(32, momentum=0.9), ReLU()),
        *(MaxPool2D(2), Flatten(), Dropout(0.5), Dense(4 * 4 * 32, 10, rng=rng)),
    )
    settings = {"epochs": 20, "batch_size": 64, "schedule": Cosine(0.003, epochs=20)}
    fit(model, LOSS, Adam(0.003), (x[rest], y[rest]), progress=False, **settings)
    predicted = predict(model, LOSS, x[held_back]).argmax(axis=1)
    assert accuracy(y[held_back], predicted) >= 0.98


def test_it_learns_what_a_straight_line_cannot_tell_apart():
    data = two_classes(200), two_classes(100, seed=1)
    history = history_of(network(), Adam(0.02), *data, epochs=40)
    assert history[0]["validation_accuracy"] < 0.8
    assert history[-1]["validation_accuracy"] > 0.93
    assert history[-1]["validation_loss"] < history[0]["validation_loss"] / 2


def test_the_history_has_the_promised_columns_in_order():
    both = [f"{part}_{name}" for part in ("train", "validation") for name in ("loss", "accuracy")]
    rest = ["learning_rate", "seconds"]
    assert [*history_of(validation=two_classes())[0]] == ["epoch", *both, *rest]
    row = history_of(metrics=["kappa"])[0]
    assert [*row] == ["epoch", "train_loss", "train_kappa", *rest]


def test_training_and_validation_figures_are_of_the_whole_set():
    """At a learning rate of 0 both are what the untouched network gives, last batch and all."""
    x, y = two_classes(45)
    model = network()
    z, _ = model.forward(x)
    loss, predicted = float(LOSS.forward(z, y)[0]), z.argmax(axis=1)
    settings = {"epochs": 2, "batch_size": 8, "metrics": ["accuracy", "kappa", "auc"]}
    for row in history_of(model, SGD(0.0), (x, y), (x, y), **settings):
        for part in ("train", "validation"):
            assert row[f"{part}_loss"] == pytest.approx(loss, rel=1e-12)
            assert row[f"{part}_accuracy"] == accuracy(y, predicted)
            assert row[f"{part}_kappa"] == pytest.approx(cohen_kappa(y, predicted))
            assert 0 < row[f"{part}_auc"] < 1


def test_a_penalty_is_part_of_the_training_loss_and_of_the_update():
    model, penalised = network(), network()
    penalty = L2(0.1).penalty(model.parameters())
    plain = history_of(model, SGD(1.0), batch_size=None)[0]
    row = history_of(penalised, SGD(1.0), batch_size=None, regularizer=L2(0.1))[0]
    assert row["train_loss"] == pytest.approx(plain["train_loss"] + penalty)
    start = network().parameters()["0.weight"].value
    change = model.parameters()["0.weight"].value - penalised.parameters()["0.weight"].value
    np.testing.assert_allclose(change, 0.1 * start, rtol=1e-9)


def test_no_batch_size_is_full_batch_gradient_descent():
    """One update an epoch, w ← w − η ∂L/∂w of the mean loss of the whole set.  Report §2.3.4."""
    x, y = two_classes(30)
    model, by_hand = network(), network()
    history_of(model, SGD(0.5), (x, y), epochs=3, batch_size=None)
    for _ in range(3):
        z, cache = by_hand.forward(x)
        by_hand.zero_grad()
        by_hand.backward(LOSS.backward(LOSS.forward(z, y)[1]), cache)
        for parameter in by_hand.parameters().values():
            parameter.value -= 0.5 * parameter.grad
    for name, x in by_hand.state().items():
        np.testing.assert_allclose(model.state()[name], x, rtol=1e-9, atol=1e-12)


def test_an_epoch_shows_each_example_once_augmented_anew():
    x, y = np.arange(20.0)[:, None] * [1, 0], np.zeros(20, int)
    seen = []

    def augment(x, rng):
        seen.append((x[:, 0].astype(int).tolist(), rng.random()))
        return x

    history_of(network(), SGD(0.0), ArrayDataset(x, y, augment), epochs=2, batch_size=8)
    assert [len(indices) for indices, _ in seen] == [8, 8, 4] * 2
    orders = [sum((indices for indices, _ in part), []) for part in (seen[:3], seen[3:])]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(20))
    assert orders[0] != orders[1]
    assert len({draw for _, draw in seen}) == 6


def test_a_schedule_sets_the_learning_rate_of_each_epoch():
    seen = []

    def schedule(epoch, history):
        seen.append((epoch, len(history)))
        return 0.1 / (epoch + 1)

    optimizer = SGD(9.0)
    history = history_of(network(), optimizer, epochs=3, schedule=schedule)
    assert seen == [(0, 0), (1, 1), (2, 2)]
    assert [row["learning_rate"] for row in history] == [0.1, 0.05, 0.1 / 3]
    assert optimizer.learning_rate == 0.1 / 3


def test_a_schedule_may_be_called_before_each_step():
    """45 examples in batches of 8 are 6 steps; the history's rate is the last step's."""
    seen = []

    class Watched(SGD):
        def step(self, parameters):
            seen.append(self.learning_rate)
            super().step(parameters)

    cycle = OneCycle(0.5, 12)
    settings = {"epochs": 2, "batch_size": 8, "schedule": cycle, "schedule_per": "step"}
    history = history_of(network(), Watched(9.0), two_classes(45), **settings)
    assert seen == [cycle(t) for t in range(12)]
    assert [row["learning_rate"] for row in history] == [cycle(5), cycle(11)]


@pytest.mark.parametrize(
    ("rate", "error"),
    [(-1.0, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("0.1", TypeError)],
)
@pytest.mark.parametrize("per", ["epoch", "step"])
def test_a_rate_that_makes_no_sense_changes_nothing(per, rate, error):
    model = network()
    given = {"schedule": lambda t, history: rate, "schedule_per": per}
    with pytest.raises(error, match=f"the schedule's learning rate for {per} 1 is .*, want a numb"):
        history_of(model, **given)
    assert_same(copy_of(network()), model.state())


def test_the_learning_rate_falls_when_the_monitored_number_stays_where_it_is():
    scores = rising([0.5, 0.6, 0.6, 0.6, 0.7, 0.7])
    schedule = ReduceOnPlateau(0.1, patience=2, monitor="train_score", maximise=True)
    history = history_of(epochs=6, metrics=[scores], schedule=schedule)
    assert [row["learning_rate"] for row in history] == pytest.approx([0.1] * 4 + [0.01] * 2)


@pytest.mark.parametrize(
    ("values", "epochs"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 6),  # improves to the end
        ([0.1, 0.3, 0.2, 0.3, 0.4, 0.5], 4),  # equals its best, which is not better
        ([0.1, 0.3, 0.2, 0.4, 0.3, 0.4], 6),  # waits for two epochs at the very end
        ([math.nan, 0.3, math.nan, math.nan, 1, 1], 4),
    ],
)
def test_early_stopping(values, epochs):
    settings = {"metrics": [rising(values)], "monitor": "train_score", "patience": 2}
    assert len(history_of(epochs=6, **settings)) == epochs


def test_lower_is_better_for_a_loss_and_higher_for_all_else():
    rows = [
        {"epoch": i + 1, "validation_loss": value, "validation_kappa": value}
        for i, value in enumerate([0.5, 0.2, 0.9, 0.2, 0.9, math.nan])
    ]
    assert best_row(rows, "validation_loss")["epoch"] == 2
    assert best_row(rows, "validation_kappa")["epoch"] == 3
    assert best_row([], "validation_loss") is None
    assert best_row(rows[5:], "validation_kappa") is None
    assert stalled(rows, "validation_kappa", 3)
    assert not stalled(rows, "validation_kappa", 4)
    assert not stalled(rows, "validation_kappa", None)


def test_callbacks_get_the_row_and_the_model():
    seen, model = [], network()
    callbacks = [lambda row, model: seen.append((row, model))]
    history = history_of(model, epochs=2, callbacks=callbacks)
    assert seen == [(history[0], model), (history[1], model)]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"patience": 0}, "patience is 0"),
        ({"batch_size": 0}, "batches of 0"),
        ({"metrics": ["acuracy"]}, "metric is 'acuracy'"),
        ({"monitor": "val_loss"}, "monitor is 'val_loss', want one of train_loss, train_accuracy$"),
        ({"monitor": "validation_loss"}, "want one of train_loss"),  # without a validation set
        ({"seed": -1}, "want a number from 0"),
        ({"epochs": 1.5}, "epochs is 1.5, want a whole number"),
        ({"patience": 1.5}, "patience is 1.5, want a whole number"),
        ({"schedule_per": "batch"}, "schedule_per is 'batch', want one of epoch, step"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_anything_is_written(
    tmp_path, settings, match
):
    model = network()
    with pytest.raises(ValueError, match=match):
        history_of(model, folder=tmp_path / "run", **settings)
    assert_same(copy_of(network()), model.state())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"folder": ""}, "folder is '', want a path"),
        ({"optimizer": "adam"}, r"optimizer is 'adam', want an optimizer, such as Adam\(1e-3\)"),
        ({"optimizer": Adam}, "optimizer is the class Adam, want an optimizer"),
        ({"schedule": Cosine}, "schedule is the class Cosine, want a function, or an instance"),
    ],
)
def test_what_is_not_what_its_name_says_is_refused(settings, match):
    with pytest.raises((TypeError, ValueError), match=match):
        history_of(**settings)


def test_a_wrong_dtype_is_the_layers_error():
    x, y = two_classes()
    with pytest.raises(TypeError, match=r"Dense.* input is float32, the parameters are float64"):
        history_of(train=(x.astype("float32"), y))


def test_progress_is_one_line_per_epoch_in_a_pipe_or_silence(capsys):
    settings = {"epochs": 3, "batch_size": 4}
    stopping = {"monitor": "train_loss", "patience": 1, "progress": True}
    history_of(network(), SGD(0.0), **stopping, **settings)
    lines = capsys.readouterr().err.splitlines()
    assert [line[:9] for line in lines[:2]] == ["epoch 1/3", "epoch 2/3"]
    assert lines[-1] == "stopped early: no better train_loss in 1 epochs"
    history_of(**settings)
    assert capsys.readouterr() == ("", "")


def test_the_handlers_of_signals_are_as_before():
    history_of()
    found = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert found == [signal.default_int_handler, signal.SIG_DFL]


def test_the_step_and_evaluation_are_reached_from_here():
    model, data = network(), two_classes()
    value = TrainStep(model, LOSS, SGD(0.0))(*data)
    assert evaluate(model, LOSS, data)[0] == pytest.approx(value)
