"""Ratios of times that were taken in turns, and the targets they are held to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from benchmarks.variants import FAST, NUMPY, STOCK, WITH_ALLOCATOR


class Ratio(NamedTuple):
    """Median, least and largest of the rounds' ratios."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def paired(theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
    """Their time over ours, round by round: what slows a whole round down cancels."""
    each = [a / b for a, b in zip(theirs, ours, strict=True)]
    return Ratio(median(each), min(each), max(each))


def fastest(times: Mapping[str, Sequence[float]]) -> str | None:
    """The name with the lowest median; None if there are none."""
    return min(times, key=lambda name: median(times[name]), default=None)


AGAINST = {"stock": STOCK, "malloc": WITH_ALLOCATOR}


def times_of(measured: dict[str, Any], variants: Iterable[Any]) -> dict[str, list[float]]:
    """Name -> milliseconds of those of ``variants`` that ran."""
    ran = [v.name for v in variants if "ms" in measured.get(v.name, {})]
    return {name: measured[name]["ms"] for name in ran}


def speed_ratio(measured: dict[str, Any], ours: str, against: str) -> Ratio | None:
    """PyTorch's fastest variant over one of ours, both of one workload; None if either is missing.

    against   "stock", or "malloc": with malloc's settings
    """
    theirs = times_of(measured, AGAINST[against])
    name = fastest(theirs)
    if name is None or "ms" not in measured.get(ours, {}):
        return None
    return paired(theirs[name], measured[ours]["ms"])


def memory_ratio(measured: dict[str, Any], ours: str) -> float | None:
    """Our process's peak memory over that of PyTorch's fastest stock variant."""
    name = fastest(times_of(measured, STOCK))
    if name is None or "ms" not in measured.get(ours, {}):
        return None
    return float(measured[ours]["peak_mb"] / measured[name]["peak_mb"])


@dataclass(frozen=True)
class Target:
    """What one of ours is to reach on one workload.

    against   "stock" or "malloc": PyTorch's time over ours is at least ``limit``
              "memory": our peak memory over PyTorch's is at most that
    """

    workload: str
    kind: str
    ours: str
    against: str
    limit: float

    def value(self, steps: dict[str, Any]) -> Ratio | float | None:
        """What was measured; None if it was not."""
        measured = steps.get(self.workload, {}).get(self.kind)
        if measured is None:
            return None
        if self.against == "memory":
            return memory_ratio(measured, self.ours)
        return speed_ratio(measured, self.ours, self.against)

    def met(self, value: Ratio | float) -> bool:
        """Whether it is reached, by the median."""
        if isinstance(value, Ratio):
            return value.median >= self.limit
        return value <= self.limit


WORKLOADS = ("W48", "W128", "W224")
MEMORY_LIMIT = 0.6


def targets() -> list[Target]:
    """All of them, by workload."""
    found = []
    for name, numpy_stock, fast_malloc in zip(WORKLOADS, (1.2, 1.5, 1.8), (2, 2.2, 2), strict=True):
        found += [
            Target(name, "training", NUMPY.name, "stock", numpy_stock),
            Target(name, "training", FAST.name, "stock", 3),
            Target(name, "training", FAST.name, "malloc", fast_malloc),
            Target(name, "training", NUMPY.name, "memory", MEMORY_LIMIT),
            Target(name, "training", FAST.name, "memory", MEMORY_LIMIT),
            Target(name, "inference", NUMPY.name, "stock", 1.2),
            Target(name, "inference", FAST.name, "stock", 2),
            Target(name, "inference", FAST.name, "malloc", 1.5),
            Target(name, "inference", NUMPY.name, "memory", MEMORY_LIMIT),
            Target(name, "inference", FAST.name, "memory", MEMORY_LIMIT),
        ]
    return found
