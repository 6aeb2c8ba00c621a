"""A network is checked one layer at a time, which by the chain rule is a check of the whole.

For y = f_n(… f_2(f_1(x))) and L = Σ dy ⊙ y, let x_k be what layer k was given. If dy_n = dy, and
every layer's backward pass turns the true dy_k = ∂L/∂x_{k+1} into the true

    ∂/∂x_k Σ dy_k ⊙ f_k(x_k; θ_k) = dy_{k−1}      and      ∂/∂θ_k Σ dy_k ⊙ f_k(x_k; θ_k),

then all gradients of the network are true. So each layer is run again by itself, on what it was
given and with the dy that reaches it, and *every* element of every parameter and of every array
between the layers is compared: no less is checked than end to end, but one element costs a pass
through one layer instead of all. More is seen, too: the layer at fault is named, and fewer kinks
are in reach. Where a layer's input does sit at a kink (ties among zeros in max pooling, behind a
ReLU), it is checked together with the layer before it, through which the kink may not show.

Sequential, Residual and Concat are taken apart. Layers that write their own forward pass, and
networks in which one parameter is used twice, are checked as one piece.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module, to_device
from tinynet.gradient_check.application import Application
from tinynet.gradient_check.complex_step import ComplexStep, takes_complex
from tinynet.gradient_check.contract import misshapen, modified
from tinynet.gradient_check.finite_differences import Function, estimate
from tinynet.gradient_check.hypotheses import Evidence, explain_wrong
from tinynet.gradient_check.report import ArrayCheck
from tinynet.layer import join
from tinynet.layers import Concat, Residual, Sequential


@dataclass
class Sweep:
    """A walk through the applications from last to first, as in a backward pass.

    tolerance   as in ``estimate``
    true        "x" and every parameter's full name -> the check of its gradient, from a true dy
    between     the checks of the gradients that one layer hands to another
    faults      what is wrong, the layer nearest to the output first
    """

    tolerance: float | None
    true: dict[str, ArrayCheck] = field(default_factory=dict)
    between: list[ArrayCheck] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @classmethod
    def through(cls, whole: Application, dy: Array, tolerance: float | None) -> Sweep:
        """The walk through a whole network."""
        sweep = cls(tolerance)
        sweep.true["x"] = sweep.back(whole, dy)
        return sweep

    def back(self, whole: Application, dy: Array) -> ArrayCheck:
        """The check of ∂L/∂x of one application, from the true dy; takes containers apart."""
        if not whole.parts:
            return self._leaf(whole, dy, ())
        if isinstance(whole.layer, Sequential):
            return self._chain(whole.parts, dy)
        if isinstance(whole.layer, Concat):
            widths = [part.layer.output_shape(whole.x.shape[1:])[-1] for part in whole.parts]
            shares = array_module(dy).split(dy, np.cumsum(widths)[:-1].tolist(), axis=-1)
        else:
            shares = [dy] * len(whole.parts)
        checks = [self.back(part, share) for part, share in zip(whole.parts, shares, strict=True)]
        total = _sum(whole.given, checks)
        if isinstance(whole.layer, Residual) and whole.layer.skip is None:
            through = to_device(dy, "numpy")  # the shortcut hands dy on as it is
            total = replace(total, got=total.got + through, wanted=total.wanted + through)
        return total

    def _chain(self, parts: Sequence[Application], dy: Array) -> ArrayCheck:
        """One after the other, from the last; a part at a kink joins the part before it."""
        tail: tuple[Application, ...] = ()
        for k in reversed(range(len(parts))):
            part = parts[k]
            check = self._leaf(part, dy, tail) if tail else self.back(part, dy)
            if k == 0:
                break
            if check.undecidable.any() and not check.wrong.any():
                tail = (part, *tail)
                continue
            self.between.append(check)
            # what is wrong is mended, so that the layers before it are judged by the true dy
            mended = np.where(check.wrong, check.wanted, check.got)
            dy, tail = array_module(dy).asarray(mended), ()
        return check

    def _leaf(self, part: Application, dy: Array, tail: Sequence[Application]) -> ArrayCheck:
        """One layer, or a layer followed by others up to where dy is known."""
        arrays, before = part.arrays(), {n: a.copy() for n, a in part.arrays().items()}
        y, caches = _run((part, *tail), part.x)
        y = array_module(y).array(y)  # a copy: y may be a view of x
        self.faults += modified(f"{part.name}: forward", arrays, before)
        part.layer.zero_grad()
        dx, kept = dy.copy(), dy.copy()
        for application, cache in zip((part, *tail)[::-1], caches[::-1], strict=True):
            dx = application.layer.backward(dx, cache)
        grads = {join(part.name, n): p.grad.copy() for n, p in part.layer.parameters().items()}
        got = {part.given: dx} | grads
        self.faults += misshapen(got, arrays)

        function = Function(lambda: _follow((part, *tail), part.x), y, kept)
        function.expect_rounding_of(to_device(gradient, "numpy") for gradient in got.values())
        steps = _complex_steps(part, tail, y, kept)
        checks = []
        for name, a in arrays.items():
            fits = got[name].shape == a.shape
            g = to_device(got[name] if fits else array_module(a).zeros_like(a), "numpy")
            slopes = estimate(function, a, g, self.tolerance, steps.get(name))
            # a gradient that does not fit has its fault already
            checks.append(ArrayCheck(name, g if fits else slopes.wanted, *slopes))
        for check in checks:
            if check.wrong.any():
                evidence = Evidence.of(check, checks, arrays, function)
                self.faults.append(explain_wrong(evidence))
        self.true |= {check.name: check for check in checks[1:]}
        return checks[0]


def _run(applications: Sequence[Application], x: Array) -> tuple[Array, list[Any]]:
    caches = []
    for application in applications:
        x, cache = application.run(x)
        caches.append(cache)
    return x, caches


def _follow(applications: Sequence[Application], x: Array) -> tuple[Array, None]:
    return _run(applications, x)[0], None


def _complex_steps(
    part: Application, tail: Sequence[Application], y: Array, dy: Array
) -> dict[str, ComplexStep]:
    """Array's name -> its complex step; empty where the layer takes no complex numbers."""
    twins = [application.complex_twin() for application in (part, *tail)]

    def forward() -> tuple[Array, None]:
        return _follow(twins, twins[0].x)

    if not takes_complex(forward, y):
        return {}
    return {name: ComplexStep(forward, a, dy) for name, a in twins[0].arrays().items()}


def _sum(name: str, checks: Sequence[ArrayCheck]) -> ArrayCheck:
    """The gradient of an array that was handed to several branches."""
    got, wanted, tolerance = (
        np.sum([getattr(check, part) for check in checks], axis=0)
        for part in ("got", "wanted", "tolerance")
    )
    undecidable = np.any([check.undecidable for check in checks], axis=0)
    checked, exact = (
        np.all([getattr(check, part) for check in checks], axis=0) for part in ("checked", "exact")
    )
    return ArrayCheck(name, got, wanted, tolerance, undecidable, checked, exact)
