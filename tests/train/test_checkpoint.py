"""Files of named arrays: whole or not at all, and of the right model."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet.train.files
from tests.small_run import assert_same, copy_of, files_in
from tinynet.layers import BatchNorm, Dense, Sequential
from tinynet.optimizers import SGD, Adam
from tinynet.train.checkpoint import (
    CheckpointError,
    load_arrays,
    load_checkpoint,
    save_arrays,
    save_checkpoint,
)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.safetensors"


def network(hidden=3, seed=0):
    rng = np.random.default_rng(seed)
    return Sequential(Dense(4, hidden, rng=rng), BatchNorm(hidden), Dense(hidden, 2, rng=rng))


def trained(optimizer, seed=0):
    """A network after two updates with made-up gradients, so that the optimiser has a memory."""
    model = network(seed=seed)
    rng = np.random.default_rng(seed)
    for _ in range(2):
        for parameter in model.parameters().values():
            parameter.grad[...] = rng.normal(size=parameter.shape)
        optimizer.step(model.parameters())
    model.layers[1].running_mean[...] = rng.normal(size=3)
    return model


def test_arrays_come_back_as_they_were(path):
    rng = np.random.default_rng(0)
    arrays = {
        "float32": rng.normal(size=(2, 3)).astype("float32"),
        "scalar": np.array(7, np.int64),
        "empty": np.zeros((0, 4)),
        "transposed": rng.normal(size=(3, 5)).T,
        "every second": np.arange(10)[::2],
        "big-endian": np.arange(3, dtype=">f8"),
        "bytes": np.arange(5, dtype=np.uint8),
    }
    save_arrays(path, arrays, {"key": "välue"})
    loaded, metadata = load_arrays(path)
    assert metadata == {"key": "välue"}
    assert_same(arrays, loaded)
    assert loaded["float32"].dtype == np.float32
    assert loaded["scalar"].shape == ()
    assert loaded["float32"].flags.writeable


def test_the_file_is_safetensors_and_missing_folders_are_made(tmp_path):
    from safetensors.numpy import load_file

    path = tmp_path / "new" / "run" / "a.safetensors"
    save_arrays(path, {"x": np.arange(3.0)})
    assert load_file(path)["x"].tolist() == [0, 1, 2]


@pytest.mark.skipif(os.name != "posix", reason="file permissions need a POSIX system")
def test_those_whom_the_umask_allows_can_read_it(path):
    before = os.umask(0o022)
    try:
        save_arrays(path, {"x": np.zeros(1)})
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("failure", "error", "message"),
    [
        (full_disk, CheckpointError, r"a\.safetensors.*No space left"),
        (interrupt, KeyboardInterrupt, "^$"),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    path, monkeypatch, function, failure, error, message
):
    save_arrays(path, {"x": np.zeros(3)})
    before = files_in(path.parent)
    monkeypatch.setattr(tinynet.train.files.os, function, failure)
    with pytest.raises(error, match=message) as seen:
        save_arrays(path, {"x": np.ones(3)})
    assert "\n" not in str(seen.value)
    assert files_in(path.parent) == before


def test_a_real_limit_on_the_file_size_leaves_the_old_file(path):
    """The operating system, not a stand-in, refuses to write more than 10 kB."""
    pytest.importorskip("resource", reason="limits on file sizes need a POSIX system")
    save_arrays(path, {"x": np.zeros(3)})
    before = files_in(path.parent)
    script = (
        "import resource, sys, numpy as np\n"
        "from tinynet.train.checkpoint import CheckpointError, save_arrays\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try: save_arrays(sys.argv[1], {'x': np.ones(100_000)})\n"
        "except CheckpointError as error: print(error)\n"
    )
    made = subprocess.run(
        [sys.executable, "-c", script, path],
        cwd=Path(tinynet.__file__).parents[1],
        capture_output=True,
        text=True,
        check=True,
    )
    assert f"{path}: cannot be written (File too large)" in made.stdout
    assert files_in(path.parent) == before


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("not a folder")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_arrays(tmp_path / "run" / "a.safetensors", {"x": np.zeros(1)})


def test_a_folder_or_nothing_in_place_of_the_file(path):
    with pytest.raises(CheckpointError, match=r"a\.safetensors: there is no such file"):
        load_arrays(path)
    with pytest.raises(CheckpointError, match="is a folder"):
        load_arrays(path.parent)


FLOAT8 = b'{"x":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "is not a safetensors file"),
        (b"PK\x03\x04" + bytes(100), "is not a safetensors file"),
        (b"text\n" * 100, "is not a safetensors file"),
        (len(FLOAT8).to_bytes(8, "little") + FLOAT8 + bytes(4), "x is F8_E4M3, want float16 or"),
    ],
)
def test_a_file_of_another_kind(path, content, message):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"a\.safetensors.*{message}"):
        load_arrays(path)


def test_a_truncated_file(path):
    save_arrays(path, {"x": np.arange(100.0)})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"a\.safetensors: is cut short"):
        load_arrays(path)


@pytest.mark.parametrize("make", [lambda: Adam(0.01), lambda: SGD(0.1, momentum=0.9)])
def test_a_checkpoint_holds_model_optimiser_and_position(path, make):
    optimizer = make()
    model = trained(optimizer)
    position = {"epoch": 3, "loss_sum": 0.1 + 0.2, "history": [{"a": 1.5}], "seen": np.arange(4)}
    save_checkpoint(path, model, optimizer, position)

    other, other_optimizer = network(seed=1), make()
    back = load_checkpoint(path, other, other_optimizer)
    assert_same(model.state(), other.state())
    assert_same(optimizer.state(), other_optimizer.state())
    assert back.pop("seen").tolist() == [0, 1, 2, 3]
    assert back == {"epoch": 3, "loss_sum": 0.1 + 0.2, "history": [{"a": 1.5}]}
    alone = network(seed=1)
    load_checkpoint(path, alone)
    assert_same(model.state(), alone.state())


def test_the_metadata_says_what_wrote_it(path):
    save_checkpoint(path, network(), Adam(0.01))
    about = {"tinynet": tinynet.__version__, "optimizer": "Adam"}
    assert load_arrays(path)[1] == {"format": "1", "position": "{}"} | about


def refused(path, model, optimizer, match, **options):
    """Assert that loading is refused with ``match``, and changes nothing."""
    states = copy_of(model), copy_of(optimizer)
    with pytest.raises(CheckpointError, match=match) as seen:
        load_checkpoint(path, model, optimizer, **options)
    assert str(path) in str(seen.value)
    assert_same(states[0], model.state())
    assert_same(states[1], optimizer.state())


def test_a_checkpoint_of_another_model(path):
    save_checkpoint(path, network(hidden=3), Adam(0.01))
    refused(path, network(hidden=5), Adam(0.01), r"0\.weight is \(4, 3\), want \(4, 5\)")
    deeper = Sequential(*network().layers, Dense(2, 2, rng=np.random.default_rng(0)))
    refused(path, deeper, Adam(0.01), r"missing 3\.weight")


@pytest.mark.parametrize(
    ("saved", "name"), [((SGD(0.1),), "SGD"), ((), "no optimiser")], ids=["SGD", "none"]
)
def test_a_checkpoint_of_another_optimiser(path, saved, name):
    save_checkpoint(path, network(), *saved)
    refused(path, network(seed=1), Adam(0.01), f"holds the state of {name}, want Adam")


def test_the_model_is_put_back_if_only_the_optimiser_does_not_fit(path):
    save_checkpoint(path, trained(with_memory := SGD(0.1, momentum=0.9)), with_memory)
    refused(path, network(seed=1), SGD(0.1), "the state has velocity")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "is not a tinynet checkpoint"),
        ({"format": "2"}, "format 1 .it says '2'"),
        ({"format": "1", "optimizer": "Adam", "position": "{"}, "its position cannot be read"),
    ],
)
def test_safetensors_from_elsewhere(path, metadata, message):
    save_arrays(path, network().state(), metadata)
    refused(path, network(seed=1), Adam(0.01), message)


def test_a_position_of_another_run(path):
    save_checkpoint(path, network(), Adam(0.01), {"seed": 1})
    refused(path, network(seed=1), Adam(0.01), "seed 1, this run has 2", expect={"seed": 2})
    assert load_checkpoint(path, network(), expect={"seed": 1}) == {"seed": 1}
