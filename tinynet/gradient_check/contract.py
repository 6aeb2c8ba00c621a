"""What a difference quotient cannot see: the rest of the contract of a backward pass."""

from __future__ import annotations

import itertools
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.gradient_check.checkable import Checkable, flipped, smaller
from tinynet.gradient_check.finite_differences import largest_of

SCALES = (
    -2.0,
    2.0**20,
    2.0**-20,
)  # of dy: powers of two, by which a right gradient is scaled exactly


def modified(who: str, now: Mapping[str, Array], before: Mapping[str, Array]) -> dict[str, str]:
    """Name -> fault, of each array that no longer is what it was."""
    return {
        name: f"{who} modifies {name}: work on a copy"
        for name, a in now.items()
        if not bool(((a == before[name]) | ((a != a) & (before[name] != before[name]))).all())
    }


def misshapen(
    got: Mapping[str, Array],
    arrays: Mapping[str, Array],
    dy: Mapping[str, Array] | None = None,
    computed: Any = None,
) -> dict[str, str]:
    """Name -> fault, of each gradient of another shape or dtype than its array.

    dy         its name -> the upstream gradient, from which a product that fits may be made
    computed   the dtype of the output, where it is not float64
    """
    faults = {}
    for name, g in got.items():
        want = arrays[name]
        if g.shape != want.shape:
            hint = "is it transposed?" if g.shape == want.shape[::-1] else ""
            fits = what_fits(name, arrays, dy or {})
            told = [part for part in (hint, fits and f"{fits} has that shape") if part]
            end = f": {'; '.join(told)}" if told else ""
            faults[name] = f"the gradient of {name} is {g.shape}, want {want.shape}{end}"
        elif g.dtype != want.dtype and g.dtype not in (computed, "float64"):
            faults[name] = (
                f"the gradient of {name} is {g.dtype}, want {want.dtype}, the dtype of {name}"
            )
    return faults


def what_fits(name: str, arrays: Mapping[str, Array], dy: Mapping[str, Array]) -> str:
    """Which product or sum of dy and the arguments has the shape of ``name``: "x.T @ dz".

    Empty unless one or two do.
    """
    want = arrays[name].shape
    fits = []
    for upstream, d in dy.items():
        if d.shape == want:
            return ""
        for axes in (*range(d.ndim), *itertools.combinations(range(d.ndim), 2)):
            if d.ndim - len(want) == np.size(axes) and np.delete(d.shape, axes).tolist() == [*want]:
                fits.append(f"{upstream}.sum(axis={axes})")
        for other, a in arrays.items():
            if d.ndim == a.ndim == len(want) == 2 and other != name:
                turned = [(f"{upstream}{t}", x) for t, x in (("", d), (".T", d.T))]
                others = [(f"{other}{t}", x) for t, x in (("", a), (".T", a.T))]
                for (one, p), (two, q) in [
                    *itertools.product(turned, others),
                    *itertools.product(others, turned),
                ]:
                    if p.shape[1] == q.shape[0] and (p.shape[0], q.shape[1]) == want:
                        fits.append(f"{one} @ {two}")
    return " or ".join(fits) if len(fits) <= 2 else ""


def raised(error: Exception, arrays: Mapping[str, Array], dy: Mapping[str, Array]) -> str:
    """What a backward pass that ends in an error is told: where, the shapes, and what would fit."""
    where = ""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        folder = Path(frame.filename).parent
        if folder != Path(__file__).parent and folder.name != "autograd" and frame.line:
            where = f", at {frame.line!r} (line {frame.lineno} of {Path(frame.filename).name})"
            break
    lines = [f"backward raises {type(error).__name__}{where}: {' '.join(str(error).split())}"]
    lines.append("shapes: " + ", ".join(f"{n} {a.shape}" for n, a in {**dy, **arrays}.items()))
    for name, a in arrays.items():
        if fits := what_fits(name, arrays, dy):
            lines.append(f"of the shape of {name}, {a.shape}: {fits}")
    return "\n    ".join(lines)


