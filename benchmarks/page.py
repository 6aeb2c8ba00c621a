"""docs/performance.md: its tables and pictures, made from the newest results that are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.plots import plot
from benchmarks.results import KEPT, KINDS, ROOT, newest

PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "figures"

Results = dict[str, Any]

# marks on the page -> the kind of results that stands there, one table each
PARTS = {"steps": ("steps", "inference", "targets"), **{kind: (kind,) for kind in KINDS[1:]}}
PICTURES = {  # mark -> what its picture shows
    "inference": "Time of a batch by library, for training and inference",
    "ops": "Floor over time, for each operation and library",
    "scaling": "Milliseconds a training step over batch, side, filters and threads",
    "loader": "Images a second, decoded, delivered and consumed",
}


def renewed(page: str, results: dict[str, Results]) -> str:
    """Return the page with what stands between its marks as the results have it.

    results   kind -> results; {}: not measured yet, and the page says so
    Raises ValueError if the page lacks a mark.
    """
    for kind, marks in PARTS.items():
        found = results[kind]
        texts = tables.of_cpu(kind, found) if found else []
        for number, name in enumerate(marks):
            start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
            if page.count(start) != 1 or page.count(end) != 1:
                raise ValueError(f"the page has not one pair of marks {start} {end}")
            text = f"Not measured yet: `python -m benchmarks {kind}`."
            if found:
                text = texts[number]
                if name in PICTURES:
                    text += f"\n\n![{PICTURES[name]}](figures/cpu_{kind}.png)"
            before, after = page.split(start)
            page = f"{before}{start}\n{text}\n{end}{after.split(end)[1]}"
    return page


def renew(folder: Path = KEPT) -> list[Path]:
    """Write the page and its pictures from the newest results in ``folder``; what was written."""
    results = {kind: newest(kind, folder) for kind in KINDS}
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")
    written = [PAGE]
    for kind, found in results.items():
        if found:
            written.append(FIGURES / f"cpu_{kind}.png")
            plot({kind: found}, written[-1])
    return written
