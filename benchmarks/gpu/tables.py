"""Results as tables in Markdown."""

from __future__ import annotations

from statistics import median
from typing import Any

from benchmarks.gpu import ratios
from benchmarks.gpu.machine import describe
from benchmarks.gpu.variants import OURS
from benchmarks.tables import NONE, markdown, spread

MB = 1 << 20
MOST_KERNELS = 16  # of a step, in a table


def cell(value: float | None, form: str = ".2f") -> str:
    """A number, or a dash."""
    return NONE if value is None else format(value, form)


def reason(text: str, most: int = 90) -> str:
    """Why something failed, as a cell can hold it."""
    return f"failed: {text.replace('|', '/')[:most]}"


def correctness_table(part: dict[str, Any]) -> str:
    """Tests passed and failed, and which precisions repeat bit by bit."""
    tests = part["tests"]
    counts = ", ".join(f"{number} {what}" for what, number in tests["counts"].items())
    rows = [["tests for a GPU", f"{counts or 'none ran'}{' (cut short)' * tests['cut_short']}"]]
    rows += [["", line.replace("|", "/")[:120]] for line in tests["failures"]]
    for precision, same in part["same_bits"].items():
        said = same if isinstance(same, str) else "the same bits" if same else "**other bits**"
        rows.append([f"3 steps twice, {precision}", said.replace("|", "/")])
    return markdown(["check", "result"], rows)


def ceilings_table(part: dict[str, Any]) -> str:
    """The rates."""
    rows = [["copy, read and written", f"{part['copy_gb_s']:.0f} GB/s"]]
    for precision, rate in part["product_tflop_s"].items():
        rows.append([f"product {part['side']}³, {precision}", f"{cell(rate, '.1f')} TFLOP/s"])
    for way, time in part["launch_us"].items():
        rows.append([f"a kernel that does nothing, {way}", f"{time:.2f} µs"])
    return markdown(["ceiling", "measured"], rows)


def ops_table(part: dict[str, Any], ceilings: dict[str, Any]) -> str:
    """Each operation: times, ratio, and how near to the floor."""
    rows, last = [], ""
    for row in sorted(part["rows"], key=lambda row: (row["op"], row["shape"])):
        floor = ratios.op_floor_ms(row, ceilings) if row.get("bytes") else None
        ours, theirs = (row["ms"].get(name) for name in ("ours", "torch"))
        name = f"{row['op']}: {row['shape']}"
        shown = [NONE if not ms else spread(ms, digits(median(ms))) for ms in (ours, theirs)]
        failed = row["failed"].get("ours") or row["failed"].get("both")
        if failed:
            shown[0] = reason(failed)
        ratio = ratios.paired(theirs, ours) if ours and theirs else None
        rows.append(
            [
                name if name != last else "",
                row["precision"],
                *shown,
                cell(None if ratio is None else ratio.median),
                cell(floor, ".3g"),
                *(cell(ratios.share(floor, ms)) for ms in (ours, theirs)),
                cell(row["errors"].get("ours"), ".0e"),
                cell(row["errors"].get("torch"), ".0e"),
            ]
        )
        last = name
    head = [
        *("operation", "precision", "ours, ms", "torch, ms", "torch / ours", "floor, ms"),
        *("floor / ours", "floor / torch", "error, ours", "error, torch"),
    ]
    return markdown(head, rows)


def digits(ms: float) -> int:
    """So many that three figures are shown, or more."""
    return 3 if ms < 1 else 2 if ms < 10 else 1


def steps_table(part: dict[str, Any], ceilings: dict[str, Any]) -> str:
    """Every variant on every network: time, ratios, memory."""
    rows = []
    for name, entry in part["networks"].items():
        for precision, variants in entry["precisions"].items():
            first = f"{name}, {precision}"
            floor = ratios.step_floor_ms(entry["multiply_adds"], precision, ceilings)
            for variant, measured in variants.items():
                if "failed" in measured:
                    rows.append([first, variant, reason(measured["failed"]), *[NONE] * 7])
                else:
                    cells = step_cells(entry, variants, variant, floor)
                    rows.append([first, variant, *cells])
                first = ""
    head = [
        *("network", "library", "ms, median (least to most)", "images/s", "torch's best / this"),
        *("peak MB", "allocated MB", "of torch's best", "floor / this", "loss apart"),
    ]
    return markdown(head, rows)


