"""The planted bugs tried out on every check, as the page docs/planted.md."""

from __future__ import annotations

import argparse
import itertools
import math
import os
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from time import perf_counter

import numpy as np

from tinynet.gradient_check import GradientError
from tinynet.layer import Shape
from tinynet.testing.planted import PLANTED, Case, Planted, without_bugs
from tinynet.testing.usual_checks import USUAL_CHECKS, passes

DRAWS = 20  # of a usual check's own randomness, on the same arguments
MANY_DRAWS = 200  # where a rate is wanted
GROWING = ("one direction", "random index")
ONE_WEIGHT = {
    "dense: one weight off by a thousandth": "0.1% too large",
    "dense: one weight doubled": "doubled",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tinynet.testing.planted",
        description="Run every planted bug through tinynet's check and the usual ones.",
    )
    parser.add_argument("file", nargs="?", type=Path, default=Path("docs/planted.md"))
    file = parser.parse_args().file
    outcomes = [try_out(planted) for planted in PLANTED]
    made = (
        f"{date.today()}, Python {platform.python_version()}, NumPy {np.__version__}, "
        f"{platform.system()} {platform.machine()} with {os.cpu_count()} cores"
    )
    file.write_text(page(outcomes, made), encoding="utf-8")
    caught, alarms = sum(bool(o.said) for o in outcomes), sum(o.alarm for o in outcomes)
    print(f"{file}: {caught} of {len(outcomes)} caught, {alarms} false alarms")


@dataclass(frozen=True)
class Outcome:
    """What became of one planted bug.

    said          what tinynet's check says of it; empty if it lets it through
    smallest      the smallest input that shows it, with the settings it is planted with
    milliseconds  tinynet's check of it
    alarm         True if tinynet's check rejects the code without the bug
    caught        for each usual check, in how many of the draws it catches the bug
    alarms        for each usual check, in how many of the draws it rejects the right code
    """

    planted: Planted
    said: str
    smallest: Shape | None
    milliseconds: float
    alarm: bool
    caught: tuple[int, ...]
    alarms: tuple[int, ...]


def try_out(planted: Planted) -> Outcome:
    """Run tinynet's check and the usual ones on a bug and on the code without it."""
    case = planted.case()
    start = perf_counter()
    said = verdict(case, wrong=True)
    seconds = perf_counter() - start
    return Outcome(
        planted,
        said,
        smallest(planted) if said else None,
        1000 * seconds,
        bool(verdict(planted.case(), wrong=False)),
        rejections(planted.case(), wrong=True),
        rejections(planted.case(), wrong=False),
    )


def verdict(case: Case, *, wrong: bool) -> str:
    """The first fault that tinynet's check finds; empty if it finds none."""
    try:
        case.check(wrong=wrong)
    except GradientError as error:
        return error.report.faults[0]
    return ""


def smallest(planted: Planted) -> Shape | None:
    """The input with the fewest elements, none of its sizes larger, for which the bug shows."""
    shapes = itertools.product(*(range(1, size + 1) for size in planted.shape))
    for shape in sorted(shapes, key=lambda shape: (math.prod(shape), shape)):
        try:
            case = planted.case(shape=shape)
            with np.errstate(all="ignore"):  # a bug may divide by 0 where there is one example
                if not verdict(case, wrong=False) and verdict(case, wrong=True):
                    return shape
        except (ValueError, IndexError, ZeroDivisionError):  # the settings need a larger input
            continue
    return None


def rejections(case: Case, *, wrong: bool) -> tuple[int, ...]:
    """For each usual check, in how many of the draws it rejects the code."""
    counts = []
    for check in USUAL_CHECKS:
        subject = case.subject(wrong=wrong, dtype=check.dtype)
        counts.append(sum(not passes(check, subject, seed) for seed in range(DRAWS)))
    return tuple(counts)


def page(outcomes: Sequence[Outcome], made: str) -> str:
    total, missing = len(outcomes), without_bugs()
    caught, alarms = sum(bool(o.said) for o in outcomes), sum(o.alarm for o in outcomes)
    parts = [
        "# Planted bugs, and who catches them",
        f"Written by `python -m tinynet.testing.planted` ({made}).",
        f"[tinynet/testing/planted/](../tinynet/testing/planted) holds {total} wrong backward "
        "passes, each beside the right code and with one thing wrong. tinynet's check catches "
        f"**{caught} of {total}**, and raises {f'{alarms} false alarms' if alarms else 'no alarm'} "
        "on the same code without the bug. `tests/testing/test_planted.py` holds it to that, and "
        "`tests/layers/test_pairs.py` to no false alarm on more than 2,000 drawn geometries of the "
        "right layers.",
        f"Missing, layers and losses without planted bugs: {', '.join(missing) or 'none'}.",
        _summary(outcomes),
        _alone(outcomes),
        "The usual checks are those of `tinynet/testing/usual_checks.py`, where each one's step, "
        f"tolerance and family are written down. Each ran {DRAWS} times on the same arguments, "
        "with its own random numbers drawn anew. The inputs here are small, which favours a "
        "check that compares one number or one element. One wrong weight among more and more:",
        growth(),
        "## What tinynet says",
        "*Smallest input*: the one with the fewest elements that shows the bug. *ms*: the whole "
        "check, on one core.",
        *_sections(outcomes, ("bug", "tinynet's check says", "smallest input", "ms"), _said),
        "## Side by side",
        f"Caught always ●, never ○, else in how many of {DRAWS} draws.",
        *_sections(outcomes, ("bug", *(check.name for check in USUAL_CHECKS), "tinynet"), _marks),
    ]
    return "\n\n".join(parts) + "\n"


