"""Ratios of times that were taken in turns, shares of the floor, and both as Markdown tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from benchmarks.loader import AIM, delivered_per_consumed, waiting_share
from benchmarks.machine import describe
from benchmarks.variants import CUDA, NUMBA, NUMPY, OURS, STEP_VARIANTS, WITH_ALLOCATOR
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


NONE = "–"
SHORT = {NUMPY.name: "NumPy", NUMBA.name: "Numba", CUDA.name: "ours"}
MS = "ms, median (least to most)"
Entries = Mapping[str, Any]


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int = 2) -> str:
    """Return a table; the first columns are text, the others are numbers."""
    marks = ["---"] * text_columns + ["--:"] * (len(head) - text_columns)
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, marks, *rows])


def spread(values: Sequence[float]) -> str:
    low, middle, high = min(values), median(values), max(values)
    digits = 0 if middle > 100 else 1 if middle > 10 else 2 if middle > 1 else 3
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def cell(value: float | Ratio | None, form: str = ".2f") -> str:
    if value is None:
        return NONE
    return str(value) if isinstance(value, Ratio) else format(value, form)


def reason(text: str, name: str = "", most: int = 80) -> str:
    return f"failed: {text.removeprefix(f'{name}: ').replace('|', '/')[:most]}"


def kinds_of(result: Entries) -> list[str]:
    """Return the kinds that a network was measured at: "training, bf16"."""
    return [key for key in result if key not in ("workload", "multiply_adds")]


def steps_table(steps: Entries, kind: str = "", ceilings: Entries = {}) -> str:  # noqa: B006
    """Return every variant on every network: time, ratios, rates, memory.

    kind       of those that are shown; "": all
    ceilings   of a GPU
    """
    rows: list[dict[str, str]] = []
    for name, result in steps.items():
        for key in [key for key in kinds_of(result) if kind in ("", key)]:
            first = ", ".join(filter(None, (name, key.partition(", ")[2])))
            for variant in [v.name for v in STEP_VARIANTS if v.name in result[key]]:
                cells = step_cells(result, key, variant, ceilings)
                rows.append({"workload": first, "library": variant, **cells})
                first = ""
    columns = dict.fromkeys(column for row in rows for column in row)
    # what no row has is no column
    kept = [c for c in columns if {row.get(c, NONE) for row in rows} != {NONE}]
    return markdown(kept, [[row.get(column, NONE) for column in kept] for row in rows])


def step_cells(result: Entries, kind: str, variant: str, ceilings: Entries) -> dict[str, str]:
    measured, (passes, _, precision) = result[kind], kind.partition(", ")
    entry, own = measured[variant], variant in SHORT
    if "failed" in entry:
        return {MS: reason(entry["failed"], variant)}
    ms, floor = median(entry["ms"]), step_floor_ms(result, kind, ceilings)
    flops = 2 * PASSES[passes] * result["multiply_adds"]
    return {  # ratios are of ours alone
        MS: spread(entry["ms"]),
        "torch / this": cell(speed_ratio(measured, variant) if own else None),
        "torch + malloc / this": cell(speed_ratio(measured, variant, malloc=True) if own else None),
        "images/s": f"{1e3 * result['workload']['batch'] / ms:.0f}",
        "GFLOP/s": f"{flops / ms / 1e6:.0f}",
        "peak MB": f"{entry['peak_mb']:.0f}",
        "of torch's": cell(memory_ratio(measured, variant) if own else None),
        "floor / this": cell(floor and floor / ms),
        "loss apart": cell(entry.get("difference") if precision else None, ".0e"),
    }


def scaling_table(panels: Entries) -> str:
    points = [point for line in panels.values() for point in line]
    ours = [v.name for v in OURS if any(v.name in p["variants"] for p in points)]
    rows = []
    for panel, line in panels.items():
        for number, point in enumerate(line):
            variants = point["variants"]
            names = [*ours, best_of_torch(variants) or ""]
            each = [variants.get(name, {}).get("ms") for name in names]
            row = [panel if number == 0 else "", f"{point['value']:g}"]
            row += [cell(ms and median(ms), ".0f" if ms and ms[0] > 20 else ".2f") for ms in each]
            rows.append([*row, *(cell(speed_ratio(variants, name)) for name in ours)])
    short = [SHORT[name] for name in ours]
    head = ["what grows", "to", *(f"{name} ms" for name in (*short, "torch"))]
    return markdown([*head, *(f"torch / {name}" for name in short)], rows)


def ops_table(rows_of: Sequence[Entries]) -> str:
    told = {n for row in rows_of for key in ("ours", "differences") for n in row[key]}
    told |= {name for row in rows_of for name in row.get("failed", {})}
    ours = [v.name for v in OURS if v.name in told]
    precise = any("precision" in row and row["precision"] != "fp32" for row in rows_of)
    order = sorted(rows_of, key=lambda row: (row["op"], row["shape"])) if precise else rows_of
    rows, last = [], ""
    for row in order:
        best, floor, failed = fastest(row["theirs"]), floor_ms(row), row.get("failed", {})
        theirs = None if best is None else row["theirs"][best]
        own = [row["ours"].get(name) for name in ours]
        each = [*own, theirs]
        cells = [
            reason(failed[name], name) if name in failed else cell(ms and median(ms), ".3g")
            for name, ms in zip([*ours, ""], each, strict=True)
        ]
        cells += [cell(paired(theirs, ms) if ms and theirs else None) for ms in own]
        multiplies = floor is not None and floor[1]
        work = 2 * row["multiply_adds"] if multiplies else row["bytes"]
        quickest = min((median(ms) for ms in own if ms), default=None)
        unit = "GFLOP/s" if multiplies else "GB/s"
        cells.append(f"{work / quickest / 1e6:.3g} {unit}" if quickest else NONE)
        cells += [cell(floor and ms and floor[0] / median(ms)) for ms in each]
        cells += [cell(row["differences"].get(ours[0]), ".0e")] if precise and ours else []
        shape = f"{row['shape']}, {row['precision']}" if precise else row["shape"]
        rows.append([row["op"] if row["op"] != last else "", shape, *cells])
        last = row["op"]
    names = [SHORT[name] for name in ours]
    head = ["operation", "shape", *(f"{name} ms" for name in (*names, "torch"))]
    head += [*(f"torch / {name}" for name in names), "rate of ours"]
    head += [f"floor / {name}" for name in (*names, "torch")]
    return markdown(head + ["apart"] * (precise and bool(ours)), rows)


def rates_line(rows: Sequence[Entries]) -> str:
    products = [min(map(median, r["products"].values())) for r in rows if r["products"]]
    large = [r["bytes"] / median(r["copy"]) / 1e6 for r in rows if r["bytes"] > 1 << 26]
    rate = (
        f"matrix product {PRODUCT_FLOPS / median(products) / 1e6:.0f} GFLOP/s" if products else ""
    )
    copy = f"copy of more than 64 MB {median(large):.1f} GB/s, read and written" if large else ""
    return f"Floors of this run: {'; '.join(filter(None, (rate, copy)))}."


def loader_table(networks: Entries) -> str:
    rows = []
    for network, result in networks.items():
        first = network
        for name, entry in result["kernels"].items():
            ratio = delivered_per_consumed(entry)
            enough = "" if ratio >= AIM else f" (**less than {AIM}**)"
            rates = result["decode"], entry["delivers"], entry["consumes"], entry["trains"]
            decoded, delivered, consumed, trained = (f"{median(rate):.0f}" for rate in rates)
            waits = f"{100 * waiting_share(entry):.2f} %", f"{1e3 * median(entry['first']):.0f} ms"
            ratios = f"{ratio:.1f}{enough}", trained
            rows.append([first, name, decoded, delivered, consumed, *ratios, *waits])
            first = ""
    head = [
        *("network", "library", "decoded/s, once", "delivered/s", "consumed/s, step alone"),
        *("delivered / consumed", "trained/s in fit", "waiting", "first batch after"),
    ]
    return markdown(head, rows)


def of_cpu(kind: str, results: Entries) -> list[str]:
    """Return the tables of a kind of results, the first behind when, on what and how often."""
    on = f"{results['date']}, {results['rounds']} rounds. {describe(results['machine'])}."
    if kind == "steps":
        steps = results["steps"]
        kinds = dict.fromkeys(key for result in steps.values() for key in kinds_of(result))
        first, *more = [steps_table(steps, key) for key in kinds]
        return [f"{on}\n\n{first}", *more]
    if kind == "ops":
        return [f"{on} {rates_line(results['ops'])}\n\n{ops_table(results['ops'])}"]
    made = scaling_table(results["panels"]) if kind == "scaling" else ""
    return [f"{on}\n\n{made or loader_table(results['networks'])}"]


def page(results: Entries) -> str:
    """Return all that a GPU's parts found, under their headings."""
    makers: dict[str, Any] = {  # what is in a part -> how it is shown
        "lines": lambda said: "\n".join(f"- {line}" for line in said),
        "ops": ops_table,
        "steps": lambda steps: steps_table(steps, "", results.get("ceilings", {})),
        "panels": scaling_table,
    }
    texts = [f"{results['date']}. {describe(results['machine'])}."]
    for name, part in results.items():
        if isinstance(part, dict) and "seconds" in part:
            texts.append(f"## {name}, {part['seconds']:.0f} s")
            texts += [make(part[key]) for key, make in makers.items() if key in part]
            if isinstance(part.get("failed"), str):
                texts.append(f"Failed: {part['failed']}")
            if part["skipped"]:
                texts.append(f"Not measured, for lack of time: {'; '.join(part['skipped'])}.")
    return "\n\n".join(texts) + "\n"
