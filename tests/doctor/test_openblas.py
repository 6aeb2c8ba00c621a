"""A program starts again without OpenBLAS's exported settings, once, and only if that is safe."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinynet.doctor import openblas
from tinynet.doctor.openblas import (
    KEEP,
    RESTARTED,
    Trial,
    restart_without_settings,
    run_child,
    start_again,
    try_products,
)

REPOSITORY = Path(__file__).parents[2]
COMMAND = ["python3", "-X", "utf8", "-m", "examples.mura", "demo", "--seed", "1"]
SLOW = {"PATH": "/bin", "OPENBLAS_CORETYPE": "Nehalem"}
SAID = {"problem": None, "libraries": [{"architecture": "Zen"}, {}], "rate": None}


class Child:
    """Stands for a process: keeps what it was started with, and answers."""

    def __init__(self, status=0, said=SAID):
        self.answer = status, said if isinstance(said, str) else f"chatter\n{json.dumps(said)}\n"
        self.started = []

    def __call__(self, command, environ):
        self.started.append((command, environ))
        return self.answer


def restart(environ, child, arguments=COMMAND, failing=None):
    """The restarts asked for: (command, environment) of each."""
    restarts = []

    def replace(command, environ):
        restarts.append((command, environ))
        if failing:
            raise failing

    restart_without_settings("examples.mura", environ, arguments, child, replace)
    return restarts


def test_a_setting_is_removed_after_a_trial_without_it(capsys):
    child = Child()
    ((command, environ),) = restart(SLOW | {"OPENBLAS_L2_SIZE": "512"}, child)
    assert command == [sys.executable, *COMMAND[1:]]
    assert environ == {"PATH": "/bin", RESTARTED: "1"}
    ((_, tried_in),) = child.started
    assert tried_in == {"PATH": "/bin"}
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "tinynet: restarted without OPENBLAS_CORETYPE=Nehalem, OPENBLAS_L2_SIZE=512, so that "
        "OpenBLAS picks its kernels for this processor (now Zen); TINYNET_KEEP_BLAS=1 keeps it\n"
    )


@pytest.mark.parametrize(
    ("child", "why"),
    [
        (Child(status=-signal.SIGILL), "SIGILL"),
        (Child(status=1), "exit status 1"),
        (Child(said=SAID | {"problem": "a float32 product comes out wrong"}), "comes out wrong"),
        (Child(said=""), "no result"),
        (Child(said="null"), "no result"),
    ],
)
def test_a_setting_that_openblas_needs_stays(capsys, child, why):
    assert restart(SLOW, child) == []
    err = capsys.readouterr().err
    assert err.startswith("tinynet: OPENBLAS_CORETYPE=Nehalem stays set: a trial without it failed")
    assert why in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OPENBLAS_CORETYPE": ""},
        {"OPENBLAS_NUM_THREADS": "1"},
        SLOW | {KEEP: "1"},
        SLOW | {RESTARTED: "1"},  # something sets it at every start: no loop
    ],
)
def test_nothing_is_tried_or_said_without_cause(capsys, environ):
    child = Child()
    assert restart(environ, child) == []
    assert child.started == []
    assert capsys.readouterr() == ("", "")


def test_a_program_that_runs_the_example_inside_itself_is_not_replaced():
    child = Child()
    assert restart(SLOW, child, arguments=["python3", "-m", "notebook"]) == []
    assert child.started == []


def test_a_restart_that_fails_is_said(capsys):
    restart(SLOW, Child(), failing=PermissionError(1, "not permitted"))
    assert "the restart failed (not permitted)" in capsys.readouterr().err


def test_a_trial_that_hangs_or_does_not_start_is_a_failed_one():
    def hang(command, environ):
        raise subprocess.TimeoutExpired(command, 60)

    def missing(command, environ):
        raise FileNotFoundError(2, "No such file")

    assert "do not end" in try_products({}, run=hang).problem
    assert "No such file" in try_products({}, run=missing).problem


def test_kernels_of_a_trial_are_named_once():
    assert Trial(None, ({"architecture": "Zen"}, {"architecture": "Zen"}, {})).kernels == "Zen"
    assert (
        Trial(None, ({"architecture": "Zen"}, {"architecture": "Atom"})).kernels == "Atom and Zen"
    )
    assert Trial(None).kernels == ""


def test_a_child_answers_with_status_and_output():
    code = "import os, sys; print(os.environ['HERE']); sys.exit(3)"
    environ = os.environ | {"HERE": "yes"}
    assert run_child([sys.executable, "-c", code], environ) == (3, "yes\n")


def test_windows_waits_for_a_child_and_ends_with_its_status(monkeypatch):
    started = []

    class Process:
        def __init__(self, command, env):
            started.append((command, env))
            self.results = iter([KeyboardInterrupt(), 5])

        def wait(self):
            result = next(self.results)
            if isinstance(result, BaseException):
                raise result
            return result

    monkeypatch.setattr(openblas.os, "name", "nt")
    monkeypatch.setattr(openblas.subprocess, "Popen", Process)
    with pytest.raises(SystemExit) as ended:
        start_again(["python", "-m", "examples.mura"], {"A": "1"})
    assert ended.value.code == 5  # Ctrl-C went to the child too, which ended in its own way
    assert started == [(["python", "-m", "examples.mura"], {"A": "1"})]


def mura(**settings):
    """``python -m examples.mura --help``: (standard output, our lines of standard error)."""
    inherited = {k: v for k, v in os.environ.items() if k not in (KEEP, RESTARTED)}
    done = subprocess.run(
        [sys.executable, "-m", "examples.mura", "--help"],
        env=inherited | settings,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if line.startswith("tinynet:")]


def test_the_example_restarts_and_does_its_work():
    out, (line,) = mura(OPENBLAS_CORETYPE="Haswell")
    assert line.startswith("tinynet: restarted without OPENBLAS_CORETYPE=Haswell")
    assert out.startswith("usage: ")


def test_the_example_keeps_the_setting_when_asked_to():
    out, lines = mura(OPENBLAS_CORETYPE="Haswell", TINYNET_KEEP_BLAS="1")
    assert lines == []
    assert out.startswith("usage: ")
