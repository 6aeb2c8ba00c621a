"""Results on disk: cpu-KIND-DATE.json.

What docs/performance.md is made of lies in benchmarks/results. A run of less than everything (a few
workloads, few rounds, fewer threads than cores) goes to runs/benchmarks instead, which git ignores.
"""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
KEPT, TRIALS = ROOT / "benchmarks" / "results", ROOT / "runs" / "benchmarks"
KINDS = ("steps", "ops", "scaling", "loader")
FEWEST_ROUNDS = 7  # of a run that is kept


def write(kind: str, results: dict[str, Any], folder: Path) -> Path:
    """Write today's results of a kind into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"cpu-{kind}-{date.today()}.json"
    text = json.dumps({"date": str(date.today()), **rounded(results)}, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")
    return file


def newest(kind: str, folder: Path = KEPT) -> dict[str, Any] | None:
    """The last results of a kind in ``folder``; None if there are none."""
    files = sorted(folder.glob(f"cpu-{kind}-*.json"))
    if not files:
        return None
    found: dict[str, Any] = json.loads(files[-1].read_text(encoding="utf-8"))
    return found


def rounded(value: Any) -> Any:
    """The same with five digits a number: the clock gives no more."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list | tuple) else value
