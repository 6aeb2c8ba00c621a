"""Ctrl-C at a safe point: a step that has begun is finished before the run is interrupted."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tinynet.engine import to_the_end

INTERRUPTS = [s for s in signal.Signals if s.name in ("SIGINT", "SIGTERM", "SIGHUP")]


@contextmanager
def held_interrupts() -> Iterator[None]:
    """Within this block Ctrl-C waits, and is delivered right after it.

    So do SIGTERM and SIGHUP where the program handles them (say, by raising KeyboardInterrupt). A
    signal that the program does not handle keeps its meaning. Outside the main thread, where Python
    delivers no signals, nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {n: h for n in INTERRUPTS if callable(h := signal.getsignal(n))}

    def note(number: int, frame: FrameType | None) -> None:
        came.append(number)

    def put_back() -> None:
        for number, handler in handlers.items():
            signal.signal(number, handler)

    try:
        for number in handlers:
            signal.signal(number, note)
        yield
    finally:
        to_the_end(put_back)
        for late in dict.fromkeys(came):
            signal.raise_signal(late)
