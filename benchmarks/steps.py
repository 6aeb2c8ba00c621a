"""Training steps and inference beside PyTorch's: checked first, then timed in turns.

First each variant makes five steps from the same weights on the same images, or predicts the same
images: what computes something else is not timed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from statistics import median
from typing import Any

import numpy as np

from benchmarks.processes import WorkerError, take_turns, workers
from benchmarks.variants import Variant
from benchmarks.workloads import KINDS, WORKLOADS, Workload

CHECKED = {"training": 5, "inference": 1}  # calls whose results are compared
# of losses, relative: five updates apart, in float32, with sums taken in another order;
# of logits, relative to the largest
TOLERANCE = {"training": 1e-3, "inference": 1e-4}
WARM_UP = 3
TURN = 0.3  # seconds; at least one step


def measure_steps(
    names: Sequence[str],
    kinds: Sequence[str],
    variants: Sequence[Variant],
    rounds: int,
    threads: int,
) -> dict[str, Any]:
    """Workload -> what it is, and for each kind variant -> times and peak memory."""
    results: dict[str, Any] = {}
    for name in names:
        workload = WORKLOADS[name]
        results[name] = {
            "workload": asdict(workload),
            "multiply_adds": workload.multiply_adds(),
        }
        for kind in kinds:
            measured = measure(workload, kind, variants, rounds, threads)
            results[name][kind] = measured
            said = [f"{v} {median(m['ms']):.0f}" for v, m in measured.items() if "ms" in m]
            print(f"{name} {kind}, ms: {'; '.join(said)}", file=sys.stderr, flush=True)
    return results


def measure(
    workload: Workload, kind: str, variants: Sequence[Variant], rounds: int, threads: int
) -> dict[str, Any]:
    """Variant -> {"ms": one a round, "peak_mb", "difference"}, or {"failed": why}.

    Only a compiled variant may fail; any other ends the run, and so does a result that differs.
    """
    task = {"kind": kind, "workload": asdict(workload)}
    found: dict[str, Any] = {v.name: {} for v in variants}
    compile_once(variants, task, threads)
    with workers(variants, threads) as started:
        ready, results = [], {}
        for worker in started:
            name = worker.variant.name
            try:
                worker.ask(make="it", task=task)
                results[name] = worker.results("it", CHECKED[kind])
                for _ in range(WARM_UP):
                    worker.ask(time="it", seconds=0)
            except WorkerError as error:
                if not worker.variant.compiled:
                    raise
                found[name]["failed"] = str(error)
                continue
            ready.append(worker)
        for name, difference in differences(results, kind).items():
            found[name]["difference"] = difference
        times = take_turns([(w.variant.name, w, "it") for w in ready], rounds, TURN)
        for worker in ready:
            name = worker.variant.name
            found[name] |= {"ms": times[name], "peak_mb": worker.peak_mb}
    return found


def compile_once(variants: Sequence[Variant], task: dict[str, Any], threads: int) -> None:
    """Let a process of its own compile what is then found on disk, by Numba and by torch.compile.

    A compiler takes more memory than a step, and would be measured with it.
    """
    for variant in variants:
        if (variant.compiled or variant.kernels == "fast") and not variant.allocator:
            # if it fails, it will fail again where it is measured
            with workers([variant], threads) as (worker,), suppress(WorkerError):
                worker.ask(make="it", task=task)
                worker.ask(time="it", seconds=0)


def differences(results: dict[str, list[np.ndarray]], kind: str) -> dict[str, float]:
    """How far each variant's results are from the first one's; WorkerError if too far."""
    first, want = next(iter(results.items()))
    apart = {name: difference(got, want, kind) for name, got in results.items()}
    for name, value in apart.items():
        if not value <= TOLERANCE[kind]:
            what = "losses" if kind == "training" else "logits"
            raise WorkerError(
                f"{kind}: the {what} of {name} and of {first} differ by {value:.1e}, "
                f"want at most {TOLERANCE[kind]:.0e}: one of them computes something else"
            )
    return apart


def difference(got: list[np.ndarray], want: list[np.ndarray], kind: str) -> float:
    """The largest relative difference of losses, or that of logits over the largest logit.

    A network that has learned its few images by heart has a loss of 0: a loss is compared with at
    least a hundredth of the largest.
    """
    a, b = np.array(got), np.array(want)
    most = abs(b).max()
    scale = np.maximum(abs(b), most / 100) if kind == "training" else most
    return float((abs(a - b) / scale).max())


def complete(names: Sequence[str], kinds: Sequence[str]) -> bool:
    """Whether nothing is left out."""
    return set(names) == set(WORKLOADS) and set(kinds) == set(KINDS)
