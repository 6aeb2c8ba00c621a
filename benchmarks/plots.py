"""The results as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.tables import best_of_torch, fastest, floor_ms, kinds_of
from benchmarks.variants import CUDA, NUMBA, NUMPY, OURS, STEP_VARIANTS

# Okabe & Ito 2008, "Color universal design"
BLUE, SKY, VERMILION, ORANGE, GREY = "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "0.45"
TORCH = "PyTorch, its fastest"
COLOURS = {NUMBA.name: BLUE, NUMPY.name: SKY, CUDA.name: BLUE, TORCH: VERMILION}
MARKERS = {NUMBA.name: "o", NUMPY.name: "s", CUDA.name: "o", TORCH: "^"}


@contextmanager
def figure(file: Path, width: float, height: float) -> Iterator[Any]:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    style: Any = {"axes.spines.top": False, "axes.spines.right": False, "legend.frameon": False}
    with rc_context(style):
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn
        file.parent.mkdir(parents=True, exist_ok=True)
        drawn.savefig(file, dpi=130)


def names_of(measured: Iterable[Mapping[str, Any]]) -> list[str]:
    keys = {key for entry in measured for key in entry}
    return [*(v.name for v in OURS if v.name in keys), TORCH]


def bar(axes: Any, place: float, values: list[float], tint: str) -> None:
    axes.barh(place, median(values), color=tint, height=0.7)
    axes.plot([min(values), max(values)], [place, place], color="black", lw=1)


def draw_steps(steps: Mapping[str, Any], drawn: Any) -> None:
    kinds = list(dict.fromkeys(kind for result in steps.values() for kind in kinds_of(result)))
    ran = {name for r in steps.values() for kind in kinds_of(r) for name in r[kind]}
    variants = [v for v in reversed(STEP_VARIANTS) if v.name in ran]
    grid = drawn.subplots(len(kinds), len(steps), squeeze=False)
    for kind, line in zip(kinds, grid, strict=True):
        for axes, (name, result) in zip(line, steps.items(), strict=True):
            if kind not in result:
                axes.axis("off")
                continue
            for place, variant in enumerate(variants):
                if ms := result[kind].get(variant.name, {}).get("ms"):
                    torchs = ORANGE if variant.allocator else VERMILION
                    bar(axes, place, ms, COLOURS.get(variant.name, torchs))
            labels = [v.name for v in variants] if axes is line[0] else []
            axes.set_yticks(range(len(variants)) if labels else [], labels)
            axes.set(title=f"{name}, {kind}", xlabel="ms", xlim=(0, None))
            axes.title.set_fontsize(11 if len(steps) < 5 else 9)
            axes.set_ylim(-0.6, len(variants) - 0.4)
    drawn.suptitle("Time of a batch: bar, median; line, least to most. Shorter is better")


def draw_ops(rows: list[Mapping[str, Any]], drawn: Any) -> None:
    axes, names = drawn.subplots(), names_of(row["ours"] for row in rows)
    for place, row in enumerate(reversed(rows)):
        axes.axhline(place, color="0.9", lw=0.6, zorder=0)
        found = {**row["ours"], TORCH: row["theirs"].get(fastest(row["theirs"]))}
        floor = floor_ms(row)
        for name in names:
            if floor and found.get(name):
                at, look = floor[0] / median(found[name]), {"ms": 5, "alpha": 0.9}
                axes.plot(at, place, MARKERS[name], color=COLOURS[name], **look)
    labels = [
        f"{row['op']}: {row['shape']}{', ' * ('precision' in row)}{row.get('precision', '')}"
        for row in reversed(rows)
    ]
    axes.set_yticks(range(len(rows)), labels, fontsize=7)
    axes.set(xscale="log", xlabel="floor / time: 1 is a plain product, or a copy, of that size")
    axes.set_ylim(-1, len(rows))
    axes.axvline(1, color=GREY, lw=1, ls="--")
    for name in names:
        axes.plot([], [], MARKERS[name], color=COLOURS[name], label=name)
    axes.legend(fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0))


PANELS = {  # axis label, the power of the value with which the arithmetic grows
    "batch": ("batch (images of 64 × 64)", 1),
    "side": ("side of the images, pixels (batch 4)", 2),
    "filters": ("filters, times 32-64-128-256", 2),
    "threads": ("threads", -1),
}


def draw_scaling(panels: Mapping[str, Any], drawn: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    names = names_of(point["variants"] for line in panels.values() for point in line)
    grid = drawn.subplots(-(-len(panels) // 2), 2, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, (panel, points) in zip(grid.flat, panels.items(), strict=False):
        axis, _, precision = panel.partition(", ")
        label, power = PANELS[axis]
        label = f"batch (images of 128 × 128), {precision}" if precision else label
        values, top = [point["value"] for point in points], 0.0
        for name in names:
            curve = []
            for value, point in zip(values, points, strict=True):
                measured = point["variants"]
                who = best_of_torch(measured) if name == TORCH else name
                if ms := measured.get(who, {}).get("ms"):
                    curve.append((value, median(ms), min(ms), max(ms)))
            if curve:
                at, middle, low, high = zip(*curve, strict=True)
                axes.plot(at, middle, f"-{MARKERS[name]}", color=COLOURS[name], label=name)
                axes.fill_between(at, low, high, color=COLOURS[name], alpha=0.15, lw=0)
                top = max(top, middle[0])
        if top and len(values) > 1:
            guide = [1.35 * top * (value / values[0]) ** power for value in values]
            axes.plot(values, guide, ":", color=GREY, label="as the arithmetic")
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms a training step")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    if grid.flat[0].get_legend_handles_labels()[0]:
        grid.flat[0].legend(fontsize=9)
    drawn.suptitle("How a training step's cost grows (median; band, least to most)")


def draw_loader(networks: Mapping[str, Any], drawn: Any) -> None:
    grid = drawn.subplots(len(networks), 1, squeeze=False)
    for axes, (network, result) in zip(grid.flat, networks.items(), strict=True):
        bars = [("decoded, once, one process", result["decode"], ORANGE)]
        for number, (name, entry) in enumerate(result["kernels"].items()):
            if number == 0:
                bars.append(("delivered, one thread", entry["delivers"], VERMILION))
            bars.append((f"consumed by {name}", entry["consumes"], COLOURS[name]))
        for place, (_, rates, tint) in enumerate(reversed(bars)):
            bar(axes, place, rates, tint)
            axes.text(max(rates), place, f" {median(rates):.0f}", va="center", fontsize=8)
        axes.set_yticks(range(len(bars)), [label for label, _, _ in reversed(bars)], fontsize=8)
        axes.set(title=network, xlim=(0, None))
    grid.flat[-1].set_xlabel("images a second")


# what is in results -> (height in inches, how it is drawn)
KINDS: dict[str, tuple[Callable[[Any], float], Callable[[Any, Any], None]]] = {
    "steps": (lambda s: 0.6 + 2.6 * max(len(kinds_of(r)) for r in s.values()), draw_steps),
    "ops": (lambda rows: 1.4 + 0.19 * len(rows), draw_ops),
    "panels": (lambda panels: 0.5 + 3.25 * -(-len(panels) // 2), draw_scaling),
    "networks": (lambda networks: 1 + 1.5 * len(networks), draw_loader),
}


def plot(parts: Iterable[Any], file: Path) -> None:
    """Draw what there is to be drawn in parts of results, one below the other, or nothing."""
    found = [
        (key, part[key])
        for part in parts
        for key in KINDS
        if isinstance(part, dict) and part.get(key)
    ]
    if not found:
        return
    width = max(1.6 + 2.7 * len(drawn) if key == "steps" else 9 for key, drawn in found)
    heights = [KINDS[key][0](drawn) for key, drawn in found]
    with figure(file, width, sum(heights)) as whole:
        below = whole.subfigures(len(found), 1, height_ratios=heights, squeeze=False)[:, 0]
        for (key, drawn), part in zip(found, below, strict=True):
            KINDS[key][1](drawn, part)
