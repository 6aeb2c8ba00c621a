"""Results on disk: GPU-DATE.json, with tables in Markdown and a picture beside it.

A part that is run again on the same day and GPU takes the place of what it was; the others stay.
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.results import rounded


def name_of(machine: dict[str, Any]) -> str:
    """The file's name without an ending, from the GPU's: "nvidia-h100-80gb-hbm3-2026-11-25"."""
    gpu = re.sub(r"[^a-z0-9]+", "-", machine["gpu"].lower()).strip("-")
    rehearsal = "rehearsal-" if machine["device"] == "cpu" else ""
    return f"{rehearsal}{gpu}-{date.today()}"


def read(file: Path) -> dict[str, Any]:
    """What is there; {} if nothing is, or nothing that is whole."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def write(file: Path, results: dict[str, Any]) -> None:
    """Write at once: a run that dies leaves the file before it, or after it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(results), indent=1, ensure_ascii=False)
    before = file.with_suffix(".part")
    before.write_text(text + "\n", encoding="utf-8")
    before.replace(file)
