"""Learning rates that change from epoch to epoch, or from step to step.  Report §2.3.5.

A schedule is called before each epoch: ``schedule(epoch, history)``, with the number of epochs
done, from 0, and the rows that describe them, and returns the learning rate. It keeps nothing
between calls, so a run that resumes needs no state of it. With ``fit(schedule_per="step")`` it is
called before each step with the number of steps done, and its ``epochs`` are steps.

All raise TypeError or ValueError for settings out of range: rates and factors are from 0, numbers
of epochs whole and from 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

from tinynet.backend import check_instance, check_number, described

History = Sequence[Mapping[str, Any]]


class Schedule(Protocol):
    """A learning rate for the epoch, from its index (from 0) and the rows of those before it."""

    def __call__(self, epoch: int, history: History) -> float: ...


class _Checked:
    """Base of the schedules: compares settings with their annotations."""

    def __post_init__(self) -> None:
        for field in fields(self):  # type: ignore[arg-type]
            value, name = getattr(self, field.name), field.name
            if field.type == "bool":
                check_instance(name, value, bool, "True or False")
            elif field.type in ("int", "float"):
                least = int(field.type == "int" and field.default != 0)
                check_number(name, value, least, whole=field.type == "int")


def _cosine(start: float, end: float, share: float) -> float:
    """Half a cosine from ``start``, at a share of 0, to ``end``, at 1."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@dataclass(frozen=True)
class Constant(_Checked):
    """The same learning rate throughout: η(t) = η.  Report §2.3.5."""

    learning_rate: float

    def __call__(self, epoch: int, history: History = ()) -> float:
        return self.learning_rate


@dataclass(frozen=True)
class StepDecay(_Checked):
    """Multiply the learning rate by a factor at fixed intervals.  Report §2.3.5.

        η(t) = η₀ · factor^⌊t / every⌋

    Source: He et al. 2016, "Deep residual learning", §4.2: divided by 10 at set points.
    """

    initial: float
    factor: float = 0.1
    every: int = 30

    def __call__(self, epoch: int, history: History = ()) -> float:
        return self.initial * self.factor ** (epoch // self.every)


@dataclass(frozen=True)
class MultiStep(_Checked):
    """Multiply the learning rate by a factor at given epochs.  Report §2.3.5.

        η(t) = η₀ · factor^(number of milestones up to t)

    milestones   epochs, whole numbers from 1: the first at the lower rate, counted from 0
    Source: He et al. 2016, "Deep residual learning", §4.2: divided by 10 at set points.
    """

    initial: float
    milestones: Sequence[int]
    factor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_instance("milestones", self.milestones, Sequence, "a list of whole numbers")
        for milestone in self.milestones:
            check_number("a milestone", milestone, 1, whole=True)

    def __call__(self, epoch: int, history: History = ()) -> float:
        return self.initial * self.factor ** sum(m <= epoch for m in self.milestones)


@dataclass(frozen=True)
class Cosine(_Checked):
    """Half a cosine from the initial to the final learning rate, then flat.  Report §2.3.5, ours.

        η(t) = η_T + (η₀ - η_T) (1 + cos(π t / T)) / 2,   T = epochs

    Source: Loshchilov & Hutter 2017, "SGDR", eq. 5, without restarts.
    """

    initial: float
    epochs: int
    final: float = 0.0

    def __call__(self, epoch: int, history: History = ()) -> float:
        return _cosine(self.initial, self.final, min(epoch / self.epochs, 1.0))


@dataclass(frozen=True)
class CosineRestarts(_Checked):
    """Half a cosine from the initial to the final rate, again and again.  Report §2.3.5, ours.

        η(t) = η_T + (η₀ - η_T) (1 + cos(π t_i / T_i)) / 2,   T_{i+1} = factor · T_i

    period   T_0, epochs of the first cosine; t_i counts from its beginning
    Source: Loshchilov & Hutter 2017, "SGDR", eq. 5.
    """

    initial: float
    period: int
    factor: int = 1
    final: float = 0.0

    def __call__(self, epoch: int, history: History = ()) -> float:
        done, length = epoch, self.period
        if self.factor == 1:
            done %= length
        while done >= length:
            done, length = done - length, length * self.factor
        return _cosine(self.initial, self.final, done / length)


@dataclass(frozen=True)
class OneCycle(_Checked):
    """Up to the highest rate, then down to almost nothing.  Report §2.3.5, ours.

        η rises from peak / div_factor to peak, until t = warm_up · T − 1, and falls to
        peak / (div_factor · final_div_factor) at t = T − 1, T = epochs; then it stays

    warm_up   share of the epochs in which it rises, 0.3 by default, below 1
    linear    False: both ways are half a cosine
    With ``schedule_per="step"``, as it is usually run, ``epochs`` is the number of steps in all.
    Source: Smith & Topin 2018, "Super-convergence"; in PyTorch's two phases and without its cycle
    of the momentum.
    """

    peak: float
    epochs: int
    warm_up: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    linear: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("div_factor", "final_div_factor"):
            check_number(name, getattr(self, name), 1)
        if self.warm_up >= 1:
            raise ValueError(f"warm_up is {self.warm_up}, want a share from 0, below 1")

    def __call__(self, epoch: int, history: History = ()) -> float:
        low, last = self.peak / self.div_factor, self.epochs - 1
        top = self.warm_up * self.epochs - 1
        if epoch < top:
            start, end, share = low, self.peak, epoch / top
        else:
            start, end = self.peak, low / self.final_div_factor
            share = min((epoch - top) / (last - top), 1.0)
        return start + (end - start) * share if self.linear else _cosine(start, end, share)


@dataclass(frozen=True)
class WarmUp(_Checked):
    """Climb in equal steps to another schedule's rate, then follow it.  Report §2.3.5, ours.

        η(t) = min((t + 1) / epochs, 1) · schedule(t)

    The last of the ``epochs`` is the first at the full rate. The inner schedule counts from the
    same epoch 0, so that a cosine ends where it was told to.
    Source: Goyal et al. 2017, "Accurate, large minibatch SGD", §2.2.  Not in the report.
    """

    schedule: Schedule
    epochs: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.schedule, type) or not callable(self.schedule):
            raise TypeError(
                f"schedule is {described(self.schedule)}, want a schedule, such as Constant(0.1)"
            )

    def __call__(self, epoch: int, history: History = ()) -> float:
        return min((epoch + 1) / self.epochs, 1.0) * self.schedule(epoch, history)


@dataclass(frozen=True)
class ReduceOnPlateau(_Checked):
    """Reduce the learning rate when a monitored number stops improving.  Report §2.3.5.

    After ``patience`` epochs in a row without a new best, the rate is multiplied by ``factor``,
    as often as that happens; the report's example is a factor of 1/10 on the validation loss.

    initial     η₀, the learning rate to begin with
    monitor     the history's column to watch
    min_delta   a new best must beat the old one by more than this
    minimum     the learning rate goes no lower
    cooldown    epochs after a reduction during which the count of patience stands still
    maximise    True where higher is better: kappa, accuracy
    Raises ValueError if the history lacks the column.
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
        check_instance("monitor", self.monitor, str, "a column of the history")
        super().__post_init__()
        if not 0 < self.factor < 1:
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
