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
from pathlib import Path
from typing import Any

from benchmarks.backends import Run
from benchmarks.processes import ROOT, WorkerError
from benchmarks.workloads import WIDE, vgg_like
from tinynet.engine.precision import PRECISIONS

COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|deselected)")
KEPT_FAILURES = 40
# in the files that have tests for a GPU; the last has a fixture that runs on both
MARKS = ("mark.gpu", "ON_GPU", "cuda.on_cpu")
MINE = Path("benchmarks")  # tests of this file speak of the marks
REHEARSED = "tests/benchmarks/test_ratios.py"
BITS_SECONDS = 20.0  # kept back for the second half
SAME_BITS = vgg_like(128, 8, WIDE, 256)


def measure_correctness(run: Run) -> dict[str, Any]:
    """Return {"tests": counts and failures, "same_bits": precision -> whether, or why not}."""
    found: dict[str, Any] = {"tests": gpu_tests(run, run.clock.left() - BITS_SECONDS)}
    run.keep(found | {"same_bits": {}})
    return found | same_bits(run)


def gpu_tests(run: Run, seconds: float) -> dict[str, Any]:
    """Run the tests for a GPU; a few others in the rehearsal."""
    files = [REHEARSED] if run.backend.small else ["-m", "gpu", *files_with_marks(ROOT / "tests")]
    spread = ["-n", "12"] if importlib.util.find_spec("xdist") and not run.backend.small else []
    tests = run_tests([*files, *spread], max(1.0, seconds))
    run.clock.say(f"tests: {tests['counts']}{', cut short' if tests['cut_short'] else ''}")
    return tests


def same_bits(run: Run) -> dict[str, Any]:
    """Make three steps twice in every precision."""
    found: dict[str, Any] = {}
    for precision in PRECISIONS:
        if not run.clock.has(f"same bits, {precision}"):
            continue
        asked = {"workload": asdict(run.backend.sized(SAME_BITS)), "precision": precision}
        try:
            found[precision] = run.worker(run.backend.ours[0]).call("peers:same_bits", **asked)
        except WorkerError as error:
            found[precision] = str(error)
        run.clock.say(f"steps twice, {precision}: same bits: {found[precision]}")
    return {"same_bits": found}


def files_with_marks(folder: Path) -> list[str]:
    """Return the test files that have tests for a GPU: collecting all others would take long."""
    return [
        str(file)
        for file in sorted(folder.rglob("test_*.py"))
        if MINE not in file.relative_to(folder).parents
        and any(mark in file.read_text(encoding="utf-8") for mark in MARKS)
    ]


def run_tests(arguments: Sequence[str], limit: float) -> dict[str, Any]:
    """Run pytest for at most ``limit`` seconds; return counts, and the lines of what failed."""
    command = [sys.executable, "-m", "pytest", "-q", "--tb=line", "-p", "no:cacheprovider"]
    # warnings of other machines' packages are not errors; compiling for the CPU tests nothing here
    command += ["-W", "default"]
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out:
        process = subprocess.Popen(
            [*command, *arguments],
            stdout=out,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "TINYNET_KERNELS": "numpy"},
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
    """Return what pytest's output says.

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
