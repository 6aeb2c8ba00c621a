"""Ratios of times that were taken in turns, and shares of the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from benchmarks.variants import OURS, WITH_ALLOCATOR
from benchmarks.workloads import PASSES

PRODUCT_FLOPS = 2 * 1024**3  # of the floor's product, in results that do not say


class Ratio(NamedTuple):
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
    return min(times, key=lambda name: median(times[name]), default=None)


def best_of_torch(measured: Mapping[str, Any], malloc: bool = False) -> str | None:
    """Return PyTorch's fastest variant of those that ran; None if none did.

    malloc   of those with malloc's settings, else of those without
    """
    tuned, ours = ({v.name for v in these} for these in (WITH_ALLOCATOR, OURS))
    ran = {name: entry["ms"] for name, entry in measured.items() if entry.get("ms")}
    peers = [name for name in ran if name not in ours and (name in tuned) == malloc]
    return fastest({name: ran[name] for name in peers})


def speed_ratio(measured: Mapping[str, Any], ours: str, malloc: bool = False) -> Ratio | None:
    """PyTorch's fastest variant over one of ours, of one workload; None if either is missing."""
    name, ms = best_of_torch(measured, malloc), measured.get(ours, {}).get("ms")
    return paired(measured[name]["ms"], ms) if name is not None and ms else None


def memory_ratio(measured: Mapping[str, Any], ours: str) -> float | None:
    """Our peak memory over that of PyTorch's fastest variant without malloc's settings."""
    name, peak = best_of_torch(measured), measured.get(ours, {}).get("peak_mb")
    return float(peak / measured[name]["peak_mb"]) if name is not None and peak else None


def floor_ms(row: Mapping[str, Any]) -> tuple[float, bool] | None:
    """Return the least time for an operation, and whether multiplying is what bounds it.

        floor = max(2 · multiply-adds / rate of a large matrix product, time to copy as many bytes)

    The copy moves the operation's bytes, half read and half written: where they fit into a cache,
    the floor is that of the cache. None if a floor was not measured.
    """
    if not row["copy"] or (row["multiply_adds"] and not row["products"]):
        return None
    moving = median(row["copy"])
    if not row["products"]:
        return moving, False
    product = min(median(ms) for ms in row["products"].values())
    flops = row.get("product_flops", PRODUCT_FLOPS)
    multiplying = 2 * row["multiply_adds"] / flops * product
    return max(multiplying, moving), multiplying > moving


def step_floor_ms(
    result: Mapping[str, Any], kind: str, ceilings: Mapping[str, Any]
) -> float | None:
    """Return the least time of a step by its products, at the ceilings' rate; None without one.

    kind   "training, bf16"
    """
    passes, _, precision = kind.partition(", ")
    product = ceilings.get("ms", {}).get(f"product, {precision}")
    if not product:
        return None
    flops = 2 * PASSES[passes] * result["multiply_adds"]
    return float(flops / ceilings["product_flops"] * median(product))
