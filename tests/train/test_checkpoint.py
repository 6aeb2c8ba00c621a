"""Files of named arrays: whole or not at all, and of the right model."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tinynet.train.checkpoint
from tinynet.layers import BatchNorm, Dense, Sequential
from tinynet.optimizers import SGD, Adam
from tinynet.train.checkpoint import (
    CheckpointError,
    load_arrays,
    load_checkpoint,
    save_arrays,
    save_checkpoint,
)


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


def copy_of(state):
    return {name: np.array(x) for name, x in state.items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert np.array_equal(a[name], b[name]), name


def test_arrays_come_back_as_they_were(tmp_path):
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
    save_arrays(tmp_path / "a.safetensors", arrays, {"key": "välue"})
    loaded, metadata = load_arrays(tmp_path / "a.safetensors")
    assert metadata == {"key": "välue"}
    assert_same(arrays, loaded)
    assert loaded["float32"].dtype == np.float32
    assert loaded["scalar"].shape == ()
    assert loaded["float32"].flags.writeable


def test_the_file_is_safetensors(tmp_path):
    from safetensors.numpy import load_file

    save_arrays(tmp_path / "a.safetensors", {"x": np.arange(3.0)})
    assert load_file(tmp_path / "a.safetensors")["x"].tolist() == [0, 1, 2]


def test_missing_folders_are_made(tmp_path):
    save_arrays(tmp_path / "new" / "run" / "a.safetensors", {"x": np.zeros(1)})
    assert (tmp_path / "new" / "run" / "a.safetensors").exists()


@pytest.mark.skipif(os.name != "posix", reason="file permissions need a POSIX system")
def test_those_whom_the_umask_allows_can_read_it(tmp_path):
    before = os.umask(0o022)
    try:
        save_arrays(tmp_path / "a.safetensors", {"x": np.zeros(1)})
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o644


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("failure", "error"), [(full_disk, CheckpointError), (interrupt, KeyboardInterrupt)]
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path, monkeypatch, function, failure, error
):
    path = tmp_path / "last.safetensors"
    save_arrays(path, {"x": np.zeros(3)})
    before = path.read_bytes()
    monkeypatch.setattr(tinynet.train.checkpoint.os, function, failure)
    with pytest.raises(error, match="No space left" if error is CheckpointError else None) as seen:
        save_arrays(path, {"x": np.ones(3)})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    if error is CheckpointError:
        assert str(path) in str(seen.value)
        assert "\n" not in str(seen.value)


def test_a_real_limit_on_the_file_size_leaves_the_old_file(tmp_path):
    """The operating system, not a stand-in, refuses to write more than 10 kB."""
    pytest.importorskip("resource", reason="limits on file sizes need a POSIX system")
    path = tmp_path / "last.safetensors"
    save_arrays(path, {"x": np.zeros(3)})
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
    assert load_arrays(path)[0]["x"].tolist() == [0, 0, 0]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "run").write_text("not a folder")
    with pytest.raises(CheckpointError, match="cannot be written"):
        save_arrays(tmp_path / "run" / "a.safetensors", {"x": np.zeros(1)})


def test_a_missing_file(tmp_path):
    with pytest.raises(CheckpointError, match=r"none\.safetensors: there is no such file"):
        load_arrays(tmp_path / "none.safetensors")


def test_a_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_arrays(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" + bytes(100), b"text\n" * 100])
def test_a_file_of_another_kind(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a safetensors file") as seen:
        load_arrays(path)
    assert str(path) in str(seen.value)


def test_a_truncated_file(tmp_path):
    path = tmp_path / "a.safetensors"
    save_arrays(path, {"x": np.arange(100.0)})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"a\.safetensors: is cut short"):
        load_arrays(path)


def test_numbers_that_numpy_has_no_type_for(tmp_path):
    path = tmp_path / "a.safetensors"
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match="no type for"):
        load_arrays(path)


@pytest.mark.parametrize("make", [lambda: Adam(0.01), lambda: SGD(0.1, momentum=0.9)])
def test_a_checkpoint_holds_model_optimiser_and_position(tmp_path, make):
    path = tmp_path / "last.safetensors"
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


def test_the_metadata_says_what_wrote_it(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", network(), Adam(0.01))
    _, metadata = load_arrays(tmp_path / "a.safetensors")
    assert metadata == {
        "format": "1",
        "tinynet": tinynet.__version__,
        "optimizer": "Adam",
        "position": "{}",
    }


def test_a_model_alone_can_be_loaded_from_it(tmp_path):
    model = trained(optimizer := Adam(0.01))
    save_checkpoint(tmp_path / "a.safetensors", model, optimizer)
    other = network(seed=1)
    load_checkpoint(tmp_path / "a.safetensors", other)
    assert_same(model.state(), other.state())


def refused(path, model, optimizer, match, **options):
    """Assert that loading is refused with ``match``, and changes nothing."""
    states = copy_of(model.state()), copy_of(optimizer.state())
    with pytest.raises(CheckpointError, match=match) as seen:
        load_checkpoint(path, model, optimizer, **options)
    assert str(path) in str(seen.value)
    assert_same(states[0], model.state())
    assert_same(states[1], optimizer.state())


def test_a_checkpoint_of_another_model(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, network(hidden=3), Adam(0.01))
    refused(path, network(hidden=5), Adam(0.01), r"0\.weight is \(4, 3\), want \(4, 5\)")
    deeper = Sequential(*network().layers, Dense(2, 2, rng=np.random.default_rng(0)))
    refused(path, deeper, Adam(0.01), r"missing 3\.weight")


def test_a_checkpoint_of_another_optimiser(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, network(), SGD(0.1))
    refused(path, network(seed=1), Adam(0.01), "holds the state of SGD, want Adam")


def test_a_checkpoint_without_optimiser(tmp_path):
    path = tmp_path / "best.safetensors"
    save_checkpoint(path, network())
    refused(path, network(seed=1), Adam(0.01), "holds the state of no optimiser, want Adam")


def test_the_model_is_put_back_if_only_the_optimiser_does_not_fit(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, trained(with_memory := SGD(0.1, momentum=0.9)), with_memory)
    refused(path, network(seed=1), SGD(0.1), "the state has velocity")


def test_safetensors_from_elsewhere(tmp_path):
    path = tmp_path / "last.safetensors"
    save_arrays(path, network().state())
    refused(path, network(seed=1), Adam(0.01), "is not a tinynet checkpoint")


def test_a_later_format(tmp_path):
    path = tmp_path / "last.safetensors"
    save_arrays(path, {}, {"format": "2"})
    refused(path, network(), Adam(0.01), "format 1 .it says '2'")


def test_a_position_that_is_not_json(tmp_path):
    path = tmp_path / "last.safetensors"
    save_arrays(path, {}, {"format": "1", "optimizer": "Adam", "position": "{"})
    refused(path, network(), Adam(0.01), "its position is not JSON")


def test_a_position_of_another_run(tmp_path):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, network(), Adam(0.01), {"seed": 1})
    refused(path, network(seed=1), Adam(0.01), "seed 1, this run has 2", expect={"seed": 2})
    assert load_checkpoint(path, network(), expect={"seed": 1}) == {"seed": 1}
