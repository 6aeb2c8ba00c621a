"""What a run leaves on disk, and that no failure takes it away."""

import json
import math

import numpy as np
import pytest

import tinynet.train.checkpoint
from tests.small_run import LOSS, assert_same, copy_of, network, rising, rows_of, two_classes
from tinynet.optimizers import SGD, Adam
from tinynet.train import TrainingError, fit
from tinynet.train.checkpoint import CheckpointError, load_arrays, load_checkpoint


@pytest.mark.parametrize("with_folder", [False, True])
def test_restoring_the_best_epochs_weights(tmp_path, with_folder):
    states = []
    model = network()
    settings = {"epochs": 4, "monitor": "train_score", "progress": False}
    settings["folder"] = tmp_path if with_folder else None
    settings["callbacks"] = [lambda row, model: states.append(copy_of(model))]
    scores = rising([0.1, 0.9, 0.3, 0.2])
    fit(model, LOSS, SGD(0.1), two_classes(), metrics=[scores], restore_best=True, **settings)
    assert_same(model.state(), states[1])
    assert not np.array_equal(states[1]["0.weight"], states[3]["0.weight"])


def test_a_folder_keeps_last_best_and_history(tmp_path):
    states = []
    folder = tmp_path / "runs" / "first"
    model = network()
    history = fit(
        model,
        LOSS,
        Adam(0.1),
        two_classes(),
        epochs=3,
        metrics=["accuracy", rising([0.2, 0.5, math.nan])],
        monitor="train_score",
        folder=folder,
        callbacks=[lambda row, model: states.append((row, copy_of(model), rows_of(folder)))],
        progress=False,
    )
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.safetensors",
        "history.jsonl",
        "last.safetensors",
    ]
    rows = rows_of(folder)
    assert rows[:2] == history[:2]
    assert rows[2]["train_score"] is None  # NaN
    assert [len(known) for _, _, known in states] == [1, 2, 3]

    best, last = network(1), network(1)
    assert load_checkpoint(folder / "best.safetensors", best) == history[1]
    load_checkpoint(folder / "last.safetensors", last)
    assert_same(best.state(), states[1][1])
    assert_same(last.state(), model.state())


def test_a_folder_that_holds_a_run_is_refused(tmp_path):
    settings = {"epochs": 1, "folder": tmp_path, "progress": False}
    (tmp_path / "config.json").write_text("{}")  # no part of a run: welcome to stay
    fit(network(), LOSS, SGD(0.1), two_classes(), **settings)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(CheckpointError, match="holds a run already") as seen:
        fit(network(), LOSS, SGD(0.1), two_classes(), **settings)
    assert str(tmp_path) in str(seen.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_full_disk_ends_the_run_and_keeps_what_was_written(tmp_path, monkeypatch):
    replace = tinynet.train.checkpoint.os.replace
    written = []

    def replace_until_full(source, target):
        if len(written) == 6:  # two files at the start, three in epoch 1, one in epoch 2
            raise OSError(28, "No space left on device")
        written.append(target)
        replace(source, target)

    monkeypatch.setattr(tinynet.train.checkpoint.os, "replace", replace_until_full)
    with pytest.raises(CheckpointError, match="No space left on device"):
        fit(network(), LOSS, SGD(0.1), two_classes(), epochs=9, folder=tmp_path, progress=False)
    position = json.loads(load_arrays(tmp_path / "last.safetensors")[1]["position"])
    assert len(position["history"]) == 1
    assert len(rows_of(tmp_path)) == 1
    assert not list(tmp_path.glob("*.tmp"))


def test_a_nan_in_the_data_names_epoch_batch_and_the_last_checkpoint(tmp_path):
    x, y = two_classes(20)
    x[3] = np.nan
    model = network()
    before = copy_of(model)
    with pytest.raises(TrainingError) as seen:
        fit(
            model,
            LOSS,
            SGD(0.1),
            (x, y),
            epochs=2,
            batch_size=None,
            folder=tmp_path,
            progress=False,
        )
    message = str(seen.value)
    assert message.startswith("epoch 1, batch 1 of 1: the loss is nan: 1 of the 20 inputs hold NaN")
    assert message.endswith(f"the last good checkpoint is {tmp_path / 'last.safetensors'}")
    assert "\n" not in message
    assert_same(before, model.state())


def test_a_nan_in_the_validation_set_is_not_blamed_on_the_training():
    x, y = two_classes(20)
    bad = x.copy()
    bad[0] = np.nan
    with pytest.raises(TrainingError, match="epoch 1, its end: the validation loss is nan: its ex"):
        fit(network(), LOSS, SGD(0.1), (x, y), (bad, y), epochs=2, progress=False)


def test_weights_that_overflow_in_an_epochs_last_update_are_not_saved(tmp_path):
    x, y = two_classes(20)
    optimizer = SGD(0.1)
    spoil = [0.1, math.inf]
    with pytest.raises(TrainingError, match=r"epoch 2, its end: the weights .* 0\.weight"):
        fit(
            network(),
            LOSS,
            optimizer,
            (x, y),
            epochs=3,
            batch_size=None,
            schedule=lambda epoch, history: spoil[epoch],
            folder=tmp_path,
            progress=False,
        )
    arrays, _ = load_arrays(tmp_path / "last.safetensors")
    assert all(np.isfinite(x).all() for x in arrays.values())
    assert len(rows_of(tmp_path)) == 1
