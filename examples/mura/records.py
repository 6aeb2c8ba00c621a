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
    return read_record(file, HISTORY, lines=True) if file.exists() else []


def read_record(
    file: Path, schema: Schema, advice: str = "restore it, or start a new run", lines: bool = False
) -> Any:
    """The content of a JSON file, or of one with a value on each line.

    Raises UserError, one line with the ``advice``, if it cannot be read or is not as the schema
    says.
    """
    try:
        text = file.read_text(encoding="utf-8")
        if not lines:
            return parsed(text, schema)
        rows, budget = text.splitlines(), Budget(len(text))
        return [parsed(row, schema, f"row {i}", budget) for i, row in enumerate(rows, 1)]
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): {advice}") from error


def parsed(text: str, schema: Schema, name: str = "it", budget: Budget | None = None) -> Any:
    """JSON text as a value; raises ValueError, which calls it by the name, if it is another."""
    try:
        value = (budget or Budget(len(text))).json(text, name, parse_constant=refuse)
    except FileError as error:
        raise ValueError(error.__cause__ or error) from error
    if wrong := mismatch(value, schema, name):
        raise ValueError(wrong)
    return value


def refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which JSON does not have")
