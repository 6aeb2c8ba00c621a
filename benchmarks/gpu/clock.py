"""The minutes that a run has, dealt out to its parts; what no longer fits is skipped and named."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence

# parts in their order, and the share of the time that each may take; what one leaves the others get
SHARES = {
    "correctness": 0.2,
    "ceilings": 0.05,
    "ops": 0.25,
    "steps": 0.25,
    "kernels": 0.1,
    "scaling": 0.15,
}


class Clock:
    """Counts down from ``minutes``.

    parts   the parts that will run, in their order
    now     seconds; another clock in tests
    """

    def __init__(
        self,
        minutes: float,
        parts: Sequence[str] = tuple(SHARES),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        self.began = now()
        self.end = self.began + 60 * minutes
        self.waiting = list(parts)  # parts that have not begun
        self.deadline = self.end  # of the part that runs
        self.skipped: list[str] = []  # of the part that runs

    def begin(self, part: str) -> None:
        """A part begins: its deadline is its share of what is left."""
        whole = sum(SHARES[name] for name in self.waiting)
        left = max(0.0, self.end - self.now())
        self.deadline = self.now() + left * SHARES[part] / whole
        self.waiting.remove(part)
        self.skipped = []
        self.say(f"{part}: {self.deadline - self.now():.0f} s")

    def left(self) -> float:
        """Seconds until the running part's deadline, 0 from there on."""
        return max(0.0, self.deadline - self.now())

    def has(self, what: str, seconds: float = 0.0) -> bool:
        """Whether the part has more than so many seconds left; if not, ``what`` is skipped."""
        if self.left() > seconds:
            return True
        self.skipped.append(what)
        self.say(f"skipped, no time: {what}")
        return False

    def say(self, text: str) -> None:
        """A line of progress, with the seconds since the beginning."""
        print(f"[{self.now() - self.began:5.0f} s] {text}", file=sys.stderr, flush=True)
