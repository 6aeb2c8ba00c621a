"""Before a GPU is timed: the tests that wait for one, and steps that repeat bit by bit."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.backends import Run
from benchmarks.processes import ROOT, WorkerError
from benchmarks.workloads import WIDE, vgg_like
from tinynet.engine.precision import PRECISIONS

COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|deselected)")
MARKS_OF_PROGRESS = re.compile(r"^[.FEsx]+", re.MULTILINE)
ON_GPU = "tests/engine"  # where those are that wait for a GPU: collecting all takes long
REHEARSED = "tests/benchmarks/test_ratios.py"
BITS_SECONDS = 20.0  # kept back for the second half
SAME_BITS = vgg_like(128, 8, WIDE, 256)


def measure_correctness(run: Run) -> dict[str, Any]:
    """Run the tests for a GPU, then make the same steps twice."""
    found = gpu_tests(run, run.clock.left() - BITS_SECONDS)
    run.keep(found)
    more = same_bits(run)
    return found | more | {"lines": found["lines"] + more["lines"]}


def gpu_tests(run: Run, seconds: float) -> dict[str, Any]:
    """Return {"tests": counts and failures, "lines"}; a few other tests in the rehearsal."""
    spread = ["-n", "12"] if importlib.util.find_spec("xdist") else []
    wanted = [REHEARSED] if run.backend.small else ["-m", "gpu", ON_GPU, *spread]
    tests = run_tests(wanted, max(1.0, seconds))
    counts = ", ".join(f"{number} {what}" for what, number in tests["counts"].items())
    said = f"tests: {counts or 'none ran'}{', cut short' * tests['cut_short']}"
    run.clock.say(said)
    return {"tests": tests, "lines": [said, *tests["failures"], *tests["tail"]]}


def same_bits(run: Run) -> dict[str, Any]:
    """Return {"same_bits": precision -> whether three steps, made twice, agree; or why not}."""
    found: dict[str, Any] = {}
    for precision in PRECISIONS:
        if run.clock.has(f"same bits, {precision}"):
            asked = {"workload": asdict(run.backend.sized(SAME_BITS)), "precision": precision}
            try:
                found[precision] = run.worker(run.backend.ours[0]).call("peers:same_bits", **asked)
            except WorkerError as error:
                found[precision] = str(error)
    said = {True: "the same bits", False: "OTHER BITS"}
    return {
        "same_bits": found,
        "lines": [f"3 steps twice, {p}: {said.get(same, same)}" for p, same in found.items()],
    }


def run_tests(arguments: Sequence[str], limit: float) -> dict[str, Any]:
    """Run pytest for at most ``limit`` seconds; return counts, and the lines of what failed."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"]
    # warnings of other machines' packages are not errors; nothing is compiled for the CPU
    command += ["-W", "default", *arguments]
    env = {**os.environ, "TINYNET_KERNELS": "numpy"}
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        # in a session by itself, so that its own processes end with it
        more: dict[str, Any] = {"stdout": out, "stderr": subprocess.STDOUT, "cwd": ROOT}
        process = subprocess.Popen(command, env=env, start_new_session=True, **more)
        try:
            code: int | None = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            code = None
        out.seek(0)
        text = out.read()
    return {"exit": code, "cut_short": code is None, **outcome(text)}


def outcome(text: str) -> dict[str, Any]:
    """Return what pytest's output says: counts, of the last line or else of the marks of progress,
    and the lines of the summary.
    """
    lines = text.splitlines()
    last = next((line for line in reversed(lines) if COUNT.search(line)), "")
    counts = {what.rstrip("s"): int(number) for number, what in COUNT.findall(last)}
    if not counts:
        marks = "".join(MARKS_OF_PROGRESS.findall(text))
        names = {".": "passed", "F": "failed", "E": "error", "s": "skipped"}
        counts = {name: marks.count(mark) for mark, name in names.items() if mark in marks}
    failures = [line[:300] for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"counts": counts, "failures": failures[:40], "tail": [] if counts else lines[-5:]}
