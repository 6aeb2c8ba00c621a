"""What the data is made of: Table 1 and the per-part tables of the report's §4.4.

Only names and labels are counted; no image is opened.  MURA's test set (556 images of 207
studies of 206 patients) was not published and is in none of the tables.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from examples.mura.counts import (
    count,
    count_patients,
    count_shared_patients,
    views_per_study,
)
from examples.mura.dataset import PARTS, SPLITS, Dataset, Image
from examples.mura.figures import BLUE, GREEN, GREY, INK, ORANGE, STYLE

SPLIT_NAMES = {"train": "Training", "valid": "Validation"}
SPLIT_COLOURS = {"train": GREY, "valid": GREEN}


def groups(dataset: Dataset) -> dict[str, list[Image]]:
    """The images of each split that is there, and of all of them as "Total"."""
    found = {SPLIT_NAMES[s]: images for s in SPLITS if (images := dataset.split(s))}
    return found | {"Total": dataset.images}


def title(dataset: Dataset) -> str:
    """Heading of the text and of the picture."""
    return f"Data breakdown: {'synthetic radiographs' if dataset.synthetic else dataset.root.name}"


def table_1(dataset: Dataset) -> list[list[str]]:
    """The report's Table 1: images, studies and patients of each split."""
    rows = [["", "Images", "Studies", "Patients"]]
    for name, images in groups(dataset).items():
        counts = count(images)
        sizes = (sum(counts.images), sum(counts.studies), count_patients(images))
        rows.append([name, *(f"{n:,}" for n in sizes)])
    return rows


def table_of_parts(images: Sequence[Image]) -> list[list[str]]:
    """§4.4: studies and images of each body part by label, and views per study."""
    rows = [
        ["", "Patients", "Studies", "normal", "abnormal", "share"]
        + ["Images", "normal", "abnormal", "share", "Views", "most"]
    ]
    by_part = {part.capitalize(): [i for i in images if i.part == part] for part in PARTS}
    for name, group in (by_part | {"All": list(images)}).items():
        if not group:
            continue
        row = [name, f"{count_patients(group):,}"]
        counts = count(group)
        for normal, abnormal in (counts.studies, counts.images):
            share = abnormal / (normal + abnormal)
            row += [f"{normal + abnormal:,}", f"{normal:,}", f"{abnormal:,}", f"{share:.1%}"]
        views = views_per_study(group)
        rows.append([*row, f"{np.mean(views):.1f}", f"{max(views)}"])
    return rows


def notes(dataset: Dataset) -> list[str]:
    """What the tables do not say: who is counted twice, and what guessing would score."""
    lines = []
    for name, images in groups(dataset).items():
        if name == "Total":
            continue
        counts = count(images)
        floors = [max(pair) / sum(pair) for pair in (counts.images, counts.studies)]
        lines.append(
            f"{name}: {count_shared_patients(images):,} of {count_patients(images):,} patients "
            f"have studies of several body parts; always guessing the commoner label is right "
            f"for {floors[0]:.1%} of images, {floors[1]:.1%} of studies."
        )
    shared = {i.patient for i in dataset.split("train")} & {
        i.patient for i in dataset.split("valid")
    }
    lines.append(f"Patients in both training and validation: {len(shared):,}.")
    return lines


def breakdown_text(dataset: Dataset) -> str:
    """Both tables and what they do not say, as plain text."""
    blocks = [title(dataset), aligned(table_1(dataset))]
    for name, images in groups(dataset).items():
        blocks.append(f"{name}, by body part\n{aligned(table_of_parts(images))}")
    blocks.append("\n".join(notes(dataset)))
    blocks.append("Share: abnormal. Views: images per study, the mean and the most.")
    blocks.append("Not for clinical use.")
    return "\n\n".join(blocks) + "\n"


