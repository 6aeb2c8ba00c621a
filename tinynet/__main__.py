"""The command line: ``python -m tinynet doctor``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 also where there is advice, 2 for a wrong flag."""
    parser = argparse.ArgumentParser(prog="python -m tinynet")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    text = "How fast is this machine, and what holds it back? Measures for some seconds."
    doctor = commands.add_parser("doctor", help=text, description=text)
    doctor.add_argument("--json", action="store_true", help="for programs")
    options = parser.parse_args(arguments)
    return run_doctor(options.json)


def run_doctor(for_programs: bool) -> int:
    """Examine, and print the report."""
    from tinynet.doctor.advice import advise
    from tinynet.doctor.findings import examine
    from tinynet.doctor.report import as_json, as_text, printable

    if sys.stderr.isatty():
        print("measuring for some seconds ...", file=sys.stderr, flush=True)
    findings = examine()
    advice = advise(findings)
    text = (as_json if for_programs else as_text)(findings, advice)
    try:
        print(printable(text, sys.stdout.encoding), flush=True)
    except BrokenPipeError:  # the reader, ``head`` say, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the last flush
    return 0


if __name__ == "__main__":
    sys.exit(main())
