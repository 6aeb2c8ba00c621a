"""The minutes that a run has, dealt out to its parts; what no longer fits is skipped and named."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping


class Clock:
    """Counts down from ``minutes``; without a limit, nothing is skipped.

    shares   part -> its share of the time, in their order; what one leaves the others get
    now      seconds; another clock in tests
    """

    def __init__(
        self,
        minutes: float = math.inf,
        shares: Mapping[str, float] | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.now = now
        self.began = now()
        self.end = self.deadline = self.began + 60 * minutes  # the second, of the part that runs
        self.waiting = dict(shares or {})  # parts that have not begun
        self.skipped: list[str] = []  # of the part that runs

    def begin(self, part: str) -> None:
        """Begin a part: its deadline is its share of what is left."""
        whole = sum(self.waiting.values())
        left = max(0.0, self.end - self.now())
        self.deadline = self.now() + left * self.waiting.pop(part) / whole
        self.skipped = []
        self.say(f"{part}: {self.left():.0f} s")

    def left(self) -> float:
        """Return the seconds until the running part's deadline, 0 from there on."""
        return max(0.0, self.deadline - self.now())

    def has(self, what: str, seconds: float = 0.0) -> bool:
        """Return whether the part has more than ``seconds`` left; if not, ``what`` is skipped."""
        if self.left() > seconds:
            return True
        self.skipped.append(what)
        self.say(f"skipped, no time: {what}")
        return False

    def say(self, text: str) -> None:
        """Print a line of progress, with the seconds since the beginning."""
        print(f"[{self.now() - self.began:5.0f} s] {text}", file=sys.stderr, flush=True)
