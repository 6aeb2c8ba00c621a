"""Two processes at the same moment: the second waits for the first, and uses what it made."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from examples.mura import decode_pool
from examples.mura.alone import alone
from examples.mura.cache import LOCK, MANIFEST
from examples.mura.dataset import read_dataset
from examples.mura.decode import read_square
from examples.mura.phantom import generate
from examples.mura.prepare import prepare
from examples.mura.run import claimed
from tests.examples.small_mura import make_mura

REPOSITORY = Path(__file__).parents[2]
SIDE = 16

SLOW_PREPARE = """
import sys, time
from examples.mura import decode_pool
from examples.mura.dataset import read_dataset
from examples.mura.prepare import prepare
quick = decode_pool.read_square
def slow(*arguments):
    print("decoding", flush=True)
    time.sleep({pause})
    return quick(*arguments)
decode_pool.read_square = slow
prepare(read_dataset(sys.argv[1]), sys.argv[2], side=16, progress=False)
"""

SLOW_GENERATE = """
import sys, time
from examples.mura.phantom import generate
module = sys.modules["examples.mura.phantom.generate"]
quick = module.render_patient
def slow(*arguments):
    print("drawing", flush=True)
    time.sleep({pause})
    return quick(*arguments)
module.render_patient = slow
generate(sys.argv[1], train_patients=3, valid_patients=1, side=48, workers=1, progress=False)
"""


@contextmanager
def begun(program, *arguments, pause):
    """Another process that runs ``program`` and is in the middle of its work."""
    with subprocess.Popen(
        [sys.executable, "-c", program.format(pause=pause), *map(str, arguments)],
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


@pytest.fixture
def decoded(monkeypatch):
    """The files that this process decodes."""
    files = []

    def count(file, *settings):
        files.append(file)
        return read_square(file, *settings)

    monkeypatch.setattr(decode_pool, "read_square", count)
    return files


def prepared(data, cache):
    return prepare(data, cache, side=SIDE, progress=False)


def test_the_second_waits_for_the_first_and_uses_its_cache(data, tmp_path, decoded, capsys):
    cache = tmp_path / "cache"
    with begun(SLOW_PREPARE, data.root, cache, pause=0.1):
        found = prepared(data, cache)
    assert decoded == [], "the first did all of it"
    assert capsys.readouterr().err == f"waiting: another process is making {cache}\n"
    wanted = np.stack([read_square(data.file(image), SIDE) for image in data.images])
    np.testing.assert_array_equal(found.pixels, wanted)


def test_the_second_goes_on_where_the_first_was_killed(data, tmp_path, decoded, monkeypatch):
    cache = tmp_path / "cache"
    with begun(SLOW_PREPARE, data.root, cache, pause=30) as first:

        def say(text, file):  # the second says that it waits: now the first dies
            os.kill(first.pid, signal.SIGKILL)

        monkeypatch.setattr("builtins.print", say)
        found = prepared(data, cache)
    assert len(decoded) == len(data.images)
    assert len(found.images) == len(data.images)
    assert (cache / MANIFEST).exists()


def test_a_finished_cache_asks_for_no_lock(data, tmp_path):
    cache = tmp_path / "cache"
    prepared(data, cache)
    with alone(cache / LOCK, "something else"):
        start = time.monotonic()
        prepared(data, cache)
    assert time.monotonic() - start < 5


def test_the_second_waits_for_the_first_set_of_radiographs(tmp_path, capsys):
    size = {"train_patients": 3, "valid_patients": 1, "side": 48, "progress": False}
    wanted = generate(tmp_path / "alone", **size, workers=1)
    with begun(SLOW_GENERATE, tmp_path / "both", pause=0.3):
        root = generate(tmp_path / "both", **size, workers=1)
    assert capsys.readouterr().err == (
        f"waiting: another process is making synthetic radiographs in {root}\n"
    )
    files = {path.relative_to(wanted): path.read_bytes() for path in wanted.rglob("*.*")
             if path.is_file()}  # fmt: skip
    assert len(files) > 4
    for name, content in files.items():
        assert (root / name).read_bytes() == content, name


def test_two_runs_never_take_one_folder(tmp_path, monkeypatch):
    first = claimed(tmp_path / "runs/demo", numbered=True)
    assert claimed(tmp_path / "runs/demo", numbered=True) == tmp_path / "runs/demo-2"
    (first / "config.json").unlink()  # empty again, as it was before the first took it
    monkeypatch.setattr("examples.mura.run.holds_something", lambda folder: False)
    assert claimed(tmp_path / "runs/demo", numbered=True) == first
    assert claimed(tmp_path / "runs/demo", numbered=True) == tmp_path / "runs/demo-3"


def test_two_demos_at_the_same_moment(tmp_path):
    small = ["--patients", "24", "--epochs", "1", "--side", "16", "--filters", "4", "8"]
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "examples.mura", "demo", *small],
            cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    for run in ("demo", "demo-2"):
        assert (tmp_path / "runs" / run / "report.html").exists()
