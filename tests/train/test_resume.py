"""A run that was stopped and resumed ends with the same bits as the run that was not.

Everything that could differ is switched on: dropout, batch norm, Adam, augmentation, a learning
rate that depends on the history, and a last batch that is smaller than the others.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.small_run import LOSS, files_in, rows_of
from tinynet.layers import BatchNorm, Dense, Dropout, ReLU, Sequential
from tinynet.optimizers import Adam, AdamW
from tinynet.schedules import OneCycle, ReduceOnPlateau, WarmUp
from tinynet.train import fit
from tinynet.train.checkpoint import CheckpointError, load_arrays, save_arrays
from tinynet.train.data import ArrayDataset

EPOCHS, BATCHES = 4, 6  # batches per epoch: five of 8 examples and one of 5
PLACES = ("reading", "step", "validation")


class Stopping(ArrayDataset):
    """Data that calls ``stop`` when its batch number ``at``, counted from 0, is read."""

    def __init__(self, *arrays, augment=None, stop=None, at=None):
        super().__init__(*arrays, augment=augment)
        self.stop, self.at, self.read = stop, at, 0

    def batch(self, indices, rng):
        self.read += 1
        if self.read - 1 == self.at:
            self.stop()
        return super().batch(indices, rng)


class StoppingReLU(ReLU):
    """A ReLU that calls ``stop`` in its training pass number ``at``: in the middle of a step."""

    def __init__(self, stop=None, at=None):
        super().__init__()
        self.stop, self.at, self.count = stop, at, 0

    def forward(self, x, mode):
        if mode.train:
            self.count += 1
            if self.count - 1 == self.at:
                self.stop()
        return super().forward(x, mode)


def noise(x, rng):
    return x + 0.1 * rng.normal(size=x.shape).astype(x.dtype)


def run(folder, *, stop=None, place=None, at=None, make_optimizer=lambda: Adam(0.01), **options):
    """One run of ``fit``, stopped by ``stop`` at "reading", "step", "validation" or not at all."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype("float32")
    y = (x[:, 0] * x[:, 1] > 0).astype(int)
    stops = {where: {"stop": stop, "at": at if place == where else None} for where in PLACES}
    # slow statistics, so that the validation loss stalls and the schedule has work
    norm = BatchNorm(16, momentum=0.99)
    layers = norm, StoppingReLU(**stops["step"]), Dropout(0.8)
    model = Sequential(Dense(4, 16, rng=rng), *layers, Dense(16, 2, rng=rng))
    optimizer = make_optimizer()
    train = Stopping(x[:45], y[:45], augment=noise, **stops["reading"])
    validation = Stopping(x[45:], y[45:], **stops["validation"])
    settings = {
        "epochs": EPOCHS,
        "batch_size": 8,
        "seed": 5,
        "schedule": ReduceOnPlateau(0.01, factor=0.5, patience=1),
        "metrics": ("accuracy", "kappa"),
        "folder": folder,
        "progress": False,
    }
    history = fit(model, LOSS, optimizer, train, validation, **settings | options)
    return model, optimizer, history


