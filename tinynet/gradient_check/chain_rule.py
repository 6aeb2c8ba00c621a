"""A network is checked one layer at a time, which by the chain rule is a check of the whole.

For y = f_n(… f_2(f_1(x))) and L = Σ dy ⊙ y, let x_k be what layer k was given. If dy_n = dy, and
every layer's backward pass turns the true dy_k = ∂L/∂x_{k+1} into the true

    ∂/∂x_k Σ dy_k ⊙ f_k(x_k; θ_k) = dy_{k−1}      and      ∂/∂θ_k Σ dy_k ⊙ f_k(x_k; θ_k),

then all gradients of the network are true. So each layer is run again by itself, on what it was
given and with the dy that reaches it, and *every* element of every parameter and of every array
between the layers is compared: no less is checked than end to end, but one element costs a pass
through one layer instead of all. More is seen as well: the layer at fault is named, and fewer kinks
are in reach. Where a layer's input does sit at a kink (ties among zeros in max pooling, behind a
ReLU), it is checked together with the layer before it, through which the kink may not show.

Containers are taken apart by their ``Layer.wiring``. Layers that write their own passes, and
networks in which one parameter is used twice, are checked as one piece.

The walk takes it that a container does with its layers what its kind says, and that a layer depends
on nothing but what it is given. So every array a (n elements) is also moved through the whole
network, all of it at once, with signs v drawn at random (``more_than_its_layers``):

    d/dt L(a + t v / √n)  at t = 0      is to be      Σ ∂L/∂a ⊙ v / √n

with the ∂L/∂a that the walk found. This slope is of the size of one element's, and costs as much,
and every element is in it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module, to_device
from tinynet.gradient_check.causes import explain_wrong
from tinynet.gradient_check.complex_step import complex_steps
from tinynet.gradient_check.contract import misshapen, modified
from tinynet.gradient_check.finite_differences import SAFETY, Function, estimate
from tinynet.gradient_check.report import ArrayCheck
from tinynet.layer import Layer, Mode, join

SEED = 243_000_003
NEAR = 1e-3  # of the slope and of a typical element: what is looked for is a path too many
FLOOR = 1e-7  # of the largest: a shift that batch norm takes out again has no slope but rounding


# The forward pass, taken down layer by layer, so that each can be run again.


@dataclass
class Application:
    """One application of one layer, with all that is needed to run it again by itself.

    name      the layer's dotted name
    given     what its input is called in a message
    x         its input; drawn: the generator's state before it; buffers: theirs
    parts     the applications inside, of a container that is taken apart
    wiring    how they are connected: "series", "sum" (of one part: with its input) or "concat"
    """

    name: str
    given: str
    layer: Layer
    x: Array
    mode: Mode
    drawn: Any
    buffers: dict[str, Array]
    parts: list[Application] = field(default_factory=list)
    wiring: str = ""

    def run(self, x: Array) -> tuple[Array, Any]:
        """The layer's forward pass on ``x``, with the masks and statistics of the first time."""
        if self.buffers:
            for name, buffer in self.layer.buffers().items():
                buffer[...] = self.buffers[name]
        if isinstance(self.mode.rng, np.random.Generator):
            self.mode.rng.bit_generator.state = self.drawn
        return self.layer.forward(x, self.mode)

    def complex_twin(self) -> Application:
        layer = copy.deepcopy(self.layer).to(dtype="complex128")
        return replace(self, layer=layer, x=self.x.astype("complex128"), parts=[], wiring="")

    def arrays(self) -> dict[str, Array]:
        """The layer's input, and its parameters by their full names."""
        values = {join(self.name, name): p.value for name, p in self.layer.parameters().items()}
        return {self.given: self.x} | values

    def leaves(self) -> Iterator[Application]:
        if not self.parts:
            yield self
        for part in self.parts:
            yield from part.leaves()


def taken_apart(layer: Layer, x: Array, mode: Mode) -> Application | None:
    """The applications of a network's layers; None if it has to be checked in one piece.

    mode   its generator is used: hand in a copy
    """
    _, whole = record(layer, x, mode)
    arrays = [id(a) for leaf in whole.leaves() for a in leaf.layer.state().values()]
    shared = len(set(arrays)) < len(arrays)
    return whole if whole.parts and not shared else None


def record(
    layer: Layer, x: Array, mode: Mode, name: str = "", given: str = "x"
) -> tuple[Array, Application]:
    """Run the forward pass; return y and the tree of applications."""
    state = mode.rng.bit_generator.state if isinstance(mode.rng, np.random.Generator) else None
    buffers = {n: b.copy() for n, b in layer.buffers().items()}
    x = array_module(x).array(x, order="C")  # a copy: it will be perturbed
    whole = Application(name, given, layer, x, mode, state, buffers)
    wiring, replaced = layer.promise("wiring"), {"forward", "backward"} & set(vars(layer))
    if wiring not in ("series", "sum", "concat") or replaced or not layer.children():
        y, _ = whole.run(x.copy())  # a copy: it may be modified, which is found out later
        return y, whole
    whole.wiring, outputs = wiring, list[Array]()
    for child_name, child in layer.children().items():
        full = join(name, child_name)
        label = f"{full} ({type(child).__name__ if child.children() else repr(child)})"
        if wiring != "series":
            y, part = record(child, x, mode, full, f"{given} through {label}")
        elif outputs:
            y, part = record(child, outputs[-1], mode, full, f"the input of {label}")
        else:
            y, part = record(child, x, mode, full, given)
        outputs.append(y)
        whole.parts.append(part)
    if wiring == "concat":
        return array_module(x).concatenate(outputs, axis=-1), whole
    if wiring == "sum":
        return sum(outputs[1:], outputs[0] if len(outputs) > 1 else outputs[0] + x), whole
    return outputs[-1], whole


