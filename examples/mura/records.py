"""JSON files that are read back: each is checked whole, against its schema, before it is used.

What a schema is, ``tinynet.train.reading.mismatch`` says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from examples.mura.errors import UserError
from tinynet.train.reading import Budget, FileError, Schema, mismatch

# config.json: what a run needs to be opened, and what else it may hold
RUN: Schema = {"settings": {str: object}, "data": str, "cache": str, "synthetic": bool}
MORE: Schema = {
    "command?": str,
    "versions?": {str: str},
    "data_counts?": {
        str: {"patients": int, "parts": {str: {"studies": [int, int], "images": [int, int]}}}
    },
    "held_out_images?": int,
    **dict.fromkeys(("device?", "precision?", "gpu?"), str),
    "resumed?": {str: str},
    str: object,
}
HISTORY: Schema = {"epoch": int, "seconds?": float, str: (float, None)}


def read_config(folder: Path) -> dict[str, Any]:
    """The content of a run's config.json, for a report: whatever is there."""
    file = folder / "config.json"
    schema = {f"{name}?": value for name, value in RUN.items()} | MORE
    return read_record(file, schema) if file.exists() else {}


def read_history(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's history.jsonl; [] before the end of the first epoch."""
    file = folder / "history.jsonl"
    return read_record(file, [HISTORY], lines=True) if file.exists() else []


def read_record(
    file: Path, schema: Schema, advice: str = "restore it, or start a new run", lines: bool = False
) -> Any:
    """The content of a JSON file, or of one with a value on each line.

    Raises UserError, one line with the ``advice``, if it cannot be read or is not as the schema
    says.
    """
    try:
        budget = Budget(file.stat().st_size)
        text = file.read_text(encoding="utf-8")
        parts = text.splitlines() if lines else [text]
        values = [budget.json(part, "it", parse_constant=refuse) for part in parts]
        content = values if lines else values[0]
        if wrong := mismatch(content, schema, "it"):
            raise ValueError(wrong)
    except (OSError, ValueError, FileError) as error:
        raise UserError(f"{file} cannot be read ({error}): {advice}") from error
    return content


def refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which JSON does not have")
