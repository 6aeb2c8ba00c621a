"""What stands out in a backward trace, in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tinynet.seeing.trace_row import TraceRow

FOLD = 1e3  # between two layers with weights, gradients or activations that differ so much
DEAD = 0.5  # share of a layer's units
LARGE, SMALL = 0.1, 1e-6  # update against weight; about 1e-3 is usual
MOST = 4  # layers named in one line


def findings(rows: Sequence[TraceRow]) -> list[str]:
    """Lines about a trace's rows, the gravest first; none if nothing stands out.

    Gradients and activations are compared at the layers with weights, since pooling changes
    their scale by design.
    """
    broken = [row for row in rows if not math.isfinite(row.activation_rms)]
    if broken:
        return [f"activations are not finite from {broken[0].name} on: lower the learning rate"]
    lines = []
    lost = [r for r in rows if r.weight_norm is not None and not r.gradient_rms]
    if lost:
        lines.append(f"no gradient reaches {_names(lost)}")
    weighed = [row for row in rows if row.weight_norm is not None]
    lines += _folds("gradient", weighed[::-1], lambda row: row.gradient_rms, "on its way back ")
    lines += _folds("activation", weighed, lambda row: row.activation_rms, "")
    dead = [(row, row.dead) for row in rows if row.dead is not None and row.dead >= DEAD]
    whole = [row for row, share in dead if share == 1]
    partly = [f"{row.name} ({share:.0%} of its units)" for row, share in dead if share < 1]
    if whole:
        lines.append(f"dead for this batch, all units: {_names(whole)}")
    if partly:
        lines.append(f"many dead units: {_listed(partly)}")
    large = [r for r in rows if r.update_ratio is not None and r.update_ratio > LARGE]
    small = [r for r in rows if r.update_ratio is not None and 0 < r.update_ratio < SMALL]
    if large:
        lines.append(f"one update changes more than {LARGE:.0%} of the weights of {_names(large)}")
    if small:
        lines.append(f"updates below {SMALL:g} of the weights hardly change {_names(small)}")
    return lines


def _folds(
    what: str, rows: Sequence[TraceRow], value: Callable[[TraceRow], float | None], way: str
) -> list[str]:
    """Where, in the order given, the value falls or rises by the largest factor."""
    high: TraceRow | None = None
    low: TraceRow | None = None
    falls: tuple[float, TraceRow | None, TraceRow | None] = (1.0, None, None)
    rises = falls
    for row in rows:
        v = value(row)
        if not v or not math.isfinite(v):
            continue
        high = row if high is None or v > (value(high) or 0) else high
        low = row if low is None or v < (value(low) or 0) else low
        fall, rise = (value(high) or 0) / v, v / (value(low) or v)
        falls = max(falls, (fall, high, row), key=lambda f: f[0])
        rises = max(rises, (rise, low, row), key=lambda f: f[0])
    lines = []
    for (fold, start, stop), verb in ((falls, "shrinks"), (rises, "grows")):
        if fold >= FOLD and start is not None and stop is not None:
            lines.append(
                f"the {what} {verb} {fold:.0e}-fold {way}between {start.name} "
                f"(rms {value(start):.1e}) and {stop.name} (rms {value(stop):.1e})"
            )
    return lines


def _names(rows: Sequence[TraceRow]) -> str:
    return _listed([row.name for row in rows])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(names[:MOST]) + more
