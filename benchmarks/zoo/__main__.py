"""The networks of chapter 3 beside other libraries': ``python -m benchmarks.zoo [NAME ...]``.

For each: the published numbers of parameters; the same probabilities and gradients as the peer's
from the same random weights; the ONNX file's probabilities; time and peak memory of one training
step. Everything runs in a process by itself. Writes ``results/models-DATE.json`` and, when all
the networks were run, ``docs/models.md``. Their gradients: ``python -m benchmarks.zoo.gradients``.
"""

from __future__ import annotations

import argparse
import os
from datetime import date
from statistics import median
from typing import Any

from benchmarks.backends import CPU, new_pool
from benchmarks.page import write
from benchmarks.processes import WorkerError
from benchmarks.variants import Variant
from benchmarks.zoo.entries import ENTRIES
from benchmarks.zoo.page import RESULTS, newest, step_table, weights_table, write_page
from tinynet.doctor import machine_facts


def child(function: str, **arguments: Any) -> dict[str, Any]:
    with new_pool(CPU) as pool:
        worker = pool.worker(Variant("a network", "tinynet"))
        answer: dict[str, Any] = worker.call(f"zoo.{function}", **arguments)
    return answer


def steps(name: str, rounds: int) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    libraries = ("tinynet", "torch") if ENTRIES[name].torch else ("tinynet",)
    for library in libraries * rounds:
        turn = child("parity:measure", name=name, library=library)
        kept = found.setdefault(library, {**turn, "ms": []})
        kept["ms"] += turn["ms"]
        kept["peak_mb"] = max(kept["peak_mb"], turn["peak_mb"])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.zoo", description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help=", ".join(ENTRIES))
    add("--rounds", type=int, default=2, metavar="N", help="turns of steps (2)")
    add("--only", choices=["parity", "step"], help="one half; the other keeps its last figures")
    arguments = parser.parse_intermixed_args()
    names = arguments.names or list(ENTRIES)
    if unknown := [name for name in names if name not in ENTRIES]:
        parser.error(f"{unknown[0]} is not one of {', '.join(ENTRIES)}")

    file = RESULTS / f"models-{date.today()}.json"
    models = newest("models").get("models", {})
    on = {"cores": os.cpu_count(), "processor": machine_facts()["processor"]}
    for name in names:
        result = models.setdefault(name, {})
        try:
            if arguments.only != "step":
                result |= child("parity:compare", name=name)
                print(name, result["torch"], flush=True)
            if arguments.only != "parity":
                result["step"] = steps(name, arguments.rounds)
                ms = {k: f"{median(v['ms']):.0f} ms" for k, v in result["step"].items()}
                print(name, ms, flush=True)
        except WorkerError as error:
            raise SystemExit(f"error: {name}: {error}") from None
        write(file, on | {"models": models})
    print(weights_table(models), step_table(models), f"written to {file}", write_page(), sep="\n")


if __name__ == "__main__":
    main()
