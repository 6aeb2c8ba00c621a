"""Standard streams that may be closed, full or left by their reader without a result being lost.

Imports nothing that takes long: the command line begins here.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class SafeStream:
    """A text stream whose failure does not end the work that is told of.

    error   the first failure, after which nothing more is written
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream or open(os.devnull, "w")  # noqa: SIM115  closed from the beginning
        self.error: OSError | None = None
        if hasattr(self.stream, "reconfigure"):  # a sign that the terminal lacks is escaped
            self.stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        self._unless_failed(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._unless_failed(self.stream.flush)

    def _unless_failed(self, do: Callable[..., object], *arguments: str) -> None:
        if self.error is None:
            try:
                do(*arguments)
            except OSError as error:
                self.error = error
                with suppress(OSError):  # what is left in a buffer goes nowhere, at the end too
                    os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def standard_streams() -> Iterator[SafeStream]:
    """Within this block print() never fails. Gives standard output, whose ``error`` may be told."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # a file that is opened next would be taken for the stream
            os.open(os.devnull, os.O_RDWR)
    before = sys.stdout, sys.stderr
    streams = SafeStream(sys.stdout), SafeStream(sys.stderr)
    sys.stdout, sys.stderr = streams
    try:
        yield streams[0]
    finally:
        for stream in streams:
            stream.flush()
        sys.stdout, sys.stderr = before


def lost(stream: SafeStream) -> OSError | None:
    """Why what was printed has not arrived, unless its reader wanted no more."""
    stream.flush()
    gone = stream.error is not None and stream.error.errno == errno.EPIPE
    return None if gone else stream.error
