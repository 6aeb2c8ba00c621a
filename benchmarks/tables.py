"""Results as Markdown tables, for the terminal and for docs/performance.md."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.floors import PRODUCT_FLOPS
from benchmarks.loader import AIM, delivered_per_consumed, waiting_share
from benchmarks.ratios import Ratio, fastest, memory_ratio, paired, speed_ratio, targets
from benchmarks.scaling import best_stock
from benchmarks.variants import FAST, NUMPY, OURS, STEP_VARIANTS

NONE = "–"
PASSES = {"training": 3, "inference": 1}  # forward, and two gradients that cost as much each


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 2) -> str:
    """A table; the first columns are text, the others are numbers."""
    marks = ["---"] * text_columns + ["--:"] * (len(head) - text_columns)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, marks, *rows])


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Median (least to most)."""
    low, middle, high = min(values), median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def steps_table(steps: dict[str, Any], kind: str) -> str:
    """Every variant on every workload: time, ratios, rates, memory."""
    rows = []
    for name, result in steps.items():
        measured = result.get(kind, {})
        first = name
        for variant in STEP_VARIANTS:
            entry = measured.get(variant.name)
            if entry is None:
                continue
            if "failed" in entry:
                reason = entry["failed"].removeprefix(f"{variant.name}: ").replace("|", "/")
                rows.append([first, variant.name, f"failed: {reason[:80]}", *[NONE] * 6])
            else:
                rows.append([first, variant.name, *step_cells(result, measured, kind, variant)])
            first = ""
    head = [
        "workload",
        "library",
        "ms, median (least to most)",
        "torch / this",
        "torch + malloc / this",
        "images/s",
        "GFLOP/s",
        "peak MB",
        "of torch's",
    ]
    return markdown(head, rows)


def step_cells(
    result: dict[str, Any], measured: dict[str, Any], kind: str, variant: Any
) -> list[str]:
    """One variant's numbers."""
    entry = measured[variant.name]
    seconds = median(entry["ms"]) / 1e3
    ratios = [NONE, NONE, NONE]
    if variant in OURS:
        memory = memory_ratio(measured, variant.name)
        ratios = [
            text_of(speed_ratio(measured, variant.name, "stock")),
            text_of(speed_ratio(measured, variant.name, "malloc")),
            NONE if memory is None else f"{memory:.2f}",
        ]
    return [
        spread(entry["ms"], 0 if seconds > 0.1 else 1),
        ratios[0],
        ratios[1],
        f"{result['workload']['batch'] / seconds:.0f}",
        f"{2 * PASSES[kind] * result['multiply_adds'] / seconds / 1e9:.0f}",
        f"{entry['peak_mb']:.0f}",
        ratios[2],
    ]


def text_of(ratio: Ratio | None) -> str:
    """A ratio, or a dash."""
    return NONE if ratio is None else str(ratio)


def targets_table(steps: dict[str, Any]) -> str:
    """Each target of the workloads that were run, what was measured, and whether it is met."""
    rows = []
    for target in targets():
        if target.kind not in steps.get(target.workload, {}):
            continue
        value = target.value(steps)
        if target.against == "memory":
            what, sign = "peak memory, this / torch", "≤"
        else:
            what = "torch / this" if target.against == "stock" else "torch + malloc / this"
            sign = "≥"
        got = NONE if value is None else f"{value:.2f}" if isinstance(value, float) else str(value)
        verdict = "not measured" if value is None else "met" if target.met(value) else "**missed**"
        rows.append(
            [target.workload, f"{target.kind}, {target.ours}", what, f"{sign} {target.limit}", got]
        )
        rows[-1].append(verdict)
    return markdown(["workload", "what", "ratio", "target", "measured", ""], rows, 3)


