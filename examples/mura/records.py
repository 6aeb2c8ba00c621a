"""JSON files that are read back: each is checked whole, against its schema, before it is used.

A schema is a type (an int passes for a float, a bool for no number), ``[s]`` for a list of s,
``[s, t]`` for a list of just these two, ``(s, t)`` for either, None, or a dict: its keys must be
there, unless they end in "?", and the key ``str`` stands for all others.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from examples.mura.errors import UserError

Schema = Any
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
WANTED = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
MOST = {int: 2**63 - 1, float: 1e300}
LARGEST = 64_000_000  # bytes: a thousand times what these files hold


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
        if file.stat().st_size > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        text = file.read_text(encoding="utf-8")
        if not lines:
            return parsed(text, schema)
        return [parsed(row, schema, f"row {i}") for i, row in enumerate(text.splitlines(), 1)]
    except (OSError, ValueError) as error:
        raise UserError(f"{file} cannot be read ({error}): {advice}") from error


def parsed(text: str, schema: Schema, name: str = "it") -> Any:
    """JSON text as a value; raises ValueError, which calls it by the name, if it is another."""
    try:
        value = json.loads(text, parse_constant=refuse)
        wrong = mismatch(value, schema, name)
    except RecursionError:
        wrong = f"{name} is nested too deeply"
    if wrong:
        raise ValueError(wrong)
    return value


def refuse(constant: str) -> None:
    raise ValueError(f"it holds {constant}, which JSON does not have")


def mismatch(value: Any, schema: Schema, place: str) -> str:
    """What is wrong at which place of the value; "" if it is as the schema says."""
    if isinstance(schema, tuple):
        faults = [mismatch(value, one, place) for one in schema]
        return "" if "" in faults else faults[0]
    if isinstance(schema, list):
        if not isinstance(value, list) or len(value) != len(schema) > 1:
            return f"{place} is {shown(value)}, want a list" + f" of {len(schema)}" * bool(
                schema[1:]
            )
        each = schema if schema[1:] else schema * len(value)
        inner = [(v, s, f"{place}[{i}]") for i, (v, s) in enumerate(zip(value, each, strict=True))]
    elif isinstance(schema, dict):
        if not isinstance(value, dict):
            return f"{place} is {shown(value)}, want names and values"
        names = {name.removesuffix("?"): s for name, s in schema.items() if name is not str}
        if absent := [name for name in names if f"{name}?" not in schema and name not in value]:
            return f"{place} lacks {absent[0]!r}"
        others = schema.get(str)
        if unknown := [name for name in value if name not in names and str not in schema]:
            return f"{place} has {unknown[0]!r}, which is unknown"
        start = "" if place == "it" else f"{place}."
        inner = [(v, names.get(name, others), f"{start}{name}") for name, v in value.items()]
    else:
        kinds = (int, float) if schema is float else schema or type(None)
        number = schema in (int, float) and isinstance(value, bool)
        wanted = "nothing" if schema is None else WANTED.get(schema, "something else")
        fine = isinstance(value, kinds) and not number
        if fine and schema in MOST and abs(value) > MOST[schema]:
            wanted += f" up to {MOST[schema]:g}"
            fine = False
        return "" if fine else f"{place} is {shown(value)}, want {wanted}"
    return next((wrong for each in inner if (wrong := mismatch(*each))), "")


def shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 40 else text[:37] + "..."
