"""Whole networks beside PyTorch's: checked first, then timed in turns.

First each variant makes a few steps from the same weights on the same images, or predicts the same
images: what computes something else is not timed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import numpy as np

from benchmarks.backends import Run
from benchmarks.peers import WARM_UP
from benchmarks.processes import WorkerError, at_once, noted, take_turns
from benchmarks.variants import EAGER, GRAPH, NUMBA, STOCK, Variant
from benchmarks.workloads import (
    KINDS,
    NETWORKS,
    TENSOR_CORES,
    WIDE,
    WORKLOADS,
    Workload,
    vgg_like,
)

LOGITS_TOLERANCE = 1e-4  # of a prediction, relative to the largest
AHEAD = 0.3  # of a part's time, at most, for compiling
COMPILING = 40.0  # seconds that torch.compile takes with a network on a GPU, about
IT = "it"  # the one subject of a process

BASE = vgg_like(64, 32, WIDE, 256)  # what grows in ``measure_scaling``
SMALL_BATCH = 4  # where the side grows: 320 × 320 images then fit beside each other


def points(run: Run, names: Collection[str], kinds: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return (network, kind, precision) of all that is timed, the most wanted precisions first."""
    if run.backend.name == "cpu":
        return [(name, kind, "fp32") for name in WORKLOADS if name in names for kind in kinds]
    ranks = range(max(len(precisions) for _, precisions in NETWORKS.values()))
    return [
        (name, "training", precisions[rank])
        for rank in ranks
        for name, (_, precisions) in NETWORKS.items()
        if name in names and rank < len(precisions)
    ]


def measure_steps(
    run: Run, names: Collection[str] = (), kinds: Sequence[str] = KINDS, compiled: bool = True
) -> dict[str, Any]:
    """Return {"steps": network -> what it is, and of each kind variant -> times and peak memory}.

    Of a GPU a kind is "training, bf16".
    compiled   whether torch.compile takes part; with a clock, where the time left would do for all
               the steps that wait
    """
    networks = WORKLOADS if run.backend.name == "cpu" else {n: w for n, (w, _) in NETWORKS.items()}
    wanted = points(run, names or networks, kinds)
    tasks = [(f"{n}, {p}", task(run.backend.sized(networks[n]), k, p)) for n, k, p in wanted]
    ahead = [] if run.backend.strict else tasks
    problems = run.compile_ahead(ahead, AHEAD, run.backend.ours[0])
    found: dict[str, Any] = {}
    for done, (name, kind, precision) in enumerate(wanted):
        key = kind if run.backend.name == "cpu" else f"{kind}, {precision}"
        if not run.clock.has(f"{name}, {key}"):
            continue
        workload, left = run.backend.sized(networks[name]), COMPILING * (len(wanted) - done)
        variants = run.backend.variants(precision)
        slow = [v for v in variants if v.compiled]
        if slow and not (compiled and run.clock.has(f"torch.compile, {name}, {key}", left)):
            variants = [v for v in variants if not v.compiled]
        if name not in found:
            found[name] = {"workload": asdict(workload), "multiply_adds": workload.multiply_adds()}
        found[name][key] = measure(run, workload, kind, variants, precision)
        run.keep({"steps": found, "problems": problems})
        run.clock.say(f"{name}, {key}: {said(found[name][key])}")
    return {"steps": found, "problems": problems}


def task(workload: Workload, kind: str, precision: str) -> dict[str, Any]:
    """Return what a worker is asked to make."""
    return {"kind": kind, "workload": asdict(workload), "precision": precision}


def measure(
    run: Run,
    workload: Workload,
    kind: str,
    variants: Sequence[Variant],
    precision: str = "fp32",
    threads: int | None = None,
) -> dict[str, Any]:
    """Return variant -> {"ms": one a round, "peak_mb", "difference"}, or {"failed": why}.

    All are made at the same time, which is work for the processor; from their first call on they
    take turns. On a strict backend only torch.compile may fail, else WorkerError is raised.
    """
    asked, failed = task(workload, kind, precision), dict[str, str]()
    if run.backend.strict:
        for variant in variants:
            if (variant.compiled or variant == NUMBA) and not variant.allocator:
                run.compile_ahead([(variant.name, asked)], 1.0, variant)
    with run.network(threads) as here:
        workers = {v.name: here.worker(v) for v in variants}

        def make(name: str) -> None:
            with noted(name, failed):
                workers[name].ask("make", name=IT, task=asked)

        at_once([lambda name=name: make(name) for name in workers])
        calls = run.backend.checked if kind == "training" else 1
        results: dict[str, list[np.ndarray]] = {}
        for name in [name for name in workers if name not in failed]:
            with noted(name, failed):
                results[name] = workers[name].results(IT, calls)
        apart = compare(results, kind, precision, run, failed)
        for name in [name for name in workers if name not in failed]:
            with noted(name, failed):
                workers[name].ask("settle", name=IT, calls=WARM_UP)
        insist(run, variants, failed)
        turns = [(name, worker, IT) for name, worker in workers.items() if name not in failed]
        times = take_turns(turns, run.backend.rounds, run.backend.step_turn, failed)
        insist(run, variants, failed)
        found: dict[str, Any] = {}
        for name, worker in workers.items():
            found[name] = {"difference": apart[name]} if name in apart else {}
            if name in failed:
                found[name]["failed"] = failed[name]
            else:
                found[name] |= {"ms": times[name], "peak_mb": worker.peak_mb}
            if worker.process is not None and not run.backend.strict:
                with noted(name, failed):
                    worker.ask("forget", name=IT)
    return found


