"""What a run leaves on disk, and that no failure takes it away."""

import json
import math

import numpy as np
import pytest

import tinynet.train.files
from tests.small_run import (
    assert_same,
    copy_of,
    files_in,
    history_of,
    network,
    rising,
    rows_of,
    two_classes,
)
from tinynet.optimizers import SGD, Adam
from tinynet.train import TrainingError
from tinynet.train.checkpoint import CheckpointError, load_arrays, load_checkpoint


@pytest.mark.parametrize("with_folder", [False, True])
def test_restoring_the_best_epochs_weights(tmp_path, with_folder):
    states, model = [], network()
    history_of(
        model,
        epochs=4,
        metrics=[rising([0.1, 0.9, 0.3, 0.2])],
        monitor="train_score",
        restore_best=True,
        folder=tmp_path if with_folder else None,
        callbacks=[lambda row, model: states.append(copy_of(model))],
    )
    assert_same(model.state(), states[1])
    assert not np.array_equal(states[1]["0.weight"], states[3]["0.weight"])


def test_a_folder_keeps_last_best_and_history(tmp_path):
    states, model = [], network()
    folder = tmp_path / "runs" / "first"
    history = history_of(
        model,
        Adam(0.1),
        epochs=3,
        metrics=["accuracy", rising([0.2, 0.5, math.nan])],
        monitor="train_score",
        folder=folder,
        callbacks=[lambda row, model: states.append((copy_of(model), rows_of(folder)))],
    )
    kept = ["best.safetensors", "history.jsonl", "last.safetensors", "run.lock"]
    assert sorted(files_in(folder)) == kept
    rows = rows_of(folder)
    assert rows[:2] == history[:2]
    assert rows[2]["train_score"] is None  # NaN
    assert [len(known) for _, known in states] == [1, 2, 3]

    best, last = network(1), network(1)
    assert load_checkpoint(folder / "best.safetensors", best) == history[1]
    load_checkpoint(folder / "last.safetensors", last)
    assert_same(best.state(), states[1][0])
    assert_same(last.state(), model.state())


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")  # not part of a run: it may stay
    history_of(folder=tmp_path)
    before = files_in(tmp_path)
    with pytest.raises(CheckpointError, match="holds a run already") as seen:
        history_of(folder=tmp_path)
    assert str(tmp_path) in str(seen.value)
    assert files_in(tmp_path) == before


def test_a_full_disk_ends_the_run_and_keeps_what_was_written(tmp_path, monkeypatch):
    replace = tinynet.train.files.os.replace
    written = []

    def replace_until_full(source, target):
        if len(written) == 6:  # two files at the start, three in epoch 1, one in epoch 2
            raise OSError(28, "No space left on device")
        written.append(target)
        replace(source, target)

    monkeypatch.setattr(tinynet.train.files.os, "replace", replace_until_full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        history_of(epochs=9, folder=tmp_path)
    position = json.loads(load_arrays(tmp_path / "last.safetensors")[1]["position"])
    assert len(position["history"]) == 1
    assert len(rows_of(tmp_path)) == 1
    assert not list(tmp_path.glob("*.tmp"))


def with_nan(n=20):
    x, y = two_classes(n)
    x[3] = np.nan
    return x, y


def test_a_nan_in_the_data_names_epoch_batch_and_the_last_checkpoint(tmp_path):
    model = network()
    with pytest.raises(TrainingError) as seen:
        history_of(model, train=with_nan(), epochs=2, batch_size=None, folder=tmp_path)
    message = str(seen.value)
    assert message.startswith("epoch 1, batch 1 of 1: the loss is nan: 1 of the 20 inputs hold NaN")
    assert message.endswith(f"the last good checkpoint is {tmp_path / 'last.safetensors'}")
    assert "\n" not in message
    assert_same(copy_of(network()), model.state())


def test_a_nan_in_the_validation_set_is_not_blamed_on_the_training():
    with pytest.raises(TrainingError, match="epoch 1, its end: the validation loss is nan: its ex"):
        history_of(validation=with_nan(), epochs=2)


def test_weights_that_overflow_in_an_epochs_last_update_are_not_saved(tmp_path):
    x, y = two_classes(20)
    spoil = [1e-9, 1.7e308]
    settings = {"batch_size": None, "schedule": lambda epoch, history: spoil[epoch]}
    with pytest.raises(TrainingError, match=r"epoch 2, its end: the weights .* 0\.weight"):
        history_of(network(), SGD(0.1), (1e3 * x, y), epochs=2, folder=tmp_path, **settings)
    arrays, _ = load_arrays(tmp_path / "last.safetensors")
    assert all(np.isfinite(x).all() for x in arrays.values())
    assert len(rows_of(tmp_path)) == 1
