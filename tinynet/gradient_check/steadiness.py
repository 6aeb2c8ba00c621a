"""How much of a gradient is rounding: what becomes of it when the last bits change.

A pass through many layers, each of which divides by a small spread (batch norm over a few cells),
makes a rounding error of its first layers many times as large. A backward pass that is right then
differs from the slopes by that much, and no formula tells how much. So it is tried: every number
is changed by a part in 2⁵², and the gradients are taken again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinynet.backend import Array, array_module, to_device
from tinynet.gradient_check.checkable import Checkable
from tinynet.gradient_check.finite_differences import largest_of

SEED, DRAWS = 243_000_006, 3
ULP = 2.0**-52
MOST = 0.9  # quantile over an array: a kink that the last bit decides moves a few elements far
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
