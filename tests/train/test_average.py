"""The moving average of the weights: torch's numbers, and what ``fit`` does with it."""

import numpy as np
import pytest

from tests.small_run import (
    LOSS,
    assert_same,
    copy_of,
    history_of,
    network,
    rising,
    rows_of,
    two_classes,
)
from tinynet.layers import BatchNorm, Dense, ReLU, Sequential
from tinynet.optimizers import SGD
from tinynet.train import TrainStep, WeightAverage, evaluate
from tinynet.train.checkpoint import CheckpointError, load_arrays, load_checkpoint, save_arrays

DECAY = 0.8


def with_norm(seed=0):
    rng = np.random.default_rng(seed)
    layers = Dense(2, 6, rng=rng), BatchNorm(6), ReLU(), Dense(6, 2, rng=rng)
    return Sequential(*layers).to(dtype="float64")


def averaged_steps(model, steps=5):
    """The state after each step, the averages, and the last of their networks."""
    step, average = TrainStep(model, LOSS, SGD(0.5)), WeightAverage(model, DECAY)
    states = []
    for i in range(steps):
        step(*two_classes(20, seed=i))
        average.update()
        states.append(copy_of(model))
    return states, average


def test_it_is_the_weighted_mean_of_the_steps_statistics_and_all():
    states, average = averaged_steps(with_norm())
    weights = [DECAY**4, *((1 - DECAY) * DECAY ** (4 - i) for i in range(1, 5))]
    for name, x in average.model.state().items():
        want = sum(w * state[name] for w, state in zip(weights, states, strict=True))
        np.testing.assert_allclose(x, want, rtol=1e-12, atol=1e-15)


def test_equals_torch(torch):
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    class Twin(torch.nn.Module):
        def __init__(self, state):
            super().__init__()
            for name, x in state.items():
                self.register_buffer(name.replace(".", "_"), torch.tensor(x))

    states, average = averaged_steps(with_norm())
    twin = Twin(copy_of(with_norm()))
    oracle = AveragedModel(twin, multi_avg_fn=get_ema_multi_avg_fn(DECAY), use_buffers=True)
    for state in states:
        for name, x in state.items():
            getattr(twin, name.replace(".", "_"))[...] = torch.tensor(x)
        oracle.update_parameters(twin)
    for name, x in average.model.state().items():
        want = getattr(oracle.module, name.replace(".", "_")).numpy()
        np.testing.assert_allclose(x, want, rtol=1e-12, atol=1e-15)


def test_the_trained_network_is_left_alone_and_frozen_weights_keep_their_bits():
    plain, model = with_norm(), with_norm()
    for one in (plain, model):
        one.layers[0].freeze()
    step = TrainStep(plain, LOSS, SGD(0.5))
    for i in range(5):
        step(*two_classes(20, seed=i))
    _, average = averaged_steps(model)
    assert_same(copy_of(plain), model.state())
    np.testing.assert_array_equal(average.model.state()["0.weight"], plain.state()["0.weight"])
    assert not any(p.grad.any() for p in average.model.parameters().values())


def test_fit_measures_saves_and_returns_the_average(tmp_path):
    """Figures of every epoch, the best file and the model at the end are those of the average."""
    seen, data = [], two_classes(50, seed=1)
    model, plain = with_norm(), with_norm()
    settings = {"epochs": 3, "batch_size": 16, "metrics": [rising([0.1, 0, 0.9, 0, 0.2, 0])]}
    settings |= {"monitor": "train_score"}

    def look(row, network):
        value = evaluate(network, LOSS, data)[0]
        seen.append((value == row["validation_loss"], copy_of(network)))

    given = {"average": 0.7, "folder": tmp_path, "callbacks": [look]}
    history = history_of(model, SGD(0.5), two_classes(), data, **settings | given)
    assert [same for same, _ in seen] == [True] * 3
    assert_same(copy_of(model), seen[2][1])
    assert rows_of(tmp_path) == history
    best = with_norm(1)
    load_checkpoint(tmp_path / "best.safetensors", best)
    assert_same(copy_of(best), seen[1][1])

    settings["metrics"] = [rising([0.1, 0, 0.9, 0, 0.2, 0])]
    history_of(plain, SGD(0.5), two_classes(), data, **settings)
    load_checkpoint(tmp_path / "last.safetensors", best)
    assert_same(copy_of(best), plain.state())  # training itself is what it is without
    assert not np.array_equal(plain.state()["0.weight"], model.state()["0.weight"])


@pytest.mark.parametrize("with_folder", [False, True])
def test_the_best_average_is_restored(tmp_path, with_folder):
    states, model = [], network()
    settings = {"metrics": [rising([0.1, 0.9, 0.3])], "monitor": "train_score", "average": 0.5}
    settings |= {"restore_best": True, "folder": tmp_path if with_folder else None}
    keep = [lambda row, network: states.append(copy_of(network))]
    history_of(model, epochs=3, callbacks=keep, **settings)
    assert_same(states[1], model.state())


def test_a_run_goes_on_with_the_average_it_was_begun_with(tmp_path):
    history_of(folder=tmp_path, average=0.5)
    for other in (None, 0.6):
        with pytest.raises(
            CheckpointError, match=f"written with average 0.5, this run has {other}"
        ):
            history_of(folder=tmp_path, average=other, resume=True, epochs=2)
    arrays, texts = load_arrays(tmp_path / "last.safetensors")
    del arrays["position/average/0.bias"]
    save_arrays(tmp_path / "last.safetensors", arrays, texts)
    with pytest.raises(
        CheckpointError, match=r"last.safetensors: the averages: .* missing 0\.bias"
    ):
        history_of(folder=tmp_path, average=0.5, resume=True, epochs=2)


@pytest.mark.parametrize(
    ("decay", "error", "match"),
    [
        (1.0, ValueError, "the average's decay is 1.0, want from 0, below 1"),
        (-0.1, ValueError, "the average's decay is -0.1"),
        ("0.9", TypeError, "average is '0.9', want a finite number"),
    ],
)
def test_a_decay_that_makes_no_sense_is_refused(tmp_path, decay, error, match):
    with pytest.raises(error, match=match):
        history_of(folder=tmp_path / "run", average=decay)
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_averaged_is_refused():
    with pytest.raises(TypeError, match=r"0.weight is float16.*model.to\(dtype='float32'\)"):
        WeightAverage(network().to(dtype="float16"), 0.9)
    with pytest.raises(TypeError, match="model is None, want a layer"):
        WeightAverage(None, 0.9)
