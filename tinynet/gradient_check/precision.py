"""The precision in which a forward pass computes, whatever dtype it is given and gives back.

Code that is given float64 may compute in float32 inside. Its output then moves in steps of 2⁻²³,
and a difference quotient of a small step measures those. So all arguments a are moved along a line,
a (1 + t h s) with signs s drawn at random, and two things are looked at:

    how many bits the outputs need, which is 24 if a cast to float32 came last
    their third differences in t, O(h³) of a smooth function, and in rounding code, its steps

A kink's differences are O(h), those of an ill-conditioned float64 computation do not end where h is
far below float32's last bit: neither is taken for float32.
Source: Moré & Wild 2011, "Estimating computational noise".
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from tinynet.backend import Array, array_module, to_device
from tinynet.gradient_check.checkable import Checkable

SEED = 243_000_010
FULL = 0.7290138127  # a number with all its bits: what it multiplies has them too
WIDE, FAR, HALF, SINGLE, FINER, DOUBLE = 0.25, 2.0**-6, 2.0**-10, 2.0**-14, 2.0**-18, 2.0**-44
OF_ULP = 0.2  # a third difference of rounded numbers, in units of their ε, more or less


@dataclass(frozen=True)
class Precision:
    """A floating-point format.

    bits     of the mantissa; ε = 2^(1 − bits)
    growth   how many times as large as the format's own rounding that of the output is
    """

    name: str
    bits: int
    growth: float = 1.0

    @property
    def epsilon(self) -> float:
        return 2.0 ** (1 - self.bits)

    @property
    def double(self) -> bool:
        return self.bits >= 53

    @property
    def coarse(self) -> bool:
        """True for the formats of 16 bits, whose rounding is of the size of a small error."""
        return self.bits < 16

    def rounded(self, a: Array) -> Array:
        """The nearest numbers of this format, in the dtype of ``a``."""
        if self.double:
            return a
        xp = array_module(a)
        mantissa, exponent = xp.frexp(a)
        return xp.ldexp(xp.round(xp.ldexp(mantissa, self.bits)), exponent - self.bits)


FLOAT64 = Precision("float64", 53)
FORMATS = {
    f.name: f
    for f in (
        FLOAT64,
        Precision("float32", 24),
        Precision("float16", 11),
        Precision("bfloat16", 8),
    )
}


def precision_of(subject: Checkable, y: Array) -> Precision:
    """The format in which ``subject``, of float64 arrays, computes ``y``; float64 if in doubt."""
    declared = FORMATS.get(y.dtype.name, FLOAT64)
    if not y.size or y.dtype.kind == "c":
        return declared
    line = _Line(subject, to_device(y, "numpy").astype(np.float64))
    try:
        with np.errstate(all="ignore"):
            return line.precision(declared)
    except Exception:  # it refuses such arguments: what it does is not known
        return declared


class _Line:
    """The output along a line through the arguments."""

    def __init__(self, subject: Checkable, y: np.ndarray) -> None:
        self.subject, self.y = subject, y

    def at(self, t: float) -> np.ndarray:
        rng, arrays = np.random.default_rng(SEED), self.subject.arrays
        kept = {name: a.copy() for name, a in arrays.items()}
        try:
            for a in arrays.values():
                signs = rng.choice([-1.0, 1.0], a.shape)
                a *= array_module(a).asarray(1 + t * FULL * signs)
            return to_device(self.subject.run()[0], "numpy").astype(np.float64)
        finally:
            for name, a in kept.items():
                arrays[name][...] = a

    def precision(self, declared: Precision) -> Precision:
        moving = (self.at(FAR) != self.y) & np.isfinite(self.y) & (self.y != 0)
        near = [self.at(t * SINGLE)[moving] for t in (1, 2, 3)]
        if not moving.any():
            return declared
        y = self.y[moving]
        found = declared
        if declared.double:
            needed, exponents = map(np.concatenate, zip(*map(_bits, near), strict=True))
            if not needed.size:
                return declared
            found = min((f for f in FORMATS.values() if f.bits >= max(needed)), key=_of_bits)
            if not found.double and self.fixed_point(found, moving):
                return FLOAT64
        noise = _third(y, *near)
        if found.double:
            if noise * np.median(abs(y)) < 2.0**-45:  # a difference of numbers around 1, say
                return FLOAT64
            if noise < 2.0**-36 or not self.plateau(moving, noise):
                return FLOAT64
            noise = max(noise, self.third(HALF, moving))
            digits = -math.log2(noise)
            name = "float32" if digits > 18 else "float16" if digits > 10.8 else "bfloat16"
            if digits < 7:  # no format is as coarse: a quantiser, say
                return FLOAT64
            found = FORMATS[name]
        elif found.coarse:
            noise = self.third(HALF, moving)
        return replace(
            found, growth=float(np.clip(np.nan_to_num(noise) / (OF_ULP * found.epsilon), 1, 64))
        )

    def third(self, h: float, moving: np.ndarray) -> float:
        return _third(self.y[moving], *(self.at(t * h)[moving] for t in (1, 2, 3)))

    def fixed_point(self, found: Precision, moving: np.ndarray) -> bool:
        """True of float64 numbers that need few bits here, as a sigmoid's 1 + tanh, far out."""
        ends = [_bits(a) for a in (self.y[moving], *(self.at(t)[moving] for t in (-WIDE, WIDE)))]
        needed, exponents = map(np.concatenate, zip(*ends, strict=True))
        if needed.max(initial=0) > found.bits:  # elsewhere
            return True
        grain = (exponents - needed).min(initial=0)
        if grain > -50 or np.ptp(exponents) < 3:
            return False
        low = exponents <= exponents.min() + 1
        return bool(needed[low].max() <= found.bits - 3)

    def plateau(self, moving: np.ndarray, noise: float) -> bool:
        """True if the noise is that of a cast: as large at a finer step, and none at the finest."""
        return self.third(FINER, moving) > noise / 10 and self.third(DOUBLE, moving) < noise / 16


def _third(y: np.ndarray, *later: np.ndarray) -> float:
    """The median over the outputs of the third difference as a part of each, by its noise."""
    one, two, three = later
    return float(np.median(abs(three - 3 * two + 3 * one - y) / abs(y))) / math.sqrt(20)


def _bits(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many bits each finite number but 0 needs, and its exponent."""
    mantissa, exponent = np.frexp(a[np.isfinite(a) & (a != 0)])
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    return 53 - np.log2((whole & -whole).astype(np.float64)).astype(int), exponent


def _of_bits(precision: Precision) -> int:
    return precision.bits
