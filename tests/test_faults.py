"""Kills at random, a disk that is full, several processes at once: nothing is lost, nothing stuck.

A process is stopped in the middle of its work, and what a user would do next is done: the same
command, or what its message says. It has to end with the bits of a process that was not stopped,
and whatever was started has to be gone.

    TINYNET_FAULTS=300 pytest -m slow -s tests/test_faults.py     300 kills, every write call
"""

import builtins
import errno
import io
import itertools
import json
import os
import signal
import sys
import time
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psutil
import pytest

from examples.mura import decode, run
from examples.mura.__main__ import main
from tests.examples.small_mura import SMALL, draw_spots, make_mura
from tests.small_run import history_of, network
from tinynet.backend import use_kernels
from tinynet.optimizers import Adam
from tinynet.train.checkpoint import CheckpointError, load_arrays

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes"),
]
FAULTS = int(os.environ.get("TINYNET_FAULTS", "10"))
TRAIN = ["--epochs", "4", "--freeze", "base", "--cache-features", "--unfreeze-after", "2", *SMALL]
DEMO = ["--patients", "6", "--epochs", "2", *SMALL]
TRANSFER = ["--base-parts", "elbow,finger", "--target-parts", "hand", "--sizes", "6", "12"]
TRANSFER += ["--repeats", "1", "--passes", "12", "--epochs", "2", *SMALL]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No figures, no compiled kernels; several tasks for two workers."""
    monkeypatch.setattr(run, "write_figures", lambda *_: [])
    monkeypatch.setattr(run, "write_sheet", lambda *_: None)
    monkeypatch.setattr(decode, "CHUNK", 4)
    with use_kernels("numpy"):
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_mura(tmp_path_factory.mktemp("mura"))


@pytest.fixture(scope="module")
def spots(tmp_path_factory):
    return draw_spots(tmp_path_factory.mktemp("spots"))


# ---- what is stopped: a function of the folder, run by a process whose errors go to a log


def fit_in(folder, again=True):
    """0 if it was trained to the end; 1 if not, with the reason in one line."""
    settings = {"epochs": 4, "batch_size": 10, "folder": folder}
    validation = np.random.default_rng(1).normal(size=(12, 2)), np.arange(12) % 2
    for resume in (False, True):
        try:
            history_of(network(), Adam(0.1), validation=validation, resume=resume, **settings)
            return 0
        except CheckpointError as error:
            print(f"error: {error}", file=sys.stderr)
            if not again or "continue it with resume=True" not in str(error):
                return 1
    return 1


class Command:
    """A command of the example, in a folder that becomes the working directory."""

    def __init__(self, *arguments):
        self.arguments = [str(argument) for argument in arguments]

    def __call__(self, folder, again=True):
        os.chdir(folder)
        before = len(log_of(folder).read_text())
        status = main(self.arguments)
        if again and status == 1 and "--resume" in log_of(folder).read_text()[before:]:
            status = main(["train", "--run", "run", "--resume"])
        return status


WORKS = ["fit", "prepare", "train", "demo", "transfer"]
some_works = pytest.mark.parametrize("work", WORKS if FAULTS >= 300 else WORKS[:3], indirect=True)


@pytest.fixture(params=WORKS)
def work(request, data, spots):
    return {
        "fit": fit_in,
        "prepare": Command("prepare", "--data", data, "--cache", "c", "--side", 64, "--workers", 2),
        "train": Command("train", "--data", data, "--run", "run", "--no-baselines", *TRAIN),
        "demo": Command("demo", "--run", "run", "--data-folder", "data", *DEMO),
        "transfer": Command("transfer", "--data", spots, "--run", "run", *TRANSFER),
    }[request.param]


def made(folder):
    """Whatever has to be the same however often the work was stopped: all but times."""
    found = {}
    for file in sorted(folder.rglob("*")):
        # a cache's folder is named by the times of its pictures too
        name = file.name if "prepared" in file.parts else str(file.relative_to(folder))
        if file.suffix == ".safetensors":
            arrays, _ = load_arrays(file)
            found[name] = {k: x.tobytes() for k, x in arrays.items()}
        elif file.name == "transfer.json":
            points = json.loads(file.read_text())["points"]
            found[name] = [point | {"seconds": 0} for point in points]
        elif file.suffix in (".png", ".csv", ".npy"):
            found[name] = file.read_bytes()
        assert file.suffix not in (".tmp", ".part"), f"{name} is left"
    return found


# ---- how it is stopped


def log_of(folder):
    return folder.with_suffix(".log")


def forked(work, folder, *arguments):
    """The number of a new process, the first of a session, that does the work and ends."""
    folder.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        process = os.fork()
    if process:
        return process
    status = 70
    try:
        os.setsid()
        sys.stdout = sys.stderr = open(log_of(folder), "a", buffering=1)  # noqa: SIM115
        for stream in (1, 2):
            os.dup2(sys.stdout.fileno(), stream)
        status = work(folder, *arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def ended(process):
    """The status of a process, negative for a signal; None while it runs."""
    number, status = os.waitpid(process, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if number else None


def waited(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def orphans(session, patience=20):
    """How many processes of a session are left when they have had time to end."""
    for _ in range(10 * patience):
        left = []
        for process in psutil.process_iter():
            try:
                running = process.status() != psutil.STATUS_ZOMBIE
                if running and os.getsid(process.pid) == session:
                    left.append(process)
            except (psutil.Error, OSError):
                pass
        if not left:
            return 0
        time.sleep(0.1)
    for process in left:
        process.kill()
    return len(left)


@contextmanager
def counted(act, at):
    """Do ``act`` at the call number ``at`` that changes the disk, and at those after it."""
    calls = itertools.count()

    def before(function):
        def called(*arguments, **options):
            if next(calls) >= at:
                act()
            return function(*arguments, **options)

        return called

    class Writing:
        def __init__(self, file):
            self.file, self.write = file, before(file.write)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

    real, functions = builtins.open, {n: getattr(os, n) for n in ("fsync", "replace", "mkdir")}

    def opened(file, mode="r", *arguments, **options):
        if isinstance(file, int) or not set(mode) & set("wxa+"):
            return real(file, mode, *arguments, **options)
        return Writing(before(real)(file, mode, *arguments, **options))

    builtins.open = io.open = opened
    for name, function in functions.items():
        setattr(os, name, before(function))
    try:
        yield calls
    finally:
        builtins.open = io.open = real
        for name, function in functions.items():
            setattr(os, name, function)


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def stopped_at(folder, work, act, at):
    """The work with ``act`` at a call; without following what an error says."""
    with counted(act, at) as calls:
        status = work(folder, False)
    folder.with_suffix(".calls").write_text(str(next(calls)))
    return status


# ---- the tests


@dataclass
class Found:
    kills: int = 0
    lost: int = 0
    dead: int = 0
    orphans: int = 0


def test_kills_at_random(work, tmp_path, request):
    start = time.monotonic()
    assert waited(forked(work, tmp_path / "whole")) == 0, log_of(tmp_path / "whole").read_text()
    longest = 0.7 * (time.monotonic() - start)
    wanted, found = made(tmp_path / "whole"), Found()
    assert wanted
    rng = np.random.default_rng(0)
    for number in itertools.count():
        folder, status = tmp_path / str(number), None
        while status is None:
            process = forked(work, folder)
            if found.kills < FAULTS // 5:
                time.sleep(rng.uniform(0, longest))
                status = ended(process)
            else:
                status = waited(process)
            if status is None:
                os.kill(process, signal.SIGKILL)
                waited(process)
                found.kills += 1
            found.orphans += orphans(process)
        found.dead += status != 0
        found.lost += status == 0 and made(folder) != wanted
        if found.kills >= FAULTS // 5:
            break
    print(f"\n{request.node.name}: {found}")
    assert (found.lost, found.dead, found.orphans) == (0, 0, 0), log_of(folder).read_text()[-3000:]


@some_works
@pytest.mark.parametrize("act", [full, die])
def test_a_full_disk_or_a_kill_at_writes(act, work, tmp_path, request):
    """The first is told in one line."""
    whole = tmp_path / "whole"
    assert waited(forked(stopped_at, whole, work, full, 10**9)) == 0, log_of(whole).read_text()
    calls, wanted = int(whole.with_suffix(".calls").read_text()), made(whole)
    assert calls > 10
    some = min(calls, FAULTS // 10 + 1)
    points = ((np.arange(some) + 0.5) * calls / some).astype(int)
    wrong = []
    for at in points:
        folder = tmp_path / str(at)
        status = waited(forked(stopped_at, folder, work, act, at))
        said = log_of(folder).read_text()
        as_it_should = status == -signal.SIGKILL if act is die else status in (0, 1)
        if not as_it_should or "Traceback" in said or said.count("error: ") > 1:
            wrong.append((at, status, said[-2000:]))
        status = waited(forked(work, folder))
        if status != 0 or made(folder) != wanted:
            wrong.append((at, "then", status, log_of(folder).read_text()[-2000:]))
    print(f"\n{request.node.name}: {len(points)} of {calls} calls, {len(wrong)} wrong")
    assert not wrong


@some_works
@pytest.mark.parametrize("processes", [2, 4])
def test_several_at_once_in_one_folder(processes, work, tmp_path):
    """One works, and the others wait for it or are told that the folder is in use."""
    assert waited(forked(work, tmp_path / "whole")) == 0
    folder = tmp_path / "shared"
    folder.mkdir()
    statuses = [waited(p) for p in [forked(work, folder, False) for _ in range(processes)]]
    said = log_of(folder).read_text()
    refused = sum(
        "another run is using" in line or "with --resume" in line or "with resume=True" in line
        for line in said.splitlines()
    )
    assert statuses.count(0) >= 1, said
    assert statuses.count(0) + refused == processes, said
    assert made(folder) == made(tmp_path / "whole")
