"""The three checks, of layers, bare functions and losses: the contract, then every slope."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module, checked, to_device
from tinynet.gradient_check.causes import explain_undecidable, explain_wrong
from tinynet.gradient_check.chain_rule import Sweep, more_than_its_layers, taken_apart
from tinynet.gradient_check.checkable import (
    Checkable,
    CheckableLayer,
    CheckableLoss,
    CheckablePair,
    TooManyGradients,
    is_float,
)
from tinynet.gradient_check.complex_step import complex_steps
from tinynet.gradient_check.contract import (
    entangled,
    misshapen,
    modified,
    passes_of_others,
    raised,
    shared_memory,
)
from tinynet.gradient_check.finite_differences import SAFETY, ULPS, Function, estimate
from tinynet.gradient_check.foreign import Flat, argument_names, flat_pair
from tinynet.gradient_check.precision import FLOAT64, FORMATS, Precision, precision_of
from tinynet.gradient_check.reference import (
    CheckableKernel,
    in_own_dtype,
    reference_forward,
)
from tinynet.gradient_check.report import (
    GradientError,
    GradientReport,
    Sample,
    draw_sample,
)
from tinynet.gradient_check.single import in_float32
from tinynet.gradient_check.steadiness import scatter, unsteadiness
from tinynet.layer import EVAL, Layer, Mode

# Not 0: a test's x is often default_rng(0)'s, and dy = x makes a wrong dw = xᵀ dy look right.
UPSTREAM_SEED, MARGIN_SEED = 243_000_001, 243_000_004


@checked
def check_gradients(
    layer: Layer,
    x: Array,
    mode: Mode = EVAL,
    *,
    rng: np.random.Generator | None = None,
    tolerance: float | None = None,
    allow_undecidable: float = 0.1,
    elements: int | None = None,
    fraction: float | None = None,
    margin: float | None = None,
) -> GradientReport:
    """Check a layer, or a whole model: the gradients of its input and of every parameter.

    layer              any Layer; a copy in float64 is checked, the layer itself is not touched.
                       A frozen parameter (not trainable) has a gradient like any other
    x                  (N, ...) a float input; not touched either
    mode               the forward pass's mode; its generator is copied for each pass, so that
                       dropout masks stay the same (None: a fixed seed)
    rng                draws the upstream gradient dy, and the sample; None: a fixed seed
    tolerance          accepted relative error, beside what the estimate itself is unsure of and
                       rounding can make; None: 1e-9
    allow_undecidable  largest accepted share of undecidable elements in one array
    elements           check only this many, drawn at random from all arrays together; the report
                       says how likely they are to find an error. None: every element
    fraction           the same, as a part of all elements
    margin             if elements are undecidable, move every element of x by a different amount,
                       margin / 2 to margin, off kinks and ties, and check there; the report says
                       so. None: x stays as it is
    Returns the report. Raises GradientError, with the report as its message, if anything is wrong;
    TypeError if x is not a float array; ValueError for settings out of range.
    """
    _want_float(x, "x")
    settings = Settings(rng, tolerance, allow_undecidable, elements, fraction, margin)
    return check(CheckableLayer(layer, x, mode), settings)


@checked
def check_backward(
    forward: Callable[..., tuple[Array, Any]],
    backward: Callable[[Array, Any], Any],
    args: Sequence[Any],
    *,
    rng: np.random.Generator | None = None,
    tolerance: float | None = None,
    allow_undecidable: float = 0.1,
    elements: int | None = None,
    fraction: float | None = None,
    margin: float | None = None,
    reference: Callable[..., Any] | None = None,
) -> GradientReport:
    """Check a bare pair of functions; no class of this library is needed.

    forward    forward(*args) -> (y, cache); y is an array, or a nest (tuple, list, dict) of them
    backward   backward(dy, cache) -> the gradient of the first float array among args, or a tuple
               with one gradient for each of them, in order; None, or a shorter tuple, where there
               is none. Or a dict by the arguments' names, with or without a d in front. dy is
               nested as y is, with None for outputs that are not float arrays
    args       the arguments; float arrays are copied in float64 and differentiated, the rest
               (integers, masks, names, None) is passed on as it is. Lists and dicts of arrays have
               lists and dicts of gradients. Complex z has dz = ∂L/∂Re z + i ∂L/∂Im z, as in
               PyTorch (of JAX's arrays its conjugate, as there). Tensors are passed as tensors
    rng, tolerance, allow_undecidable, elements, fraction, margin   as in ``check_gradients``
    reference  reference(*args) -> y, or (y, cache): the same function in float64. The two functions
               are then given ``args`` in the dtypes they came in (float32, float16, bfloat16), and
               their gradients compared with the slopes of the reference, to what the dtype allows
    Returns the report. Raises GradientError, with the report as its message, if anything is wrong;
    TypeError if no argument is a float array; ValueError for gradients that belong to no argument.

    A layer norm without scale, and its backward pass:

    >>> def norm_forward(x):
    ...     centred = x - x.mean(axis=1, keepdims=True)
    ...     inv_std = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-5)
    ...     return centred * inv_std, (centred * inv_std, inv_std)
    >>> def norm_backward(dy, cache):
    ...     y, inv_std = cache
    ...     mean, along = dy.mean(axis=1, keepdims=True), (dy * y).mean(axis=1, keepdims=True)
    ...     return inv_std * (dy - mean - y * along)
    >>> x = np.random.default_rng(0).standard_normal((2, 5))
    >>> check_backward(norm_forward, norm_backward, [x]).ok
    True
    >>> def without_the_mean(dy, cache):
    ...     y, inv_std = cache
    ...     return inv_std * (dy - y * (dy * y).mean(axis=1, keepdims=True))
    >>> check_backward(norm_forward, without_the_mean, [x])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    tinynet.gradient_check.report.GradientError: WRONG: the backward pass of norm_forward / ...
      the gradient of x is wrong in 10 of 10 ...the error is the same all along axis 1...
    """
    title = " / ".join(getattr(f, "__name__", repr(f)) for f in (forward, backward))
    settings = Settings(rng, tolerance, allow_undecidable, elements, fraction, margin)
    names, upstream = argument_names(forward, len(args)), argument_names(backward, 1)[0]
    if reference is None:
        return _check_flat(Flat((forward, backward), args, names), title, settings, upstream)
    pair, args, lowest = in_own_dtype((forward, backward), args)
    beside = Flat(reference_forward(reference), args, names)
    return _check_flat(Flat(pair, args, names), title, settings, upstream, (beside, lowest))


@checked
def check_function(
    function: Any,
    args: Sequence[Any],
    *,
    rng: np.random.Generator | None = None,
    tolerance: float | None = None,
    allow_undecidable: float = 0.1,
    elements: int | None = None,
    fraction: float | None = None,
    margin: float | None = None,
) -> GradientReport:
    """Check a function, or an object, that has its backward pass within it.

    function   y, vjp = function(*args), and vjp(dy) the gradients, as in ``check_backward``;
               or an object: y = function.forward(*args) and dx = function.backward(dy), which keeps
               its state, its parameters w and their gradients (dw, grads["w"]) on itself;
               or a jax.custom_vjp; or, given tensors, a torch.autograd.Function (the class), a
               torch.nn.Module or any function of torch
    args       as in ``check_backward``. Of tensors, those that require a gradient are
               differentiated, or all float ones if none does
    rng, tolerance, allow_undecidable, elements, fraction, margin   as in ``check_gradients``
    Returns the report, of the arguments and the parameters (an object and a module are copied).
    Raises GradientError, with the report as its message, if anything is wrong; TypeError if there
    is nothing to differentiate, or no backward pass is found; ValueError for gradients that belong
    to no argument.

    >>> def square(x):
    ...     return x * x, lambda dy: 2 * x * dy
    >>> check_function(square, [np.array([1.0, 2.0])]).ok
    True
    """
    title = getattr(function, "__name__", type(function).__name__)
    settings = Settings(rng, tolerance, allow_undecidable, elements, fraction, margin)
    return _check_flat(flat_pair(function, args), title, settings)


def _check_flat(
    flat: Flat,
    title: str,
    settings: Settings,
    upstream: str = "dy",
    reference: tuple[Flat, Precision] | None = None,
) -> GradientReport:
    if not any(flat.kinds):
        raise TypeError("none of args is a float array: there is no gradient to check")
    pair = CheckablePair(title, (flat.forward, flat.backward), flat.arrays, flat.names)
    pair.inputs = tuple(name for name in pair.inputs if name in flat.inputs)
    pair.upstream = upstream
    if reference is not None:
        beside, lowest = reference
        functions = beside.forward, beside.backward
        pair = CheckableKernel(
            pair, CheckablePair(title, functions, beside.arrays, beside.names), lowest
        )
    report = check(pair, settings)
    if flat.reuses:
        report.faults.append(
            "forward changes what an earlier call returned: return new arrays each time"
        )
        raise GradientError(report)
    if flat.unseen:
        report.notes.append(
            f"y depends on {_list(flat.unseen)}, whose gradient was not found on the object, and "
            "not checked: keep it as dw for w, or in grads, or return a dict by name"
        )
    return report


@checked
def check_loss(
    loss: Any,
    z: Array,
    y: Array,
    *,
    tolerance: float | None = None,
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
    settings = Settings(None, tolerance, allow_undecidable)
    return check(CheckableLoss(loss, z, y), settings)


def _want_float(a: Any, name: str) -> None:
    if not is_float(a):
        came = getattr(a, "dtype", type(a).__name__)
        raise TypeError(f"{name} is {came}, want a float array: {name} = np.asarray({name}, float)")


@dataclass(frozen=True)
class Settings:
    """The keywords of ``check_gradients``."""

    rng: np.random.Generator | None = None
    tolerance: float | None = None
    allow_undecidable: float = 0.1
    elements: int | None = None
    fraction: float | None = None
    margin: float | None = None


def check(subject: Checkable, settings: Settings) -> GradientReport:
    if settings.margin is not None and not settings.margin > 0:
        raise ValueError(f"margin is {settings.margin}, want a number above 0")
    rng = settings.rng if settings.rng is not None else np.random.default_rng(UPSTREAM_SEED)
    report = _examine(subject, settings, rng)
    any_wrong = any(found.wrong.any() for found in [*report.arrays, *report.between])
    if settings.margin is not None and report.undecidable and not any_wrong:
        found = report.undecidable
        for name in subject.inputs:
            subject.arrays[name] = _moved(subject.arrays[name], settings.margin)
        report = _examine(subject, settings, rng)
        report.notes.append(
            f"{found} elements were undecidable, so every element of {', '.join(subject.inputs)} "
            f"was moved by {settings.margin / 2:g} to {settings.margin:g}, and checked there"
        )
    if report.faults:
        raise GradientError(report)
    return report


def _examine(subject: Checkable, settings: Settings, rng: np.random.Generator) -> GradientReport:
    xp = array_module(*subject.arrays.values())
    report = GradientReport(subject.name)
    before = {name: a.copy() for name, a in {**subject.arrays, **subject.fixed}.items()}
    passes_of_others(subject)
    y, cache = subject.forward()
    y = xp.array(y)  # a copy: y may be a view of x, which will be perturbed
    faults = modified("forward", {**subject.arrays, **subject.fixed}, before)
    report.faults += faults.values()
    lower = y.dtype.name in FORMATS and y.dtype != "float64"
    if y.dtype != "float64" and not (lower and not isinstance(subject, CheckableLayer)):
        report.faults.append(f"forward gives {y.dtype} for float64 arguments, want float64")
    finite = bool(xp.isfinite(y).all())
    if not finite:
        report.faults.append("forward gives NaN or infinity: there is nothing to compare with")
    subject.copying = bool(faults)
    if not finite or y.dtype.name not in FORMATS or not faults.keys() <= set(subject.inputs):
        return report
    for name in faults:
        subject.arrays[name][...] = before[name]
    kernel = subject if isinstance(subject, CheckableKernel) else None
    precision = kernel.lowest if kernel else FLOAT64
    precision = precision_of(subject, y) if precision.double else precision
    if not precision.double:
        ulps = SAFETY / 2 if precision.coarse else ULPS
        steps = (
            "against slopes of the float64 reference"
            if kernel
            else "by large steps (reference= knows more)"
        )
        report.notes.append(
            f"computed in {precision.name}: tolerance {ulps * precision.epsilon:.0e} and what "
            f"rounding leaves unsure, {steps}"
        )
        subject.epsilon = precision.epsilon * precision.growth
        for name, a in subject.arrays.items():
            a[...] = precision.rounded(a)
            before[name] = a.copy()
        y, cache = subject.run()
        y = xp.array(y)
    if not subject.same(subject.run()[0], y):
        report.faults.append(
            "forward gives another result the second time: is something drawn or kept inside?"
        )
        return report

    dy = xp.asarray(precision.rounded(rng.standard_normal(y.shape)), dtype=y.dtype)
    upstream = {subject.upstream: dy}
    before["dy"] = dy.copy()
    try:
        if subject.copying:
            y, cache = subject.run()
            y = xp.array(y)
        raw = subject.backward(dy, cache)
        got = {name: xp.array(g) for name, g in raw.items()}
    except TooManyGradients:
        raise
    except Exception as error:
        whole = None
        if isinstance(subject, CheckableLayer):
            whole = taken_apart(subject.layer, subject.arrays["x"], subject.fresh())
        if whole is not None:
            report.faults += Sweep.through(whole, dy, settings.tolerance).faults
        if report.faults:
            report.faults.append(f"so the backward pass ends in an error: {error}")
        else:
            report.faults.append(raised(error, subject.arrays, upstream))
        raise GradientError(report) from error
    faults = modified("backward", {**subject.arrays, **subject.fixed, "dy": dy}, before)
    for name in faults.keys() & {*subject.arrays, "dy"}:
        (dy if name == "dy" else subject.arrays[name])[...] = before[name]
    unfit = misshapen(got, subject.arrays, upstream, y.dtype)
    report.faults += [*faults.values(), *unfit.values()]
    report.faults += shared_memory(raw, subject.arrays)
    report.unchecked = [name for name in subject.arrays if name not in got]
    if not got:
        report.faults.append("backward returns no gradient at all")
    if not report.faults:
        report.faults += entangled(subject, y, cache, dy, got)
    if not report.faults:
        report.faults += subject.more_faults(y, cache, dy, got)
    # What can be compared is compared: a fault hides no other
    got = {name: g for name, g in got.items() if g.shape == subject.arrays[name].shape}
    if not got:
        return report

    sample = draw_sample(
        {name: g.size for name, g in got.items()}, settings.elements, settings.fraction, rng
    )
    if sample is not None:
        total, checked = sum(g.size for g in got.values()), sum(map(len, sample.values()))
        report.sample = Sample(total, checked)
    function = Function(subject.run, _double(y), _double(dy), precision)
    if kernel:
        report.faults += filter(None, [kernel.other_results(y, subject.epsilon)])
        function = Function(kernel.reference.run, kernel.reference.run()[0].copy(), _double(dy))
    whole = None
    if (
        sample is None
        and precision.double
        and isinstance(subject, CheckableLayer)
        and not report.faults
    ):
        whole = taken_apart(subject.layer, subject.arrays["x"], subject.fresh())
    if whole is not None:
        _layer_by_layer(report, Sweep.through(whole, dy, settings.tolerance), got)
        report.faults += more_than_its_layers(report.arrays, function, subject.arrays)
    else:
        _in_one_piece(report, subject, function, got, settings.tolerance, sample, precision, dy)
        one = not isinstance(subject, CheckableLayer) or not any(subject.layer.children())
        if precision.double and one and not report.faults:
            report.faults += in_float32(subject)
    for found in report.arrays:
        if found.undecidable.sum() > settings.allow_undecidable * found.checked.sum():
            report.faults.append(explain_undecidable(found))
    return report


def _in_one_piece(
    report: GradientReport,
    subject: Checkable,
    function: Function,
    got: Mapping[str, Array],
    tolerance: float | None,
    sample: Mapping[str, np.ndarray] | None,
    precision: Precision,
    dy: Array,
) -> None:
    steps, moved, noise = {}, dict.fromkeys(got, 0.0), {}
    if function.precision.double:
        twin = getattr(subject, "reference", subject).twin("complex128")
        twin.copying = subject.copying
        steps = complex_steps(twin.run, twin.arrays, function.y, function.dy)
    if precision.double:
        moved = unsteadiness(subject, function.dy, got)
    if precision.coarse:
        noise = scatter(subject, dy, got, precision)
    for name, gradient in got.items():
        function.expect_rounding_of(got.values(), moved[name], precision.epsilon)
        g, chosen = to_device(gradient, "numpy"), None if sample is None else sample[name]
        a, step = subject.arrays[name], steps.get(name)
        # told already, where the function is in float64; it is right to its digits
        digits = FORMATS.get(g.dtype.name, FLOAT64)
        computed = min(digits, precision, key=lambda precision: precision.bits)
        g = _double(g.real)
        report.arrays.append(
            estimate(function, name, a, g, tolerance, step, chosen, computed, noise.get(name))
        )
    report.faults += explain_wrong(report.arrays, subject.arrays, function)


def _double(a: Array) -> Array:
    return a.astype("float64")


def _layer_by_layer(report: GradientReport, sweep: Sweep, got: Mapping[str, Array]) -> None:
    """The network's own gradients against those that the walk through its layers found true."""
    report.faults += sweep.faults
    report.between = sweep.between
    for name, gradient in got.items():
        report.arrays.append(sweep.true[name].of(to_device(gradient, "numpy")))
    explained = {check.name for check in sweep.true.values() if check.wrong.any()}
    late = [c.name for c in report.arrays if c.wrong.any() and c.name not in explained]
    if late and sweep.faults:
        report.faults.append(f"so these gradients are wrong too: {_list(late)}")
    elif late:
        report.faults.append(
            f"the gradients of {_list(late)} are wrong, though each layer by itself is right: "
            "does a container hand them on to the wrong layer, or lose one?"
        )


def _moved(a: Array, margin: float) -> Array:
    """Each element moved up or down by a different amount, margin / 2 to margin."""
    rng = np.random.default_rng(MARGIN_SEED)
    amounts = margin * (1 + rng.permutation(a.size) / max(a.size, 1)) / 2
    signs = rng.choice([-1.0, 1.0], a.size)
    moves: Any = array_module(a).asarray((signs * amounts).reshape(a.shape))
    return a + moves


def _list(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if names[4:] else "")
