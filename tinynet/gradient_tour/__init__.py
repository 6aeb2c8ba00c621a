"""A guided tour of gradient checking: six short stations in the terminal, about three minutes.

    python -m tinynet.gradient_check --tour

At each, a backward pass is shown right and with a bug, and you guess first. Then a check as most
people write it is run, and tinynet's after it. Every verdict shown is that of a run, not a
sentence written here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tinynet.gradient_tour.guide import Guide
from tinynet.gradient_tour.stations import STATIONS, goodbye, welcome

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tour; asks for guesses unless told --no-input or nobody sits at the terminal."""
    parser = argparse.ArgumentParser(
        prog="python -m tinynet.gradient_check --tour",
        description="A guided tour of gradient checking: six stations, about three minutes.",
    )
    parser.add_argument("--no-input", action="store_true", help="do not ask for guesses")
    options = parser.parse_args(argv)
    guide = Guide(ask=not options.no_input and sys.stdin.isatty())
    welcome(guide)
    for number, station in enumerate(STATIONS, start=1):
        guide.title(f"{number} of {len(STATIONS)}: {station.__doc__}")
        station(guide)
        guide.pause()
    goodbye(guide)
    return 0
