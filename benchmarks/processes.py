"""Workers, each a library in a process by itself.

Settings of BLAS, malloc and CUDA are taken out of the environment, for every library alike. A
process that does not answer in time, or whose GPU has failed (which spoils a process for good), is
ended, and starts again with the next request.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from select import select
from typing import Any

import numpy as np

from benchmarks.variants import Variant

ROOT = Path(__file__).parents[1]
HIDDEN = (
    *("OPENBLAS_", "GOTO_", "MKL_", "KMP_", "GOMP_", "MALLOC_", "TINYNET_", "NUMBA_NUM_"),
    *("CUPY_TF32", "CUDA_LAUNCH_BLOCKING"),
)
SPOILED = ("cuda", "cublas", "cudnn", "acceleratorerror", "nvrtc", "out of memory")  # in an error
LEAST = 5.0  # seconds for an answer


class WorkerError(Exception):
    """A worker could not do what it was asked."""


@dataclass
class Worker:
    """One variant, in a process that begins with the first request."""

    variant: Variant
    pool: Pool
    process: subprocess.Popen[str] | None = None
    peak_mb: float = 0.0  # as of the last answer
    free: threading.Lock = field(default_factory=threading.Lock)

    def ask(self, do: str, limit: float | None = None, **request: Any) -> dict[str, Any]:
        """Return the answer to a request, one of the methods of ``benchmarks.worker.Server``.

        Raises WorkerError if that fails, or takes more than ``limit`` seconds.
        """
        name, limit = self.variant.name, self.pool.limited(limit)
        with self.free:
            line = self.exchange(json.dumps({"do": do, **request}), limit)
        if not line:
            self.close(kill=True)
            why = f"no answer in {limit:.0f} s" if line is None else "its process ended, see above"
            raise WorkerError(f"{name}: {why}")
        answer: dict[str, Any] = json.loads(line)
        self.peak_mb = answer.pop("peak_mb", self.peak_mb)
        if error := answer.get("error"):
            if self.pool.device == "gpu" and any(word in error.lower() for word in SPOILED):
                self.close(kill=True)
            raise WorkerError(f"{name}: {error}")
        return answer

    def exchange(self, request: str, limit: float) -> str | None:
        """Return the answer's line; None if there is none in time, "" if the process has ended."""
        process = self.process = self.process or self.pool.start(self.variant)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(request + "\n")
            process.stdin.flush()
        except BrokenPipeError:
            return ""
        ready, _, _ = select([process.stdout], [], [], limit)
        return process.stdout.readline() if ready else None

    def call(self, function: str, **arguments: Any) -> Any:
        return self.ask("call", function=function, arguments=arguments)["value"]

    def results(self, name: str, calls: int) -> list[np.ndarray]:
        with tempfile.TemporaryDirectory() as folder:
            file = str(Path(folder) / "results.npz")
            self.ask("results", name=name, calls=calls, file=file)
            with np.load(file) as saved:
                return [saved[key] for key in saved.files]

    def close(self, kill: bool = False) -> None:
        """End the process, if there is one."""
        process, self.process = self.process, None
        if process is None:
            return
        if kill:
            process.kill()
        try:
            process.communicate(timeout=30)  # closes its input, at which it ends
        except (subprocess.TimeoutExpired, BrokenPipeError):
            process.kill()
            process.wait()


@dataclass
class Pool:
    """The workers of a run, one for each variant; ``with`` ends them.

    limit   seconds for an answer, where a request names no other
    left    seconds that the part of the run has left
    """

    device: str
    threads: int
    limit: float
    left: Callable[[], float] = lambda: math.inf
    workers: dict[str, Worker] = field(default_factory=dict)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.close()

    def limited(self, limit: float | None = None) -> float:
        """Return the seconds for an answer: a part that is over time still gets a few."""
        return min(limit or self.limit, self.limit, max(LEAST, self.left()))

    def worker(self, variant: Variant) -> Worker:
        return self.workers.setdefault(variant.name, Worker(variant, self))

    def start(self, variant: Variant) -> subprocess.Popen[str]:
        """Begin a process."""
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.worker"]
        env, pipe = environment(variant, self.threads, self.device), subprocess.PIPE
        command += [json.dumps(asdict(variant)), self.device]
        return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env, cwd=ROOT)


def environment(variant: Variant, threads: int, device: str = "cpu") -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(HIDDEN)}
    kept["OMP_NUM_THREADS"] = str(threads)
    if variant.kernels:
        kept["TINYNET_KERNELS"] = variant.kernels
    if device == "cpu":  # else torch.compile leaves a pool of compiling processes behind
        kept["TORCHINDUCTOR_COMPILE_THREADS"] = "1"
    return kept


@contextmanager
def noted(label: str, failed: dict[str, str]) -> Iterator[None]:
    try:
        yield
    except WorkerError as error:
        failed[label] = str(error)


def at_once(jobs: Sequence[Callable[[], object]]) -> None:
    """Run all jobs at the same time, and wait for them."""
    threads = [threading.Thread(target=job) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