def shared_memory(got: Mapping[str, Array], arrays: Mapping[str, Array]) -> Iterator[str]:
    """Faults of gradients that are views of an argument: who adds to one changes the other."""
    for name, g in got.items():
        for other, a in arrays.items():
            if isinstance(g, np.ndarray) and np.shares_memory(g, a):
                yield f"the gradient of {name} shares memory with {other}: return a new array"


def passes_of_others(subject: Checkable) -> None:
    """Passes of other inputs before all: what code keeps by shape, or for good, is theirs."""
    kept = {name: a.copy() for name, a in subject.arrays.items()}
    with suppress(Exception), np.errstate(all="ignore"):  # their faults are told of the input given
        for y, cache in subject.others():
            subject.backward(array_module(y).ones_like(y), cache)
    for name, a in kept.items():
        subject.arrays[name][...] = a


def entangled(
    subject: Checkable, y: Array, cache: Any, dy: Array, got: Mapping[str, Array]
) -> Iterator[str]:
    """Faults of code that keeps something beside the cache, or relies on how memory is laid out."""
    first, _ = subject.forward()
    kept: dict[str, Array] = {}
    for other_y, other_cache in subject.others():  # each before the first's backward pass
        with suppress(ValueError):
            subject.backward(array_module(y).ones_like(other_y) + flipped(other_y), other_cache)
        try:
            gradients = subject.backward(dy, cache)
        except Exception as error:
            yield (
                f"backward raises {type(error).__name__} after a second forward pass ({error}): "
                "keep what it needs in the cache only, and do not write to the cache"
            )
            return
        kept = {name: g.copy() for name, g in gradients.items()}
        changed = [name for name, g in kept.items() if not subject.same(g, got[name])]
        for name in changed:
            yield (
                f"backward gives another gradient of {name} after a second forward pass: "
                "keep what it needs in the cache only, and do not write to the cache"
            )
        if changed:
            break
    if not subject.same(first, y):
        yield "forward changes what an earlier call returned: return a new array each time"
    later_y, later_cache = subject.forward()
    if not subject.same(later_y, y):
        yield "forward gives another result after passes of other inputs: what does it keep?"
    for name, g in subject.backward(dy, later_cache).items():
        if subject.same(kept[name], got[name]) and not subject.same(
            g, got[name], largest_of(got.values())
        ):
            yield f"backward gives another gradient of {name} after passes of other inputs"
    yield from _by_identity(subject)
    yield from _not_linear(
        subject, cache, dy, {n: g for n, g in kept.items() if subject.same(g, got[n])}
    )
    for name, g in gradients.items():
        if not subject.same(g, kept[name]):
            yield (
                f"backward changes the gradient of {name} that an earlier call returned: "
                "return a new array each time"
            )
    for kind, change in LAYOUTS.items():
        yield from _laid_out(subject, y, dy, got, change, kind)
    ones = array_module(dy).ones_like(dy)
    expected = {name: g.copy() for name, g in subject.backward(ones, cache).items()}
    whole = array_module(dy).broadcast_to(ones[(0,) * ones.ndim], ones.shape) if dy.size else ones
    yield from _upstream(subject, whole, expected, "broadcast dy (strides of 0, as of y.sum())")


def _by_identity(subject: Checkable) -> Iterator[str]:
    """Faults of code that caches by identity: an array whose values have changed since."""
    kept = {name: subject.arrays[name].copy() for name in subject.inputs}

    def passes() -> dict[str, Array]:
        y, cache = subject.forward()
        found = subject.backward(array_module(y).ones_like(y), cache)
        return {"y": y, **{name: array_module(g).array(g) for name, g in found.items()}}

    try:
        with subject.swapped(smaller):
            wanted = passes()
        for name in kept:
            subject.arrays[name][...] = smaller(kept[name])
        for name, found in passes().items():
            if not subject.same(found, wanted[name], largest_of(wanted.values())):
                what = (
                    "forward gives another result"
                    if name == "y"
                    else f"backward gives another gradient of {name}"
                )
                yield f"{what} where an array holds new values: do not cache by identity"
    except ValueError:  # such values are refused
        pass
    finally:
        for name, a in kept.items():
            subject.arrays[name][...] = a


