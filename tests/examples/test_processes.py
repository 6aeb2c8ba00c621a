"""Two processes at the same moment: the second waits for the first, and uses what it made."""

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from examples.mura.dataset import read_dataset
from examples.mura.decode import read_square
from examples.mura.errors import UserError
from examples.mura.phantom import generate
from examples.mura.prepare import LOCK, MANIFEST, prepare
from examples.mura.processes import in_workers
from examples.mura.run import claimed
from tests.examples.small_mura import make_mura
from tinynet.train.files import InUseError, locked

REPOSITORY = Path(__file__).parents[2]
SET = {"train_patients": 3, "valid_patients": 1, "side": 48, "progress": False, "workers": 1}

# prepares a folder or draws a set, slowly: says so at each image, then pauses
PROGRAM = """
import sys, time
from examples.mura import decode
from examples.mura.dataset import read_dataset
from examples.mura.phantom import generate
from examples.mura.prepare import prepare
def slow(quick):
    def slowed(*arguments):
        print("working", flush=True)
        time.sleep(float(sys.argv[3]))
        return quick(*arguments)
    return slowed
module = sys.modules["examples.mura.phantom.generate"]
decode.read_square = slow(decode.read_square)
module.render_patient = slow(module.render_patient)
if sys.argv[1] == "set":
    generate(sys.argv[2], **{SET})
else:
    prepare(read_dataset(sys.argv[1]), sys.argv[2], side=16, progress=False)
"""


@contextmanager
def begun(what, target, pause):
    """Another process in the middle of its work."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.replace("{SET}", repr(SET)), what, target, str(pause)],
        cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        try:
            assert process.stdout.readline()
            yield process
        finally:
            process.kill()


@pytest.fixture
def data(tmp_path):
    return read_dataset(make_mura(tmp_path))


def prepared(data, cache):
    return prepare(data, cache, side=16, progress=False)


def test_the_second_waits_for_the_first_and_uses_its_cache(data, tmp_path, decoded, capsys):
    cache = tmp_path / "cache"
    with begun(data.root, cache, pause=0.1):
        found = prepared(data, cache)
    assert decoded == [], "the first did all of it"
    assert capsys.readouterr().err == f"waiting: another process is making {cache}\n"
    wanted = np.stack([read_square(data.file(image), 16) for image in data.images])
    np.testing.assert_array_equal(found.pixels, wanted)


def test_the_second_goes_on_where_the_first_was_killed(data, tmp_path, decoded, monkeypatch):
    cache = tmp_path / "cache"
    with begun(data.root, cache, pause=60) as first:

        def say(text, file):  # the second says that it waits: now the first dies
            os.kill(first.pid, signal.SIGKILL)

        monkeypatch.setattr("builtins.print", say)
        found = prepared(data, cache)
    assert len(decoded) == len(found.images) == len(data.images)
    assert (cache / MANIFEST).exists()


def test_a_finished_cache_asks_for_no_lock(data, tmp_path, capsys):
    cache = tmp_path / "cache"
    prepared(data, cache)
    with locked(cache / LOCK, "something else"):
        prepared(data, cache)  # would wait for ever
    assert capsys.readouterr().err == ""


def test_the_second_waits_for_the_first_set_of_radiographs(tmp_path, capsys):
    wanted = generate(tmp_path / "alone", **SET)
    with begun("set", tmp_path / "both", pause=0.3):
        root = generate(tmp_path / "both", **SET)
    assert capsys.readouterr().err == (
        f"waiting: another process is making synthetic radiographs in {root}\n"
    )
    files = [path.relative_to(wanted) for path in wanted.rglob("*.*") if path.is_file()]
    assert len(files) > 4
    for name in files:
        assert (root / name).read_bytes() == (wanted / name).read_bytes(), name


def ends(task):
    os._exit(3)


@pytest.mark.slow
def test_a_worker_that_dies_is_told_in_one_line():
    with pytest.raises(UserError, match="ended early.*run the same command again"):
        list(in_workers(ends, [1, 2], workers=2))


def test_two_runs_never_take_one_folder(tmp_path):
    folder = tmp_path / "runs/demo"
    folder.mkdir(parents=True)
    with FileLock(folder / "run.lock"):  # as another process would
        with claimed(folder, numbered=True) as place:
            assert place == tmp_path / "runs/demo-2"
        with pytest.raises(InUseError, match="run is using"), claimed(folder, numbered=False):
            pass
    with claimed(folder, numbered=True) as place:
        assert place == folder, "a lock that is left is nothing"
        (place / "config.json").touch()
    with claimed(folder, numbered=True) as place:
        assert place == tmp_path / "runs/demo-2"
    with pytest.raises(UserError, match="continue that run"), claimed(folder, numbered=False):
        pass
