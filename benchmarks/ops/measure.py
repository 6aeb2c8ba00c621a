"""Operations timed in turns: ours with each set of kernels, torch's in each way, and the floors."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from statistics import median
from typing import Any

import numpy as np

from benchmarks.ops import load
from benchmarks.ops.op import Op
from benchmarks.processes import Worker, WorkerError, take_turns, workers
from benchmarks.variants import FLOOR, OPS_TORCH, OURS, installed

TURN = 0.05  # seconds


def measure_ops(modules: Sequence[str], rounds: int, threads: int) -> list[dict[str, Any]]:
    """A row for each operation and shape."""
    present, _ = installed((*OURS, OPS_TORCH, FLOOR))
    rows = []
    with workers(present, threads) as started:
        by_name = {w.variant.name: w for w in started}
        for worker in started:
            if worker.variant.library != "tinynet":
                worker.ask(make="product", task={"kind": "product"})
        for module in modules:
            for op in load(module).values():
                for shape in op.shapes:
                    row = measure(module, op, shape, by_name, rounds)
                    rows.append(row)
                    said = {**row["ours"], **row["theirs"]}
                    text = "; ".join(f"{k} {median(ms):.3g}" for k, ms in said.items())
                    print(f"{op.name}, {shape}, ms: {text}", file=sys.stderr, flush=True)
    return rows


def measure(
    module: str, op: Op[Any], shape: str, by_name: dict[str, Worker], rounds: int
) -> dict[str, Any]:
    """Check and time one operation at one shape.

    Raises WorkerError if results differ by more than the operation's tolerance.
    """
    task = {"kind": "op", "module": module, "op": op.name, "shape": shape}
    torch, floor = by_name.get(OPS_TORCH.name), by_name[FLOOR.name]
    subjects = [(v.name, by_name[v.name]) for v in OURS if v.name in by_name]
    subjects += [(way, torch) for way in op.ways if torch]
    for label, worker in subjects:
        worker.ask(make=label, task={**task, "way": label})
    errors = check(op, shape, subjects)
    cost = op.cost(op.shapes[shape])
    floor.ask(make="copy", task={"kind": "copy", "bytes": cost.bytes})

    turns = [(label, worker, label) for label, worker in subjects]
    turns.append(("copy", floor, "copy"))
    if cost.multiply_adds:
        turns.append(("product, NumPy", floor, "product"))
        turns += [("product, torch", torch, "product")] if torch else []
    times = take_turns(turns, rounds, TURN)
    for label, worker in subjects:
        worker.ask(forget=label)
    return {
        "module": module,
        "op": op.name,
        "shape": shape,
        "multiply_adds": cost.multiply_adds,
        "bytes": cost.bytes,
        "differences": errors,
        "ours": {v.name: times[v.name] for v in OURS if v.name in times},
        "theirs": {way: times[way] for way in op.ways if way in times},
        "copy": times["copy"],
        "products": {k: ms for k, ms in times.items() if k.startswith("product")},
    }


def check(op: Op[Any], shape: str, subjects: Sequence[tuple[str, Worker]]) -> dict[str, float]:
    """How far each is from the last, which is torch's where torch is there."""
    label, worker = subjects[-1]
    want = worker.results(label, op.calls)
    errors = {}
    for name, other in subjects[:-1]:
        got: list[np.ndarray] = other.results(name, op.calls)
        errors[name] = op.error(got, want)
        if not errors[name] <= op.tolerance:
            raise WorkerError(
                f"{op.name}, {shape}: {name} and {label} differ by {errors[name]:.1e}, want at "
                f"most {op.tolerance:.0e}: one of them computes something else"
            )
    return errors
