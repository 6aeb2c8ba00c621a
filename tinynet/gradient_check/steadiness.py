"""How much of a gradient is rounding: what becomes of it when the last bits change.

A pass through many layers, each of which divides by a small spread (batch norm over a few cells),
makes a rounding error of its first layers many times as large. A backward pass that is right then
differs from the slopes by that much, and no formula tells how much. So it is tried: every number
is changed by a part in 2⁵², and the gradients are taken again.

In 16 bits such a change moves a gradient more than its rounding does. There the third differences
of the gradients tell, along a line on which all arguments are exact.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinynet.backend import Array, array_module, to_device
from tinynet.gradient_check.checkable import Checkable
from tinynet.gradient_check.finite_differences import ULPS, largest_of
from tinynet.gradient_check.precision import Precision

SEED, DRAWS = 243_000_006, 3
ULP = 2.0**-52
MOST = 0.9  # quantile over an array: a kink that the last bit decides moves a few elements far
ONCE, THRICE, SPREAD = 1.2, 3.0, 6.0  # times the spread of a number that is rounded once
LIMIT = 1e-7  # of the largest gradient: whatever is seen, no larger error is put down to rounding


def unsteadiness(subject: Checkable, dy: Array, got: Mapping[str, Array]) -> dict[str, float]:
    """Array's name -> how far its gradient moves when all arrays change in their last bits.

    dy    the upstream gradient, which is not changed
    got   the gradients for the arrays as they are
    0 where the forward pass refuses a changed array.
    """
    rng = np.random.default_rng(SEED)
    kept = {name: a.copy() for name, a in subject.arrays.items()}
    moved = {name: np.zeros(g.shape) for name, g in got.items()}
    try:
        for _ in range(DRAWS):
            for a in subject.arrays.values():
                signs = rng.choice([-1.0, 1.0], a.shape)
                a *= array_module(a).asarray(1 + ULP * signs)
            with np.errstate(all="ignore"):
                again = subject.backward(dy.copy(), subject.run()[1])
            for name, a in subject.arrays.items():
                a[...] = kept[name]
            for name, g in got.items():
                change = abs(to_device(again[name], "numpy") - to_device(g, "numpy"))
                np.fmax(moved[name], change, out=moved[name])
    except ValueError:  # a probability of just over 1, say: then it is not known
        return dict.fromkeys(got, 0.0)
    finally:
        for name, a in subject.arrays.items():
            a[...] = kept[name]
    most = LIMIT * largest_of(got.values())
    return {
        name: min(float(np.quantile(m, MOST)), most) if m.size else 0.0 for name, m in moved.items()
    }


def scatter(
    subject: Checkable, dy: Array, got: Mapping[str, Array], precision: Precision
) -> dict[str, np.ndarray]:
    """Array's name -> what rounding may make of its gradient, beyond that of the result itself.

    got         the gradients for the arrays as they are, which are numbers of that precision
    precision   of 16 bits
    Code that rounds its result alone has none; code that rounds all the way is allowed what its
    gradients scatter by, and two ε of the largest.
    """
    rng = np.random.default_rng(SEED)
    kept = {name: a.copy() for name, a in subject.arrays.items()}
    plain = {name: to_device(g, "numpy").astype("float64") for name, g in got.items()}
    last_bit = {name: _last_bit(g, precision) for name, g in plain.items()}
    bits = {name: _last_bit(to_device(a, "numpy"), precision) for name, a in kept.items()}
    seen: dict[str, list[np.ndarray]] = {name: [] for name in plain}
    try:
        for _ in range(2 * DRAWS):
            moves = {n: 4 * b * rng.choice([-1.0, 1.0], b.shape) for n, b in bits.items()}
            turn = 4 * _last_bit(to_device(dy, "numpy").astype("float64"), precision)
            turn = array_module(dy).asarray(turn * rng.choice([-1.0, 1.0], dy.shape), dy.dtype)
            line = []
            for t in (0, 1, 2, 3):
                for name, a in subject.arrays.items():
                    a[...] = kept[name] + t * array_module(a).asarray(moves[name])
                with np.errstate(all="ignore"):
                    found = subject.backward(dy + t * turn, subject.run()[1])
                line.append({n: to_device(found[n], "numpy").astype("float64") for n in plain})
            for name in plain:
                g0, g1, g2, g3 = (gradients[name] for gradients in line)
                seen[name].append(np.nan_to_num(g3 - 3 * g2 + 3 * g1 - g0) / np.sqrt(20))
    except ValueError:  # it refuses such arguments
        return {name: ULPS * precision.epsilon * abs(g) for name, g in plain.items()}
    finally:
        for name, a in subject.arrays.items():
            a[...] = kept[name]
    # the spread: by the median, for which a kink within the line counts little
    spread = {n: np.median(np.abs(d), axis=0) / 0.6745 for n, d in seen.items()}
    once = {name: bit / np.sqrt(12) for name, bit in last_bit.items()}  # the result's own
    times = [s.reshape(-1) / once[n].reshape(-1) for n, s in spread.items() if s.size]
    through = bool(np.median(np.concatenate(times or [np.zeros(1)])) > ONCE)
    through |= any(np.median(part) > 2 * ONCE for part in times)
    allowed = {}
    for name, s in spread.items():
        beyond = np.maximum(s**2 - (0 if through else (THRICE * once[name]) ** 2), 0)
        largest = precision.epsilon * largest_of([plain[name]])
        most = (SPREAD if through else 0.5) * largest
        allowed[name] = np.minimum(SPREAD * np.sqrt(beyond), most) + 2.0**-24 * (
            precision.bits == 11
        )
        if through:
            allowed[name] += 2 * last_bit[name]
        allowed[name] += (2 if through else 1 / 8) * largest
    return allowed


def _last_bit(a: np.ndarray, precision: Precision) -> np.ndarray:
    """The distance from each number to the next."""
    return np.ldexp(1.0, np.frexp(a)[1] - precision.bits)
