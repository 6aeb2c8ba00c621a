"""Time training steps beside PyTorch's: ``python -m benchmarks``.

Each library runs in a process of its own. They take turns, so that a machine that slows down slows
all of them, and one step is one turn. First each makes five steps from the same weights on the
same images, and their losses are compared: what computes something else is not timed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.peers import PEERS
from benchmarks.workloads import WORKLOADS

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 1e-3  # of the losses of the first steps, relative; float32 sums in another order


class Worker:
    """One library in a process of its own."""

    def __init__(self, peer: str, workload: str) -> None:
        self.peer = peer
        # a machine's setting for BLAS is part of neither library
        hidden = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}
        environment = {k: v for k, v in os.environ.items() if k not in hidden}
        command = [sys.executable, "-m", "benchmarks.worker", peer, workload]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def steps(self, count: int) -> dict[str, Any]:
        """Make so many steps."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"error: {self.peer} ended early, see above")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        self.process.wait()


def compare(name: str, rounds: int) -> dict[str, Any]:
    """Check, then time, every library on one workload."""
    peers = [p for p in PEERS if not p.startswith("torch") or find_spec("torch")]
    workers = [Worker(peer, name) for peer in peers]
    first = {w.peer: w.steps(5)["losses"] for w in workers}
    for peer, losses in first.items():
        worst = max(abs(a / b - 1) for a, b in zip(losses, first["tinynet"], strict=True))
        if worst > TOLERANCE:
            raise SystemExit(
                f"error: {name}: the losses of {peer} are {losses}, tinynet's {first['tinynet']}"
            )
    times: dict[str, list[float]] = {w.peer: [] for w in workers}
    peaks: dict[str, float] = {}
    for _ in range(rounds):
        for worker in workers:
            answer = worker.steps(1)
            times[worker.peer] += answer["ms"]
            peaks[worker.peer] = answer["peak_mb"]
    for worker in workers:
        worker.close()
    return {"workload": asdict(WORKLOADS[name]), "ms": times, "peak_mb": peaks}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Median, spread and ratio of every library on every workload."""
    head = ("workload", "library", "median ms", "min to max", "others / tinynet", "peak MB")
    lines = [head]
    for name, result in results.items():
        ours = result["ms"]["tinynet"]
        for peer, times in result["ms"].items():
            ratio = median(t / o for t, o in zip(times, ours, strict=True))
            spread = f"{min(times):.0f} to {max(times):.0f}"
            peak = f"{result['peak_mb'][peer]:.0f}"
            lines.append((name, peer, f"{median(times):.0f}", spread, f"{ratio:.2f}", peak))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def main() -> None:
    """Run the workloads that were asked for; print a table, write the figures to a file."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=", ".join(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=9, metavar="N", help="steps timed (9)")
    arguments = parser.parse_args()
    names = arguments.workloads or list(WORKLOADS)
    if unknown := [name for name in names if name not in WORKLOADS]:
        parser.error(f"{unknown[0]} is none of {', '.join(WORKLOADS)}")
    if not find_spec("torch"):
        print("torch is missing: python -m pip install torch==2.13.0", file=sys.stderr)
    results = {name: compare(name, arguments.rounds) for name in names}
    print(table(results))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"cpu-{date.today()}.json"
    machine = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    file.write_text(json.dumps({**machine, "steps": results}, indent=1) + "\n")
    print(f"written to {file}")


if __name__ == "__main__":
    main()
