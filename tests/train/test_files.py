"""Files that outlive kills, links and other writers, and the lock of a folder."""

import os
import threading

import pytest

from tests.small_run import files_in, history_of
from tinynet.train.files import (
    CheckpointError,
    InUseError,
    holds_something,
    locked,
    remove_half_written,
    write_whole,
    written_whole,
)


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    file = tmp_path / "new" / "file.bin"
    with written_whole(file) as first:
        first.write(b"first ")
        with written_whole(file) as second:
            second.write(b"second")
        assert file.read_bytes() == b"second"
        first.write(b"and whole")
    assert files_in(file.parent) == {"file.bin": b"first and whole"}


def test_a_link_in_the_way_is_not_followed(tmp_path, monkeypatch):
    victim, file = tmp_path / "victim", tmp_path / "file.bin"
    victim.write_bytes(b"precious")
    file.symlink_to(victim)
    write_whole(file, b"new")
    assert files_in(tmp_path) == {"victim": b"precious", "file.bin": b"new"}
    monkeypatch.setattr(os, "urandom", bytes)  # somebody has guessed the temporary name
    (tmp_path / "file.bin.tinynet-00000000.tmp").symlink_to(victim)
    (tmp_path / "run.lock").symlink_to(victim)
    with pytest.raises(CheckpointError, match="cannot be written"):
        write_whole(file, b"newer")
    with (
        pytest.raises(CheckpointError, match="cannot be written to"),
        locked(tmp_path / "run.lock"),
    ):
        pass
    assert victim.read_bytes() == b"precious"
    assert file.read_bytes() == b"new"


def test_what_kills_left_is_removed_and_nothing_else(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.tinynet-0123abcd.tmp").touch()
    assert not holds_something(tmp_path)
    (tmp_path / "mine.tmp").touch()
    assert holds_something(tmp_path)
    os.utime(tmp_path / "a.tinynet-0123abcd.tmp", (0, 0))
    write_whole(tmp_path / "b", b"")  # another process may be writing b
    assert len(files_in(tmp_path)) == 4
    write_whole(tmp_path / "a", b"")  # but not for as long as an hour
    assert sorted(files_in(tmp_path)) == ["a", "b", "b.tinynet-0123abcd.tmp", "mine.tmp"]
    remove_half_written(tmp_path)
    assert sorted(files_in(tmp_path)) == ["a", "b", "mine.tmp"]


def test_a_folder_in_use_is_left_alone(tmp_path):
    """Whoever has it: here another thread."""
    found = []

    def fit():
        try:
            history_of(folder=tmp_path)
        except InUseError as error:
            found.append(str(error))

    with locked(tmp_path / "run.lock"):
        thread = threading.Thread(target=fit)
        thread.start()
        thread.join()
        with locked(tmp_path / "run.lock"):  # the same thread again
            pass
    fix = "wait until it has ended, or choose another folder"
    assert found == [f"{tmp_path}: another run is using this folder: {fix}"]
    assert sorted(files_in(tmp_path)) == ["run.lock"]
    fit()
    assert len(found) == 1


def test_a_folder_that_is_moved_meanwhile_is_not_begun_again(tmp_path):
    def move(row, model):
        if row["epoch"] == 1:
            (tmp_path / "run").rename(tmp_path / "moved")

    with pytest.raises(CheckpointError, match="was moved or removed while the run used it"):
        history_of(folder=tmp_path / "run", epochs=3, callbacks=[move])
    assert os.listdir(tmp_path) == ["moved"]
    assert len(history_of(folder=tmp_path / "moved", epochs=3, resume=True)) == 3
