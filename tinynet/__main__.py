"""The command line: ``python -m tinynet doctor``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import NoReturn


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        """Print the line, and end with status 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, also where there is advice, or exit with 2 for a wrong argument."""
    parser = Parser(prog="python -m tinynet")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "facts about this machine, rates measured in about two seconds, and advice"
    commands.add_parser("doctor", help=text, description=text)
    parser.parse_args(arguments)
    from tinynet.doctor import run  # here, so that --help does not wait for it

    try:
        run()
    except BrokenPipeError:  # the reader, such as ``head``, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
    return 0


if __name__ == "__main__":
    sys.exit(main())
