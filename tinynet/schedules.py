"""Learning rates that change from epoch to epoch.  Report §2.3.5.

A schedule is called before each epoch: ``schedule(epoch, history)``, with the number of epochs
done, from 0, and the rows that describe them, and returns the learning rate. It keeps nothing
between calls, so a run that resumes needs no state of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tinynet.backend import check_instance, check_number, described

History = Sequence[Mapping[str, Any]]


class Schedule(Protocol):
    """A learning rate for the epoch, from its index (from 0) and the rows of those before it."""

    def __call__(self, epoch: int, history: History) -> float: ...


@dataclass(frozen=True)
class Constant:
    """The same learning rate throughout: η(t) = η.  Report §2.3.5."""

    learning_rate: float

    def __post_init__(self) -> None:
        check_number("learning_rate", self.learning_rate, 0)

    def __call__(self, epoch: int, history: History = ()) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class StepDecay:
    """Multiply the learning rate by a factor at fixed intervals.  Report §2.3.5.

        η(t) = η₀ · factor^⌊t / every⌋

    Raises ValueError for a rate or factor below 0, or ``every`` below 1.
    Source: He et al. 2016, "Deep residual learning", §4.2: divided by 10 at set points.
    """

    initial: float
    factor: float = 0.1
    every: int = 30

    def __post_init__(self) -> None:
        check_number("initial", self.initial, 0)
        check_number("factor", self.factor, 0)
        check_number("every", self.every, 1, whole=True)

    def __call__(self, epoch: int, history: History = ()) -> float:
        return self.initial * self.factor ** (epoch // self.every)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the initial to the final learning rate, then flat.  Report §2.3.5, ours.

        η(t) = η_T + (η₀ - η_T) (1 + cos(π t / T)) / 2,   T = epochs

    Raises ValueError for a rate below 0, or ``epochs`` below 1.
    Source: Loshchilov & Hutter 2017, "SGDR", eq. 5, without restarts.
    """

    initial: float
    epochs: int
    final: float = 0.0

    def __post_init__(self) -> None:
        check_number("initial", self.initial, 0)
        check_number("final", self.final, 0)
        check_number("epochs", self.epochs, 1)

    def __call__(self, epoch: int, history: History = ()) -> float:
        done = min(epoch / self.epochs, 1.0)
        return self.final + (self.initial - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class WarmUp:
    """Climb in equal steps to another schedule's rate, then follow it.  Report §2.3.5, ours.

        η(t) = min((t + 1) / epochs, 1) · schedule(t)

    The last of the ``epochs`` is the first at the full rate. The inner schedule counts from the
    same epoch 0, so that a cosine ends where it was told to.
    Raises ValueError for ``epochs`` below 1.
    Source: Goyal et al. 2017, "Accurate, large minibatch SGD", §2.2.  Not in the report.
    """

    schedule: Schedule
    epochs: int

    def __post_init__(self) -> None:
        if isinstance(self.schedule, type) or not callable(self.schedule):
            raise TypeError(
                f"schedule is {described(self.schedule)}, want a schedule, such as Constant(0.1)"
            )
        check_number("epochs", self.epochs, 1)

    def __call__(self, epoch: int, history: History = ()) -> float:
        return min((epoch + 1) / self.epochs, 1.0) * self.schedule(epoch, history)


@dataclass(frozen=True)
class ReduceOnPlateau:
    """Reduce the learning rate when a monitored number stops improving.  Report §2.3.5.

    After ``patience`` epochs in a row without a new best, the rate is multiplied by ``factor``,
    as often as that happens; the report's example is a factor of 1/10 on the validation loss.

    initial     η₀, the learning rate to begin with
    monitor     the history's column to watch
    min_delta   a new best must beat the old one by more than this
    minimum     the learning rate goes no lower
    cooldown    epochs after a reduction during which the count of patience stands still
    maximise    True where higher is better: kappa, accuracy
    Raises ValueError for settings out of range, and if the history lacks the column.
    Source: the rule that He et al. 2016, "Deep residual learning", §3.4, apply by hand.
    """

    initial: float
    factor: float = 0.1
    patience: int = 10
    monitor: str = "validation_loss"
    min_delta: float = 0.0
    minimum: float = 0.0
    cooldown: int = 0
    maximise: bool = False

    def __post_init__(self) -> None:
        check_number("initial", self.initial, 0)
        check_instance("monitor", self.monitor, str, "a column of the history")
        check_instance("maximise", self.maximise, bool, "True or False")
        check_number("patience", self.patience, 1)
        check_number("cooldown", self.cooldown, 0)
        check_number("min_delta", self.min_delta, 0)
        check_number("minimum", self.minimum, 0)
        if not 0 < check_number("factor", self.factor) < 1:
            raise ValueError(f"factor is {self.factor}, want a number between 0 and 1")
        if self.minimum > self.initial:
            raise ValueError(f"minimum is {self.minimum}, want at most initial, {self.initial}")

    def __call__(self, epoch: int, history: History = ()) -> float:
        rate, best, waited, resting = self.initial, math.inf, 0, 0
        for row in history[:epoch]:
            value = self._value(row)
            if value < best - self.min_delta:
                best, waited = value, 0
            else:
                waited += 1
            if resting:
                resting, waited = resting - 1, 0
            elif waited >= self.patience:
                rate = max(rate * self.factor, self.minimum)
                resting, waited = self.cooldown, 0
        return rate

    def _value(self, row: Mapping[str, Any]) -> float:
        """The monitored number of one epoch, with its sign such that lower is better."""
        if self.monitor not in row:
            raise ValueError(
                f"the history has no {self.monitor!r}, it has {', '.join(row)}: "
                "name one of these as monitor=, or give fit a validation set"
            )
        value = float(row[self.monitor])
        return -value if self.maximise else value
