"""Speed and memory of tinynet beside PyTorch's on an NVIDIA GPU: ``python -m benchmarks.gpu``.

In this order: correctness, ceilings, ops, steps, kernels, scaling; or those that are named. A part
begins with its share of the minutes and says what it had no time for. What is there is written
after every part: GPU-DATE.json, .md and .png in the folder.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from tinynet.doctor.gpu import read_gpu

from benchmarks.gpu import correctness, kernels, operations, plots, steps, tables
from benchmarks.gpu.clock import SHARES, Clock
from benchmarks.gpu.machine import nvidia_smi
from benchmarks.gpu.processes import Pool, WorkerError, pool
from benchmarks.gpu.results import name_of, read, write
from benchmarks.gpu.settings import REHEARSAL, Keep, Settings
from benchmarks.gpu.variants import HAVE_TORCH, MISSING_TORCH, OPS
from benchmarks.results import KEPT, TRIALS

MINUTES = 8.0
FACTS_SECONDS = 90.0
Part = Callable[[Settings, Pool, Clock, Keep], dict[str, Any]]


def ceilings(settings: Settings, workers: Pool, clock: Clock, _: Keep) -> dict[str, Any]:
    """What the GPU does at best."""
    asked = {"side": settings.side, "bytes": settings.bytes}
    return workers.worker(OPS).ask(limit=max(60.0, clock.left()), ceilings=asked)


PARTS: dict[str, Part] = {
    "correctness": correctness.measure,
    "ceilings": ceilings,
    "ops": operations.measure,
    "steps": steps.measure_networks,
    "kernels": kernels.measure,
    "scaling": steps.measure_scaling,
}


def run(settings: Settings, names: Sequence[str], minutes: float, folder: Path) -> Path:
    """Measure the parts and write after each; the JSON file."""
    clock = Clock(minutes, names)
    with pool(settings.device) as workers:
        machine = workers.worker(OPS).ask(limit=FACTS_SECONDS, facts=True)
        machine["nvidia_smi"] = nvidia_smi()
        file = folder / f"{name_of(machine)}.json"
        results = {**read(file), "date": str(date.today()), "machine": machine}
        for name in names:
            clock.begin(name)
            began = clock.now()

            def keep(found: dict[str, Any], name: str = name) -> None:
                write(file, {**results, name: {**found, "skipped": clock.skipped, "whole": False}})

            try:
                found = PARTS[name](settings, workers, clock, keep)
            except WorkerError as error:
                found = {"failed": str(error)}
            found |= {"seconds": clock.now() - began, "skipped": clock.skipped}
            results[name] = found
            record(results, file)
        results["machine"]["nvidia_smi_after"] = nvidia_smi()
        record(results, file)
    clock.say("all parts done")
    return file


def record(results: dict[str, Any], file: Path) -> None:
    """Write figures, tables and picture; a picture that fails is no loss."""
    write(file, results)
    file.with_suffix(".md").write_text(tables.page(read(file)), encoding="utf-8")
    try:
        plots.plot(results, file.with_suffix(".png"))
    except Exception as error:
        print(f"no picture: {type(error).__name__}: {error}", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    text, _, more = (__doc__ or "").partition("\n")
    made = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=text, epilog=more)
    made.add_argument("parts", nargs="*", metavar="PART", help=f"all, or of: {', '.join(PARTS)}")
    made.add_argument(
        "--minutes", type=positive, default=MINUTES, help=f"that the parts share ({MINUTES:g})"
    )
    made.add_argument("--out", type=Path, metavar="DIR", help="for the results (see above)")
    made.add_argument(
        "--rounds", type=int, metavar="N", help=f"turns of each library ({Settings().rounds})"
    )
    made.add_argument(
        "--without-compile", action="store_true", help="leave torch.compile out, which is slow"
    )
    made.add_argument(
        "--more-torch",
        action="store_true",
        help="torch.compile's modes reduce-overhead and max-autotune too, which take minutes",
    )
    # the whole run on a processor, with small shapes: its figures mean nothing
    made.add_argument("--dry-run", action="store_true", help=argparse.SUPPRESS)
    return made


def positive(text: str) -> float:
    """A number above 0."""
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"got {text}, want more than 0")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what was asked for."""
    made = parser()
    a = made.parse_args(arguments)
    if unknown := [name for name in a.parts if name not in PARTS]:
        made.error(f"{unknown[0]} is none of {', '.join(PARTS)}")
    if not a.dry_run:
        found = read_gpu()
        if not found.devices:
            raise SystemExit(f"error: no GPU to measure: {found.note}")
    if not HAVE_TORCH:
        print(MISSING_TORCH, file=sys.stderr)
    settings = REHEARSAL if a.dry_run else Settings()
    settings = replace(
        settings,
        rounds=a.rounds or settings.rounds,
        compiled=settings.compiled and not a.without_compile,
        more=a.more_torch,
    )
    names = [name for name in SHARES if name in (a.parts or SHARES)]
    folder = a.out or (TRIALS if a.dry_run else KEPT)
    try:
        file = run(settings, names, a.minutes, folder)
    except WorkerError as error:
        raise SystemExit(f"error: {error}") from None
    print(tables.page(read(file)))
    print(f"written: {file}, .md and .png")


if __name__ == "__main__":
    main()
