"""Processes that answer in time or are ended, and that start again when asked the next time.

A kernel that reads where it may not spoils its process for good, and one that waits for ever never
answers: neither may take the rest of a run with it.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from benchmarks.gpu.variants import Variant
from benchmarks.processes import ROOT

HIDDEN = ("TINYNET_", "CUPY_TF32", "CUDA_LAUNCH_BLOCKING")  # settings of the machine
SPOILED = ("cuda", "cublas", "cudnn", "acceleratorerror", "nvrtc", "out of memory")  # in an error
LIMIT = 120.0  # seconds for an answer


class WorkerError(Exception):
    """A process could not do what it was asked."""


class Worker:
    """One variant, in a process of its own, which begins with the first request."""

    def __init__(self, variant: Variant, device: str) -> None:
        self.variant, self.device = variant, device
        self.process: subprocess.Popen[str] | None = None
        self.answers: queue.Queue[str] = queue.Queue()

    def ask(self, limit: float = LIMIT, **request: Any) -> dict[str, Any]:
        """The answer to a request, see ``benchmarks.gpu.worker``.

        Raises WorkerError if that fails, or takes more than ``limit`` seconds.
        """
        name = self.variant.name
        process = self.process or self.start()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(request) + "\n")
            process.stdin.flush()
            line = self.answers.get(timeout=limit)
        except BrokenPipeError:
            line = ""
        except queue.Empty:
            self.close(kill=True)
            raise WorkerError(f"{name}: no answer in {limit:.0f} s") from None
        if not line:
            self.close(kill=True)
            raise WorkerError(f"{name}: its process ended, see above")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            self.close_if_spoiled(answer["error"])
            raise WorkerError(f"{name}: {answer['error']}")
        return answer

    def start(self) -> subprocess.Popen[str]:
        """Begin the process."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(HIDDEN)}
        if self.device == "cpu":
            environment["OMP_NUM_THREADS"] = "1"  # small shapes: threads would wait for each other
        self.answers = queue.Queue()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-W", "ignore", "-m", "benchmarks.gpu.worker"),
                *(json.dumps(asdict(self.variant)), self.device),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        threading.Thread(target=read, args=(self.process, self.answers), daemon=True).start()
        return self.process

    def close_if_spoiled(self, error: str) -> None:
        """End the process if its error may be the GPU's: later calls would then fail as well."""
        if any(word in error.lower() for word in SPOILED):
            self.close(kill=True)

    def close(self, kill: bool = False) -> None:
        """End the process, if there is one."""
        process, self.process = self.process, None
        if process is None:
            return
        assert process.stdin is not None
        try:
            process.stdin.close()
        except BrokenPipeError:
            kill = True
        if kill:
            process.kill()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def read(process: subprocess.Popen[str], answers: queue.Queue[str]) -> None:
    """Pass on each line, and "" at the end."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            answers.put(line)
    answers.put("")


class Pool:
    """The workers of a run, one for each variant."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.workers: dict[str, Worker] = {}

    def worker(self, variant: Variant) -> Worker:
        """The one of this variant."""
        return self.workers.setdefault(variant.name, Worker(variant, self.device))

    def close(self) -> None:
        """End all."""
        for worker in self.workers.values():
            worker.close()


@contextmanager
def pool(device: str) -> Iterator[Pool]:
    """Workers that end with the block."""
    made = Pool(device)
    try:
        yield made
    finally:
        made.close()


def at_once(jobs: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each job returns, or the WorkerError that it raised; all run at the same time."""
    results: list[Any] = [None] * len(jobs)

    def run(number: int) -> None:
        try:
            results[number] = jobs[number]()
        except WorkerError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
