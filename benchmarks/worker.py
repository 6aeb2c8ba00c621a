"""A process that times one library: it does what it is told in JSON lines, and answers in them.

python -m benchmarks.worker '{"name": "tinynet NumPy", "library": "tinynet"}' cpu

{"do": ...} names one of the methods of ``Server``, and has its arguments. An answer has the peak of
memory, or "error", which says what went wrong.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks import device as devices
from benchmarks import ops, peers
from benchmarks.device import Cpu, Gpu, Subject
from benchmarks.turns import difference
from benchmarks.variants import Variant, keep_freed_memory


class Server:
    """What a process keeps between two requests: subjects by name."""

    def __init__(self, variant: Variant, device: Cpu) -> None:
        self.variant, self.device = variant, device
        self.subjects: dict[str, Subject] = {}
        self.kept: dict[str, list[Any]] = {}  # results that others are compared with
        if variant.allocator:
            keep_freed_memory()
        if variant.library == "torch" and device.name == "cpu":
            import torch

            torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))

    def answer(self, line: str) -> dict[str, Any]:
        request = json.loads(line)
        answer = getattr(self, request.pop("do"))(**request) or {}
        return {**answer, "peak_mb": self.device.peak_mb(self.subjects.values())}

    def make(self, name: str, task: dict[str, Any]) -> None:
        """Make a subject.

        {"kind": "training" or "inference", "workload": ..., "precision": ...}   of ``peers``
        {"kind": "op", "op": ..., "library": ..., "shape": ..., ...}             of ``ops``
        {"kind": "product" or "copy", ...}                                       of ``device``
        """
        if name in self.subjects:
            self.forget(name)
        kind, device = task.pop("kind"), self.device
        if kind in ("training", "inference"):
            made = peers.subject(kind, **task, variant=self.variant, device=device)
        elif kind == "op":
            made = ops.subject(**task, device=device)
        else:
            floor: Any = {"product": devices.product, "copy": devices.copy}[kind]
            made = floor(device, self.variant.library, **task)
        self.subjects[name] = made

    def forget(self, name: str = "") -> None:
        for each in [name] if name else list(self.subjects):
            self.kept.pop(each, None)
            self.subjects.pop(each, None)
        self.device.free()
        if self.variant.compiled:
            import torch

            torch.compiler.reset()

    def keep(self, name: str, calls: int) -> None:
        """Keep what several calls of a subject give: a call may change its arrays."""
        self.kept[name] = self.subjects[name].values(calls)

    def results(self, name: str, calls: int, file: str) -> None:
        np.savez(file, *(self.kept.get(name) or self.subjects[name].values(calls)))

    def compare(self, name: str, want: str, calls: int, norm: str) -> dict[str, float]:
        """Return how far the results of a subject are from what was kept of another."""
        return {"apart": difference(self.subjects[name].values(calls), self.kept[want], norm)}

    def settle(self, name: str, calls: int) -> None:
        """Call a subject a few times; on a GPU the peak of memory counts from here."""
        self.device.free()
        self.subjects[name].values(calls)
        self.device.wait()

    def time(self, name: str, seconds: float) -> dict[str, float]:
        return {"ms": self.device.time(self.subjects[name], seconds)}

    def call(self, function: str, arguments: dict[str, Any]) -> dict[str, Any]:
        module, _, name = function.partition(":")
        called = getattr(import_module(f"benchmarks.{module}"), name)
        return {"value": called(self.device, **arguments)}


def first_line(error: BaseException) -> str:
    """Return what went wrong, in one line; CuPy's messages begin with a frame of signs."""
    lines = [line.strip(" =") for line in str(error).splitlines()]
    return f"{type(error).__name__}: {next((line for line in lines if line), 'no message')[:300]}"


def main(variant: Variant, device: str) -> None:
    # libraries print to standard output too: answers go out by another door
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    server: Server | None = None
    for line in sys.stdin:
        try:
            server = server or Server(variant, (Gpu if device == "gpu" else Cpu)())
            answer = server.answer(line)
        except Exception as error:
            answer = {"error": first_line(error)}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(Variant(**json.loads(sys.argv[1])), sys.argv[2])
