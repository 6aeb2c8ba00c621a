"""Single operations beside PyTorch's and beside their floors, timed in turns."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from statistics import median
from typing import Any

from benchmarks import turns
from benchmarks.backends import Backend, Run
from benchmarks.device import Cpu, Subject
from benchmarks.ops.layers import OPS as LISTED
from benchmarks.ops.op import Cost, Op
from benchmarks.turns import Check
from benchmarks.variants import installed

OPS: dict[str, Op] = {op.name: op for op in LISTED}
GROUPS = {  # on each backend: what the command line calls them
    where: tuple(dict.fromkeys(op.group for op in LISTED if where in op.shapes))
    for where in ("cpu", "gpu")
}
AHEAD = 0.35  # of the part's time, at most, for compiling


def subject(
    op: str, shape: str, backend: str, small: bool, device: Cpu, library: str, **more: str | bool
) -> Subject:
    """Return one operation of one library, by its name and that of its shape."""
    return OPS[op].subject(OPS[op].sized(backend, shape, small), library, device, **more)


def rows(backend: Backend, groups: Collection[str] = ()) -> Iterator[tuple[Op, str, str]]:
    """Yield (operation, shape, precision), the most wanted precision first."""
    for precision in backend.op_tolerance:
        for op in OPS.values():
            if (not groups or op.group in groups) and precision in op.precisions:
                shapes = list(op.shapes.get(backend.name, ()))
                for shape in shapes[-1:] if backend.small else shapes:
                    yield op, shape, precision


def measure_ops(run: Run, groups: Collection[str] = ()) -> dict[str, Any]:
    """Return {"ops": a row for each operation, shape and precision, "problems": of compiling}."""
    wanted = list(rows(run.backend, groups))
    tasks = [
        (f"{op.name}, {shape}, {precision}", task_of(run, op, shape, precision, "tinynet"))
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


def measure(run: Run, op: Op, shape: str, precision: str) -> dict[str, Any]:
    """Check one operation at one shape, then time it.

    "failed" names who failed and why; on a strict backend that raises WorkerError.
    """
    backend, rounds = run.backend, run.backend.rounds
    cost = op.cost(op.sized(backend.name, shape, backend.small), 2 if precision == "bf16" else 4)
    ours, torch = installed(backend.ours)[0], installed([backend.single["torch"]])[0]
    ways = (op.ways if backend.name == "cpu" else op.ways[-1:]) if torch else ()

    def task(library: str, **more: Any) -> dict[str, Any]:
        return task_of(run, op, shape, precision, library, **more)

    tasks = {way: (run.worker(torch[0]), task("torch", way=way)) for way in ways}
    for v in ours:
        tasks[v.name] = run.worker(backend.single.get("tinynet", v)), task("tinynet")
    timed, reference = list(tasks), next(iter(tasks))
    if torch:
        reference = "reference"  # torch's in float32
        tasks[reference] = run.worker(torch[0]), task("torch", reference=True)
    floor = floors(run, cost, precision) if rounds else {}
    check = Check(op.tolerance or backend.op_tolerance[precision], op.norm, op.calls)
    more: dict[str, Any] = {"timed": [*timed, *floor], "floors": floor}
    found = turns.measure(run, tasks | floor, [reference], check, backend.op_turn, **more)
    times = {label: entry["ms"] for label, entry in found.items() if "ms" in entry}
    return {
        **{"op": op.name, "shape": shape, "precision": precision},
        **{"multiply_adds": cost.multiply_adds, "bytes": cost.bytes},
        "differences": {n: found[n]["difference"] for n in timed if "difference" in found[n]},
        "failed": {label: entry["failed"] for label, entry in found.items() if "failed" in entry},
        "ours": {v.name: times[v.name] for v in ours if v.name in times},
        "theirs": {way: times[way] for way in ways if way in times},
        "copy": times.get("copy", []),
        "products": {label: ms for label, ms in times.items() if label.startswith("product")},
        "product_flops": 2 * backend.side**3,
    }


def task_of(
    run: Run, op: Op, shape: str, precision: str, library: str, **more: Any
) -> dict[str, Any]:
    given = {"op": op.name, "shape": shape, "precision": precision, "library": library}
    where = {"backend": run.backend.name, "small": run.backend.small}
    return {"kind": "op", **given, **where, **more}


def floors(run: Run, cost: Cost, precision: str) -> dict[str, turns.Task]:
    """Return the copy and the products that take turns with an operation."""
    single = run.backend.single
    found = {"copy": (run.worker(single["floor"]), {"kind": "copy", "moved": cost.bytes})}
    if cost.multiply_adds:
        product = {"kind": "product", "side": run.backend.side, "precision": precision}
        for variant in installed([single["floor"], single["torch"]])[0]:
            found[f"product, {variant.library}"] = run.worker(variant), product
    return found


def said(row: dict[str, Any]) -> str:
    times = [f"{name} {median(ms):.3g} ms" for name, ms in {**row["theirs"], **row["ours"]}.items()]
    apart = [f"{name} off by {value:.1e}" for name, value in row["differences"].items()]
    failed = [f"{name} FAILED, {why}" for name, why in row["failed"].items()]
    return "; ".join([*(times or apart), *failed])
