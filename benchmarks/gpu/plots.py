"""One picture of a run: steps and their memory beside PyTorch's, operations, batches."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.gpu import ratios
from benchmarks.gpu.variants import OURS
from benchmarks.plots import BLUE, GREY, ORANGE, SKY, VERMILION, figure, plain_ticks

COLOURS = {"bf16": BLUE, "tf32": SKY, "fp32": ORANGE}
MARKERS = {"ours": ("o", BLUE), "torch": ("^", VERMILION)}
Results = dict[str, Any]


def plot(results: Results, file: Path) -> None:
    """Draw the parts that are there; without any, nothing is written."""
    left = [
        draw
        for name, draw in (("steps", plot_steps), ("steps", plot_memory), ("scaling", plot_scaling))
        if usable(results.get(name))
    ]
    rows = usable(results.get("ops")) and usable(results.get("ceilings"))
    if not left and not rows:
        return
    height = max(3.2 * len(left), 1.6 + 0.13 * len(results["ops"]["rows"]) if rows else 0, 4)
    with figure(file, 7.5 * bool(left) + 8.5 * bool(rows), height) as drawn:
        columns = drawn.subfigures(1, bool(left) + bool(rows), squeeze=False)[0]
        if left:
            axes_of = columns[0].subplots(len(left), 1, squeeze=False)[:, 0]
            for axes, draw in zip(axes_of, left, strict=True):
                draw(results, axes)
        if rows:
            plot_ops(results, columns[-1].subplots())
        drawn.suptitle(f"{results['machine']['gpu']}, {results['date']}", fontsize=10)


def usable(part: Any) -> bool:
    """Whether a part was measured and did not fail."""
    return bool(part) and "failed" not in part


def bars(results: Results) -> list[tuple[str, str, dict[str, Any]]]:
    """(label, precision, variants) of each step, from the bottom up."""
    found = [
        (f"{name}, {precision}", precision, variants)
        for name, entry in results["steps"]["networks"].items()
        for precision, variants in entry["precisions"].items()
    ]
    return found[::-1]


def draw_bars(axes: Any, results: Results, value: Any, digits: int = 2) -> None:
    """A bar for each step; where there is no value, a word."""
    entries = bars(results)
    for place, (_, precision, variants) in enumerate(entries):
        found = value(variants)
        if found is None:
            axes.text(0.02, place, "not measured", va="center", fontsize=7, color=GREY)
            continue
        axes.barh(place, found, color=COLOURS[precision], height=0.7)
        axes.text(found, place, f" {found:.{digits}f}", va="center", fontsize=8)
    axes.axvline(1, color=GREY, lw=1, ls="--")
    axes.set_yticks(range(len(entries)), [label for label, _, _ in entries], fontsize=8)
    axes.set_ylim(-0.6, len(entries) - 0.4)
    axes.set_xlim(0, max(1.1, axes.get_xlim()[1] * 1.1))


def plot_steps(results: Results, axes: Any) -> None:
    """PyTorch's best time over ours."""

    def value(variants: dict[str, Any]) -> float | None:
        ratio = ratios.speed(variants)
        return None if ratio is None else ratio.median

    draw_bars(axes, results, value)
    axes.set_title("Training step: PyTorch's fastest / ours. Longer is better", fontsize=9)


def plot_memory(results: Results, axes: Any) -> None:
    """Our peak memory over that of PyTorch's fastest."""
    draw_bars(axes, results, ratios.memory)
    axes.set_title("Peak memory: ours / PyTorch's fastest. Shorter is better", fontsize=9)


def plot_scaling(results: Results, axes: Any) -> None:
    """Images a second over the batch."""
    for precision, line in results["scaling"]["points"].items():
        for who, (marker, tint) in MARKERS.items():
            curve = []
            for point in line:
                variants = point["variants"]
                name = OURS.name if who == "ours" else ratios.theirs(variants)
                ms = variants.get(name, {}).get("ms") if name is not None else None
                if ms:
                    curve.append((point["batch"], 1e3 * point["batch"] / median(ms)))
            if curve:
                dash = "-" if precision == "bf16" else ":"
                label = f"{who}, {precision}"
                axes.plot(*zip(*curve, strict=True), f"{dash}{marker}", color=tint, label=label)
    batches = sorted({p["batch"] for line in results["scaling"]["points"].values() for p in line})
    axes.set(xscale="log", yscale="log", xlabel="batch", ylabel="images a second")
    axes.set_xticks(batches, [str(batch) for batch in batches])
    axes.minorticks_off()
    plain_ticks(axes)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
    axes.set_title("Training steps of the VGG-like network, side 128", fontsize=9)


def plot_ops(results: Results, axes: Any) -> None:
    """How near to its floor each operation is."""
    rows = sorted(
        (row for row in results["ops"]["rows"] if row["ms"]),
        key=lambda row: (row["op"], row["shape"], row["precision"]),
        reverse=True,
    )
    for place, row in enumerate(rows):
        axes.axhline(place, color="0.9", lw=0.6, zorder=0)
        floor = ratios.op_floor_ms(row, results["ceilings"])
        for who, (marker, tint) in MARKERS.items():
            at = ratios.share(floor, row["ms"].get(who))
            if at is not None:
                axes.plot(at, place, marker, color=tint, ms=4, alpha=0.9)
    labels = [f"{row['op']}: {row['shape']}, {row['precision']}" for row in rows]
    axes.set_yticks(range(len(rows)), labels, fontsize=6)
    axes.set_ylim(-1, len(rows))
    axes.set(xscale="log", xlabel="floor / time: 1 is a plain product, or a copy, of that size")
    axes.axvline(1, color=GREY, lw=1, ls="--")
    for who, (marker, tint) in MARKERS.items():
        axes.plot([], [], marker, color=tint, label="PyTorch, cuDNN" if who == "torch" else who)
    axes.legend(fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.4, 1.0))
