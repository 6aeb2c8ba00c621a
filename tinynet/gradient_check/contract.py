"""What a difference quotient cannot see: the rest of the contract of a backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.gradient_check.checkable import Checkable, same


def modified(who: str, now: Mapping[str, Array], before: Mapping[str, Array]) -> Iterator[str]:
    """A fault for each array that no longer is what it was."""
    for name, a in now.items():
        if not bool((a == before[name]).all()):
            yield f"{who} modifies {name}: work on a copy"


def misshapen(got: Mapping[str, Array], arrays: Mapping[str, Array]) -> Iterator[str]:
    """A fault for each gradient of another shape or dtype than its array."""
    for name, g in got.items():
        want = arrays[name]
        if g.shape != want.shape:
            hint = ": is it transposed?" if g.shape == want.shape[::-1] else ""
            yield f"the gradient of {name} is {g.shape}, want {want.shape}{hint}"
        elif g.dtype != want.dtype:
            yield f"the gradient of {name} is {g.dtype}, want {want.dtype}, the dtype of {name}"


def entangled(
    subject: Checkable, y: Array, cache: Any, dy: Array, got: Mapping[str, Array]
) -> Iterator[str]:
    """Faults of code that keeps something beside the cache, or relies on how memory is laid out."""
    first, _ = subject.forward()
    subject.another()  # before the backward pass of the first
    if not same(first, y):
        yield "forward changes what an earlier call returned: return a new array each time"
    gradients = subject.backward(dy, cache)
    kept = {name: g.copy() for name, g in gradients.items()}
    for name, g in kept.items():
        if not same(g, got[name]):
            yield (
                f"backward gives another gradient of {name} after a second forward pass: "
                "keep what it needs in the cache only, and do not write to the cache"
            )
    for name, g in subject.backward(-2 * dy, cache).items():
        if same(kept[name], got[name]) and not same(g, -2 * kept[name]):
            yield (
                f"with -2 dy the gradient of {name} is not -2 times as large: is dy left out, "
                "something clipped, or kept from an earlier call?"
            )
    for name, g in gradients.items():
        if not same(g, kept[name]):
            yield (
                f"backward changes the gradient of {name} that an earlier call returned: "
                "return a new array each time"
            )
    for change, kind in ((_strided, "non-contiguous"), (_read_only, "read-only")):
        yield from _laid_out(subject, y, dy, got, change, kind)


def _laid_out(
    subject: Checkable,
    y: Array,
    dy: Array,
    got: Mapping[str, Array],
    change: Callable[[Array], Array],
    kind: str,
) -> Iterator[str]:
    """Faults with inputs, and an upstream gradient, that are laid out otherwise in memory."""
    who = "forward"
    try:
        with subject.swapped(change):
            changed_y, cache = subject.forward()
            if not same(changed_y, y):
                yield f"forward gives another result for {kind} inputs"
                return
            who = "backward"
            for name, g in subject.backward(change(dy), cache).items():
                if not same(g, got[name]):
                    yield f"backward gives another gradient of {name} for {kind} arrays"
    except ValueError as error:
        if kind != "read-only" or "read-only" not in str(error):
            raise
        yield f"{who} writes to an array that it was given: work on a copy"


def _strided(a: Array) -> Array:
    """The same values, not contiguous in memory."""
    return array_module(a).repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a


def _read_only(a: Array) -> Array:
    """The same values, which cannot be written to; CuPy's arrays always can."""
    a = a.copy()
    if isinstance(a, np.ndarray):
        a.flags.writeable = False
    return a
