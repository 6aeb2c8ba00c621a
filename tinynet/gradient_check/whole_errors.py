"""Mistakes after which the whole gradient is a plain variation of the true one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np

from tinynet.gradient_check.evidence import LOOKED_AT, Evidence, alike, axes_named


def holds_nan(e: Evidence) -> str | None:
    """NaN or infinity."""
    return None if np.isfinite(e.got).all() else "it holds NaN or infinity"


def is_zero(e: Evidence) -> str | None:
    """Nothing was computed."""
    return (
        None if e.got.any() else "it is zero everywhere: is it computed, and added to the gradient?"
    )


def is_scaled(e: Evidence) -> str | None:
    """One factor throughout: the sign, a mean for a sum, a root of m / (m − 1)."""
    if not e.wanted.any():
        return None
    ratio = float((e.got * e.wanted).sum() / (e.wanted**2).sum())
    if not ratio or not alike(e.got, ratio * e.wanted):
        return None
    if _near(ratio, -1):
        return "the sign is wrong"
    batch = e.y.shape[0] if e.y.ndim else 1
    if batch > 1 and _near(ratio, batch):
        twice = ", or all is counted twice" if batch == 2 else ""
        return f"it is N = {batch} times too large: a mean over the batch taken for a sum{twice}"
    if batch > 1 and _near(ratio, 1 / batch):
        return f"it is N = {batch} times too small: a sum over the batch taken for a mean"
    text = f"all elements are {ratio:.6g} times what they should be: "
    for name, a in {"the output": e.y, **e.values()}.items():
        for count, what in _counts(a):
            if _near(ratio, count):
                return f"{text}that is {what} of {name}, a mean taken for a sum?"
            if _near(ratio, 1 / count):
                return f"{text}that is 1 / {what} of {name}, a sum taken for a mean?"
            unbiased = math.sqrt(count / (count - 1))
            if _near(ratio, unbiased) or _near(ratio, 1 / unbiased):
                return f"{text}√(m / (m − 1)), m = {count}: is a variance divided by m − 1?"
    if _near(ratio, 2):
        return f"{text}is each counted twice, or the 2 of a square forgotten?"
    return f"{text}a factor is missing or extra"


def is_rounded(e: Evidence) -> str | None:
    """Wrong by a little, nearly everywhere."""
    if e.wrong.mean() < 0.5 or not e.wanted.any():
        return None
    part = math.sqrt(float((e.error**2).mean() / (e.wanted**2).mean()))
    if part < 1e-5:
        return f"it is right to {-math.log10(part):.0f} digits: is a part computed in float32?"
    if part < 5e-3:
        return (
            f"it is right to {-math.log10(part):.0f} digits: is a part computed in float16, or is "
            "a small constant, such as an ε, not the forward pass's?"
        )
    return None


def is_transposed(e: Evidence) -> str | None:
    """Two axes of one size exchanged."""
    for a, b in itertools.combinations(range(e.got.ndim), 2):
        if e.got.shape[a] == e.got.shape[b] and alike(e.got.swapaxes(a, b), e.wanted):
            return "it is transposed" + (f": axes {a} and {b}" if e.got.ndim > 2 else "")
    return None


def is_flipped(e: Evidence) -> str | None:
    """A filter turned by half a turn, or an axis read backwards."""
    if e.got.ndim == 4 and alike(e.got[::-1, ::-1], e.wanted):
        return "it is flipped in height and width: convolution against correlation"
    for axes in [*((a,) for a in range(e.got.ndim)), (1, 2)]:
        if max(axes) < e.got.ndim and alike(np.flip(e.got, axes), e.wanted):
            return f"it is reversed along {axes_named(axes)}"
    return None


def belongs_to_another(e: Evidence) -> str | None:
    """The true gradient of another argument."""
    for other in e.others:
        if other is not e.check and alike(e.got, other.wanted):
            return f"this is the gradient of {other.name}: are two results in the wrong order?"
    return None


def is_shifted(e: Evidence) -> str | None:
    """The right values one or two places on."""
    for axis, by in itertools.product(range(e.got.ndim), (1, -1, 2, -2)):
        size = e.got.shape[axis]
        if size < abs(by) + 2 or e.got.size // size * (size - abs(by)) < 4:
            continue
        there, here = slice(max(by, 0), size + min(by, 0)), slice(max(-by, 0), size - max(by, 0))
        got, wanted = (np.moveaxis(a, axis, 0) for a in (e.got, e.wanted))
        if wanted[here].any() and alike(got[there], wanted[here]):
            return f"it is shifted by {by} along axis {axis}: is an index or an offset off by one?"
    return None


def right_if_an_argument_were_changed(e: Evidence) -> str | None:
    """The gradient that a flipped or transposed argument would give."""
    flat, picked = e.arrays[e.check.name].reshape(-1), e.some_wrong()[: LOOKED_AT // 2]
    for name, a in e.arrays.items():
        if name == e.check.name or a.ndim < 2:
            continue
        kept = a.copy()
        for what, changed in _variations(kept):
            if (changed == kept).all():
                continue
            try:
                a[...] = changed
                slopes = np.array([(e.dy * e.function.influence(flat, i)).sum() for i in picked])
            finally:
                a[...] = kept
            if len(picked) > 2 and alike(e.got.reshape(-1)[picked], slopes):
                return f"it would be right if {name} were {what}"
    return None


def a_factor_for_each_index(e: Evidence) -> str | None:
    """Each index of one axis has its own factor."""
    for axis, size in enumerate(e.got.shape):
        if size < 2 or e.got.size // size < 2:
            continue
        rest = tuple(a for a in range(e.got.ndim) if a != axis)
        square = (e.wanted**2).sum(axis=rest, keepdims=True)
        if not square.all():
            continue
        factors = (e.got * e.wanted).sum(axis=rest, keepdims=True) / square
        if abs(factors - 1).max() > 1e-3 and alike(e.got, factors * e.wanted):
            shown = ", ".join(f"{f:.4g}" for f in factors.reshape(-1)[:6])
            more = ", …" if size > 6 else ""
            return (
                f"each index of axis {axis} has a factor of its own, {shown}{more}: is a weight, a "
                "scale or a count for each of them missing or extra?"
            )
    return None


def is_rearranged(e: Evidence) -> str | None:
    """The right values in other places."""
    if e.got.size > 3 and alike(np.sort(e.got, axis=None), np.sort(e.wanted, axis=None)):
        return "the values are right, in the wrong places: a reshape, an order of axes, or a group?"
    return None


def _near(ratio: float, wanted: float) -> bool:
    return abs(ratio / wanted - 1) < 1e-5


def _counts(a: np.ndarray) -> Iterator[tuple[int, str]]:
    """The numbers that a mean over neighbouring axes of ``a`` could divide by."""
    for first, last in itertools.combinations(range(a.ndim + 1), 2):
        count = math.prod(a.shape[first:last])
        if count > 1:
            all_axes = last - first == a.ndim
            yield count, "the size" if all_axes else f"the size of {axes_named(range(first, last))}"


def _variations(a: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    if a.ndim == 4:
        yield "flipped in height and width", a[::-1, ::-1]
    for first, second in itertools.combinations(range(a.ndim), 2):
        if a.shape[first] == a.shape[second]:
            axes = f" (axes {first} and {second})" if a.ndim > 2 else ""
            yield f"transposed{axes}", a.swapaxes(first, second)
