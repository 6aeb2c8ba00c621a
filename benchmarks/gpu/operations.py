"""Every operation at every shape in every precision, the most wanted first."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.gpu.ahead import compile_ahead
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.ops import load_all
from benchmarks.gpu.processes import Pool, WorkerError
from benchmarks.gpu.settings import Keep, Settings
from benchmarks.gpu.variants import OPS

LIMIT = 60.0  # seconds for a row
AHEAD = 0.35  # of the part's time, at most, for compiling


def rows(small: bool = False) -> Iterator[tuple[str, str, str]]:
    """(operation, shape, precision): what tensor cores do first, fp32 by plain arithmetic last.

    small   each operation at its last shape alone
    """
    ops = load_all().values()
    for precision in ("bf16", "tf32", "fp32"):
        for op in ops:
            for shape in list(op.shapes)[-1 if small else 0 :]:
                if precision in op.precisions:
                    yield op.name, shape, precision


def measure(settings: Settings, pool: Pool, clock: Clock, keep: Keep) -> dict[str, Any]:
    """{"rows": a row each, see ``benchmarks.gpu.ops.measure``, "problems": of compiling}."""
    wanted = [
        {"op": op, "shape": shape, "precision": precision, "small": settings.small}
        for op, shape, precision in rows(settings.small)
    ]
    label = "{op}, {shape}, {precision}".format
    tasks = [(label(**row), [{**row, "rounds": 0}]) for row in wanted]
    problems = compile_ahead(tasks, OPS, settings, clock, AHEAD * clock.left())
    found = []
    for row in wanted:
        if not clock.has(label(**row)):
            continue
        try:
            answer = pool.worker(OPS).ask(limit=LIMIT, **row, rounds=settings.rounds)
        except WorkerError as error:
            answer = {**row, "ms": {}, "errors": {}, "failed": {"both": str(error)}}
        for why in answer["failed"].values():
            pool.worker(OPS).close_if_spoiled(why)
        found.append(answer)
        keep({"rows": found, "problems": problems})
        clock.say(f"{label(**row)}: {said(answer)}")
    return {"rows": found, "problems": problems}


def said(row: dict[str, Any]) -> str:
    """Milliseconds, and who failed."""
    times = [f"{name} {median(ms):.4g} ms" for name, ms in row["ms"].items()]
    return "; ".join([*times, *(f"{name} FAILED, {why}" for name, why in row["failed"].items())])
