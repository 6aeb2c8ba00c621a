"""What bounds a calculation from below: multiplying matrices, and moving memory.

    floor = max(2 · multiply-adds / rate of a large matrix product, time to copy as many bytes)

Both are measured in turns with the operation. The copy moves the operation's bytes, half read and
half written, so that where they fit into a cache the floor is that of the cache.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait
from statistics import median
from typing import Any

import numpy as np

from benchmarks import turns
from benchmarks.backends import Run
from benchmarks.device import Cpu, Subject, torch_precision

ONE_THREAD = 1 << 20  # bytes up to which a second thread costs more than it saves


def product(device: Cpu, library: str, side: int, precision: str = "fp32") -> Subject:
    """A product of two square matrices, by NumPy's or CuPy's BLAS, or by torch's."""
    dtype = "bfloat16" if precision == "bf16" else "float32"
    a, b = (device.drawn(seed, (side, side), dtype) for seed in (0, 1))
    if library in ("torch", "both"):
        import torch

        left, right = device.tensor(a), device.tensor(b)
        out = torch.empty_like(left)
        return Subject(
            lambda: torch.mm(left, right, out=out),
            lambda c: [device.comparable(c)],
            lambda: torch_precision(precision),
        )
    c = device.xp.empty_like(a)
    return Subject(lambda: device.xp.matmul(a, b, out=c), lambda c: [device.comparable(c)])


def copy(device: Cpu, library: str, moved: int) -> Subject:
    """A copy that reads half of ``moved`` bytes and writes the other half, on every thread."""
    source = device.xp.ones(max(1, moved // 2), np.uint8)
    target = device.xp.zeros_like(source)
    if device.xp is not np:
        return Subject(lambda: device.xp.copyto(target, source))
    threads = 1 if moved <= ONE_THREAD else int(os.environ["OMP_NUM_THREADS"])
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    pool = ThreadPoolExecutor(threads)

    def call() -> None:
        others = [pool.submit(np.copyto, *part) for part in parts[1:]]
        np.copyto(*parts[0])
        wait(others)

    return Subject(call, lambda _: [target])


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
