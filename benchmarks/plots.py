"""The results as pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.ratios import best_of_torch, fastest, floor_ms
from benchmarks.tables import kinds_of
from benchmarks.variants import CUDA, NUMBA, NUMPY, OURS, STEP_VARIANTS, Variant

# Okabe & Ito 2008, "Color universal design"
BLUE, SKY, VERMILION, ORANGE, GREY = "#0072B2", "#56B4E9", "#D55E00", "#E69F00", "0.45"
TORCH = "PyTorch, its fastest"
COLOURS = {NUMBA.name: BLUE, NUMPY.name: SKY, CUDA.name: BLUE, TORCH: VERMILION}
MARKERS = {NUMBA.name: "o", NUMPY.name: "s", CUDA.name: "o", TORCH: "^"}


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
    return COLOURS.get(variant.name) or (ORANGE if variant.allocator else VERMILION)


def names_of(measured: Iterable[Mapping[str, Any]]) -> list[str]:
    keys = {key for entry in measured for key in entry}
    return [*(v.name for v in OURS if v.name in keys), TORCH]


def bar(axes: Any, place: float, values: list[float], tint: str) -> None:
    axes.barh(place, median(values), color=tint, height=0.7)
    axes.plot([min(values), max(values)], [place, place], color="black", lw=1)


def draw_steps(steps: Mapping[str, Any], drawn: Any) -> None:
    """Milliseconds of every variant: a row for each kind, a column for each network."""
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
                    bar(axes, place, ms, colour(variant))
            labels = [v.name for v in variants] if axes is line[0] else []
            axes.set_yticks(range(len(variants)) if labels else [], labels)
            axes.set(title=f"{name}, {kind}", xlabel="ms", xlim=(0, None))
            axes.title.set_fontsize(11 if len(steps) < 5 else 9)
            axes.set_ylim(-0.6, len(variants) - 0.4)
    drawn.suptitle("Time of a batch: bar, median; line, least to most. Shorter is better")


def draw_ops(rows: list[Mapping[str, Any]], drawn: Any) -> None:
    """How near to its floor each operation is, in each library."""
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


PANELS: dict[str, tuple[str, Callable[[float, float], float]]] = {
    # axis label, how the arithmetic grows with the value
    "batch": ("batch (images of 64 × 64)", lambda n, first: n / first),
    "side": ("side of the images, pixels (batch 4)", lambda n, first: (n / first) ** 2),
    "filters": ("filters, times 32-64-128-256", lambda n, first: (n / first) ** 2),
    "threads": ("threads", lambda n, first: first / n),
}


def draw_scaling(panels: Mapping[str, Any], drawn: Any) -> None:
    """A panel for each thing that grows: what a training step then costs."""
    names = names_of(point["variants"] for line in panels.values() for point in line)
    grid = drawn.subplots(-(-len(panels) // 2), 2, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.axis("off")
    for axes, (panel, points) in zip(grid.flat, panels.items(), strict=False):
        axis, _, precision = panel.partition(", ")
        label, growth = PANELS[axis]
        if precision:
            label = f"batch (images of 128 × 128), {precision}"
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
            guide = [1.35 * top * growth(value, values[0]) for value in values]
            axes.plot(values, guide, ":", color=GREY, label="as the arithmetic")
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms a training step")
        axes.set_xticks(values, [f"{value:g}" for value in values])
        axes.minorticks_off()
        plain_ticks(axes)
    if grid.flat[0].get_legend_handles_labels()[0]:
        grid.flat[0].legend(fontsize=9)
    drawn.suptitle("How a training step's cost grows (median; band, least to most)")


def plain_ticks(axes: Any) -> None:
    """1, 2 and 5 times powers of ten on the logarithmic axis, written as numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def draw_loader(networks: Mapping[str, Any], drawn: Any) -> None:
    """Images a second: decoded once, delivered, consumed; a panel for each network."""
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


# kind -> (what of the results it draws, (width, height) in inches, how)
KINDS: dict[str, tuple[str, Callable[[Any], tuple[float, float]], Callable[[Any, Any], None]]] = {
    "steps": (
        "steps",
        lambda s: (1.6 + 2.7 * len(s), 0.6 + 2.6 * max(len(kinds_of(r)) for r in s.values())),
        draw_steps,
    ),
    "ops": ("ops", lambda rows: (9, 1.4 + 0.19 * len(rows)), draw_ops),
    "scaling": ("panels", lambda panels: (9, 0.5 + 3.25 * -(-len(panels) // 2)), draw_scaling),
    "loader": ("networks", lambda networks: (9, 1 + 1.5 * len(networks)), draw_loader),
}


def plot(parts: Mapping[str, Mapping[str, Any]], file: Path) -> None:
    """Draw the kinds of results that are there, one below the other; without any, nothing."""
    wanted = [
        (size(part[key]), draw, part[key])
        for kind, (key, size, draw) in KINDS.items()
        if (part := parts.get(kind)) and part.get(key)
    ]
    if not wanted:
        return
    heights = [size[1] for size, _, _ in wanted]
    with figure(file, max(size[0] for size, _, _ in wanted), sum(heights)) as drawn:
        if len(wanted) == 1:
            wanted[0][1](wanted[0][2], drawn)
            return
        below = drawn.subfigures(len(wanted), 1, height_ratios=heights)
        for (_, draw, found), part in zip(wanted, below, strict=True):
            draw(found, part)
