"""The command line: ``python -m examples.mura COMMAND``."""

from __future__ import annotations

import errno
import signal
import sys
import traceback
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from examples.mura.streams import lost, standard_streams

# Other imports are in functions: they take a second, in which an interrupt is handled already


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status.

    0; 1 for an error; 2 for a wrong flag; for a signal, as in a shell, 128 + its number: 130 for
    Ctrl-C, 143 for SIGTERM, 129 for SIGHUP.
    """
    came = [int(signal.SIGINT)]

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        came[0] = number
        raise KeyboardInterrupt

    names = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP
    numbers = [s for s in signal.Signals if s.name in names]
    numbers = [s for s in numbers if signal.getsignal(s) != signal.SIG_IGN]  # as under nohup
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        with standard_streams() as output:
            try:
                status = run(argv)
                if error := lost(output):
                    print(f"error: standard output: {in_one_line(error)}", file=sys.stderr)
                    status = 1
            except KeyboardInterrupt as stopped:
                for number in numbers:  # a second one ends the program at once
                    signal.signal(number, signal.SIG_DFL)
                print(str(stopped) or "interrupted", file=sys.stderr)
                status = 128 + came[0]
            return status
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(argv: Sequence[str] | None) -> int:
    from examples.mura.errors import UserError
    from examples.mura.flags import build_parser
    from examples.mura.output import shown
    from tinynet.interop import WeightsError
    from tinynet.train import TrainingError
    from tinynet.train.files import CheckpointError

    arguments = build_parser().parse_args(argv)
    try:
        check_environment()
        from examples.mura import commands  # here, so that --help need not wait for matplotlib

        getattr(commands, arguments.command)(arguments)
    except (
        *(UserError, CheckpointError, WeightsError, TrainingError),
        *(OSError, ImportError, MemoryError),
    ) as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"error: {shown(in_one_line(error))}", file=sys.stderr)
        return 1
    return 0


def check_environment() -> None:
    """Raise UserError for a variable that no command could work with."""
    from examples.mura.errors import UserError
    from tinynet.backend import default_kernels

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
    try:
        status = main()
    except KeyboardInterrupt:  # a second one, in the moment in which the first was told
        status = 130
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is saved: a last Ctrl-C need not be told of
    sys.exit(status)
