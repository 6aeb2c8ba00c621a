"""Single operations timed in turns: ours, torch's, and the floors."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from benchmarks.backends import Backend, Run
from benchmarks.ops import OPS, Op, error
from benchmarks.processes import Turn, Worker, WorkerError, noted, take_turns
from benchmarks.variants import installed

AHEAD = 0.35  # of the part's time, at most, for compiling
REFERENCE = "reference"  # torch's in fp32, or without torch the first of ours


def rows(backend: Backend, groups: Collection[str] = ()) -> Iterator[tuple[Op, str, str]]:
    """Yield (operation, shape, precision), the most wanted precision first."""
    for precision in backend.op_tolerance:
        for op in OPS.values():
            if (not groups or op.group in groups) and precision in op.precisions:
                shapes = list(op.shapes[backend.name])
                for shape in shapes[-1:] if backend.small else shapes:
                    yield op, shape, precision


def measure_ops(run: Run, groups: Collection[str] = ()) -> dict[str, Any]:
    """Return {"ops": a row for each operation, shape and precision, "problems": of compiling}."""
    wanted = list(rows(run.backend, groups))
    tasks = [
        (f"{op.name}, {shape}, {precision}", task(run, op, shape, precision, "tinynet"))
        for op, shape, precision in wanted
    ]
    ahead = [] if run.backend.strict else tasks
    problems = run.compile_ahead(ahead, AHEAD, run.backend.ours[0])
    found: list[dict[str, Any]] = []
    for op, shape, precision in wanted:
        label = f"{op.name}, {shape}, {precision}"
        if run.clock.has(label):
            found.append(measure(run, op, shape, precision))
            run.keep({"ops": found, "problems": problems})
            run.clock.say(f"{label}: {said(found[-1])}")
    return {"ops": found, "problems": problems}


def task(run: Run, op: Op, shape: str, precision: str, library: str, **more: Any) -> dict[str, Any]:
    given = {"op": op.name, "shape": shape, "precision": precision, "library": library}
    where = {"backend": run.backend.name, "small": run.backend.small}
    return {"kind": "op", **given, **where, **more}


def measure(run: Run, op: Op, shape: str, precision: str) -> dict[str, Any]:
    """Check one operation at one shape, then time it.

    "failed" names who failed and why; on a strict backend that raises WorkerError.
    """
    backend, failed = run.backend, dict[str, str]()
    cost = op.cost(op.sized(backend.name, shape, backend.small), 2 if precision == "bf16" else 4)
    with compared(run, op, shape, precision, failed) as (workers, differences):
        turns: list[Turn] = [(label, worker, label) for label, worker in workers.items()]
        turns += floors(run, cost.bytes, precision if cost.multiply_adds else "", failed)
        times = take_turns(turns, backend.rounds, backend.op_turn, failed)
    if backend.strict and failed:
        raise WorkerError("; ".join(failed.values()))
    ours = {v.name for v in backend.ours}
    theirs = [name for name in workers if name not in ours]
    return {
        **{"op": op.name, "shape": shape, "precision": precision},
        **{"multiply_adds": cost.multiply_adds, "bytes": cost.bytes},
        **{"differences": differences, "failed": failed},
        "ours": {v.name: times[v.name] for v in backend.ours if v.name in times},
        "theirs": {way: times[way] for way in theirs if way in times},
        "copy": times.get("copy", []),
        "products": {label: ms for label, ms in times.items() if label.startswith("product")},
        "product_flops": 2 * backend.side**3,
    }


@contextmanager
def compared(
    run: Run, op: Op, shape: str, precision: str, failed: dict[str, str]
) -> Iterator[tuple[dict[str, Worker], dict[str, float]]]:
    """Make torch's and ours, compare them, and let all go at the block's end.

    Yields the worker of each, where its subject has the same name, and how far each is from the
    reference; who fails is in ``failed``.
    """
    backend = run.backend
    ours, torch = installed(backend.ours)[0], installed([backend.single["torch"]])[0]
    ways = (op.ways if backend.name == "cpu" else op.ways[-1:]) if torch else ()
    workers = {way: run.worker(torch[0]) for way in ways}
    workers |= {v.name: run.worker(backend.single.get("tinynet", v)) for v in ours}

    def make(label: str, name: str, **more: Any) -> None:
        of_torch = {"library": "torch", "way": label} if label in ways else {"library": "tinynet"}
        made = task(run, op, shape, precision, **of_torch, **more)
        workers[label].ask("make", name=name, task=made)

    first = next(iter(workers))
    with noted(REFERENCE, failed):
        make(first, REFERENCE, reference=True)
        workers[first].ask("keep", name=REFERENCE, calls=op.calls)
    for label in workers:
        with noted(label, failed):
            make(label, label)
    yield workers, check(run, op, precision, workers, failed)
    for worker in run.workers.workers.values():
        if worker.process is not None:
            with noted(worker.variant.name, failed):
                worker.ask("forget")


def check(
    run: Run, op: Op, precision: str, workers: dict[str, Worker], failed: dict[str, str]
) -> dict[str, float]:
    """Return how far each is from the reference, which is the first's; too far is a failure."""
    reference = next(iter(workers.values()))
    tolerance, found = op.tolerance or run.backend.op_tolerance[precision], dict[str, float]()
    if REFERENCE in failed:
        failed |= dict.fromkeys(workers, f"nothing to compare: {failed[REFERENCE]}")
    for label, worker in workers.items():
        if label in failed:
            continue
        with noted(label, failed):
            if worker is reference:
                asked = {"name": label, "want": REFERENCE, "calls": op.calls, "norm": op.norm}
                apart = worker.ask("compare", **asked)["apart"]
            else:
                want = reference.results(REFERENCE, op.calls)
                apart = error(worker.results(label, op.calls), want, op.norm)
            found[label] = apart
            if not apart <= tolerance:
                raise WorkerError(
                    f"{op.name}: {label} is off by {apart:.1e} of the reference, want at most "
                    f"{tolerance:.0e}: it computes something else"
                )
    return found


def floors(run: Run, moved: int, precision: str, failed: dict[str, str]) -> list[Turn]:
    """Make the copy and the products that take turns with an operation."""
    backend = run.backend
    wanted = {"copy": (backend.single["floor"], {"kind": "copy", "moved": moved})}
    if precision:
        product = {"kind": "product", "side": backend.side, "precision": precision}
        for variant in installed([backend.single["floor"], backend.single["torch"]])[0]:
            wanted[f"product, {variant.library}"] = variant, product
    turns = []
    for label, (variant, task) in wanted.items():
        with noted(label, failed):
            run.worker(variant).ask("make", name=label, task=task)
            turns.append((label, run.worker(variant), label))
    return turns


def said(row: dict[str, Any]) -> str:
    times = [f"{name} {median(ms):.3g} ms" for name, ms in {**row["theirs"], **row["ours"]}.items()]
    return "; ".join([*times, *(f"{name} FAILED, {why}" for name, why in row["failed"].items())])
