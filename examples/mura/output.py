"""What is printed and written of names that others chose: a result is never lost or misread."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterable, Sequence

MOST_WARNINGS = 50
FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # what begins a spreadsheet's formula


def shown(text: object) -> str:
    """The text in one line: what does not print, such as a terminal's codes, is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def warn(lines: Sequence[str]) -> None:
    """Print a warning for each line, and how many more there are than can be read."""
    for line in lines[:MOST_WARNINGS]:
        print(f"warning: {shown(line)}", file=sys.stderr)
    if len(lines) > MOST_WARNINGS:
        print(f"warning: and {len(lines) - MOST_WARNINGS:,} more like these", file=sys.stderr)


def as_csv(rows: Iterable[Sequence[object]]) -> bytes:
    """Rows as the bytes of a CSV file in which a spreadsheet finds no formula."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def cell(value: object) -> str:
    text = shown(value)
    return f"'{text}" if isinstance(value, str) and text.startswith(FORMULA) else text
