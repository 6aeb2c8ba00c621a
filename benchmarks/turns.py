"""The method: what computes something else is not timed, and all others take turns.

They take turns round by round, so that a machine that slows down slows all of them; every second
round goes backwards.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks.backends import Run
from benchmarks.processes import Worker, WorkerError, at_once, noted

PAUSE = 0.02  # seconds before a turn: threads of the one before stop waiting for more work
Task = tuple[Worker, dict[str, Any]]  # a process, and what it is asked to make


class Check(NamedTuple):
    """How results are compared."""

    tolerance: float
    norm: str = "largest"
    calls: int = 1  # whose results are compared


def measure(
    run: Run,
    tasks: Mapping[str, Task],
    references: Sequence[str],
    check: Check,
    turn: float,
    *,
    timed: Collection[str] = (),
    floors: Collection[str] = (),
    may_fail: Collection[str] = (),
    warm_up: int = 0,
) -> dict[str, Any]:
    """Return label -> {"difference", "ms": one a round, "peak_mb"}, or {"failed": why}.

    All are made at the same time; from their first call on they run one after the other.
    references   labels; results are compared with those of the first that has any
    turn         seconds of a turn
    timed        labels; all of them
    floors       labels that are timed and not compared
    may_fail     labels; on a strict backend any other's failure raises WorkerError
    """
    failed: dict[str, str] = {}
    found: dict[str, Any] = {label: {} for label in tasks}

    def ask(label: str, do: str, **more: Any) -> Any:
        with noted(label, failed):
            return tasks[label][0].ask(do, name=label, **more)

    def insist() -> None:
        wrong = [why for label, why in failed.items() if label not in may_fail]
        if run.backend.strict and wrong:
            raise WorkerError("; ".join(wrong))

    at_once([partial(ask, label, "make", task=task) for label, (_, task) in tasks.items()])
    reference = ""
    for reference in references:
        if reference not in failed:
            ask(reference, "keep", calls=check.calls)
        if reference not in failed:
            break
    for label in tasks:
        if label not in failed and label not in floors:
            with noted(label, failed):
                if reference in failed:
                    raise WorkerError(f"nothing to compare it with: {failed[reference]}")
                found[label]["difference"] = compare(tasks, label, reference, check)
        if label not in failed and warm_up:
            ask(label, "settle", calls=warm_up)
    insist()
    turns = [(label, tasks[label][0]) for label in timed or tasks]
    for label, ms in take_turns(turns, run.backend.rounds, turn, failed).items():
        found[label] |= {"ms": ms, "peak_mb": tasks[label][0].peak_mb}
    insist()
    for worker in {id(worker): worker for worker, _ in tasks.values()}.values():
        if worker.process is not None:
            with noted(worker.variant.name, failed):
                worker.ask("forget")
    return {
        label: entry | ({"failed": failed[label]} if label in failed else {})
        for label, entry in found.items()
    }


def compare(tasks: Mapping[str, Task], label: str, reference: str, check: Check) -> float:
    """Return how far the results are from the reference's; WorkerError if too far."""
    (worker, _), (other, _) = tasks[label], tasks[reference]
    if label == reference:
        return 0.0
    if worker is other:
        asked = {"name": label, "want": reference, "calls": check.calls, "norm": check.norm}
        apart: float = worker.ask("compare", **asked)["apart"]
    else:
        want = other.results(reference, check.calls)
        apart = difference(worker.results(label, check.calls), want, check.norm)
    if not apart <= check.tolerance:
        raise WorkerError(
            f"the results of {label} and of {reference} differ by {apart:.1e}, want at most "
            f"{check.tolerance:.0e}: one of them computes something else"
        )
    return apart


def take_turns(
    turns: Sequence[tuple[str, Worker]], rounds: int, seconds: float, failed: dict[str, str]
) -> dict[str, list[float]]:
    """Return the milliseconds of a call, one figure a round, by label.

    What fails is noted in ``failed``, and left out of the rest; without rounds there are no times.
    """
    times: dict[str, list[float]] = {label: [] for label, _ in turns}
    for number in range(rounds):
        for label, worker in turns[:: -1 if number % 2 else 1]:
            if label not in failed:
                time.sleep(PAUSE)
                with noted(label, failed):
                    times[label].append(worker.ask("time", name=label, seconds=seconds)["ms"])
    return {label: ms for label, ms in times.items() if ms and label not in failed}


def difference(got: Sequence[Any], want: Sequence[Any], norm: str = "largest") -> float:
    """Return the worst |got − want| / |want| of arrays or tensors; infinite where shapes differ.

    "largest", "mean square"   |.| of an array is its largest element, its root mean square
    "losses"   each is compared with itself, or with a hundredth of the largest where it is less: a
               network that has learned its few images by heart has a loss of 0
    It is not a number where a result is not, which no tolerance covers.
    """
    if [x.shape for x in got] != [x.shape for x in want]:
        return float("inf")
    pairs = list(zip(got, want, strict=True))
    if norm == "mean square":
        squares = [float(((a - b) ** 2).sum() / (b**2).sum()) for a, b in pairs]
        return float(np.max(squares)) ** 0.5
    least = float(np.max([abs(b).max() for b in want])) / 100 if norm == "losses" else 0.0
    each = [float(abs(a - b).max()) / max(float(abs(b).max()), least) for a, b in pairs]
    return float(np.max(each))