def timeless(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


def assert_same_bits(states, others):
    assert states.keys() == others.keys()
    for name, x in states.items():
        assert np.asarray(x).tobytes() == np.asarray(others[name]).tobytes(), name


def assert_ends_as_if_never_stopped(folder, unbroken, **options):
    """Resume the run in ``folder`` and compare all that it leaves with the unbroken run's."""
    model, optimizer, history = run(folder, resume=True, **options)
    whole_folder, (whole_model, whole_optimizer, whole_history) = unbroken
    assert_same_bits(model.state(), whole_model.state())
    assert_same_bits(optimizer.state(), whole_optimizer.state())
    assert timeless(history) == timeless(whole_history)
    assert timeless(rows_of(folder)) == timeless(history)
    for name in ("best.safetensors", "last.safetensors"):
        assert_same_bits(load_arrays(folder / name)[0], load_arrays(whole_folder / name)[0])


def batches_in_checkpoint(folder):
    """(finished epochs, batches of the epoch in hand) that the last checkpoint knows of."""
    position = json.loads(load_arrays(folder / "last.safetensors")[1]["position"])
    return len(position["history"]), position["batch"]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unbroken")
    return folder, run(folder)


def raise_interrupt(*_):
    raise KeyboardInterrupt


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


def handled_sigterm():
    signal.raise_signal(signal.SIGTERM)


def test_the_unbroken_run_draws_and_reduces(unbroken):
    """Guards the tests below: what they compare is not trivially the same."""
    _, (model, optimizer, history) = unbroken
    assert len({row["learning_rate"] for row in history}) > 1
    assert len({row["train_loss"] for row in history}) == EPOCHS
    assert optimizer.state()["step"] == EPOCHS * BATCHES
    assert (model.state()["1.running_mean"] != 0).all()
    another, _, _ = run(None, seed=6)
    assert not np.array_equal(another.state()["0.weight"], model.state()["0.weight"])


def test_a_run_without_a_folder_is_the_same(unbroken):
    model, _, history = run(None)
    assert_same_bits(model.state(), unbroken[1][0].state())
    assert timeless(history) == timeless(unbroken[1][2])


@pytest.mark.parametrize("epochs", [1, 3])
def test_stopped_cleanly_after_some_epochs(tmp_path, unbroken, epochs):
    run(tmp_path, epochs=epochs)
    assert batches_in_checkpoint(tmp_path) == (epochs, 0)
    assert_ends_as_if_never_stopped(tmp_path, unbroken)


@pytest.mark.parametrize(
    ("stop", "place", "at", "saved"),
    [
        *((raise_interrupt, "reading", at, divmod(at, BATCHES)) for at in (0, 1, 6, 11, 20)),
        (ctrl_c, "step", 9, (1, 4)),  # the step is finished first
        (handled_sigterm, "step", 9, (1, 4)),
        (raise_interrupt, "step", 9, (1, 0)),  # the step broke off, and is not saved
        (ctrl_c, "validation", 3, (1, BATCHES)),
    ],
)
def test_interrupted(tmp_path, unbroken, stop, place, at, saved):
    signal.signal(signal.SIGTERM, raise_interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=stop, place=place, at=at)
    assert batches_in_checkpoint(tmp_path) == saved
    assert_ends_as_if_never_stopped(tmp_path, unbroken)


EVERYTHING = {
    "make_optimizer": lambda: AdamW(rates={"0": 0.5}, clip=0.3),
    "schedule": WarmUp(OneCycle(0.05, EPOCHS * BATCHES), 3),
    **{"schedule_per": "step", "micro_batch": 3, "average": 0.9, "restore_best": True},
}


@pytest.mark.parametrize(
    ("stop", "place", "at"),
    [
        *((raise_interrupt, "reading", at) for at in (0, 9)),
        (ctrl_c, "step", 21),  # of three passes each
        (raise_interrupt, "validation", 3),
    ],
)
def test_interrupted_with_clipping_groups_averages_pieces_and_rates_by_step(
    tmp_path, stop, place, at
):
    whole = tmp_path / "whole", run(tmp_path / "whole", **EVERYTHING)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        run(folder, stop=stop, place=place, at=at, **EVERYTHING)
    assert_ends_as_if_never_stopped(folder, whole, **EVERYTHING)
    assert_ends_as_if_never_stopped(folder, whole, **EVERYTHING)  # it is finished: once more


@pytest.mark.parametrize("batches", [0, 9])
def test_a_run_that_version_0_1_0_has_begun_goes_on(tmp_path, unbroken, batches):
    """Its checkpoints do not say what the losses were weighted by: by the examples."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, stop=raise_interrupt, place="reading", at=batches)
    arrays, texts = load_arrays(tmp_path / "last.safetensors")
    position = json.loads(texts["position"])
    keys = "seed batch_size training_examples metrics monitor validation_examples history steps"
    kept = {name: position[name] for name in f"{keys} batch loss_sum seconds".split()}
    kept |= {name: None for name in ("labels", "probabilities") if name in position}
    texts["position"] = json.dumps(kept)
    assert set(position) - set(kept) == {"weight"}
    save_arrays(tmp_path / "last.safetensors", arrays, texts)
    assert_ends_as_if_never_stopped(tmp_path, unbroken)


def test_interrupted_in_a_callback(tmp_path, unbroken):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, callbacks=[lambda row, model: row["epoch"] == 2 and raise_interrupt()])
    assert batches_in_checkpoint(tmp_path) == (2, 0)
    assert_ends_as_if_never_stopped(tmp_path, unbroken)


def test_interrupted_and_resumed_again_and_again(tmp_path, unbroken):
    made = 0
    while made < EPOCHS * BATCHES - 5:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, resume=made > 0, stop=raise_interrupt, place="reading", at=5)
        made += 5
        assert batches_in_checkpoint(tmp_path) == divmod(made, BATCHES)
    assert_ends_as_if_never_stopped(tmp_path, unbroken)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 needs a POSIX system")
@pytest.mark.parametrize("at", [2, 2 * BATCHES + 3])
def test_killed_without_warning(tmp_path, unbroken, at):
    """kill -9 in another process; the run goes on from the last checkpoint that is whole."""
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from tests.train.test_resume import run\n"
        "kill = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        "run(Path(sys.argv[1]), stop=kill, place='step', at=int(sys.argv[2]))\n"
    )
    command = [sys.executable, "-c", script, tmp_path, str(at)]
    killed = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert batches_in_checkpoint(tmp_path) == (at // BATCHES, 0)
    assert_ends_as_if_never_stopped(tmp_path, unbroken)


@pytest.mark.parametrize("epochs", [2, EPOCHS])
def test_killed_between_the_checkpoint_and_the_history(tmp_path, unbroken, epochs):
    run(tmp_path, epochs=epochs)
    lines = (tmp_path / "history.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "history.jsonl").write_text("".join(lines[:-1]) + lines[-1][:20])
    assert_ends_as_if_never_stopped(tmp_path, unbroken)


def test_killed_while_a_checkpoint_was_written(tmp_path, unbroken):
    run(tmp_path, epochs=2)
    for ending in ("tinynet-0123abcd.tmp", "tmp"):  # as now, and as in version 0.1.0
        (tmp_path / f"last.safetensors.{ending}").write_bytes(b"the first half of a check")
    assert_ends_as_if_never_stopped(tmp_path, unbroken)
    assert not list(tmp_path.glob("*.tmp"))


def test_early_stopping_remembers_how_long_it_has_waited(tmp_path):
    """Training at a rate of 0 never improves: one epoch before the stop, one after it."""
    settings = {"epochs": 9, "patience": 3, "schedule": lambda epoch, history: 0.0}
    settings |= {"monitor": "validation_accuracy"}
    model, _, whole = run(tmp_path / "whole", **settings)
    run(tmp_path / "run", **settings | {"epochs": 2})
    resumed, _, history = run(tmp_path / "run", resume=True, **settings)
    assert len(whole) < 9
    assert timeless(history) == timeless(whole)
    assert_same_bits(model.state(), resumed.state())


def test_a_finished_run_is_left_as_it_is(tmp_path):
    model, _, history = run(tmp_path, epochs=2)
    again, _, same = run(tmp_path, epochs=2, resume=True)
    assert same == history
    assert_same_bits(model.state(), again.state())


@pytest.mark.parametrize(
    ("name", "value"),
    [("seed", 6), ("batch_size", 9), ("metrics", ("accuracy",)), ("monitor", "validation_kappa")],
)
def test_resuming_with_settings_of_another_run_is_refused(tmp_path, name, value):
    run(tmp_path, epochs=1)
    before = files_in(tmp_path)
    with pytest.raises(CheckpointError, match=f"was written with {name} "):
        run(tmp_path, resume=True, **{name: value})
    assert files_in(tmp_path) == before


def test_resuming_where_there_is_no_run_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"last\.safetensors: there is no such file"):
        run(tmp_path, resume=True)
    with pytest.raises(ValueError, match="resume is True and folder is None, want"):
        run(None, resume=True)