def insist(run: Run, variants: Sequence[Variant], failed: dict[str, str]) -> None:
    """Raise WorkerError if a variant has failed that may not."""
    unexpected = [failed[v.name] for v in variants if v.name in failed and not v.compiled]
    if run.backend.strict and unexpected:
        raise WorkerError("; ".join(unexpected))


def compare(
    results: dict[str, list[np.ndarray]],
    kind: str,
    precision: str,
    run: Run,
    failed: dict[str, str],
) -> dict[str, float]:
    """Return how far each is from torch's eager results, or the first; too far is a failure."""
    first = next((name for name in results if name.startswith("torch")), next(iter(results), ""))
    tolerance = run.backend.tolerance[precision] if kind == "training" else LOGITS_TOLERANCE
    apart = {name: difference(got, results[first], kind) for name, got in results.items()}
    for name, value in apart.items():
        if not value <= tolerance:
            what = "losses" if kind == "training" else "logits"
            failed[name] = (
                f"{kind}: the {what} of {name} and of {first} differ by {value:.1e}, "
                f"want at most {tolerance:.0e}: one of them computes something else"
            )
    return apart


def difference(got: list[np.ndarray], want: list[np.ndarray], kind: str) -> float:
    """Return the largest relative difference of losses, or that of logits over the largest logit.

    A network that has learned its few images by heart has a loss of 0: a loss is compared with at
    least a hundredth of the largest.
    """
    a, b = np.array(got), np.array(want)
    most = abs(b).max()
    scale = np.maximum(abs(b), most / 100) if kind == "training" else most
    return float((abs(a - b) / scale).max())


def said(measured: dict[str, Any]) -> str:
    """Milliseconds of each, or why not."""
    return "; ".join(
        f"{name} FAILED, {entry['failed']}"
        if "failed" in entry
        else f"{name} {median(entry['ms']):.4g} ms"
        for name, entry in measured.items()
    )


Point = tuple[float, Workload, int, str]  # value on the panel's axis, network, threads, precision


def panels(run: Run) -> dict[str, list[Point]]:
    """Return the panels of ``measure_scaling``: what grows, one thing at a time."""
    threads = run.backend.threads
    if run.backend.name == "gpu":
        sized = {n: run.backend.sized(vgg_like(128, n, WIDE, 256)) for n in (8, 16, 32, 64, 128)}
        sized |= {n: run.backend.sized(vgg_like(128, n, WIDE, 256)) for n in (256, 512)}
        return {
            f"batch, {p}": [(n, workload, threads, p) for n, workload in sized.items()]
            for p in TENSOR_CORES
        }
    halved = [1 << i for i in range(threads.bit_length()) if 1 << i < threads]
    grown: dict[str, list[tuple[float, Workload, int]]] = {
        "batch": [(n, replace(BASE, batch=n), threads) for n in (8, 16, 32, 64, 128)],
        "side": [
            (side, replace(BASE, side=side, batch=SMALL_BATCH), threads)
            for side in (48, 80, 128, 208, 320)
        ],
        "filters": [
            (factor, vgg_like(64, 32, [int(f * factor) for f in WIDE], 256), threads)
            for factor in (0.5, 1, 2)
        ],
        "threads": [(n, BASE, n) for n in (*halved, threads)],
    }
    return {panel: [(*point, "fp32") for point in line] for panel, line in grown.items()}


PANELS = ("batch", "side", "filters", "threads")  # on a CPU


def measure_scaling(run: Run, chosen: Collection[str] = ()) -> dict[str, Any]:
    """Return {"panels": panel -> [{"value", "workload", "threads", "variants"}]}: a step's cost.

    What is in several panels is measured once. Compiling takes longer than all else here, and was
    never PyTorch's fastest.
    """
    peers = STOCK if run.backend.name == "cpu" else (EAGER, GRAPH)
    known: dict[Any, dict[str, Any]] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for panel, line in panels(run).items():
        if chosen and panel not in chosen:
            continue
        found[panel] = []
        for value, workload, threads, precision in line:
            if not run.clock.has(f"{panel} {value:g}"):
                continue
            variants = [
                v
                for v in run.backend.variants(precision)
                if v in (*run.backend.ours, *peers) and not v.compiled
            ]
            where = (str(workload), threads, precision)
            if where not in known:
                more = (variants, precision, threads)
                known[where] = measure(run, workload, "training", *more)
            point = {"value": value, "workload": asdict(workload), "threads": threads}
            found[panel].append({**point, "variants": known[where]})
            run.keep({"panels": found})
            run.clock.say(f"{panel} {value:g}: {said(known[where])}")
    return {"panels": found}
