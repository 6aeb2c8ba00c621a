"""docs/performance.md: its tables and pictures, made from the newest results that are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.machine import describe
from benchmarks.plots import plot
from benchmarks.results import KEPT, KINDS, ROOT, newest

PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "figures"

Results = dict[str, Any]

# mark on the page -> (kind of results, what stands there)
PARTS: dict[str, tuple[str, Callable[[Results], str]]] = {
    "steps": ("steps", lambda r: f"{measured(r)}\n\n{tables.steps_table(r['steps'], 'training')}"),
    "inference": ("steps", lambda r: tables.steps_table(r["steps"], "inference")),
    "targets": ("steps", lambda r: tables.targets_table(r["steps"])),
    "ops": (
        "ops",
        lambda r: f"{measured(r)} {tables.rates_line(r['ops'])}\n\n{tables.ops_table(r['ops'])}",
    ),
    "scaling": ("scaling", lambda r: f"{measured(r)}\n\n{tables.scaling_table(r['panels'])}"),
    "loader": ("loader", lambda r: f"{measured(r)}\n\n{tables.loader_table(r['networks'])}"),
}
PICTURES = {  # mark -> what its picture shows
    "inference": "Time of a batch by library, for training and inference",
    "ops": "Floor over time, for each operation and library",
    "scaling": "Milliseconds a training step over batch, side, filters and threads",
    "loader": "Images a second, decoded, delivered and consumed",
}


def measured(results: Results) -> str:
    """Return when, on what, and how often."""
    return f"{results['date']}, {results['rounds']} rounds. {describe(results['machine'])}."


def renewed(page: str, results: dict[str, Results]) -> str:
    """Return the page with what stands between its marks as the results have it.

    results   kind -> results; {}: not measured yet, and the page says so
    Raises ValueError if the page lacks a mark.
    """
    for name, (kind, render) in PARTS.items():
        start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        if page.count(start) != 1 or page.count(end) != 1:
            raise ValueError(f"the page has not one pair of marks {start} {end}")
        found = results[kind]
        text = render(found) if found else f"Not measured yet: `python -m benchmarks {kind}`."
        if found and name in PICTURES:
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
