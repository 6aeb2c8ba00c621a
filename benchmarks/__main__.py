"""Speed and memory of tinynet beside PyTorch's on a CPU: ``python -m benchmarks``.

Results are compared first: what computes something else is not timed. Each library runs in a
process of its own, with the same number of threads, and they take turns. Without a command: steps,
then ops. Nothing is installed; what is missing is named and left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import page, tables
from benchmarks.loader import measure_loader
from benchmarks.machine import machine
from benchmarks.ops import MODULES
from benchmarks.ops.measure import measure_ops
from benchmarks.plots import PLOTS
from benchmarks.processes import WorkerError, usable_cores
from benchmarks.results import FEWEST_ROUNDS, KEPT, TRIALS, newest, rounded, write
from benchmarks.scaling import PANELS, measure_scaling
from benchmarks.steps import complete, measure_steps
from benchmarks.variants import STEP_VARIANTS, installed
from benchmarks.workloads import KINDS, WORKLOADS

# of a whole run with the default rounds on 2 cores, measured
MINUTES = {"steps": 25, "ops": 15, "scaling": 8, "loader": 5}
ROUNDS = {"steps": 9, "ops": 7, "scaling": 7, "loader": 7}


def steps(a: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Training steps and inference; whether nothing was left out."""
    names, kinds = a.names or list(WORKLOADS), [a.only] if a.only else list(KINDS)
    variants, _ = installed(STEP_VARIANTS)
    variants = [v for v in variants if not (v.compiled and a.without_compile)]
    found = measure_steps(names, kinds, variants, a.rounds, a.threads)
    for kind in kinds:
        print(f"\n{kind}\n{tables.steps_table(found, kind)}")
    print(f"\n{tables.targets_table(found)}")
    return {"steps": found}, complete(names, kinds)


def ops(a: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Single operations."""
    found = measure_ops(a.names or MODULES, a.rounds, a.threads)
    print(f"\n{tables.ops_table(found)}\n\n{tables.rates_line(found)}")
    return {"ops": found}, set(a.names or MODULES) == set(MODULES)


def scaling(a: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """How a step's cost grows; other panels are the last run's, if it was on this machine."""
    names, last = a.names or PANELS, newest("scaling", a.out or KEPT) or {}
    before = last.get("panels") if last.get("machine") == rounded(a.machine) else None
    found = measure_scaling(a.rounds, a.threads, names, before)
    print(f"\n{tables.scaling_table(found)}")
    return {"panels": found}, set(found) == set(PANELS)


def loader(a: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """Images delivered and consumed."""
    found = measure_loader(a.rounds, a.threads)
    print(f"\n{tables.loader_table(found)}")
    return {"networks": found}, True


Command = Callable[[argparse.Namespace], tuple[dict[str, Any], bool]]
COMMANDS: dict[str, tuple[Command, str, Sequence[str]]] = {
    "steps": (steps, "training steps and inference, with their memory", list(WORKLOADS)),
    "ops": (ops, "single operations beside torch's and beside their floors", MODULES),
    "scaling": (scaling, "how a step's cost grows with batch, side, filters, threads", PANELS),
    "loader": (loader, "the radiograph example's data path beside its training", ()),
}


def measure(kind: str, a: argparse.Namespace) -> None:
    """Run a command and write its JSON; renew the page if nothing was left out, else plot it."""
    print(f"{kind}: a whole run takes about {MINUTES[kind]} minutes on 2 cores", file=sys.stderr)
    a.machine = on = machine(a.threads)
    found, whole = COMMANDS[kind][0](a)
    kept = whole and a.rounds >= FEWEST_ROUNDS and a.threads == usable_cores()
    results = {"machine": on, "rounds": a.rounds, **found}
    file = write(kind, results, a.out or (KEPT if kept else TRIALS))
    print(f"written: {file}")
    if kept and a.out is None:
        print("renewed:", *page.renew())
        return
    plot = file.with_suffix(".png")
    PLOTS[kind](results, plot)
    print(f"written: {plot}; docs/performance.md, which is of whole runs alone, is as it was")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    text, _, more = (__doc__ or "").partition("\n")
    top = argparse.ArgumentParser(prog="python -m benchmarks", description=text, epilog=more)
    commands = top.add_subparsers(dest="command", metavar="COMMAND")
    for name, (_, help, choices) in COMMANDS.items():
        sub = commands.add_parser(name, help=f"{help} ({MINUTES[name]} min)", description=help)
        sub.set_defaults(names=[], only=None, without_compile=False)
        if choices:
            metavar = "WORKLOAD" if name == "steps" else "NAME"
            sub.add_argument(
                "names", nargs="*", metavar=metavar, help=f"all, or of: {', '.join(choices)}"
            )
        sub.add_argument(
            "--rounds",
            type=positive,
            default=ROUNDS[name],
            metavar="N",
            help=f"turns of each library ({ROUNDS[name]})",
        )
        sub.add_argument(
            "--threads",
            type=positive,
            default=usable_cores(),
            metavar="N",
            help=f"of every library ({usable_cores()}: every core)",
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
    """A whole number from 1."""
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
        if unknown := [name for name in chosen.names if name not in COMMANDS[kind][2]]:
            top.error(f"{unknown[0]} is none of {', '.join(COMMANDS[kind][2])}")
        try:
            measure(kind, chosen)
        except WorkerError as error:
            raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
