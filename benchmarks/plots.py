"""The results as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ratios import fastest
from benchmarks.scaling import best_stock
from benchmarks.tables import floor_ms
from benchmarks.variants import FAST, NUMPY, OURS, STEP_VARIANTS, Variant

# Okabe & Ito 2008, "Color universal design"
BLUE, SKY, VERMILION, ORANGE, GREY = "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "0.45"
TORCH = "PyTorch, its fastest"
COLOURS = {FAST.name: BLUE, NUMPY.name: SKY, TORCH: VERMILION}
MARKERS = {FAST.name: "o", NUMPY.name: "s", TORCH: "^"}


@contextmanager
def figure(file: Path, width: float, height: float) -> Iterator[Any]:
    """An empty figure, written to ``file`` at the block's end."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    with rc_context(style):
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn
        file.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(file, dpi=130)


def colour(variant: Variant) -> str:
    """Ours blue, torch's red as it comes and orange with malloc's settings."""
    if variant in OURS:
        return COLOURS[variant.name]
    return ORANGE if variant.allocator else VERMILION


def plot_steps(results: dict[str, Any], file: Path) -> None:
    """Milliseconds of every variant: a row for training and for inference, a column a workload."""
    steps = results["steps"]
    ran = {v for r in steps.values() for m in r.values() if isinstance(m, dict) for v in m}
    variants = [v for v in reversed(STEP_VARIANTS) if v.name in ran]
    kinds = [kind for kind in ("training", "inference") if any(kind in r for r in steps.values())]
    with figure(file, 1.6 + 2.7 * len(steps), 0.6 + 2.6 * len(kinds)) as drawn:
        grid = drawn.subplots(len(kinds), len(steps), squeeze=False)
        for kind, line in zip(kinds, grid, strict=True):
            for axes, (name, result) in zip(line, steps.items(), strict=True):
                measured = result.get(kind, {})
                for place, variant in enumerate(variants):
                    ms = measured.get(variant.name, {}).get("ms")
                    if ms:
                        axes.barh(place, median(ms), color=colour(variant), height=0.7)
                        axes.plot([min(ms), max(ms)], [place, place], color="black", lw=1)
                labels = [v.name for v in variants] if axes is line[0] else []
                axes.set_yticks(range(len(variants)) if labels else [], labels)
                axes.set(title=f"{name}, {kind}", xlabel="ms", xlim=(0, None))
                axes.set_ylim(-0.6, len(variants) - 0.4)
        drawn.suptitle("Time of a batch: bar, median; line, least to most. Shorter is better")


def plot_ops(results: dict[str, Any], file: Path) -> None:
    """How near to its floor each operation is, in each library."""
    rows = results["ops"]
    with figure(file, 9, 1.4 + 0.19 * len(rows)) as drawn:
        axes = drawn.subplots()
        for place, row in enumerate(reversed(rows)):
            floor, _ = floor_ms(row)
            best = fastest(row["theirs"])
            found = {v.name: row["ours"].get(v.name) for v in OURS}
            found[TORCH] = row["theirs"].get(best)
            axes.axhline(place, color="0.9", lw=0.6, zorder=0)
            for name, ms in found.items():
                if ms:
                    at = floor / median(ms)
                    axes.plot(at, place, MARKERS[name], color=COLOURS[name], ms=5, alpha=0.9)
        labels = [f"{row['op']}: {row['shape']}" for row in reversed(rows)]
        axes.set_yticks(range(len(rows)), labels, fontsize=7)
        axes.set(xscale="log", xlabel="floor / time: 1 is a plain product, or a copy, of that size")
        axes.set_ylim(-1, len(rows))
        axes.axvline(1, color=GREY, lw=1, ls="--")
        for name, marker in MARKERS.items():
            axes.plot([], [], marker, color=COLOURS[name], label=name)
        axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0))


PANELS: dict[str, tuple[str, Callable[[Any, Any], Any] | None]] = {
    # axis label, how the arithmetic grows with the value
    "batch": ("batch (images of 64 × 64)", lambda n, first: n / first),
    "side": ("side of the images, pixels (batch 4)", lambda n, first: (n / first) ** 2),
    "filters": ("filters, times 32-64-128-256", lambda n, first: (n / first) ** 2),
    "threads": ("threads", lambda n, first: first / n),
}


def plot_scaling(results: dict[str, Any], file: Path) -> None:
    """Four panels: what a training step costs as one thing grows."""
    with figure(file, 9, 7) as drawn:
        for axes, (panel, points) in zip(
            drawn.subplots(2, 2).flat, results["panels"].items(), strict=True
        ):
            label, growth = PANELS[panel]
            values = [point["value"] for point in points]
            curves = {
                v.name: [point["variants"].get(v.name, {}).get("ms") for point in points]
                for v in OURS
            }
            curves[TORCH] = [best_stock(point["variants"]) for point in points]
            for name, line in curves.items():
                if any(ms is None for ms in line):
                    continue
                middle = [median(ms) for ms in line]
                axes.plot(values, middle, f"-{MARKERS[name]}", color=COLOURS[name], label=name)
                low, high = [min(ms) for ms in line], [max(ms) for ms in line]
                axes.fill_between(values, low, high, color=COLOURS[name], alpha=0.15, lw=0)
            if growth is not None and len(values) > 1:
                top = max(median(line[0]) for line in curves.values() if line[0])
                guide = [1.35 * top * growth(value, values[0]) for value in values]
                axes.plot(values, guide, ":", color=GREY, label="as the arithmetic")
            axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms a training step")
            axes.set_xticks(values, [f"{value:g}" for value in values])
            axes.minorticks_off()
            plain_ticks(axes)
        drawn.axes[0].legend(fontsize=9)
        drawn.suptitle("How a training step's cost grows (median; band, least to most)")


def plain_ticks(axes: Any) -> None:
    """1, 2 and 5 times powers of ten on the logarithmic axis, written as numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def plot_loader(results: dict[str, Any], file: Path) -> None:
    """Images a second: decoded once, delivered, consumed; a panel a network."""
    networks = results["networks"]
    with figure(file, 9, 1 + 1.5 * len(networks)) as drawn:
        for axes, (network, result) in zip(
            drawn.subplots(len(networks), 1, squeeze=False).flat, networks.items(), strict=True
        ):
            bars = [("decoded, once, one process", result["decode"], ORANGE)]
            for number, (name, entry) in enumerate(result["kernels"].items()):
                if number == 0:
                    bars.append(("delivered, one thread", entry["delivers"], VERMILION))
                bars.append((f"consumed by {name}", entry["consumes"], COLOURS[name]))
            for place, (_, rates, tint) in enumerate(reversed(bars)):
                axes.barh(place, median(rates), color=tint, height=0.7)
                axes.plot([min(rates), max(rates)], [place, place], color="black", lw=1)
                axes.text(max(rates), place, f" {median(rates):.0f}", va="center", fontsize=8)
            axes.set_yticks(range(len(bars)), [label for label, _, _ in reversed(bars)], fontsize=8)
            axes.set(title=network, xlim=(0, None))
        drawn.axes[-1].set_xlabel("images a second")


PLOTS = {"steps": plot_steps, "ops": plot_ops, "scaling": plot_scaling, "loader": plot_loader}
