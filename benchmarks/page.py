"""docs/performance.md: its tables and pictures, made from the newest results that are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.plots import plot
from benchmarks.results import KEPT, KINDS, ROOT, newest

PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "figures"

# marks on the page -> the kind of results that stands there, one table each
PARTS = {"steps": ("steps", "inference", "targets"), **{kind: (kind,) for kind in KINDS[1:]}}
PICTURES = {  # mark -> what its picture shows
    "inference": "Time of a batch by library, for training and inference",
    "ops": "Floor over time, for each operation and library",
    "scaling": "Milliseconds a training step over batch, side, filters and threads",
    "loader": "Images a second, decoded, delivered and consumed",
}


def filled(page: str, texts: Mapping[str, str]) -> str:
    """Return the page with each text between the marks of its name.

    Raises ValueError if the page lacks a mark.
    """
    for name, text in texts.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if page.count(start) != 1 or page.count(end) != 1:
            raise ValueError(f"the page has not one pair of marks {start} {end}")
        before, after = page.split(start)
        page = f"{before}{start}\n{text}\n{end}{after.split(end)[1]}"
    return page


def renewed(page: str, results: Mapping[str, dict[str, Any]]) -> str:
    """Return the page as the results have it; of a kind without results it says so."""
    texts = {}
    for kind, marks in PARTS.items():
        missing = f"Not measured yet: `python -m benchmarks {kind}`."
        found = tables.of_cpu(kind, results[kind]) if results[kind] else [missing] * len(marks)
        for name, text in zip(marks, found, strict=True):
            picture = f"\n\n![{PICTURES.get(name)}](figures/cpu_{kind}.png)"
            texts[name] = text + picture * bool(results[kind] and name in PICTURES)
    return filled(page, texts)


def renew(folder: Path = KEPT) -> list[Path]:
    """Write the page and its pictures from the newest results in ``folder``; what was written."""
    results = {kind: newest(kind, folder) for kind in KINDS}
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    pictures = {kind: FIGURES / f"cpu_{kind}.png" for kind in KINDS if results[kind]}
    for kind, file in pictures.items():
        plot({kind: results[kind]}, file)
    return [PAGE, *pictures.values()]
