"""A guided tour of gradient checking: six short stations in the terminal, about three minutes.

    python -m tinynet.gradient_check --tour

At each, a backward pass is shown right and with a bug, and you guess first. Then a check as most
people write it is run, and tinynet's after it. Every verdict shown is that of a run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tinynet.testing.tour.guide import Guide
from tinynet.testing.tour.stations import GOODBYE, STATIONS, WELCOME


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tour; asks for guesses in a terminal, unless told --no-input."""
    parser = argparse.ArgumentParser(prog="python -m tinynet.gradient_check --tour")
    parser.description = "A guided tour of gradient checking: six stations, about three minutes."
    parser.add_argument("--no-input", action="store_true", help="do not ask for guesses")
    options = parser.parse_args(argv)
    guide = Guide(ask=not options.no_input and sys.stdin.isatty())
    guide.title("Is my backward pass right?")
    guide.say(WELCOME)
    for number, station in enumerate(STATIONS, start=1):
        guide.title(f"{number} of {len(STATIONS)}: {station.__doc__}")
        station(guide)
        guide.pause()
    guide.title("Your own")
    guide.say(GOODBYE)
    return 0
