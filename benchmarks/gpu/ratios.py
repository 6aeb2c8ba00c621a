"""What the figures say: ratios to PyTorch's best, and shares of the floor."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.gpu.variants import OURS
from benchmarks.ratios import Ratio, fastest, paired

GIGA, TERA = 1e9, 1e12
NO_CEILINGS: dict[str, Any] = {"copy_gb_s": None, "product_tflop_s": {}}


def ceilings_of(results: dict[str, Any]) -> dict[str, Any]:
    """The rates that were measured; without them no floor is known."""
    return {**NO_CEILINGS, **results.get("ceilings", {})}


def theirs(variants: dict[str, Any]) -> str | None:
    """PyTorch's fastest variant that ran; None if there is none."""
    ran = {n: e["ms"] for n, e in variants.items() if n != OURS.name and e.get("ms")}
    return fastest(ran)


def speed(variants: dict[str, Any]) -> Ratio | None:
    """PyTorch's best time over ours, round by round."""
    ms, best = variants.get(OURS.name, {}).get("ms"), theirs(variants)
    return paired(variants[best]["ms"], ms) if ms and best is not None else None


def memory(variants: dict[str, Any]) -> float | None:
    """Our peak memory over that of PyTorch's fastest."""
    best, own = theirs(variants), (variants.get(OURS.name, {}).get("memory") or {}).get("peak")
    other = (variants[best].get("memory") or {}).get("peak") if best is not None else None
    return own / other if own and other else None


def op_floor_ms(row: dict[str, Any], ceilings: dict[str, Any]) -> float | None:
    """The least time of an operation: its products, or its bytes, at the measured rates.

    None without a rate. Bytes are at the rate of a copy in the GPU's memory: what fits into its
    cache may be faster.
    """
    if not ceilings["copy_gb_s"]:
        return None
    moving = row["bytes"] / ceilings["copy_gb_s"] / GIGA * 1e3
    if not row["multiply_adds"]:
        return float(moving)
    rate = ceilings["product_tflop_s"].get(row["precision"])
    if not rate:
        return None
    return max(float(moving), 2 * row["multiply_adds"] / rate / TERA * 1e3)


def step_floor_ms(multiply_adds: int, precision: str, ceilings: dict[str, Any]) -> float | None:
    """The least time of a step by its products alone; None without a rate."""
    rate = ceilings["product_tflop_s"].get(precision)
    return 2 * multiply_adds / rate / TERA * 1e3 if rate else None


def share(floor: float | None, ms: list[float] | None) -> float | None:
    """Floor over time."""
    return floor / median(ms) if floor and ms else None
