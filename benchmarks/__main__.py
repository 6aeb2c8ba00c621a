"""Speed and memory of tinynet beside PyTorch's on a CPU: ``python -m benchmarks``.

Results are compared first: what computes something else is not timed. Each library runs in a
process by itself, with the same number of threads, and they take turns. Without a command: steps,
then ops. Nothing is installed; what is missing is named and left out. A whole run renews
docs/performance.md; ``page`` does that from the results that are there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import page, tables
from benchmarks.backends import CPU, Run, new_pool, usable_cores
from benchmarks.loader import measure_loader
from benchmarks.machine import machine
from benchmarks.ops import GROUPS, measure_ops
from benchmarks.page import FEWEST_ROUNDS, KEPT, TRIALS, rounded, write
from benchmarks.plots import plot
from benchmarks.processes import WorkerError
from benchmarks.steps import PANELS, measure_scaling, measure_steps
from benchmarks.variants import STEP_VARIANTS, installed
from benchmarks.workloads import KINDS, WORKLOADS


class Command(NamedTuple):
    help: str
    parts: Sequence[str]
    minutes: int  # of a whole run on 2 cores
    rounds: int = 7


COMMANDS = {
    "steps": Command("training steps and inference, with memory", [*WORKLOADS], 25, 9),
    "ops": Command("single operations", GROUPS["cpu"], 15),
    "scaling": Command("how a step's cost grows", PANELS, 8),
    "loader": Command("the radiograph example's data path", (), 5),
}


def found_by(kind: str, run: Run, a: argparse.Namespace) -> dict[str, Any]:
    if kind == "steps":
        return measure_steps(run, a.names, [a.only] if a.only else KINDS, not a.without_compile)
    if kind == "ops":
        return measure_ops(run, a.names)
    return measure_scaling(run, a.names) if kind == "scaling" else measure_loader(run)


def measure(kind: str, a: argparse.Namespace) -> None:
    """Run a command and write its JSON; renew the page if nothing was left out, else plot it."""
    command = COMMANDS[kind]
    print(f"{kind}: a whole run takes {command.minutes} minutes on 2 cores", file=sys.stderr)
    rounds = a.rounds or command.rounds
    backend = replace(CPU, rounds=rounds, threads=a.threads)
    with new_pool(backend) as pool:
        on = machine(Run(backend, pool))
    with new_pool(backend) as pool:
        found = found_by(kind, Run(backend, pool), a)
    results = {"date": str(date.today()), "machine": on, "rounds": rounds, **found}
    for text in tables.of_cpu(kind, results):
        print(f"\n{text}")
    whole = not a.only and set(a.names or command.parts) == set(command.parts)
    kept = whole and rounds >= FEWEST_ROUNDS and a.threads == usable_cores()
    file = (a.out or (KEPT if kept else TRIALS)) / f"cpu-{kind}-{date.today()}.json"
    print(f"written: {write(file, rounded(results))}")
    if kept and a.out is None:
        print("renewed:", *page.renew())
        return
    plot([results], file.with_suffix(".png"))
    print(f"written: {file.with_suffix('.png')}; docs/performance.md, of whole runs, is as it was")


def parser() -> argparse.ArgumentParser:
    text, _, more = (__doc__ or "").partition("\n")
    for name, c in COMMANDS.items():
        more += f"\n{name} ({c.minutes} min): {c.help}{': ' * bool(c.parts)}{', '.join(c.parts)}"
    raw = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser("benchmarks", None, text, more, formatter_class=raw)
    add = made.add_argument
    add("command", nargs="?", choices=[*COMMANDS, "page"], help="steps, then ops")
    add("names", nargs="*", metavar="NAME", help="parts of the command (below); all of them")
    add("--rounds", type=positive, metavar="N", help="turns of each library (7; of steps, 9)")
    add("--threads", type=positive, default=usable_cores(), metavar="N", help="every core")
    add("--out", type=Path, help="a whole run: benchmarks/results, else runs/benchmarks")
    add("--only", choices=KINDS, help="of steps")
    add("--without-compile", action="store_true", help="leave torch.compile out of steps")
    add("--results", type=Path, default=KEPT, help="that the page is made of")
    return made


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {text}, want 1 or more")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    made = parser()
    a = made.parse_intermixed_args(arguments)
    if a.command == "page":
        print("written:", *page.renew(a.results))
        return
    parts = COMMANDS[a.command].parts if a.command else ()
    if unknown := [name for name in a.names if name not in parts]:
        made.error(f"{unknown[0]} is not one of {', '.join(parts)}")
    if a.out and a.out.exists() and not a.out.is_dir():
        made.error(f"--out {a.out} is a file, want a folder")
    for line in installed(STEP_VARIANTS)[1]:
        print(line, file=sys.stderr)
    for kind in [a.command] if a.command else ["steps", "ops"]:
        try:
            measure(kind, a)
        except WorkerError as error:
            raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
