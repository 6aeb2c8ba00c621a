"""Workers, each a library in a process of its own, and taking turns.

They take turns round by round, so that a machine that slows down slows all of them. Machine-wide
settings of BLAS and malloc are taken out of the environment, for every library alike.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.variants import Variant

ROOT = Path(__file__).parents[1]
HIDDEN = ("OPENBLAS_", "GOTO_", "MKL_", "KMP_", "GOMP_", "MALLOC_", "TINYNET_", "NUMBA_NUM_")
PAUSE = 0.02  # seconds before a turn: threads of the one before stop waiting for more work


class WorkerError(Exception):
    """A worker could not do what it was asked."""


class Worker:
    """One variant, in a process of its own."""

    def __init__(self, variant: Variant, threads: int) -> None:
        self.variant = variant
        self.peak_mb = 0.0  # as of the last answer
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.worker"]
        self.process = subprocess.Popen(
            [*command, json.dumps(asdict(variant))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment(variant, threads),
            cwd=ROOT,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request, see ``benchmarks.worker``; raises WorkerError if it fails."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise WorkerError(f"{self.variant.name} ended early, see above") from None
        line = self.process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.variant.name} ended early, see above")
        answer: dict[str, Any] = json.loads(line)
        self.peak_mb = answer["peak_mb"]
        if "error" in answer:
            raise WorkerError(f"{self.variant.name}: {answer['error']}")
        return answer

    def results(self, name: str, calls: int) -> list[np.ndarray]:
        """What a subject gives in so many calls."""
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "results.npz")
            self.ask(check=name, calls=calls, file=file)
            with np.load(file) as saved:
                return [saved[key] for key in saved.files]

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process.wait()


@contextmanager
def workers(variants: Sequence[Variant], threads: int) -> Iterator[list[Worker]]:
    """A worker for each variant, ended with the block."""
    started: list[Worker] = []
    try:
        for variant in variants:
            started.append(Worker(variant, threads))
        yield started
    finally:
        for worker in started:
            worker.close()


def environment(variant: Variant, threads: int) -> dict[str, str]:
    """The variables that a worker starts with."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(HIDDEN)}
    kept["OMP_NUM_THREADS"] = str(threads)
    if variant.kernels:
        kept["TINYNET_KERNELS"] = variant.kernels
    # else torch.compile leaves a pool of compiling processes behind
    kept["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    return kept


def take_turns(
    turns: Sequence[tuple[str, Worker, str]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Milliseconds of a call, one figure a round, by label; every second round goes backwards.

    turns     (label, worker, name of its subject)
    seconds   how long a turn lasts; at least one call is made
    """
    times: dict[str, list[float]] = {label: [] for label, _, _ in turns}
    for number in range(rounds):
        for label, worker, name in turns[:: -1 if number % 2 else 1]:
            time.sleep(PAUSE)
            times[label].append(worker.ask(time=name, seconds=seconds)["ms"])
    return times


def usable_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
