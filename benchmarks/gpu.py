"""Speed and memory of tinynet beside PyTorch's on an NVIDIA GPU: ``python -m benchmarks.gpu``.

In this order: correctness, ceilings, ops, steps, kernels, scaling; or those that are named. A part
begins with its share of the minutes and says what it had no time for. What is there is written
after every part: GPU-DATE.json, .md and .png in the folder. ``first`` is another list of parts, for
the first minutes on a GPU machine (benchmarks/first.py), and writes first-GPU-DATE.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import first, tables
from benchmarks.backends import GPU, REHEARSAL, Backend, Clock, Run, new_pool
from benchmarks.machine import machine, nvidia_smi
from benchmarks.ops import measure_ops
from benchmarks.page import KEPT, TRIALS, read, rounded, write
from benchmarks.parts import measure_ceilings, measure_correctness, measure_kernels
from benchmarks.plots import plot
from benchmarks.processes import WorkerError
from benchmarks.steps import measure_scaling, measure_steps
from benchmarks.variants import OPS, installed
from tinynet.doctor import read_gpu

MINUTES = 8.0
Part = Callable[[Run], dict[str, Any]]
Parts = Mapping[str, tuple[float, Part]]
PARTS: Parts = {  # in their order, and the share of the time of each
    "correctness": (0.2, measure_correctness),
    "ceilings": (0.05, measure_ceilings),
    "ops": (0.25, measure_ops),
    "steps": (0.25, measure_steps),
    "kernels": (0.1, measure_kernels),
    "scaling": (0.15, lambda run: measure_scaling(first.briefly(run))),
}


def run(backend: Backend, parts: Parts, minutes: float, folder: Path, start: str = "") -> Path:
    """Measure the parts and write after each; return the JSON file, its name from ``start`` on.

    A part that fails, or whose processes die, leaves the others.
    """
    clock = Clock(minutes, {name: share for name, (share, _) in parts.items()})
    with new_pool(backend, clock.left) as pool:
        here = Run(backend, pool, clock)
        try:
            on = machine(here)
        except WorkerError as error:
            on = {"gpu": "unknown GPU", "versions": {}, "failed": str(error)}
        name = re.sub(r"[^a-z0-9]+", "-", on["gpu"].lower()).strip("-")
        file = folder / f"{start}{name}-{date.today()}.json"
        results = {**read(file), "date": str(date.today()), "machine": on}
        for name, (_, part) in parts.items():
            clock.begin(name)
            began = clock.now()

            def keep(found: dict[str, Any], name: str = name) -> None:
                part = {**found, "skipped": clock.skipped, "whole": False}
                write(file, rounded({**results, name: part}))

            try:
                found = part(replace(here, keep=keep))
            except Exception as error:
                traceback.print_exc(limit=-4)
                found = {"failed": f"{type(error).__name__}: {error}"}
            results[name] = {**found, "seconds": clock.now() - began, "skipped": clock.skipped}
            record(results, file)
        results["machine"] = on | nvidia_smi("nvidia_smi_after")
        record(results, file)
    clock.say("all parts done")
    return file


def record(results: dict[str, Any], file: Path) -> None:
    write(file, rounded(results))
    try:
        file.with_suffix(".md").write_text(tables.page(read(file)), encoding="utf-8")
        plot(results.values(), file.with_suffix(".png"))
    except Exception as error:
        print(f"no tables or no picture: {type(error).__name__}: {error}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    text, _, more = (__doc__ or "").partition("\n")
    made = argparse.ArgumentParser("benchmarks.gpu", None, text, more)
    add = made.add_argument
    add("parts", nargs="*", metavar="PART", help=f"all, or of: {', '.join(PARTS)}; or first")
    add("--minutes", type=float, default=MINUTES, help=f"that the parts share ({MINUTES:g})")
    add("--out", type=Path, metavar="DIR", help="for the results ($OUT, or as above)")
    add("--rounds", type=int, metavar="N", help=f"turns of each library ({GPU.rounds})")
    add("--without-compile", action="store_true", help="leave torch.compile out, which is slow")
    # the whole run on a processor, with small shapes: its figures mean nothing
    add("--dry-run", action="store_true", help=argparse.SUPPRESS)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    made = parser()
    a = made.parse_intermixed_args(arguments)
    begun = a.parts == ["first"]
    if unknown := [name for name in a.parts if name not in PARTS and not begun]:
        made.error(f"{unknown[0]} is not one of {', '.join(PARTS)}, or first by itself")
    if not a.minutes > 0:
        made.error(f"got {a.minutes:g} minutes, want more than 0")
    if not a.dry_run and not (found := read_gpu(at_most=1)).devices:
        raise SystemExit(f"error: no GPU to measure: {found.note}")
    for line in installed([OPS])[1]:
        print(f"{line}; ours is timed alone, and not checked", file=sys.stderr)
    backend = REHEARSAL if a.dry_run else GPU
    peers = tuple(v for v in backend.peers if not (v.compiled and a.without_compile))
    backend = replace(backend, peers=peers, rounds=a.rounds or backend.rounds)
    folder = a.out or Path(os.environ.get("OUT") or (TRIALS if begun or a.dry_run else KEPT))
    start = f"{'first-' * begun}{'rehearsal-' * a.dry_run}"
    wanted = {name: part for name, part in PARTS.items() if name in (a.parts or PARTS)}
    file = run(backend, first.PARTS if begun else wanted, a.minutes, folder, start)
    print(tables.page(read(file)))
    print(f"written: {file}, .md and .png")


if __name__ == "__main__":
    main()