def aligned(rows: list[list[str]]) -> str:
    """A table with its first column to the left and its numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join([f"{first:<{widths[0]}}", *cells]))
    return "\n".join(lines)


def breakdown_figure(dataset: Dataset, path: str | os.PathLike[str]) -> None:
    """Draw Table 1, the studies of each part by label, and the views per study, into ``path``."""
    splits = [split for split in SPLITS if dataset.split(split)]
    style: Any = STYLE
    with rc_context(style):
        figure = Figure(figsize=(11, 7.6), layout=ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12))
        figure.suptitle(title(dataset), fontsize=15, fontweight="bold", color=INK)
        grid = figure.add_gridspec(2, 2 * len(splits), height_ratios=(3, 2))
        for i, split in enumerate(splits):
            draw_parts(figure.add_subplot(grid[0, 2 * i : 2 * i + 2]), dataset, split)
        draw_views(figure.add_subplot(grid[1, : len(splits)]), dataset, splits)
        draw_table(figure.add_subplot(grid[1, len(splits) :]), dataset)
        notice = "Not for clinical use." + (" Synthetic data." if dataset.synthetic else "")
        figure.supxlabel(notice, fontsize=9, color=GREY)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)


def draw_parts(axes: Axes, dataset: Dataset, split: str) -> None:
    """A bar per body part: its normal and abnormal studies, end to end."""
    images = dataset.split(split)
    counts = {part: count(i for i in images if i.part == part) for part in PARTS}
    counts = {part: found for part, found in counts.items() if sum(found.images)}
    most = max(sum(found.studies) for found in counts.values())
    for place, found in enumerate(counts.values()):
        normal, abnormal = found.studies
        for begin, length, colour in ((0, normal, BLUE), (normal, abnormal, ORANGE)):
            axes.barh(place, length, 0.75, begin, color=colour)
            if length > 0.06 * most:  # the number has room
                middle = begin + length / 2
                axes.text(middle, place, f"{length:,}", ha="center", va="center", color="white")
        share = f"{abnormal / (normal + abnormal):.0%}"
        axes.text(normal + abnormal + 0.015 * most, place, share, va="center", color=INK)
    names = [f"{part.capitalize()}\n{sum(n.images):,} images" for part, n in counts.items()]
    axes.set_yticks(range(len(counts)), names)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1 * most)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    bars = {"normal": BLUE, "abnormal and its share": ORANGE}
    headed(axes, f"{SPLIT_NAMES[split]} studies", bars)


def draw_views(axes: Axes, dataset: Dataset, splits: Sequence[str]) -> None:
    """Which share of a split's studies has 1, 2, 3 ... images."""
    views = {split: views_per_study(dataset.split(split)) for split in splits}
    most = max(map(max, views.values()))
    width = 0.8 / len(splits)
    bars = {}
    for i, (split, found) in enumerate(views.items()):
        share = np.bincount(found, minlength=most + 1)[1:] / len(found)
        places = np.arange(1, most + 1) + (i - (len(splits) - 1) / 2) * width
        axes.bar(places, 100 * share, width, color=SPLIT_COLOURS[split])
        bars[f"{SPLIT_NAMES[split].lower()}, mean {np.mean(found):.1f}"] = SPLIT_COLOURS[split]
    axes.set_xticks(range(1, most + 1))
    axes.set_xlabel("images in a study")
    axes.set_ylabel("% of studies")
    headed(axes, "Views per study", bars)


def draw_table(axes: Axes, dataset: Dataset) -> None:
    """Table 1 as text, and below it the patients that are counted under several parts."""
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.set_title("Table 1", loc="left", fontweight="bold")
    rows = table_1(dataset)
    step = 0.15
    for number, row in enumerate(rows):
        y = 0.93 - number * step
        weight = "bold" if number in (0, len(rows) - 1) else "normal"
        for x, cell in zip((0, 0.52, 0.76, 1), row, strict=True):
            side = "right" if x else "left"
            axes.text(x, y, cell, ha=side, va="center", fontsize=12, weight=weight, color=INK)
        if number in (0, len(rows) - 2):
            axes.plot((0, 1), (y - step / 2, y - step / 2), color=GREY, linewidth=0.8)
    shared = [
        f"{count_shared_patients(images):,} in {name.lower()}"
        for name, images in groups(dataset).items()
        if name != "Total"
    ]
    note = f"Patients with studies of several body parts:\n{', '.join(shared)}."
    axes.text(0, 0.9 - len(rows) * step, note, va="top", color=INK)


def headed(axes: Axes, text: str, bars: dict[str, str]) -> None:
    """A heading on the left and, on its line and clear of the bars, what their colours mean."""
    axes.set_title(text, loc="left", fontweight="bold")
    axes.legend(
        [Patch(color=colour) for colour in bars.values()],
        list(bars),
        loc="lower right",
        bbox_to_anchor=(1.02, 0.985),
        ncols=len(bars),
        columnspacing=1,
        handlelength=1,
        handletextpad=0.5,
        fontsize=9,
    )
    axes.tick_params(length=0)