# The same tree, from last to first.


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
        sweep = cls(tolerance)
        sweep.true["x"] = sweep.back(whole, dy)
        return sweep

    def back(self, whole: Application, dy: Array) -> ArrayCheck:
        """The check of ∂L/∂x of one application, from the true dy; takes containers apart."""
        if not whole.parts:
            return self._leaf(whole, dy, ())
        if whole.wiring == "series":
            return self._chain(whole.parts, dy)
        if whole.wiring == "concat":
            widths = [part.layer.output_shape(whole.x.shape[1:])[-1] for part in whole.parts]
            shares = array_module(dy).split(dy, np.cumsum(widths)[:-1].tolist(), axis=-1)
        else:
            shares = [dy] * len(whole.parts)
        checks = [self.back(part, share) for part, share in zip(whole.parts, shares, strict=True)]
        total = _sum(whole.given, checks)
        if whole.wiring == "sum" and len(whole.parts) == 1:
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
        self.faults += modified(f"{part.name}: forward", arrays, before).values()
        part.layer.zero_grad()
        dx, kept = dy.copy(), dy.copy()
        for application, cache in zip((part, *tail)[::-1], caches[::-1], strict=True):
            dx = application.layer.backward(dx, cache)
        grads = {join(part.name, n): p.grad.copy() for n, p in part.layer.parameters().items()}
        got = {part.given: dx} | grads
        self.faults += misshapen(got, arrays).values()

        function = Function(lambda: _run((part, *tail), part.x), y, kept)
        function.expect_rounding_of(got.values())
        twins = [application.complex_twin() for application in (part, *tail)]
        steps = complex_steps(lambda: _run(twins, twins[0].x), twins[0].arrays(), y, kept)
        checks = []
        for name, a in arrays.items():
            fits = got[name].shape == a.shape
            g = to_device(got[name] if fits else array_module(a).zeros_like(a), "numpy")
            check = estimate(function, name, a, g, self.tolerance, steps.get(name))
            # a gradient that does not fit has its fault already
            checks.append(check if fits else check.of(check.wanted))
        self.faults += explain_wrong(checks, arrays, function)
        self.true |= {check.name: check for check in checks[1:]}
        return checks[0]


def _run(applications: Sequence[Application], x: Array) -> tuple[Array, list[Any]]:
    caches = []
    for application in applications:
        x, cache = application.run(x)
        caches.append(cache)
    return x, caches


def _sum(name: str, checks: Sequence[ArrayCheck]) -> ArrayCheck:
    """The gradient of an array that was handed to several branches."""

    def total(reduce: Any, part: str) -> Array:
        return reduce([getattr(check, part) for check in checks], axis=0)

    got, wanted, tolerance = (total(np.sum, part) for part in ("got", "wanted", "tolerance"))
    checked, exact = total(np.all, "checked"), total(np.all, "exact")
    return ArrayCheck(name, got, wanted, tolerance, total(np.any, "undecidable"), checked, exact)


# The network from end to end, in case its layers are not all that it is.


def more_than_its_layers(
    checks: Sequence[ArrayCheck], function: Function, arrays: Mapping[str, Array]
) -> Iterator[str]:
    """A fault for each array whose slope through the whole network is not what its layers say.

    checks     the arrays' gradients, with the slopes that the walk found
    function   the network's; arrays: what it reads, which are moved, and put back
    Undecidable elements are not moved.
    """
    rng = np.random.default_rng(SEED)
    known = [np.where(check.undecidable, 0.0, check.wanted) for check in checks]
    typical = [float(np.linalg.norm(slopes)) / math.sqrt(max(slopes.size, 1)) for slopes in known]
    floor = FLOOR * max(typical, default=0.0)
    for check, slopes, size in zip(checks, known, typical, strict=True):
        signs = rng.choice([-1.0, 1.0], slopes.shape) / math.sqrt(max(slopes.size, 1))
        direction = np.where(check.undecidable, 0.0, signs)
        wanted = float((slopes * direction).sum())
        near = NEAR * (abs(wanted) + size) + floor
        slope, bound = _slope_along(direction, arrays[check.name], function, wanted, near)
        if math.isfinite(bound) and not abs(slope - wanted) <= near + SAFETY * bound:
            yield (
                f"end to end, the gradient of {check.name} times random signs is {slope:.6g}, "
                f"layer by layer {wanted:.6g}: does a layer depend on more than it is given?"
            )


def _slope_along(
    direction: np.ndarray, a: Array, function: Function, wanted: float, near: float
) -> tuple[float, float]:
    """The slope and a bound on its error: a quick one, where that is as wanted."""
    kept, t = a.copy(), np.zeros(1)
    v: Any = array_module(a).asarray(direction)

    def forward() -> tuple[Array, Any]:
        a[...] = kept + float(t[0]) * v
        return function.forward()

    along = Function(forward, function.y, function.dy)
    try:
        with np.errstate(all="ignore"):  # a step too far gives NaN
            slope, _ = along.central(t, 0)
            if abs(slope - wanted) <= near:
                return slope, 0.0
            return along.careful(t, 0, near / SAFETY)
    finally:
        a[...] = kept
