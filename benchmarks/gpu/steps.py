"""Training steps beside PyTorch's: losses are compared first, then all take turns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import numpy as np

from benchmarks.gpu.ahead import compile_ahead
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.networks import NETWORKS, SCALED, TENSOR_CORES, Network
from benchmarks.gpu.processes import Pool, Worker, WorkerError, at_once
from benchmarks.gpu.settings import Keep, Settings
from benchmarks.gpu.training import WARM_UP
from benchmarks.gpu.variants import EAGER, GRAPH, HAVE_TORCH, OURS, Variant, chosen
from benchmarks.processes import PAUSE
from benchmarks.steps import difference

CHECKED = 3  # steps whose losses are compared
# relative. Rounding moves the signs of small gradients, and with them Adam's first steps: PyTorch's
# ResNet-50 on a CPU has losses in bfloat16 that are 2, 2 and 6 % from those in float32
TOLERANCE = {"fp32": 1e-3, "tf32": 2e-2, "bf16": 1e-1}
AHEAD = 0.3  # of the part's time, at most, for compiling
LONGEST = 90.0  # seconds that one variant may take to begin
COMPILING = 40.0  # seconds that torch.compile takes with a network, about


def measure_networks(settings: Settings, pool: Pool, clock: Clock, keep: Keep) -> dict[str, Any]:
    """Network -> what it is, its multiply-adds, and precision -> variant -> what was measured.

    torch.compile takes part where the time left would do for all the steps that wait.
    """
    points = [
        (name, network, precisions[rank])
        for rank in range(max(len(precisions) for _, precisions in NETWORKS.values()))
        for name, (network, precisions) in NETWORKS.items()
        if rank < len(precisions)
    ]
    tasks = [
        (f"{name}, {precision}", requests_of(network, precision, settings))
        for name, network, precision in points
    ]
    problems = compile_ahead(tasks, OURS, settings, clock, AHEAD * clock.left())
    found: dict[str, Any] = {}
    for done, (name, network, precision) in enumerate(points):
        if not clock.has(f"{name}, {precision}"):
            continue
        compiled = settings.compiled and HAVE_TORCH
        if compiled:
            compiled = clock.has(
                f"torch.compile, {name}, {precision}", COMPILING * (len(points) - done)
            )
        timed = settings.network(network)
        variants = chosen(precision, compiled, settings.more)
        measured = measure(timed, precision, variants, settings, pool, clock)
        entry = found.setdefault(name, {"network": asdict(timed), "precisions": {}})
        entry |= measured["facts"]
        entry["precisions"][precision] = measured["variants"]
        keep({"networks": found, "problems": problems})
        clock.say(f"{name}, {precision}: {said(measured['variants'])}")
    return {"networks": found, "problems": problems}


def measure_scaling(settings: Settings, pool: Pool, clock: Clock, keep: Keep) -> dict[str, Any]:
    """precision -> a list of {"batch", "variants"}, of the VGG-like network at side 128."""
    variants = [OURS, *((EAGER, GRAPH) if HAVE_TORCH else ())]
    points: dict[str, list[dict[str, Any]]] = {precision: [] for precision in TENSOR_CORES}
    fewer = replace(settings, rounds=max(2, settings.rounds // 2))
    for batch, network in SCALED.items():
        for precision, line in points.items():
            if not clock.has(f"batch {batch}, {precision}"):
                continue
            timed = settings.network(network)
            measured = measure(timed, precision, variants, fewer, pool, clock)
            line.append({"batch": batch, **measured})
            keep({"points": points})
            clock.say(f"batch {batch}, {precision}: {said(measured['variants'])}")
    return {"points": points}


def requests_of(network: Network, precision: str, settings: Settings) -> list[dict[str, Any]]:
    """One step of ours, and an end of it."""
    make = {"make": asdict(settings.network(network)), "precision": precision}
    return [make, {"losses": 1}, {"forget": True}]


def measure(
    network: Network,
    precision: str,
    variants: Sequence[Variant],
    settings: Settings,
    pool: Pool,
    clock: Clock,
) -> dict[str, Any]:
    """{"facts", "variants": {name: {"difference", "ms", "memory"} or {"failed"}}}.

    All are made at the same time, which is work for the processor. From their first step on they
    have the GPU in turns: cuDNN then tries which algorithm is fastest. One that fails is left out
    of the rest.
    """
    limit = max(5.0, min(LONGEST, clock.left()))
    found: dict[str, Any] = {v.name: {} for v in variants}
    workers = {v.name: pool.worker(v) for v in variants}
    facts: dict[str, Any] = {}
    began = time.monotonic()

    def make(worker: Worker) -> dict[str, Any]:
        return worker.ask(limit=limit, make=asdict(network), precision=precision)

    made = at_once([lambda worker=worker: make(worker) for worker in workers.values()])
    losses: dict[str, list[float]] = {}
    for name, answer in zip(workers, made, strict=True):
        if isinstance(answer, WorkerError):
            found[name]["failed"] = str(answer)
            continue
        facts |= answer
        ran = attempt(name, found, lambda name=name: workers[name].ask(limit, losses=CHECKED))
        if ran is not None:
            losses[name] = found[name]["losses"] = ran["losses"]
    compare(losses, precision, found)
    ready = [name for name in workers if "failed" not in found[name]]
    take_turns(ready, workers, settings, found)
    for name, worker in workers.items():
        if worker.process is not None:
            attempt(name, found, lambda worker=worker: worker.ask(forget=True))
    clock.say(f"  made, compared and timed in {time.monotonic() - began:.0f} s")
    return {"facts": facts, "variants": found}


def compare(losses: dict[str, list[float]], precision: str, found: dict[str, Any]) -> None:
    """Fail what is too far from torch's eager step, or from the first that there is."""
    if not losses:
        return
    first = EAGER.name if EAGER.name in losses else next(iter(losses))
    want = [np.array(value) for value in losses[first]]
    for name, values in losses.items():
        apart = difference([np.array(value) for value in values], want, "training")
        found[name]["difference"] = apart
        if not apart <= TOLERANCE[precision]:
            found[name]["failed"] = (
                f"its losses differ from those of {first} by {apart:.1e}, want at most "
                f"{TOLERANCE[precision]:.0e}: one of them computes something else"
            )


