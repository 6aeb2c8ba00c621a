"""Mistakes in the chain rule: a factor, a term or a contribution is missing, or there twice."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from tinynet.gradient_check.evidence import Evidence, alike, axes_named, sets_of_axes


def lacks_a_factor(e: Evidence) -> str | None:
    """Some array is multiplied once too seldom, or once too often."""
    for name, factor in _factors(e):
        if alike(e.got * factor, e.wanted):
            return f"it lacks the factor {name}"
        if alike(e.got, e.wanted * factor):
            return f"it has the factor {name} once too often"
    return None


def is_another_array(e: Evidence) -> str | None:
    """An array that is at hand stands where the gradient should."""
    for name, a in _factors(e):
        if a.shape == e.got.shape and alike(e.got, a):
            return f"it is {name} itself: is the layer's own slope left out?"
    return None


def lacks_a_path(e: Evidence) -> str | None:
    """The error is a multiple of an array that is at hand."""
    for name, term in _factors(e):
        if term.shape != e.got.shape or name == "1 − y" or e.got.size < 3:
            continue
        times = float((e.error * term).sum() / max(float((term**2).sum()), 1e-300))
        if times and alike(e.error, times * term):
            if name == "dy" and abs(times + 1) < 1e-3:
                return "dy itself is missing from it: is a path left out, such as a shortcut's?"
            return f"it is {times:.6g} times {name} too large: is a term added or left out?"
    return None


def only_the_diagonal(e: Evidence) -> str | None:
    """dyᵢ ∂yᵢ/∂xᵢ, without the other outputs that xᵢ moves."""
    if e.got.shape != e.y.shape:
        return None
    picked = e.some_wrong()
    own = np.array([e.contributions(i).reshape(-1)[i] for i in picked])
    if not alike(e.got.reshape(-1)[picked], own):
        return None
    return (
        "only the diagonal of the Jacobian is in it, dyᵢ ∂yᵢ/∂xᵢ: xᵢ moves other outputs too, as "
        "in a softmax or a normalisation, and those terms are left out"
    )


def one_contribution(e: Evidence) -> str | None:
    """One window's, one example's contribution instead of the sum, or one too few or too many."""
    single, missing, double = [], [], []
    for i in e.some_wrong():
        parts = e.contributions(i)
        windows = parts.sum(axis=-1) if parts.ndim > 2 else parts  # a window has all channels
        examples = parts.reshape(len(parts), -1).sum(axis=1) if parts.ndim else parts
        got, wanted = (float(a.reshape(-1)[i]) for a in (e.got, e.wanted))
        candidates = np.concatenate([a.reshape(-1) for a in (parts, windows, examples)])
        small = 1e-5 * max(abs(candidates).max(), abs(got), abs(wanted))
        candidates = candidates[abs(candidates) > small]
        partial = candidates[abs(candidates - wanted) > small]

        def found(value: float, among: np.ndarray, near: float = small) -> bool:
            return bool((abs(among - value) <= near).any())

        single.append(found(got, partial))
        missing.append(found(wanted - got, partial))
        double.append(found(got - wanted, candidates))
    if len(single) < 2:
        return None
    if all(single):
        return (
            "each element has only one of the contributions that should add up (of windows, or "
            "examples): is it overwritten (=) instead of added to (+=)?"
        )
    if all(missing):
        return "from each wrong element one contribution (of a window, an example) is missing"
    if all(double):
        return "in each wrong element one contribution (of a window, an example) counts twice"
    return None


def lacks_a_mean(e: Evidence) -> str | None:
    """The error is the same, or a straight line in x, all along some axes."""
    x = e.values()[e.check.name]
    for axes in sets_of_axes(e.got.ndim):
        along = math.prod(e.got.shape[a] for a in axes)
        if along < 3 or not e.error.any():
            continue
        mean = e.error.mean(axis=axes, keepdims=True)
        if alike(e.error, np.broadcast_to(mean, e.error.shape)):
            return (
                f"the error is the same all along {axes_named(axes)}: a term of the chain rule is "
                "missing, the path through a mean or a sum over them"
            )
    for axes in sets_of_axes(e.got.ndim):
        if math.prod(e.got.shape[a] for a in axes) < 4:
            continue
        centred = x - x.mean(axis=axes, keepdims=True)
        spread = np.maximum((centred**2).sum(axis=axes, keepdims=True), 1e-300)
        level = e.error.mean(axis=axes, keepdims=True)
        slope = (e.error * centred).sum(axis=axes, keepdims=True) / spread
        if alike(e.error, level + slope * centred):
            return (
                f"the error is a straight line in {e.check.name} along {axes_named(axes)}: a term "
                "of the chain rule is missing, the path through a variance (or a norm) over them"
            )
    return None


def _factors(e: Evidence) -> Iterator[tuple[str, np.ndarray]]:
    """Arrays that a backward pass may forget, or use twice; those that fit the gradient."""
    named = {"dy": e.dy, **e.values(), "y": e.y, "1 − y": 1 - e.y}
    for name, factor in named.items():
        fits = factor.size > 1 and factor.ndim <= e.got.ndim
        if fits and all(
            size in (1, full)
            for size, full in zip(factor.shape[::-1], e.got.shape[::-1], strict=False)
        ):
            yield name, factor
