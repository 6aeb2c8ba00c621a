"""What the data consist of: Table 1 and the per-part tables of the report's §4.4.

Only names and labels are counted; no image is opened.  MURA's test set (556 images of 207
studies of 206 patients) was not published and is not in the tables.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from examples.mura.dataset import (
    PARTS,
    PUBLISHED,
    PUBLISHED_PATIENTS,
    PUBLISHED_SHARED_PATIENTS,
    SPLITS,
    Counts,
    Dataset,
    Image,
)
from examples.mura.figures import BLUE, GREEN, GREY, INK, ORANGE, STYLE
from examples.mura.printed import percent

SPLIT_NAMES = {"train": "Training", "valid": "Validation"}
SPLIT_COLOURS = {"train": GREY, "valid": GREEN}


def count(images: Iterable[Image]) -> Counts:
    """Studies and images by label."""
    images = list(images)
    studies = Counter(label for *_, label in {(i.split, i.study_key, i.label) for i in images})
    labels = Counter(image.label for image in images)
    return Counts((studies[0], studies[1]), (labels[0], labels[1]))


def count_patients(images: Iterable[Image]) -> int:
    return len({image.patient for image in images})


def count_shared_patients(images: Iterable[Image]) -> int:
    """Patients with studies of two body parts or more."""
    parts = Counter(patient for patient, _ in {(i.patient, i.part) for i in images})
    return sum(n > 1 for n in parts.values())


def views_per_study(images: Iterable[Image]) -> list[int]:
    return list(Counter((image.split, image.study_key) for image in images).values())


def check_counts(dataset: Dataset) -> list[str]:
    """How the data differ from the published MURA-v1.1, a line each; [] if they are equal.

    Synthetic data give [].  Absent body parts and splits are one line, and then the totals, which
    must differ, are not compared.
    """
    if dataset.synthetic:
        return []
    parts = [p for p in PARTS if any(image.part == p for image in dataset.images)]
    splits = [s for s in SPLITS if any(image.split == s for image in dataset.images)]
    absent = [f"XR_{p}" for p in PARTS if p not in parts] + [s for s in SPLITS if s not in splits]
    lines = [f"not in this data: {', '.join(absent)}"] if absent else []
    for split in splits:
        images = dataset.split(split)
        for part in parts:
            found = count(image for image in images if image.part == part)
            if differing := differences(found, PUBLISHED[split][part]):
                lines.append(f"XR_{part} {split}: {'; '.join(differing)}")
        if len(parts) == len(PARTS):
            for what, number, published in (
                ("patients", count_patients(images), PUBLISHED_PATIENTS[split]),
                ("patients with several body parts", count_shared_patients(images),
                 PUBLISHED_SHARED_PATIENTS[split]),
            ):  # fmt: skip
                if number != published:
                    lines.append(f"{split}: {number:,} {what}, published {published:,}")
    return lines


def differences(found: Counts, published: Counts) -> list[str]:
    lines = []
    for what in ("studies", "images"):
        here, there = getattr(found, what), getattr(published, what)
        if sum(here) != sum(there):
            lines.append(f"{sum(here):,} {what}, published {sum(there):,}")
        elif here != there:
            lines.append(f"{here[0]:,} normal {what}, published {there[0]:,}")
    return lines


def groups(dataset: Dataset) -> dict[str, list[Image]]:
    found = {SPLIT_NAMES[s]: images for s in SPLITS if (images := dataset.split(s))}
    return found | {"Total": dataset.images}


def title(dataset: Dataset) -> str:
    return f"Data breakdown: {'synthetic radiographs' if dataset.synthetic else dataset.root.name}"


def table_1(dataset: Dataset) -> list[list[str]]:
    rows = [["", "Images", "Studies", "Patients"]]
    for name, images in groups(dataset).items():
        counts = count(images)
        sizes = (sum(counts.images), sum(counts.studies), count_patients(images))
        rows.append([name, *(f"{n:,}" for n in sizes)])
    return rows


def table_of_parts(images: Sequence[Image]) -> list[list[str]]:
    rows = [
        ["", "Patients", "Studies", "normal", "abnormal", "share"]
        + ["Images", "normal", "abnormal", "share", "Views", "most"]
    ]
    rows_of = {part.capitalize(): [i for i in images if i.part == part] for part in PARTS}
    rows_of = {name: group for name, group in rows_of.items() if group}
    if len(rows_of) > 1:
        rows_of["All"] = list(images)
    for name, group in rows_of.items():
        row = [name, f"{count_patients(group):,}"]
        counts = count(group)
        for normal, abnormal in (counts.studies, counts.images):
            share = abnormal / (normal + abnormal)
            row += [f"{normal + abnormal:,}", f"{normal:,}", f"{abnormal:,}", percent(share, 1)]
        views = views_per_study(group)
        rows.append([*row, f"{np.mean(views):.1f}", f"{max(views)}"])
    return rows


def notes(dataset: Dataset) -> list[str]:
    """What the tables do not show: who is counted twice, and what guessing would score."""
    lines = []
    for name, images in groups(dataset).items():
        if name == "Total":
            continue
        counts = count(images)
        floors = [max(pair) / sum(pair) for pair in (counts.images, counts.studies)]
        lines.append(
            f"{name}: {count_shared_patients(images):,} of {count_patients(images):,} patients "
            f"have studies of several body parts; always guessing the commoner label is right "
            f"for {percent(floors[0], 1)} of images, {percent(floors[1], 1)} of studies."
        )
    train, valid = ({i.patient for i in dataset.split(split)} for split in SPLITS)
    shared = train & valid
    lines.append(f"Patients in both training and validation: {len(shared):,}.")
    return lines


def breakdown_text(dataset: Dataset) -> str:
    blocks = [title(dataset), aligned(table_1(dataset))]
    for name, images in groups(dataset).items():
        blocks.append(f"{name}, by body part\n{aligned(table_of_parts(images))}")
    blocks.append("\n".join(notes(dataset)))
    blocks.append("Share: abnormal. Views: images per study, the mean and the most.")
    blocks.append("Not for clinical use.")
    return "\n\n".join(blocks) + "\n"


def aligned(rows: list[list[str]]) -> str:
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
        share = percent(abnormal / (normal + abnormal))
        axes.text(normal + abnormal + 0.015 * most, place, share, va="center", color=INK)
    names = [f"{part.capitalize()}\n{sum(n.images):,} images" for part, n in counts.items()]
    axes.set_yticks(range(len(counts)), names)
    axes.set_ylim(max(len(counts), 4) - 0.5, -0.5)  # one part alone is no wall
    axes.set_xlim(0, 1.1 * most)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    bars = {"normal": BLUE, "abnormal and its share": ORANGE}
    headed(axes, f"{SPLIT_NAMES[split]} studies", bars)


def draw_views(axes: Axes, dataset: Dataset, splits: Sequence[str]) -> None:
    """Draw the share of each split's studies with 1, 2, 3 ... images."""
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
    headed(axes, "Views", bars)


def draw_table(axes: Axes, dataset: Dataset) -> None:
    axes.axis("off")
    axes.set_title("Table 1", loc="left", fontweight="bold")
    table = aligned(table_1(dataset))
    axes.text(0, 0.95, table, va="top", family="monospace", linespacing=1.8, color=INK)
    shared = [
        f"{count_shared_patients(images):,} in {name.lower()}"
        for name, images in groups(dataset).items()
        if name != "Total"
    ]
    note = f"Patients with studies of several body parts:\n{', '.join(shared)}."
    axes.text(0, 0, note, va="bottom", color=INK)


def headed(axes: Axes, text: str, bars: dict[str, str]) -> None:
    """Write a heading and, on its line and clear of the bars, a legend."""
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