def _alone(outcomes: Sequence[Outcome]) -> str:
    # A check with false alarms catches by chance: what it rejects either way does not count.
    trusted = [i for i in range(len(USUAL_CHECKS)) if not any(o.alarms[i] for o in outcomes)]
    alone = [o.planted.name for o in outcomes if o.said and not any(o.caught[i] for i in trusted)]
    if not alone:
        return "None is caught by tinynet alone."
    return (
        f"{len(alone)} are caught by tinynet alone: no usual check without false alarms rejects "
        f"them in any draw. {'; '.join(alone)}."
    )


def growth() -> str:
    """How often one wrong weight is found as the weights become more."""
    one_number = [check for check in USUAL_CHECKS if check.name in GROWING]
    rows = [("weights", "the wrong one", *(check.name for check in one_number), "tinynet")]
    for side in (4, 10, 32, 100):
        for planted in (planted for planted in PLANTED if planted.name in ONE_WEIGHT):
            case = planted.case(shape=(4, side))
            rates = []
            for check in one_number:
                subject = case.subject(dtype=check.dtype)
                missed = sum(passes(check, subject, seed) for seed in range(MANY_DRAWS))
                rates.append(f"{1 - missed / MANY_DRAWS:.0%}")
            ours = "100%" if verdict(case, wrong=True) else "0%"
            rows.append((f"{side * side:,}", ONE_WEIGHT[planted.name], *rates, ours))
    return _table(rows)


def _summary(outcomes: Sequence[Outcome]) -> str:
    total = len(outcomes)
    rows = [("check", "caught, mean", "always", "never", "false alarms")]
    checks = [
        (check.name, DRAWS, [(o.caught[i], o.alarms[i]) for o in outcomes])
        for i, check in enumerate(USUAL_CHECKS)
    ]
    checks.append(("**tinynet**", 1, [(bool(o.said), o.alarm) for o in outcomes]))
    for name, draws, found in checks:
        caught, alarms = [c for c, _ in found], sum(a for _, a in found)
        mean, always = f"{sum(caught) / draws / total:.0%}", caught.count(draws)
        alarms_of = f"{alarms} of {total * draws}"
        rows.append((name, mean, str(always), str(caught.count(0)), alarms_of))
    return _table(rows)


def _sections(
    outcomes: Sequence[Outcome], head: tuple[str, ...], row: Callable[[Outcome], tuple[str, ...]]
) -> list[str]:
    """One heading and one table for each layer."""
    parts = []
    for layer, group in itertools.groupby(outcomes, key=lambda o: o.planted.breaks):
        parts += [f"### {layer}", _table([head, *(row(outcome) for outcome in group)])]
    return parts


def _said(outcome: Outcome) -> tuple[str, ...]:
    planted = outcome.planted
    seen = f" *{planted.seen}*" if planted.seen else ""
    shape = "×".join(map(str, outcome.smallest)) if outcome.smallest else ""
    bug = f"**{_short(planted)}**: {planted.bug}{seen}"
    return bug, shortened(outcome.said), shape, f"{outcome.milliseconds:.0f}"


def _marks(outcome: Outcome) -> tuple[str, ...]:
    marks = [{0: "○", DRAWS: "●"}.get(n, str(n)) for n in outcome.caught]
    return _short(outcome.planted), *marks, "●" if outcome.said else "○"


def _short(planted: Planted) -> str:
    return planted.name.removeprefix(f"{planted.breaks}: ")


def shortened(said: str) -> str:
    """A fault without its numbers at one index: they are of these arguments only."""
    said = re.sub(r"; at \([^)]*\) got \S+, want [^\s:]+", "", said)
    said = re.sub(r"^the gradient of (\S+) is wrong in", r"d\1 wrong in", said)
    return said or "nothing"


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    lines.insert(1, "|" + "---|" * len(rows[0]))
    return "\n".join(lines)
