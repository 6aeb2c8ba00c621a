"""The backward trace: what one batch does in every layer, forward and back.  Report §2.3.2."""

from __future__ import annotations

import json
from copy import copy, deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.layer import EVAL, Layer, Mode, Parameter, Shape
from tinynet.layers import Sequential
from tinynet.losses.base import Loss
from tinynet.optimizers.base import Optimizer
from tinynet.seeing.findings import findings
from tinynet.seeing.observe import shadow, watch
from tinynet.seeing.trace_row import TraceRow, table
from tinynet.seeing.words import class_name
from tinynet.summary import arrays_in

RELUS = ("ReLU", "ReLU6")  # what can die


@dataclass(frozen=True)
class Trace:
    """One batch through a network and back: a row for each innermost layer, in forward order.

    loss   L of the batch
    ``print(trace)`` shows a table and, below it, what stands out in it.
    """

    rows: tuple[TraceRow, ...]
    loss: float

    def findings(self) -> list[str]:
        """What stands out, in words: gradients that vanish or explode, dead layers, updates."""
        return findings(self.rows)

    def __str__(self) -> str:
        said = self.findings() or ["nothing stands out"]
        return "\n".join([table(self.rows), "", f"loss {self.loss:.4g}", *said])

    def to_json(self) -> str:
        """{"loss": L, "rows": [{"name": …, "activation_rms": …}, …]}; NaN and infinity are null."""

        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and not np.isfinite(value) else value

        rows = [{k: plain(v) for k, v in asdict(row).items()} for row in self.rows]
        return json.dumps({"loss": plain(self.loss), "rows": rows}, allow_nan=False)

    def plot(self, file: str | Path) -> None:
        """Draw it: sizes of activations and gradients, updates, zeros and dead units, by layer.

        file   its ending says the format, such as .png
        Raises ImportError, with the command that installs it, where matplotlib is missing.
        """
        from tinynet.seeing.trace_plot import plot_trace  # a view on traces

        plot_trace(self, file)


def backward_trace(
    model: Layer,
    loss: Loss,
    x: Array,
    y: Array,
    *,
    optimizer: Optimizer | None = None,
    seed: int = 0,
) -> Trace:
    """One training step's forward and backward pass, measured in each layer, and undone.

    x, y        a batch (N, ...) and its labels, as ``TrainStep`` takes them
    optimizer   whose next update is measured against the weights; None: it is left out
    seed        what dropout's masks are drawn from
    Model and optimiser are as they were afterwards, bit for bit: weights, gradients, moving
    statistics, what the optimiser remembers. Frozen layers are traced, too.
    """
    copied = shadow(model)
    marks: list[_Mark] = []
    depth: list[int] = []  # open containers, each with the number of marks when it began
    weights = {id(p.value) for p in copied.parameters().values()}
    for name, layer in copied.named_layers().items():
        if not (type(layer) is Sequential and not layer.children()):  # the identity of a fork
            _note(layer, name, marks, depth, weights)
    z, cache = copied.forward(x, Mode(train=True, rng=np.random.default_rng(seed)))
    value, loss_cache = loss.forward(z, y)
    copied.backward(loss.backward(loss_cache), cache)
    ratios = {} if optimizer is None else update_ratios(copied, optimizer)
    return Trace(tuple(mark.row(ratios) for mark in marks), float(value))


@dataclass
class _Mark:
    """A layer's forward pass, and what its backward pass brought."""

    name: str
    layer: Layer
    text: str
    output_shape: Shape
    activation_rms: float
    zeros: float
    dead: float | None
    bytes_cached: int
    gradient_rms: float | None = None

    def row(self, ratios: dict[int, tuple[float, float]]) -> TraceRow:
        """The finished row."""
        parameters = list(self.layer.parameters().values())
        norm = gradient = ratio = None
        if parameters:
            norm = _norm([p.value for p in parameters])
            gradient = _norm([p.grad for p in parameters])
            steps = [ratios[id(p)] for p in parameters if p.trainable and id(p) in ratios]
            before = float(np.hypot.reduce([w for _, w in steps])) if steps else 0.0
            if before:
                ratio = float(np.hypot.reduce([dw for dw, _ in steps])) / before
        return TraceRow(
            self.name, self.text, self.output_shape, self.activation_rms, self.gradient_rms,
            self.zeros, self.dead, norm, gradient, ratio, self.bytes_cached,
        )  # fmt: skip


def _note(layer: Layer, name: str, marks: list[_Mark], depth: list[int], weights: set[int]) -> None:
    """Have a layer of a shadow noted each time it runs, unless layers inside it are."""
    text, forward = repr(layer), layer.forward

    def begin(x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        depth.append(len(marks))
        return forward(x, mode)

    def after(y: Array, cache: Any) -> _Mark | None:
        if len(marks) > depth.pop():
            return None  # a container: what is in it has been noted
        times = 1 + sum(mark.layer is layer for mark in marks)
        xp = array_module(y)
        mark = _Mark(
            name=name if times == 1 else f"{name} ({times})",
            layer=layer,
            text=text,
            output_shape=tuple(y.shape[1:]),
            activation_rms=rms(y),
            zeros=float((y == 0).mean()),
            dead=None,
            bytes_cached=sum(a.nbytes for a in arrays_in(cache) if id(a) not in weights),
        )
        if class_name(layer, RELUS) in RELUS:
            alive = (y > getattr(layer, "threshold", 0)).reshape(-1, y.shape[-1]).any(axis=0)
            mark.dead = float(1 - xp.asarray(alive, dtype=float).mean())
        marks.append(mark)
        return mark

    def before(mark: _Mark | None, dy: Array) -> None:
        if mark is not None:
            mark.gradient_rms = rms(dy)

    layer.forward = begin  # type: ignore[method-assign]
    watch(layer, after, before)


def update_ratios(model: Layer, optimizer: Optimizer) -> dict[int, tuple[float, float]]:
    """id(Parameter) -> (√ Σ Δw², √ Σ w²) of the step that ``optimizer`` would make now.

    It is made by a copy of the optimiser on copies of the weights.
    """
    originals = model.parameters()
    copies: dict[str, Parameter] = {}
    for name, parameter in originals.items():
        copies[name] = copy(parameter)
        copies[name].value = parameter.value.copy()
    deepcopy(optimizer).step(copies)
    return {
        id(p): (_norm([copies[name].value - p.value]), _norm([p.value]))
        for name, p in originals.items()
    }


def rms(x: Array) -> float:
    """√ mean x², of any array; 0 of an empty one."""
    return _norm([x]) / x.size**0.5 if x.size else 0.0


def _norm(arrays: list[Array]) -> float:
    """√ Σ x², scaled by the largest element first, so that squares neither over- nor underflow."""
    largest = max((float(abs(a).max()) for a in arrays if a.size), default=0.0)
    if not largest or not np.isfinite(largest):
        return largest
    return largest * sum(float(((a / largest) ** 2).sum()) for a in arrays) ** 0.5
