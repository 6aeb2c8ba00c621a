"""Whole networks beside PyTorch's: checked first, then timed in turns.

First each variant makes a few steps from the same weights on the same images, or predicts the same
images: what computes something else is not timed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any, NamedTuple

from benchmarks import turns
from benchmarks.backends import Run
from benchmarks.peers import WARM_UP
from benchmarks.turns import Check
from benchmarks.variants import EAGER, GRAPH, NUMBA, STOCK, Variant
from benchmarks.workloads import KINDS, NETWORKS, TENSOR_CORES, WIDE, WORKLOADS, Workload, vgg_like

LOGITS_TOLERANCE = 1e-4  # of a prediction, relative to the largest
AHEAD = 0.3  # of a part's time, at most, for compiling
COMPILING = 40.0  # seconds that torch.compile takes with a network on a GPU, about

BASE = vgg_like(64, 32, WIDE, 256)  # what grows in ``measure_scaling``
PANELS = ("batch", "side", "filters", "threads")  # on a CPU


class Point(NamedTuple):
    workload: Workload
    kind: str = "training"
    precision: str = "fp32"
    threads: int | None = None  # those of the run

    def task(self) -> dict[str, Any]:
        given = {"workload": asdict(self.workload), "precision": self.precision}
        return {"kind": self.kind, **given}


def points(run: Run, names: Collection[str], kinds: Sequence[str]) -> Iterator[tuple[str, Point]]:
    """Yield (network, point) of all that is timed, the most wanted precisions first."""
    if run.backend.name == "cpu":
        for name in names or WORKLOADS:
            yield from ((name, Point(WORKLOADS[name], kind)) for kind in kinds)
        return
    for precision in run.backend.tolerance:
        for name, (workload, precisions) in NETWORKS.items():
            if precision in precisions and name in (names or NETWORKS):
                yield name, Point(run.backend.sized(workload), "training", precision)


def measure_steps(
    run: Run, names: Collection[str] = (), kinds: Sequence[str] = KINDS, compiled: bool = True
) -> dict[str, Any]:
    """Return {"steps": network -> what it is, and of each kind variant -> times and peak memory}.

    Of a GPU a kind is "training, bf16".
    compiled   whether torch.compile takes part; with a clock, where the time left would do for all
               the steps that wait
    """
    wanted = list(points(run, names, kinds))
    ahead = [] if run.backend.strict else [(name, point.task()) for name, point in wanted]
    problems = run.compile_ahead(ahead, AHEAD, run.backend.ours[0])
    found: dict[str, Any] = {}
    for done, (name, point) in enumerate(wanted):
        workload, key = point.workload, point.kind
        key += "" if run.backend.name == "cpu" else f", {point.precision}"
        if not run.clock.has(f"{name}, {key}"):
            continue
        variants, left = run.backend.variants(point.precision), COMPILING * (len(wanted) - done)
        fast = [v for v in variants if not v.compiled]
        if fast != variants:
            what = f"torch.compile, {name}, {key}"
            variants = variants if compiled and run.clock.has(what, left) else fast
        if name not in found:
            found[name] = {"workload": asdict(workload), "multiply_adds": workload.multiply_adds()}
        found[name][key] = measure(run, point, variants)
        run.keep({"steps": found, "problems": problems})
        run.clock.say(f"{name}, {key}: {said(found[name][key])}")
    return {"steps": found, "problems": problems}


def measure(run: Run, point: Point, variants: Sequence[Variant]) -> dict[str, Any]:
    """Return variant -> {"ms": one a round, "peak_mb", "difference"}, or {"failed": why}.

    On a strict backend only torch.compile may fail, else WorkerError is raised.
    """
    task, check = point.task(), Check(LOGITS_TOLERANCE)
    if point.kind == "training":
        check = Check(run.backend.tolerance[point.precision], "losses", run.backend.checked)
    for variant in variants if run.backend.strict else ():
        if (variant.compiled or variant == NUMBA) and not variant.allocator:
            run.compile_ahead([(variant.name, task)], 1.0, variant)
    # torch's eager ones first; a compiled one only if no other runs
    order = sorted(variants, key=lambda v: (v.library != "torch", bool(v.compiled)))
    more = {"may_fail": [v.name for v in variants if v.compiled], "warm_up": WARM_UP}
    with run.network(point.threads) as here:
        tasks = {v.name: (here.worker(v), task) for v in variants}
        names = [v.name for v in order]
        return turns.measure(run, tasks, names, check, run.backend.step_turn, **more)


def said(measured: dict[str, Any]) -> str:
    return "; ".join(
        f"{name} FAILED, {entry['failed']}"
        if "failed" in entry
        else f"{name} {median(entry['ms']):.4g} ms"
        for name, entry in measured.items()
    )


def panels(run: Run) -> dict[str, list[tuple[float, Point]]]:
    """Return panel -> (value on its axis, point): what grows, one thing at a time."""
    if run.backend.name == "gpu":
        sizes = [1 << n for n in range(3, 10)]
        line = [(n, run.backend.sized(vgg_like(128, n, WIDE, 256))) for n in sizes]
        return {
            f"batch, {p}": [(n, Point(workload, precision=p)) for n, workload in line]
            for p in TENSOR_CORES
        }
    threads, factors = run.backend.threads, (0.5, 1, 2)
    counts = [*(1 << i for i in range(threads.bit_length()) if 1 << i < threads), threads]
    grown = [vgg_like(64, 32, [int(f * factor) for f in WIDE], 256) for factor in factors]
    # where the side grows the batch is small: 320 × 320 images then fit beside each other
    return {
        "batch": [(n, Point(replace(BASE, batch=n))) for n in (8, 16, 32, 64, 128)],
        "side": [(n, Point(replace(BASE, side=n, batch=4))) for n in (48, 80, 128, 208, 320)],
        "filters": [(n, Point(workload)) for n, workload in zip(factors, grown, strict=True)],
        "threads": [(n, Point(BASE, threads=n)) for n in counts],
    }


def measure_scaling(run: Run, chosen: Collection[str] = ()) -> dict[str, Any]:
    """Return {"panels": panel -> [{"value", "workload", "threads", "variants"}]}: a step's cost.

    What is in several panels is measured once. Compiling takes longer than all else here, and was
    never PyTorch's fastest.
    """
    peers = (*run.backend.ours, *(STOCK[:2] if run.backend.name == "cpu" else (EAGER, GRAPH)))
    known: dict[str, dict[str, Any]] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for panel, line in panels(run).items():
        for value, point in line if panel in (chosen or (panel,)) else ():
            if not run.clock.has(f"{panel} {value:g}"):
                continue
            threads = point.threads or run.backend.threads
            where = str((point.task(), threads))
            if where not in known:
                variants = [v for v in run.backend.variants(point.precision) if v in peers]
                known[where] = measure(run, point, variants)
            here = {"value": value, "workload": asdict(point.workload), "threads": threads}
            found.setdefault(panel, []).append({**here, "variants": known[where]})
            run.keep({"panels": found})
            run.clock.say(f"{panel} {value:g}: {said(known[where])}")
    return {"panels": found}