def ops_table(rows_of: Sequence[dict[str, Any]]) -> str:
    """Each operation and shape: times, ratios, and how near to the floor."""
    rows, last = [], ""
    for row in rows_of:
        best = fastest(row["theirs"])
        theirs = None if best is None else row["theirs"][best]
        floor, is_product = floor_ms(row)
        times = [*(row["ours"].get(v.name) for v in OURS), theirs]
        quickest = min((median(ms) for ms in times[:2] if ms), default=float("nan"))
        work = 2 * row["multiply_adds"] if is_product else row["bytes"]
        rows.append(
            [
                row["op"] if row["op"] != last else "",
                row["shape"],
                *(NONE if ms is None else f"{median(ms):.3g}" for ms in times),
                *(
                    NONE if ours is None or theirs is None else str(paired(theirs, ours))
                    for ours in times[:2]
                ),
                f"{work / quickest / 1e6:.3g} {'GFLOP/s' if is_product else 'GB/s'}",
                *(NONE if ms is None else f"{floor / median(ms):.2f}" for ms in times),
            ]
        )
        last = row["op"]
    head = [
        "operation",
        "shape",
        "NumPy ms",
        "fast ms",
        "torch ms",
        "torch / NumPy",
        "torch / fast",
        "rate of ours",
        "floor / NumPy",
        "floor / fast",
        "floor / torch",
    ]
    return markdown(head, rows)


def floor_ms(row: dict[str, Any]) -> tuple[float, bool]:
    """The least time for an operation, and whether multiplying is what bounds it."""
    moving = median(row["copy"])
    if not row["products"]:
        return moving, False
    product = min(median(ms) for ms in row["products"].values())
    multiplying = 2 * row["multiply_adds"] / PRODUCT_FLOPS * product
    return max(multiplying, moving), multiplying > moving


def rates_line(rows: Sequence[dict[str, Any]]) -> str:
    """The rates that the floors were made of, over the whole run."""
    products = [min(map(median, r["products"].values())) for r in rows if r["products"]]
    large = [r["bytes"] / median(r["copy"]) / 1e6 for r in rows if r["bytes"] > 1 << 26]
    parts = []
    if products:
        parts.append(f"matrix product {PRODUCT_FLOPS / median(products) / 1e6:.0f} GFLOP/s")
    if large:
        parts.append(f"copy of more than 64 MB {median(large):.1f} GB/s, read and written")
    return f"Floors of this run: {'; '.join(parts)}."


def scaling_table(panels: dict[str, Any]) -> str:
    """The step's time at every point."""
    rows = []
    for panel, points in panels.items():
        for i, point in enumerate(points):
            ours = [point["variants"].get(v.name, {}).get("ms") for v in (NUMPY, FAST)]
            theirs = best_stock(point["variants"])
            rows.append(
                [
                    panel if i == 0 else "",
                    f"{point['value']:g}",
                    *(NONE if ms is None else f"{median(ms):.0f}" for ms in (*ours, theirs)),
                    *(
                        NONE if ms is None or theirs is None else str(paired(theirs, ms))
                        for ms in ours
                    ),
                ]
            )
    head = ["what grows", "to", "NumPy ms", "fast ms", "torch ms", "torch / NumPy", "torch / fast"]
    return markdown(head, rows)


def loader_table(networks: dict[str, Any]) -> str:
    """Images a second delivered and consumed, and how long training waits."""
    rows = []
    for network, result in networks.items():
        first = network
        for name, entry in result["kernels"].items():
            ratio = delivered_per_consumed(entry)
            rows.append(
                [
                    first,
                    name,
                    f"{median(result['decode']):.0f}",
                    f"{median(entry['delivers']):.0f}",
                    f"{median(entry['consumes']):.0f}",
                    f"{ratio:.1f}{'' if ratio >= AIM else f' (**less than {AIM}**)'}",
                    f"{median(entry['trains']):.0f}",
                    f"{100 * waiting_share(entry):.2f} %",
                    f"{1e3 * median(entry['first']):.0f} ms",
                ]
            )
            first = ""
    head = [
        "network",
        "library",
        "decoded/s, once",
        "delivered/s",
        "consumed/s, step alone",
        "delivered / consumed",
        "trained/s in fit",
        "waiting",
        "first batch after",
    ]
    return markdown(head, rows)
