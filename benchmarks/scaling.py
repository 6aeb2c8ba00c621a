"""How a training step's cost grows: with the batch, the images' side, the filters, the threads.

One of them changes at a time, the others stay as in BASE: W128's network at side 64.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

from benchmarks.ratios import fastest, times_of
from benchmarks.steps import measure
from benchmarks.variants import OURS, STOCK, installed
from benchmarks.workloads import Workload

BASE = Workload(64, 32, (32, 64, 128, 256), 256)
SMALL_BATCH = 4  # where the side grows: 320 × 320 images then fit beside each other
# compiling takes longer than all else here, and was never PyTorch's fastest
VARIANTS = (*OURS, *(v for v in STOCK if not v.compiled))


def points(threads: int) -> dict[str, list[tuple[float, Workload, int]]]:
    """Panel -> (value on its axis, workload, threads)."""
    halved = [1 << i for i in range(threads.bit_length()) if 1 << i < threads]
    return {
        "batch": [(n, replace(BASE, batch=n), threads) for n in (8, 16, 32, 64, 128)],
        "side": [
            (side, replace(BASE, side=side, batch=SMALL_BATCH), threads)
            for side in (48, 80, 128, 208, 320)
        ],
        "filters": [
            (factor, replace(BASE, filters=tuple(int(f * factor) for f in BASE.filters)), threads)
            for factor in (0.5, 1, 2)
        ],
        "threads": [(n, BASE, n) for n in (*halved, threads)],
    }


PANELS = tuple(points(1))


def measure_scaling(
    rounds: int, threads: int, chosen: Sequence[str] = PANELS, before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Panel -> a list of {"value", "workload", "threads", "variants"}; BASE is measured once.

    chosen   panels that are measured
    before   earlier panels, which the others are taken from: but what was measured of BASE now
             takes the place of what was measured then
    """
    present, _ = installed(VARIANTS)
    known: dict[tuple[Workload, int], dict[str, Any]] = {}
    panels: dict[str, list[dict[str, Any]]] = {}
    for panel, line in points(threads).items():
        if panel not in chosen:
            continue
        panels[panel] = []
        for value, workload, count in line:
            if (workload, count) not in known:
                known[workload, count] = measure(workload, "training", present, rounds, count)
            variants = known[workload, count]
            say(panel, value, variants)
            panels[panel].append(
                {
                    "value": value,
                    "threads": count,
                    "workload": asdict(workload),
                    "variants": variants,
                }
            )
    for panel in set(before or {}) - set(panels):
        panels[panel] = [
            {**point, "variants": known.get(_where(point), point["variants"])}
            for point in (before or {})[panel]
        ]
    return {panel: panels[panel] for panel in PANELS if panel in panels}


def _where(point: dict[str, Any]) -> tuple[Workload, int]:
    return Workload.from_json(point["workload"]), point["threads"]


def say(panel: str, value: float, variants: dict[str, Any]) -> None:
    """One line as it goes."""
    text = "; ".join(f"{name} {median(entry['ms']):.0f}" for name, entry in variants.items())
    print(f"{panel} {value:g}, ms: {text}", file=sys.stderr, flush=True)


def best_stock(variants: dict[str, Any]) -> Sequence[float] | None:
    """Milliseconds of PyTorch's fastest."""
    times = times_of(variants, STOCK)
    name = fastest(times)
    return None if name is None else times[name]