def take_turns(
    ready: Sequence[str], workers: dict[str, Any], settings: Settings, found: dict[str, Any]
) -> None:
    """Milliseconds of a step, one figure a round; every second round goes backwards."""
    for name in ready:
        found[name]["ms"] = []
        attempt(name, found, lambda name=name: workers[name].ask(settle=WARM_UP))
    for number in range(settings.rounds):
        for name in list(ready)[:: -1 if number % 2 else 1]:
            if "failed" in found[name]:
                continue
            time.sleep(PAUSE)
            answer = attempt(
                name, found, lambda name=name: workers[name].ask(time=name, seconds=settings.turn)
            )
            if answer is not None:
                found[name]["ms"].append(answer["ms"])
    for name in ready:
        if "failed" not in found[name]:
            memory = attempt(name, found, lambda name=name: workers[name].ask(memory=True))
            found[name]["memory"] = memory


def attempt(name: str, found: dict[str, Any], ask: Any) -> dict[str, Any] | None:
    """The answer; None where there is none, and then the variant has failed."""
    try:
        answer: dict[str, Any] = ask()
    except WorkerError as error:
        found[name]["failed"] = str(error)
        found[name].pop("ms", None)
        return None
    return answer


def said(variants: dict[str, Any]) -> str:
    """Milliseconds of each, or why not."""
    return "; ".join(
        f"{name} FAILED, {entry['failed']}" if "failed" in entry else text(name, entry["ms"])
        for name, entry in variants.items()
    )


def text(name: str, ms: Sequence[float]) -> str:
    """A variant's median."""
    return f"{name} {median(ms):.4g} ms"
