"""The command line: ``python -m examples.mura COMMAND``."""

from __future__ import annotations

import errno
import signal
import sys
import traceback
from collections.abc import Sequence
from io import TextIOWrapper

from examples.mura.errors import UserError
from examples.mura.flags import build_parser
from examples.mura.output import shown
from tinynet.backend import default_kernels
from tinynet.interop import WeightsError
from tinynet.train import TrainingError
from tinynet.train.checkpoint import CheckpointError

FAILURES = (
    *(UserError, CheckpointError, WeightsError, TrainingError),
    *(OSError, ImportError, MemoryError),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 for an error, 2 for a wrong flag, 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what the terminal cannot show is escaped
            stream.reconfigure(errors="backslashreplace")
    arguments = build_parser().parse_args(argv)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as on Ctrl-C
    try:
        check_environment()
        from examples.mura import commands  # here, so that --help need not wait for matplotlib

        getattr(commands, arguments.command)(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except FAILURES as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"error: {shown(in_one_line(error))}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def check_environment() -> None:
    """Raise UserError for a variable that no command could work with."""
    try:
        default_kernels()
    except ValueError as error:
        raise UserError(str(error)) from None


def in_one_line(error: Exception) -> str:
    """What to show of an error; a full disk, a missing package and the like are named."""
    if isinstance(error, ImportError) and error.name:
        return f'{error.name} is not installed: python -m pip install ".[example]"'
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENOSPC:
            return f"{place}the disk is full: free some space, or work in another folder"
        return f"{place}{error.strerror or error}"
    if isinstance(error, MemoryError):
        said = " ".join(str(error).split()) or "there is no more"
        return f"out of memory ({said}): close other programs, or train with a smaller --batch-size"
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
