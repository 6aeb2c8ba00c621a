"""Is a hand-written backward pass right? Every element is compared with difference quotients.

    report = check_gradients(layer, x)                  a layer or a whole model
    report = check_backward(forward, backward, args)    two bare functions, whoever wrote them
    report = check_loss(loss, z, y)                     a loss

All in float64, with an upstream gradient dy drawn at random (one of all ones would hide any error
in softmax or batch norm, whose outputs' sums are constant). Each element has a tolerance of its
own, set by how well its difference quotients settle (``tinynet.finite_differences``). At a kink
(ReLU at its threshold, a tie in max pooling) they do not, and the element is reported as
undecidable, never passed; too many of those are an error.

A difference quotient cannot see everything, so these are checked too: arguments are not modified,
gradients have their array's shape and dtype and are added to Parameter.grad, the output has the
declared shape, results repeat, an application in between changes nothing, and non-contiguous
arrays give the same.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module, to_device
from tinynet.finite_differences import Function, estimate
from tinynet.gradient_report import (
    ArrayCheck,
    GradientError,
    GradientReport,
    explain_undecidable,
    explain_wrong,
)
from tinynet.layer import EVAL, Layer, Mode

__all__ = [
    "ArrayCheck",
    "GradientError",
    "GradientReport",
    "check_backward",
    "check_gradients",
    "check_loss",
]

# Not 0: a test's x is often default_rng(0)'s, and dy = x makes a wrong dw = xᵀ dy look right.
UPSTREAM_SEED, MODE_SEED = 243_000_001, 243_000_002


def check_gradients(
    layer: Layer,
    x: Array,
    mode: Mode = EVAL,
    *,
    rng: np.random.Generator | None = None,
    tolerance: float = 1e-6,
    allow_undecidable: float = 0.1,
) -> GradientReport:
    """Check a layer, or a whole model: the gradients of its input and of every parameter.

    layer              any Layer; a copy in float64 is checked, the layer itself is not touched
    x                  (N, ...) a float input; not touched either
    mode               the forward pass's mode; its generator is copied for each pass, so that
                       dropout masks stay the same (None: a fixed seed)
    rng                draws the upstream gradient dy; None: a fixed seed
    tolerance          accepted relative error, beside what the estimate itself is unsure of
    allow_undecidable  largest accepted share of undecidable elements in one array
    Returns the report. Raises GradientError, with the report as its message, if anything is wrong;
    TypeError if x is not a float array.
    """
    _want_float(x, "x")
    layer = copy.deepcopy(layer).to(dtype="float64")
    parameters, buffers = layer.parameters(), copy.deepcopy(layer.buffers())
    for parameter in parameters.values():
        parameter.value = _float64(parameter.value)
    arrays = {"x": _float64(x)} | {name: p.value for name, p in parameters.items()}
    mode_rng = mode.rng if mode.rng is not None else np.random.default_rng(MODE_SEED)

    def forward() -> tuple[Array, Any]:
        for name, buffer in layer.buffers().items():
            buffer[...] = buffers[name]  # each pass starts from the same moving statistics
        return layer.forward(subject.arrays["x"], replace(mode, rng=copy.deepcopy(mode_rng)))

    def backward(dy: Array, cache: Any) -> dict[str, Array]:
        layer.zero_grad()
        dx = layer.backward(dy, cache)
        return {"x": dx} | {name: p.grad.copy() for name, p in parameters.items()}

    def layer_faults(y: Array, cache: Any, dy: Array, got: Mapping[str, Array]) -> Iterator[str]:
        declared = (x.shape[0], *layer.output_shape(x.shape[1:]))
        if y.shape != declared:
            yield f"output_shape declares {declared}, forward gives {y.shape}, batch included"
        backward(dy, cache)
        layer.backward(dy, cache)
        for name, parameter in parameters.items():
            if not _same(parameter.grad, 2 * got[name]):
                how = "overwrites it" if _same(parameter.grad, got[name]) else "does not"
                yield f"backward must add to the gradient of {name} (+=), and {how}"

    subject = _Subject(repr(layer), arrays, ("x",), forward, backward, layer_faults)
    return _check(subject, rng, tolerance, allow_undecidable)


def check_backward(
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[[Array, Any], Any],
    args: Sequence[Any],
    *,
    rng: np.random.Generator | None = None,
    tolerance: float = 1e-6,
    allow_undecidable: float = 0.1,
) -> GradientReport:
    """Check a bare pair of functions; no class of this library is needed.

    forward    forward(*args) -> (y, cache)
    backward   backward(dy, cache) -> the gradient of the first float array among args, or a tuple
               with one gradient for each of them, in order; None, or a shorter tuple, where there
               is none
    args       the arguments; float arrays are copied in float64 and differentiated, the rest
               (integers, masks, names, None) is passed on as it is
    rng, tolerance, allow_undecidable   as in ``check_gradients``
    Returns the report. Raises GradientError, with the report as its message, if anything is wrong;
    TypeError if no argument is a float array; ValueError for more gradients than float arrays.
    """
    names = _argument_names(forward, len(args))
    arrays = {n: _float64(a) for n, a in zip(names, args, strict=True) if _is_float(a)}
    if not arrays:
        raise TypeError("none of args is a float array: there is no gradient to check")

    def run() -> tuple[Array, Any]:
        current = [subject.arrays.get(n, a) for n, a in zip(names, args, strict=True)]
        return forward(*current)

    def gradients(dy: Array, cache: Any) -> dict[str, Array]:
        found = backward(dy, cache)
        found = found if isinstance(found, tuple | list) else (found,)
        if any(g is not None for g in found[len(arrays) :]):
            raise ValueError(
                f"backward returned {len(found)} gradients for {len(arrays)} float arrays "
                f"({', '.join(arrays)}): return one for each, in order, None where there is none"
            )
        return {n: g for n, g in zip(arrays, found, strict=False) if g is not None}

    title = " / ".join(getattr(f, "__name__", repr(f)) for f in (forward, backward))
    subject = _Subject(title, arrays, tuple(arrays), run, gradients)
    return _check(subject, rng, tolerance, allow_undecidable)


def check_loss(
    loss: Any,
    z: Array,
    y: Array,
    *,
    tolerance: float = 1e-6,
    allow_undecidable: float = 0.1,
) -> GradientReport:
    """Check a loss: value, cache = loss.forward(z, y) and dz = loss.backward(cache).

    z   a float array, logits or probabilities; copied in float64
    y   the labels; passed on as they are
    tolerance, allow_undecidable   as in ``check_gradients``
    Returns the report. Raises GradientError, with the report as its message, if anything is wrong;
    TypeError if z is not a float array.
    """
    _want_float(z, "z")

    def forward() -> tuple[Array, Any]:
        return loss.forward(subject.arrays["z"], y)

    def backward(dy: Array, cache: Any) -> dict[str, Array]:
        return {"z": dy * loss.backward(cache)}  # the chain rule, for a dy other than 1

    subject = _Subject(repr(loss), {"z": _float64(z)}, ("z",), forward, backward)
    return _check(subject, None, tolerance, allow_undecidable)


def _no_more_faults(y: Array, cache: Any, dy: Array, got: Mapping[str, Array]) -> Iterator[str]:
    return iter(())


@dataclass
class _Subject:
    """One face for layers, bare pairs and losses.

    arrays    name -> contiguous float64 array; forward reads them, the check perturbs them
    inputs    the names among them that forward looks up afresh, so that they may be swapped
    forward   () -> (y, cache);  backward   (dy, cache) -> name -> gradient
    more      the faults that only this kind of subject can have
    """

    name: str
    arrays: dict[str, Array]
    inputs: tuple[str, ...]
    forward: Callable[[], tuple[Array, Any]]
    backward: Callable[[Array, Any], dict[str, Array]]
    more: Callable[[Array, Any, Array, Mapping[str, Array]], Iterator[str]] = _no_more_faults

    @contextmanager
    def swapped(self, change: Callable[[Array], Array]) -> Iterator[None]:
        """Within the block the inputs are ``change(input)``."""
        kept = dict(self.arrays)
        self.arrays |= {name: change(kept[name]) for name in self.inputs}
        try:
            yield
        finally:
            self.arrays |= kept


def _check(
    subject: _Subject, rng: np.random.Generator | None, tolerance: float, allowed: float
) -> GradientReport:
    """The check itself: what a difference quotient cannot see first, then every element."""
    rng = rng if rng is not None else np.random.default_rng(UPSTREAM_SEED)
    xp = array_module(*subject.arrays.values())
    report = GradientReport(subject.name)

    before = {name: a.copy() for name, a in subject.arrays.items()}
    y, cache = subject.forward()
    y = xp.array(y)  # a copy: y may be a view of x, which will be perturbed
    report.faults += _modified("forward", subject.arrays, before)
    if y.dtype != xp.float64:
        report.faults.append(f"forward gives {y.dtype} for float64 arguments, want float64")
    if not xp.isfinite(y).all():
        report.faults.append("forward gives NaN or infinity: there is nothing to compare with")
    if report.faults:
        raise GradientError(report)

    dy = xp.asarray(rng.standard_normal(y.shape))
    before["dy"] = dy.copy()
    got = {name: xp.array(g) for name, g in subject.backward(dy, cache).items()}
    report.faults += _modified("backward", {**subject.arrays, "dy": dy}, before)
    report.faults += _misshapen(got, subject.arrays)
    report.unchecked = [name for name in subject.arrays if name not in got]
    if not got:
        report.faults.append("backward returns no gradient at all")
    if report.faults:
        raise GradientError(report)
    report.faults += _unrepeatable(subject, y, cache, dy, got)
    report.faults += subject.more(y, cache, dy, got)

    function = Function(subject.forward, y, dy)
    for name, gradient in got.items():
        g = to_device(gradient, "numpy")
        slopes = estimate(function, subject.arrays[name], g, tolerance)
        report.arrays.append(ArrayCheck(name, g, *slopes))
    for check in report.arrays:
        if check.wrong.any():
            report.faults.append(explain_wrong(check, report.arrays, y.shape))
        if check.undecidable.sum() > allowed * check.got.size:
            report.faults.append(explain_undecidable(check))
    if report.faults:
        raise GradientError(report)
    return report


def _modified(who: str, now: Mapping[str, Array], before: Mapping[str, Array]) -> Iterator[str]:
    for name, a in now.items():
        if not bool((a == before[name]).all()):
            yield f"{who} modifies {name}: work on a copy"


def _misshapen(got: Mapping[str, Array], arrays: Mapping[str, Array]) -> Iterator[str]:
    for name, g in got.items():
        want = arrays[name]
        if g.shape != want.shape:
            hint = ": is it transposed?" if g.shape == want.shape[::-1] else ""
            yield f"the gradient of {name} is {g.shape}, want {want.shape}{hint}"
        elif g.dtype != want.dtype:
            yield f"the gradient of {name} is {g.dtype}, want {want.dtype}, {name}'s own"


def _unrepeatable(
    subject: _Subject, y: Array, cache: Any, dy: Array, got: Mapping[str, Array]
) -> Iterator[str]:
    """Faults of code that keeps or draws something inside, or relies on the layout in memory."""
    again, _ = subject.forward()
    if not _same(again, y):
        yield "forward gives another result the second time: is something drawn or kept inside?"
        return
    with subject.swapped(lambda a: array_module(a).flip(a).copy()):
        subject.forward()  # another application, before the backward pass of the first
    for name, g in subject.backward(dy, cache).items():
        if not _same(g, got[name]):
            yield (
                f"backward gives another gradient of {name} after a second forward pass: "
                "keep what it needs in the cache only, and do not write to the cache"
            )
    with subject.swapped(_strided):
        strided_y, strided_cache = subject.forward()
        if not _same(strided_y, y):
            yield "forward gives another result for non-contiguous inputs"
            return
        for name, g in subject.backward(_strided(dy), strided_cache).items():
            if not _same(g, got[name]):
                yield f"backward gives another gradient of {name} for non-contiguous arrays"


def _strided(a: Array) -> Array:
    """The same values, not contiguous in memory."""
    return array_module(a).repeat(a, 2, axis=-1)[..., ::2] if a.ndim else a


def _same(a: Array, b: Array) -> bool:
    """Equal up to the order of summation, which may differ with the layout in memory."""
    largest = float(abs(b).max()) if b.size else 0.0
    return a.shape == b.shape and bool((abs(a - b) <= 1e-10 * largest + 1e-14).all())


def _is_float(a: Any) -> bool:
    return hasattr(a, "dtype") and hasattr(a, "shape") and a.dtype.kind == "f"


def _want_float(a: Any, name: str) -> None:
    if not _is_float(a):
        came = getattr(a, "dtype", type(a).__name__)
        raise TypeError(f"{name} is {came}, want a float array: {name} = np.asarray({name}, float)")


def _float64(a: Array) -> Array:
    """A contiguous copy in float64."""
    return array_module(a).array(a, dtype="float64", order="C")


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the first ``count`` positional parameters, numbered where there are none."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some built-in functions have no signature
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[:count] + [f"argument {i}" for i in range(len(names), count)]
