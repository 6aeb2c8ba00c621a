"""What is measured on a GPU alone: correctness, what it does at best, where a step's time goes."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks import turns
from benchmarks.backends import Run
from benchmarks.peers import train_step
from benchmarks.processes import ROOT, WorkerError
from benchmarks.workloads import NETWORKS, WIDE, Workload, vgg_like
from tinynet.engine.precision import PRECISIONS

COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped|xfailed|deselected)")
ON_GPU = "tests/engine"  # where those are that wait for a GPU: collecting all takes long
REHEARSED = "tests/benchmarks/test_tables.py"
BITS_SECONDS = 20.0  # kept back for the second half
SAME_BITS = vgg_like(128, 8, WIDE, 256)
STEPS, MOST = 5, 16  # steps that are profiled, kernels that are named
PROFILED = {"vgg_like 128, batch 32": ("bf16", "fp32"), "VGG16 224, batch 64": ("bf16",)}


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
    lines = [f"3 steps twice, {p}: {said.get(same, same)}" for p, same in found.items()]
    return {"same_bits": found, "lines": lines}


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
    """Return what pytest's output says: counts and failures, or its last lines without counts."""
    lines = text.splitlines()
    last = next((line for line in reversed(lines) if COUNT.search(line)), "")
    counts = {what.rstrip("s"): int(number) for number, what in COUNT.findall(last)}
    failures = [line[:300] for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"counts": counts, "failures": failures[:40], "tail": [] if counts else lines[-5:]}


def measure_ceilings(run: Run) -> dict[str, Any]:
    """Return {"ms": name -> times, "lines"} of a large copy and of a product in each precision."""
    backend = run.backend
    copied = 1 << 16 if backend.small else 1 << 31  # bytes, read and written
    tasks: dict[str, dict[str, Any]] = {"copy": {"kind": "copy", "moved": copied}}
    for precision in backend.op_tolerance:
        product = {"kind": "product", "side": backend.side, "precision": precision}
        tasks[f"product, {precision}"] = product
    worker = run.worker(backend.single["floor"])
    given = {name: (worker, task) for name, task in tasks.items()}
    found = turns.measure(run, given, [], turns.Check(0), backend.op_turn, floors=given, warm_up=3)
    times = {name: entry["ms"] for name, entry in found.items() if "ms" in entry}
    failed = {name: entry["failed"] for name, entry in found.items() if "failed" in entry}
    flops, rates = 2 * backend.side**3, {name: median(ms) for name, ms in times.items()}
    said = {name: f"{flops / ms / 1e9:.1f} TFLOP/s" for name, ms in rates.items()} | failed
    if "copy" in rates:
        said["copy"] = f"{copied / rates['copy'] / 1e6:.0f} GB/s, read and written"
    lines = [f"{name}: {what}" for name, what in said.items()]
    return {"ms": times, "product_flops": flops, "lines": lines}


def measure_kernels(run: Run) -> dict[str, Any]:
    """Return {"profiles": "network, precision" -> rows of kernels, "lines"}."""
    found: dict[str, Any] = {}
    lines: list[str] = []
    for name, precision in [(name, p) for name, precisions in PROFILED.items() for p in precisions]:
        if not run.clock.has(label := f"{name}, {precision}"):
            continue
        asked = {"workload": asdict(run.backend.sized(NETWORKS[name][0])), "precision": precision}
        try:
            found[label] = run.worker(run.backend.ours[0]).call("parts:rows_of", **asked)
            lines += [f"{label}: {line}" for line in said(**found[label])]
        except WorkerError as error:
            lines.append(f"{label}: FAILED, {error}")
        run.keep({"profiles": found, "lines": lines})
    return {"profiles": found, "lines": lines}


def said(rows: list[dict[str, Any]], step_ms: float) -> list[str]:
    rest = step_ms - sum(row["ms"] for row in rows)
    return [f"a step {step_ms:.3f} ms, of which {rest:.3f} between kernels"] + [
        f"{row['ms']:.3f} ms, {row['ms'] / step_ms:.0%}, {row['launches']:g} × {row['kernel']}"
        for row in rows[:MOST]
    ]


def rows_of(device: Any, workload: dict[str, Any], precision: str) -> dict[str, Any]:
    """Return {"rows": see ``summed``, "step_ms"}; on the processor there are no rows."""
    given = Workload(**workload)
    step, (x, y) = train_step(given, precision, device), given.data()
    images = device.xp.asarray(x)
    for _ in range(3):  # from the third on it is a graph's launch
        step(images, y)
    if device.name != "gpu":
        return {"rows": [], "step_ms": 0.0}
    import torch
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.init()
    step_ms = 1e3 * min(device.once(lambda: step(images, y))[1] for _ in range(STEPS))
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        for _ in range(STEPS):
            step(images, y)
        device.wait()
    events = [event for event in watched.events() if event.device_type == DeviceType.CUDA]
    return {"rows": summed(events), "step_ms": step_ms}


def summed(events: Iterable[Any]) -> list[dict[str, Any]]:
    """Return {"kernel", "launches", "ms"} of a step for each name, the longest first."""
    found: dict[str, list[float]] = {}
    for event in events:
        found.setdefault(event.name, []).append(event.time_range.elapsed_us() / 1e3)
    sums = {name: (len(ms) / STEPS, sum(ms) / STEPS) for name, ms in found.items()}
    rows = [{"kernel": name, "launches": n, "ms": ms} for name, (n, ms) in sums.items()]
    return sorted(rows, key=lambda row: -row["ms"])
