"""Progress of a training run: a bar on a terminal, one line per epoch elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any


class Progress:
    """Shows how a run goes, on standard error; used as a context manager.

    epochs    in the whole run
    batches   per epoch
    done      batches made before this run was resumed
    shown     False: silent
    What cannot be shown, as the reader of a pipe has gone, does not end the run.
    On a terminal, a bar with the time left stands below the lines of the epochs.
    """

    def __init__(self, epochs: int, batches: int, done: int = 0, shown: bool = True) -> None:
        self.epochs = epochs
        self.bar: Any = None
        if not shown:
            return
        try:
            sys.stderr.flush()
        except (AttributeError, OSError):  # there is none, or its reader has gone
            return
        from tqdm import tqdm  # imported where it is used: import tinynet needs NumPy alone

        self.bar = tqdm(
            total=epochs * batches,
            initial=done,
            disable=None,  # shown only where standard error is a terminal
            unit="batch",
            mininterval=0.5,
            leave=False,
            dynamic_ncols=True,
        )

    def batch(self, figures: Callable[[], dict[str, float]]) -> None:
        """Count a batch; ``figures``, shown beside the bar, is called when the bar is redrawn."""
        with self._or_not():
            if self.bar is not None and self.bar.update(1):
                self.bar.set_postfix({k: f"{v:.4f}" for k, v in figures().items()}, refresh=False)

    def epoch(self, row: dict[str, Any]) -> None:
        """Show one epoch's row of the history as a line."""
        if self.bar is None:
            return
        epoch = row["epoch"]
        figures = "  ".join(
            f"{name} {value:.4g}" for name, value in row.items() if name not in ("epoch", "seconds")
        )
        left = row["seconds"] * (self.epochs - epoch)
        self.say(
            f"epoch {epoch:{len(str(self.epochs))}}/{self.epochs}  {figures}  "
            f"({row['seconds']:.1f} s, {self.bar.format_interval(left)} left)"
        )

    def say(self, line: str) -> None:
        """Show a line above the bar."""
        with self._or_not():
            if self.bar is not None:
                self.bar.write(line, file=sys.stderr)

    @contextmanager
    def _or_not(self) -> Iterator[None]:
        """If the terminal or the pipe has gone, train on in silence."""
        try:
            yield
        except OSError:
            self.bar.disable, self.bar = True, None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._or_not():
            if self.bar is not None:
                self.bar.close()
