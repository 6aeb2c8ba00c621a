"""Results on disk, and docs/performance.md, which is made from the newest that are kept.

cpu-KIND-DATE.json of a CPU, GPU-DATE.json of a GPU with all parts in one. A run of less than
everything (a few workloads, few rounds, fewer threads than cores) goes to runs/benchmarks, which
git ignores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks import tables
from benchmarks.plots import plot
from benchmarks.processes import ROOT
from benchmarks.variants import NAMES_BEFORE

KEPT, TRIALS = ROOT / "benchmarks" / "results", ROOT / "runs" / "benchmarks"
KINDS = ("steps", "ops", "scaling", "loader")
FEWEST_ROUNDS = 7  # of a run that is kept
PAGE = ROOT / "docs" / "performance.md"
FIGURES = ROOT / "docs" / "figures"

# marks on the page -> the kind of results that stands there, one table each
PARTS = {"steps": ("steps", "inference"), **{kind: (kind,) for kind in KINDS[1:]}}
PICTURES = {  # mark -> what its picture shows
    "inference": "Time of a batch by library, for training and inference",
    "ops": "Floor over time, for each operation and library",
    "scaling": "Milliseconds a training step over batch, side, filters and threads",
    "loader": "Images a second, decoded, delivered and consumed",
}


def write(file: Path, results: dict[str, Any]) -> Path:
    """Write results at once: a run that dies leaves the file before it, or after it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    before = file.with_suffix(".part")
    text = json.dumps(results, indent=1, ensure_ascii=False)
    before.write_text(text + "\n", encoding="utf-8")
    return before.replace(file)


def read(file: Path) -> dict[str, Any]:
    """Return results, variants by their present names; {} of a file that is not whole."""

    def named(entry: dict[str, Any]) -> dict[str, Any]:
        return {NAMES_BEFORE.get(key, key): value for key, value in entry.items()}

    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"), object_hook=named)
    except (OSError, ValueError):
        return {}
    return found


def rounded(results: Any) -> Any:
    """Return results with five digits a number: the clock gives no more."""
    return json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.5g}"))


def newest(kind: str, folder: Path = KEPT, where: str = "cpu-") -> dict[str, Any]:
    """Return the last results of a kind in ``folder``; or {}."""
    files = sorted(folder.glob(f"{where}{kind}-*.json"))
    return read(files[-1]) if files else {}


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
        plot([results[kind]], file)
    return [PAGE, *pictures.values()]
