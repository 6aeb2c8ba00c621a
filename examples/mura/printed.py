"""How figures are printed: never rounded to what they are not, thresholds so that they work."""

from __future__ import annotations

import numpy as np

EXACT = 1e-9  # less than this is the rounding of a computation


def number(value: float | None, digits: int = 2) -> str:
    """0.64; a true minus sign; an en dash for what is undefined.

    0.9991 is "0.999", not "1.00": what is not 0 or 1 gets the digits that show it.
    """
    if value is None:
        return "–"
    text = rounded(value, digits, (-1, 0, 1))
    return text.lstrip("-") if not float(text) else text.replace("-", "−")


def plain(value: float) -> str:
    """0.644, for a terminal; as in ``number`` nothing is rounded to an end of the scale."""
    return rounded(value, 3, (-1, 0, 1))


def percent(value: float | None, digits: int = 0) -> str:
    """64%; as in ``number``, 100% is all of them and 0% none."""
    return "–" if value is None else f"{rounded(100 * value, digits, (0, 100))}%"


def rounded(value: float, digits: int, ends: tuple[float, ...]) -> str:
    """With more digits where fewer would make it one of the ends."""
    text = f"{value:.{digits}f}"
    end = float(text)
    if end in ends and abs(value - end) > EXACT:
        return rounded(value, digits + 1, ends)
    return text


def threshold(value: float | None) -> str:
    """All the digits of a threshold, so that typing them gives the same decisions."""
    return "–" if value is None else np.format_float_positional(value, trim="-")


def duration(seconds: float) -> str:
    """8 s, 3 min 18 s, 2 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if whole else f"{seconds:.1g} s"
    minutes, left = divmod(whole, 60)
    return f"{minutes} min {left} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def counted(n: int, one: str, many: str = "") -> str:
    """1 study, 1,200 studies."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"
