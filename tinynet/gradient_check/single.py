"""The same code in float32, beside float64: what overflows, or is narrowed on the way, is seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module, to_device
from tinynet.gradient_check.checkable import Checkable, smaller
from tinynet.gradient_check.precision import FLOAT64, FORMATS

SEED, DRAWS = 243_000_011, 3
ULPS = 512  # of the largest element: a float16 on the way is 8192, rounded by half of that
MOVES = 64  # times what a change in the last bits of the arguments moves
HUGE = 1e30  # near the end of float32 a right result may be lost
LEAST = 2.0**-19  # what a difference of numbers around 1 may lose
FLOAT32 = FORMATS["float32"]
FINE = 2.0**-48  # a change whose effect, in float64, is mostly another rounding
GROWTH = FLOAT32.epsilon / FLOAT64.epsilon / 4  # MOVES is for more than that


def in_float32(subject: Checkable) -> Iterator[str]:
    """Faults of a float32 run, of a subject that is right in float64 and takes float32."""
    try:
        with np.errstate(all="ignore"):
            found = _compared(subject)
            if found and not any("NaN" in fault for fault in found.values()):
                with subject.swapped(smaller):  # by chance a kink lies between the two, once
                    again = _compared(subject)
                found = {name: fault for name, fault in found.items() if name in again}
    except Exception:  # it takes no float32, or not these numbers in it
        return
    yield from found.values()


def _compared(subject: Checkable) -> dict[str, str]:
    """Name -> fault."""
    double = subject.twin("float64")
    for a in double.arrays.values():
        a[...] = FLOAT32.rounded(a)
    single = double.twin("float32")
    rng, faults = np.random.default_rng(SEED), {}
    y, cache = single.forward()
    dy = FLOAT32.rounded(array_module(y).asarray(rng.standard_normal(y.shape)))
    low = _host({"y": y.copy(), **single.backward(dy.astype(y.dtype), cache)})
    high = _passes(double, dy)
    moved = dict.fromkeys(high, 0.0)
    kept = {name: a.copy() for name, a in double.arrays.items()}
    # float32's last bits move what the arguments condition, float64's what cancels inside as well
    for part, growth in ((FLOAT32.epsilon, 1.0), (FINE, GROWTH)) * DRAWS:
        _shake(double, kept, FLOAT32.epsilon, rng)  # or all would be exact in 24 bits
        near, start = _passes(double, dy), {n: a.copy() for n, a in double.arrays.items()}
        _shake(double, start, part, rng)
        for name, a in _passes(double, dy).items():
            moved[name] = max(moved[name], growth * _largest(a - near[name]))
    for name, wanted in high.items():
        what = "forward gives" if name == "y" else f"the gradient of {name} is"
        got, largest = low[name], _largest(wanted)
        if got.shape != wanted.shape or not np.isfinite(wanted).all() or largest > HUGE:
            continue
        error = _largest(got - wanted)
        if not np.isfinite(got).all():
            faults[name] = (
                f"in float32 {what} NaN or infinity, in float64 not: does something overflow, as "
                "an exp does without the maximum taken off first?"
            )
        elif error > ULPS * FLOAT32.epsilon * largest + MOVES * moved[name] + LEAST:
            faults[name] = (
                f"in float32 {what} off by {error / largest:.0e} of its largest: is something "
                "narrowed, or summed in float16, on the way?"
            )
    return faults


def _shake(subject: Checkable, to: dict[str, Array], part: float, rng: Any) -> None:
    """Set the arrays to those of ``to``, each number changed by up to that part."""
    for name, a in subject.arrays.items():
        signs = rng.choice([-1.0, 1.0], a.shape) * rng.uniform(0.5, 1, a.shape)
        a[...] = to[name] * (1 + part * array_module(a).asarray(signs))


def _passes(subject: Checkable, dy: Array) -> dict[str, np.ndarray]:
    y, cache = subject.forward()
    return _host({"y": y.copy(), **subject.backward(dy.copy(), cache)})


def _host(arrays: dict[str, Array]) -> dict[str, np.ndarray]:
    return {name: to_device(a, "numpy").astype("float64") for name, a in arrays.items()}


def _largest(a: np.ndarray) -> float:
    return float(abs(a).max(initial=0))