def step_cells(
    entry: dict[str, Any], variants: dict[str, Any], variant: str, floor: float | None
) -> list[str]:
    """One variant's figures."""
    measured = variants[variant]
    ms, memory = measured["ms"], measured.get("memory") or {}
    ratio = ratios.speed(variants) if variant == OURS.name else None
    allocated = memory.get("allocated")
    return [
        spread(ms, digits(median(ms))),
        f"{1e3 * entry['network']['batch'] / median(ms):.0f}",
        NONE if ratio is None else str(ratio),
        cell(memory.get("peak", 0) / MB, ".0f"),
        cell(None if allocated is None else allocated / MB, ".0f"),
        cell(ratios.memory(variants) if variant == OURS.name else None),
        cell(ratios.share(floor, ms)),
        cell(measured.get("difference"), ".0e"),
    ]


def kernels_table(part: dict[str, Any]) -> str:
    """Where a step's time goes: the kernels that take most of it, and the rest."""
    rows = []
    for name, found in part["networks"].items():
        if "failed" in found:
            rows.append([name, reason(found["failed"]), *[NONE] * 4])
            continue
        whole, first = found["step_ms"], name
        for row in found["rows"][:MOST_KERNELS]:
            share = row["ms"] / whole
            kernel = f"{row['source']}: {row['kernel']}"
            figures = f"{row['launches']:g}", f"{row['ms']:.3f}", f"{share:.0%}"
            rows.append([first, kernel, row["at"], *figures])
            first = ""
        rest = whole - sum(row["ms"] for row in found["rows"])
        rows.append([first, "CuPy's, and between kernels", "", "", f"{rest:.3f}", ""])
    head = ["network", "kernel", "at", "launches a step", "ms a step", "of the step"]
    return markdown(head, rows, 3)


def scaling_table(part: dict[str, Any]) -> str:
    """Images a second by batch."""
    rows = []
    for precision, line in part["points"].items():
        for point in line:
            variants = point["variants"]
            best = ratios.theirs(variants)
            ours = variants.get(OURS.name, {}).get("ms")
            theirs = variants[best]["ms"] if best is not None else None
            rates = [1e3 * point["batch"] / median(ms) if ms else None for ms in (ours, theirs)]
            speed = ratios.speed(variants)
            rows.append(
                [
                    *(precision, f"{point['batch']}", *(cell(rate, ".0f") for rate in rates)),
                    *(best or NONE, NONE if speed is None else str(speed)),
                    cell(ratios.memory(variants)),
                ]
            )
    head = [
        *("precision", "batch", "ours, images/s", "torch, images/s", "its best"),
        *("torch / ours", "memory, ours / torch"),
    ]
    return markdown(head, rows, 1)


def page(results: dict[str, Any]) -> str:
    """All tables of the parts that are there, under their headings."""
    ceilings = ratios.ceilings_of(results)
    makers: dict[str, Any] = {
        "correctness": correctness_table,
        "ceilings": ceilings_table,
        "ops": lambda part: ops_table(part, ceilings),
        "steps": lambda part: steps_table(part, ceilings),
        "kernels": kernels_table,
        "scaling": scaling_table,
    }
    texts = [f"{results['date']}. {describe(results['machine'])}."]
    for name, maker in makers.items():
        if part := results.get(name):
            texts.append(f"## {name}\n\n{failed(part) or maker(part)}{left_out(part)}")
    return "\n\n".join(texts) + "\n"


def failed(part: dict[str, Any]) -> str:
    """Why a part has no results, or nothing."""
    return f"Failed: {part['failed']}" if "failed" in part else ""


def left_out(part: dict[str, Any]) -> str:
    """What a part had no time for."""
    skipped = part.get("skipped") or []
    return f"\n\nNot measured, for lack of time: {'; '.join(skipped)}." if skipped else ""
