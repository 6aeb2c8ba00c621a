"""Speed and memory of tinynet beside PyTorch's on a CPU: ``python -m benchmarks``.

Results are compared first: what computes something else is not timed. Each library runs in a
process by itself, with the same number of threads, and they take turns. Without a command: steps,
then ops. Nothing is installed; what is missing is named and left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks import page, tables
from benchmarks.backends import CPU, Run, new_pool, usable_cores
from benchmarks.loader import measure_loader
from benchmarks.machine import machine
from benchmarks.operations import measure_ops
from benchmarks.ops import GROUPS, OPS
from benchmarks.plots import plot
from benchmarks.processes import WorkerError
from benchmarks.results import FEWEST_ROUNDS, KEPT, TRIALS, write
from benchmarks.steps import PANELS, measure_scaling, measure_steps
from benchmarks.variants import STEP_VARIANTS, installed
from benchmarks.workloads import KINDS, WORKLOADS

Found = dict[str, Any]


def steps(run: Run, a: argparse.Namespace) -> Found:
    """Measure whole networks, and print their tables."""
    kinds = [a.only] if a.only else KINDS
    found = measure_steps(run, a.names, kinds, compiled=not a.without_compile)
    for kind in kinds:
        print(f"\n{kind}\n{tables.steps_table(found['steps'], kind)}")
    print(f"\n{tables.targets_table(found['steps'])}")
    return found


def ops(run: Run, a: argparse.Namespace) -> Found:
    """Measure single operations, and print their table."""
    found = measure_ops(run, a.names or GROUPS)
    print(f"\n{tables.ops_table(found['ops'])}\n\n{tables.rates_line(found['ops'])}")
    return found


def scaling(run: Run, a: argparse.Namespace) -> Found:
    """Measure how a step's cost grows, and print its table."""
    found = measure_scaling(run, a.names)
    print(f"\n{tables.scaling_table(found['panels'])}")
    return found


def loader(run: Run, a: argparse.Namespace) -> Found:
    """Measure images delivered and consumed, and print their table."""
    found = measure_loader(run)
    print(f"\n{tables.loader_table(found['networks'])}")
    return found


# name -> (what it does, help, names of its parts, minutes on 2 cores as measured, rounds)
Command = tuple[Callable[[Run, argparse.Namespace], Found], str, Sequence[str], int, int]
CPU_GROUPS = tuple(g for g in GROUPS if any(op.cpu for op in OPS.values() if op.group == g))
COMMANDS: dict[str, Command] = {
    "steps": (steps, "training steps and inference, with their memory", list(WORKLOADS), 25, 9),
    "ops": (ops, "single operations beside torch's and beside their floors", CPU_GROUPS, 15, 7),
    "scaling": (scaling, "how a step's cost grows: batch, side, filters, threads", PANELS, 8, 7),
    "loader": (loader, "the radiograph example's data path beside its training", (), 5, 7),
}


def measure(kind: str, a: argparse.Namespace) -> None:
    """Run a command and write its JSON; renew the page if nothing was left out, else plot it."""
    function, _, choices, minutes, _ = COMMANDS[kind]
    print(f"{kind}: a whole run takes about {minutes} minutes on 2 cores", file=sys.stderr)
    backend = replace(CPU, rounds=a.rounds, threads=a.threads)
    with new_pool(backend) as pool:
        on = machine(Run(backend, pool))
    with new_pool(backend) as pool:
        found = function(Run(backend, pool), a)
    whole = not a.only and set(a.names or choices) == set(choices)
    kept = whole and a.rounds >= FEWEST_ROUNDS and a.threads == usable_cores()
    results = {"machine": on, "rounds": a.rounds, **found}
    folder = a.out or (KEPT if kept else TRIALS)
    file = write(folder / f"cpu-{kind}-{date.today()}.json", results)
    print(f"written: {file}")
    if kept and a.out is None:
        print("renewed:", *page.renew())
        return
    picture = file.with_suffix(".png")
    plot({kind: results}, picture)
    print(f"written: {picture}; docs/performance.md, which is of whole runs alone, is as it was")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    text, _, more = (__doc__ or "").partition("\n")
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=text, epilog=more)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, help, choices, minutes, rounds) in COMMANDS.items():
        sub = commands.add_parser(name, help=f"{help} ({minutes} min)", description=help)
        sub.set_defaults(names=[], only=None, without_compile=False)
        whole: dict[str, Any] = {"type": positive, "metavar": "N"}
        if choices:
            sub.add_argument(
                *("names",), nargs="*", metavar="NAME", help=f"all, or of: {', '.join(choices)}"
            )
        sub.add_argument(
            "--rounds", default=rounds, help=f"turns of each library ({rounds})", **whole
        )
        sub.add_argument(
            "--threads",
            default=usable_cores(),
            help=f"of every library ({usable_cores()}: every core)",
            **whole,
        )
        sub.add_argument(
            "--out",
            type=Path,
            metavar="FOLDER",
            help="for JSON and plot (a whole run: benchmarks/results, else runs/benchmarks)",
        )
        if name == "steps":
            sub.add_argument("--only", choices=KINDS, help="one half")
            sub.add_argument(
                "--without-compile",
                action="store_true",
                help="leave torch.compile out, which takes minutes and a C++ compiler",
            )
    sub = commands.add_parser(
        "page", help="write docs/performance.md and its pictures from results that are there"
    )
    sub.add_argument("--results", type=Path, default=KEPT, metavar="FOLDER", help="of JSON files")
    return top


def positive(text: str) -> int:
    """Return a whole number from 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"got {text}, want 1 or more")
    return number


def main(arguments: Sequence[str] | None = None) -> None:
    """Do what was asked for."""
    top = parser()
    a = top.parse_args(arguments)
    if a.command == "page":
        print("written:", *page.renew(a.results))
        return
    for line in installed(STEP_VARIANTS)[1]:
        print(line, file=sys.stderr)
    for kind in [a.command] if a.command else ["steps", "ops"]:
        chosen = a if a.command else top.parse_args([kind])
        choices = COMMANDS[kind][2]
        if unknown := [name for name in chosen.names if name not in choices]:
            top.error(f"{unknown[0]} is not one of {', '.join(choices)}")
        try:
            measure(kind, chosen)
        except WorkerError as error:
            raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
