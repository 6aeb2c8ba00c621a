"""The networks of chapter 3 beside other libraries': ``python -m benchmarks.zoo [NAME ...]``.

For each: the published numbers of parameters; the same probabilities and gradients as the peer's
from the same random weights; the ONNX file's probabilities; time and peak memory of one training
step. Everything runs in a process of its own. Writes ``results/models-DATE.json`` and, when all
the networks were run, ``docs/models.md``. Their gradients: ``python -m benchmarks.zoo.gradients``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import date
from statistics import median
from typing import Any

from tinynet.doctor.machine import processor_name

from benchmarks.zoo.entries import ENTRIES
from benchmarks.zoo.page import RESULTS, ROOT, newest, step_table, weights_table, write_page


def child(module: str, *arguments: str) -> dict[str, Any]:
    """Run a module of this package; returns the JSON on its last line."""
    command = [sys.executable, "-W", "ignore", "-m", f"benchmarks.zoo.{module}", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"error: {module} {' '.join(arguments)} failed, see above")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def steps(name: str, rounds: int) -> dict[str, dict[str, Any]]:
    """Training steps of each library in turns, a process a turn."""
    found: dict[str, dict[str, Any]] = {}
    for _ in range(rounds):
        for library in ("tinynet", "torch"):
            if library == "torch" and ENTRIES[name].torch is None:
                continue
            turn = child("step", name, library)
            kept = found.setdefault(library, {**turn, "ms": []})
            kept["ms"] += turn["ms"]
            kept["peak_mb"] = max(kept["peak_mb"], turn["peak_mb"])
    return found


def main() -> None:
    """Run what was asked for, print the tables, write the files."""
    parser = argparse.ArgumentParser(prog="benchmarks.zoo", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ENTRIES))
    parser.add_argument("--rounds", type=int, default=2, metavar="N", help="turns of steps (2)")
    parser.add_argument(
        "--only", choices=["parity", "step"], help="one half; the other keeps its last figures"
    )
    arguments = parser.parse_args()
    names = arguments.names or list(ENTRIES)
    if unknown := [name for name in names if name not in ENTRIES]:
        parser.error(f"{unknown[0]} is none of {', '.join(ENTRIES)}")

    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"models-{date.today()}.json"
    models = newest("models").get("models", {})
    for name in names:
        result = models.setdefault(name, {})
        if arguments.only != "step":
            result |= child("parity", name)
        if arguments.only != "parity":
            result["step"] = steps(name, arguments.rounds)
            ms = {k: f"{median(v['ms']):.0f} ms" for k, v in result["step"].items()}
            print(name, ms, flush=True)
        else:
            print(name, result["torch"], flush=True)
        machine = {
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "processor": processor_name(),
        }
        file.write_text(json.dumps(machine | {"models": models}, indent=1) + "\n")
    print(weights_table(models))
    print(step_table(models))
    print(f"written to {file}")
    print(write_page())


if __name__ == "__main__":
    main()
