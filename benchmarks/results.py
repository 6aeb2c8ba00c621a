"""Results on disk: cpu-KIND-DATE.json of a CPU, GPU-DATE.json of a GPU, with all parts in one.

What the pages are made of lies in benchmarks/results. A run of less than everything (a few
workloads, few rounds, fewer threads than cores) goes to runs/benchmarks instead, which git ignores.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.variants import NAMES_BEFORE

ROOT = Path(__file__).parents[1]
KEPT, TRIALS = ROOT / "benchmarks" / "results", ROOT / "runs" / "benchmarks"
KINDS = ("steps", "ops", "scaling", "loader")
FEWEST_ROUNDS = 7  # of a run that is kept


def write(file: Path, results: dict[str, Any]) -> Path:
    """Write results at once: a run that dies leaves the file before it, or after it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    before = file.with_suffix(".part")
    text = json.dumps(rounded(results), indent=1, ensure_ascii=False)
    before.write_text(text + "\n", encoding="utf-8")
    return before.replace(file)


def read(file: Path) -> dict[str, Any]:
    """Return what is there; {} if nothing is, or nothing that is whole."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def newest(kind: str, folder: Path = KEPT, where: str = "cpu-") -> dict[str, Any]:
    """Return the last results of a kind in ``folder``, variants by their present names; or {}."""
    files = sorted(folder.glob(f"{where}{kind}-*.json"))
    found: dict[str, Any] = renamed(read(files[-1])) if files else {}
    return found


def renamed(value: Any) -> Any:
    """Return results with the present names of variants as keys."""
    if isinstance(value, dict):
        return {NAMES_BEFORE.get(key, key): renamed(entry) for key, entry in value.items()}
    return [renamed(entry) for entry in value] if isinstance(value, list) else value


def rounded(value: Any) -> Any:
    """Return results with five digits a number: the clock gives no more."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list | tuple) else value
