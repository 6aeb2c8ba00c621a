"""A sheet of right and wrong examples: what was found, missed and imagined.  Report §4.3."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from examples.mura.studies import Cases
from tinynet.backend import Array
from tinynet.train.data import generator

GREEN, RED = "#009E73", "#D55E00"
ACROSS = 6
GROUPS = (  # heading, label, call
    ("True positives: abnormal, called abnormal", 1, True),
    ("True negatives: normal, called normal", 0, False),
    ("False positives: normal, called abnormal", 0, True),
    ("False negatives: abnormal, called normal", 1, False),
)


def examples_sheet(cases: Cases, pixels: Array, rows: Sequence[int], seed: int = 0) -> Figure:
    """Six images of each of the four kinds, drawn at random and from different studies.

    cases    the evaluated images
    pixels   (m, side, side) uint8, of which row rows[i] is image i of cases
    """
    figure = Figure(figsize=(9.6, 9.6), layout="constrained")
    parts = figure.subfigures(len(GROUPS), 1, squeeze=False)[:, 0]
    for part, (heading, label, call) in zip(parts, GROUPS, strict=True):
        members = np.flatnonzero((cases.label == label) & (cases.abnormal == call))
        colour = GREEN if label == call else RED
        title = f"{heading} ({len(members):,} of {np.sum(cases.label == label):,})"
        part.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold", color=colour)
        chosen = different_studies(cases, members, seed)
        for ax, i in zip(part.subplots(1, ACROSS), [*chosen, *[None] * ACROSS], strict=False):
            if i is None:
                ax.set_visible(False)
                continue
            ax.imshow(pixels[rows[i]], cmap="gray", vmin=0, vmax=255, interpolation="bicubic")
            ax.set_xticks([])
            ax.set_yticks([])
            ax.spines[:].set(visible=True, color=colour, linewidth=1.5)
            ax.set_title(
                f"{cases.part[i].capitalize()}, p = {cases.probability[i]:.2f}", fontsize=9
            )
            ax.set_xlabel(f"{cases.patient[i]} {cases.study[i]}", fontsize=7.5)
    return figure


def different_studies(cases: Cases, members: Array, seed: int) -> list[int]:
    """Up to ``ACROSS`` of the members, in random order, no two of one study."""
    chosen: dict[tuple[str, str, str], int] = {}
    for i in generator(seed, "examples").permutation(members).tolist():
        chosen.setdefault((cases.part[i], cases.patient[i], cases.study[i]), i)
    return list(chosen.values())[:ACROSS]