def _not_linear(
    subject: Checkable, cache: Any, dy: Array, got: Mapping[str, Array]
) -> Iterator[str]:
    """Faults of a backward pass that is not linear in dy."""
    xp = array_module(dy)
    told, size = set(), largest_of(got.values())
    for scale in SCALES if subject.epsilon < 1e-4 else (-2.0, 16.0, 1 / 16):  # the range of 16 bits
        with np.errstate(all="ignore"):
            found = subject.backward(xp.asarray(scale * dy), cache)
        for name, g in found.items():
            if name in got and name not in told and not subject.same(g / scale, got[name], size):
                told.add(name)
                times = f"{scale:g}" if 1 <= abs(scale) < 10 else f"{scale:.0e}"
                yield (
                    f"with {times} dy the gradient of {name} is not {times} times as large: is dy "
                    "left out, something clipped, an ε added, or kept from an earlier call?"
                )
    with np.errstate(all="ignore"):
        found = subject.backward(xp.zeros_like(dy), cache)
    for name, g in found.items():
        if name in got and name not in told and not bool((g == 0).all()):
            worst = float(g.ravel()[int(abs(xp.nan_to_num(g, nan=xp.inf)).argmax())])
            yield (
                f"with dy = 0 the gradient of {name} is not 0 but {worst:.3g}: is it divided by "
                "dy, or something added?"
            )


def _laid_out(
    subject: Checkable,
    y: Array,
    dy: Array,
    got: Mapping[str, Array],
    change: Callable[[Array], Array],
    kind: str,
) -> Iterator[str]:
    """Faults with inputs, and an upstream gradient, that are laid out otherwise in memory."""
    cache: Any = None
    try:
        with subject.swapped(change):
            changed_y, cache = subject.forward()
            if not subject.same(changed_y, y):
                yield f"forward gives another result for {kind} inputs"
                return
    except Exception as error:
        if "read-only" in str(error):
            yield "forward writes to an array that it was given: work on a copy"
            return  # else it says that it does not take such inputs
    with subject.swapped(change if cache is not None else lambda a: a):
        _, cache = subject.forward()
        yield from _upstream(subject, change(dy), got, f"{kind} arrays", cache)


def _upstream(
    subject: Checkable, dy: Array, got: Mapping[str, Array], kind: str, cache: Any = None
) -> Iterator[str]:
    try:
        found = subject.backward(dy, subject.forward()[1] if cache is None else cache)
    except Exception as error:
        if "read-only" in str(error):
            yield "backward writes to an array that it was given: work on a copy"
        else:
            yield f"backward raises {type(error).__name__} for {kind}: {error}"
        return
    for name, g in found.items():
        if not subject.same(g, got[name], largest_of(got.values())):
            yield f"backward gives another gradient of {name} for {kind}"


def _strided(a: Array) -> Array:
    """The same values, not contiguous in memory."""
    return array_module(a).repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a


def _reversed(a: Array) -> Array:
    """The same values, from the end of the memory to its beginning."""
    return array_module(a).flip(array_module(a).flip(a).copy())


def _read_only(a: Array) -> Array:
    """The same values, which cannot be written to; CuPy's arrays always can."""
    a = a.copy()
    if isinstance(a, np.ndarray):
        a.flags.writeable = False
    return a


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "non-contiguous": _strided,
    "transposed": lambda a: a.copy(order="F"),
    "reversed": _reversed,
    "read-only": _read_only,
}
