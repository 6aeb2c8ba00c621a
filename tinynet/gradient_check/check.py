"""The checker's three doors: for layers, for bare functions and for losses."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.gradient_check.compare import Settings, check
from tinynet.gradient_check.report import GradientReport
from tinynet.gradient_check.subjects import LayerSubject, LossSubject, PairSubject, is_float
from tinynet.layer import EVAL, Layer, Mode


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
    tolerance          accepted relative error, beside what the estimate itself is unsure of;
                       None: 1e-6, and 1e-9 where the complex step gives the slope to rounding
    allow_undecidable  largest accepted share of undecidable elements in one array
    elements           check only so many, drawn at random from all arrays together; the report
                       says how likely they are to find an error. None: every element
    fraction           the same, as a part of all elements
    margin             if elements are undecidable, move every element of x by an amount of its own,
                       margin / 2 to margin, off kinks and ties, and check there; the report says
                       so. None: x stays as it is
    Returns the report. Raises GradientError, with the report as its message, if anything is wrong;
    TypeError if x is not a float array; ValueError for settings out of range.
    """
    _want_float(x, "x")
    settings = Settings(rng, tolerance, allow_undecidable, elements, fraction, margin)
    return check(LayerSubject(layer, x, mode), settings)


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
) -> GradientReport:
    """Check a bare pair of functions; no class of this library is needed.

    forward    forward(*args) -> (y, cache)
    backward   backward(dy, cache) -> the gradient of the first float array among args, or a tuple
               with one gradient for each of them, in order; None, or a shorter tuple, where there
               is none
    args       the arguments; float arrays are copied in float64 and differentiated, the rest
               (integers, masks, names, None) is passed on as it is
    rng, tolerance, allow_undecidable, elements, fraction, margin   as in ``check_gradients``
    Returns the report. Raises GradientError, with the report as its message, if anything is wrong;
    TypeError if no argument is a float array; ValueError for more gradients than float arrays.

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
    names = _argument_names(forward, len(args))
    title = " / ".join(getattr(f, "__name__", repr(f)) for f in (forward, backward))
    if not any(map(is_float, args)):
        raise TypeError("none of args is a float array: there is no gradient to check")
    settings = Settings(rng, tolerance, allow_undecidable, elements, fraction, margin)
    return check(PairSubject(title, (forward, backward), args, names), settings)


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
    return check(LossSubject(loss, z, y), settings)


def _want_float(a: Any, name: str) -> None:
    if not is_float(a):
        came = getattr(a, "dtype", type(a).__name__)
        raise TypeError(f"{name} is {came}, want a float array: {name} = np.asarray({name}, float)")


def _argument_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of the first ``count`` positional parameters, numbered where there are none."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some built-in functions have no signature
        parameters = []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[:count] + [f"argument {i}" for i in range(len(names), count)]
