"""Before anything is timed: the tests that wait for a GPU, and steps that repeat bit by bit."""

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
from pathlib import Path
from typing import Any

from benchmarks.gpu.clock import Clock
from benchmarks.gpu.networks import SAME_BITS
from benchmarks.gpu.processes import Pool, WorkerError
from benchmarks.gpu.settings import Keep, Settings
from benchmarks.gpu.variants import OURS
from benchmarks.processes import ROOT

COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|deselected)")
KEPT_FAILURES = 40
# in the files that have tests for a GPU; the last has a fixture that runs on both
MARKS = ("mark.gpu", "ON_GPU", "cuda.on_cpu")
REHEARSED = ["tests/benchmarks/test_ratios.py"]
BITS_SECONDS = 20.0  # kept back for the second half


def measure(settings: Settings, pool: Pool, clock: Clock, keep: Keep) -> dict[str, Any]:
    """{"tests": counts and failures, "same_bits": {precision: whether, or why not}}."""
    limit = max(1.0, clock.left() - BITS_SECONDS)
    if settings.small:
        tests = run_tests([*REHEARSED, "-p", "no:randomly"], limit)
    else:
        spread = ["-n", "8"] if importlib.util.find_spec("xdist") else []
        tests = run_tests(["-m", "gpu", *spread, *files_with_marks(ROOT / "tests")], limit)
    clock.say(f"tests: {tests['counts']}{', cut short' if tests['cut_short'] else ''}")
    found: dict[str, Any] = {}
    keep({"tests": tests, "same_bits": found})
    network, precisions = SAME_BITS
    for precision in precisions:
        if not clock.has(f"same bits, {precision}"):
            continue
        task = {"same_bits": asdict(settings.network(network)), "precision": precision}
        try:
            found[precision] = pool.worker(OURS).ask(**task)["same"]
        except WorkerError as error:
            found[precision] = str(error)
        clock.say(f"steps twice, {precision}: same bits: {found[precision]}")
    return {"tests": tests, "same_bits": found}


def files_with_marks(folder: Path) -> list[str]:
    """The test files that have tests for a GPU: collecting all others would take long."""
    files = sorted(folder.rglob("test_*.py"))
    mine = Path("benchmarks", "gpu")  # tests of this file speak of the marks
    return [
        str(file)
        for file in files
        if mine not in file.relative_to(folder).parents
        and any(mark in file.read_text(encoding="utf-8") for mark in MARKS)
    ]


def run_tests(arguments: Sequence[str], limit: float) -> dict[str, Any]:
    """Run pytest for at most ``limit`` seconds: counts, and the lines of those that failed."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,  # so that its own processes end with it
        )
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
    """What pytest's output says.

    counts     of the last line, or of the marks of progress where there is none
    failures   the lines of the summary, at most KEPT_FAILURES
    """
    lines = text.splitlines()
    last = next((line for line in reversed(lines) if COUNT.search(line)), "")
    counts = {what.rstrip("s"): int(number) for number, what in COUNT.findall(last)}
    if not counts:
        marks = "".join(re.match(r"[.FEsx]*", line)[0] for line in lines)  # type: ignore[index]
        names = {".": "passed", "F": "failed", "E": "error", "s": "skipped"}
        counts = {name: marks.count(mark) for mark, name in names.items() if mark in marks}
    failures = [line[:300] for line in lines if line.startswith(("FAILED", "ERROR"))]
    tail = lines[-5:] if not counts else []
    return {"counts": counts, "failures": failures[:KEPT_FAILURES], "tail": tail}
