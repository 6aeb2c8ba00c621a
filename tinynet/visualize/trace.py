"""The backward trace: what one batch does in every layer, forward and back.  Report §2.3.2."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from copy import copy, deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import Array, array_module
from tinynet.layer import Layer, Mode, Parameter, Shape, arrays_in, shape_text, table
from tinynet.layers import ReLU, ReLU6
from tinynet.losses.base import Loss
from tinynet.optimizers.base import Optimizer
from tinynet.visualize.figures import BLUE, GREEN, GREY, ORANGE, new_figure
from tinynet.visualize.observe import shadow, watch

FOLD = 1e3  # ratio of gradients or activations of two layers with weights
DEAD = 0.5  # share of a layer's units
LARGE, SMALL = 0.1, 1e-6  # update against weight; about 1e-3 is usual
MOST = 4  # layers named in one line
MOST_LABELS = 70  # names along an axis; of more layers only some are named
QUANTITIES = {  # column of a trace -> what an axis says of it, whether on a logarithmic scale
    "gradient_rms": ("rms of ∂L/∂y", True),
    "activation_rms": ("rms of activations y", True),
    "update_ratio": ("‖update‖ / ‖weights‖", True),
    "weight_gradient": ("‖∂L/∂w‖", True),
    "zeros": ("share of zeros", False),
    "dead": ("share of dead units", False),
}


@dataclass(frozen=True)
class TraceRow:
    """One innermost layer at work; None where a figure has no meaning for it.

    name, layer       dotted name and text; a layer that is applied again has " (2)" after its name
    output_shape      of one example
    activation_rms    √ mean y², over the batch
    gradient_rms      √ mean (∂L/∂y)²; None if no gradient came back to it
    zeros             share of y that is exactly 0
    dead              of a ReLU: share of its units (channels, neurons) that are 0 for the whole
                      batch, at every place: no gradient passes
    weight_norm       √ Σ w² over its parameters
    weight_gradient   √ Σ (∂L/∂w)²
    update_ratio      √ Σ Δw² / √ Σ w² of the optimiser's next step; None if it is frozen
    bytes_cached      what it keeps for the backward pass
    """

    name: str
    layer: str
    output_shape: Shape
    activation_rms: float
    gradient_rms: float | None
    zeros: float
    dead: float | None
    weight_norm: float | None
    weight_gradient: float | None
    update_ratio: float | None
    bytes_cached: int

    def cells(self) -> tuple[str, ...]:
        """The row as text, one cell for each column of a table."""

        def number(value: float | None) -> str:
            return "–" if value is None else f"{value:.1e}"

        return (
            self.name, self.layer, shape_text(self.output_shape), number(self.activation_rms),
            number(self.gradient_rms), f"{self.zeros:.0%}",
            "–" if self.dead is None else f"{self.dead:.0%}", number(self.weight_gradient),
            number(self.update_ratio), f"{self.bytes_cached:,}",
        )  # fmt: skip


HEADER = (
    "name", "layer", "output shape", "rms y", "rms ∂L/∂y", "zeros", "dead", "‖∂L/∂w‖",
    "update/weight", "bytes cached",
)  # fmt: skip


@dataclass(frozen=True)
class Trace:
    """One batch through a network and back: a row for each innermost layer, in forward order.

    loss   L of the batch
    ``print(trace)`` shows a table and, below it, what stands out in it.
    """

    rows: tuple[TraceRow, ...]
    loss: float

    def findings(self) -> list[str]:
        """Return what stands out, in words: gradients that vanish or explode, dead layers, ..."""
        return findings(self.rows)

    def __str__(self) -> str:
        said = self.findings() or ["nothing stands out"]
        lines = table(HEADER, [row.cells() for row in self.rows])
        return "\n".join([lines, "", f"loss {self.loss:.4g}", *said])

    def to_json(self) -> str:
        """{"loss": L, "rows": [{"name": …, "activation_rms": …}, …]}; NaN and infinity are null."""

        def plain(value: Any) -> Any:
            return None if isinstance(value, float) and not math.isfinite(value) else value

        rows = [{k: plain(v) for k, v in asdict(row).items()} for row in self.rows]
        return json.dumps({"loss": plain(self.loss), "rows": rows}, allow_nan=False)

    def plot(self, file: str | Path) -> None:
        """Draw sizes of activations and gradients, updates, zeros and dead units, by layer.

        file   its ending is the format, such as .png
        Raises ImportError, with the command that installs it, if matplotlib is missing.
        """
        _plot_trace(self, file)


def backward_trace(
    model: Layer,
    loss: Loss,
    x: Array,
    y: Array,
    *,
    optimizer: Optimizer | None = None,
    seed: int = 0,
) -> Trace:
    """Measure one training step's forward and backward pass in each layer, and undo it.

    x, y        a batch (N, ...) and its labels, as ``TrainStep`` takes them
    optimizer   whose next update is measured against the weights; None: it is left out
    seed        for dropout's masks
    Model and optimiser are afterwards as they were, bit for bit: weights, gradients, moving
    statistics, what the optimiser remembers. Frozen layers are traced, too.
    """
    copied = shadow(model)
    notes: list[tuple[Layer, dict[str, Any]]] = []
    depth: list[int] = []  # open containers, each with the number of notes when it began
    weights = {id(p.value) for p in copied.parameters().values()}
    for name, layer in copied.named_layers().items():
        if layer.children() or layer.promise("wiring") != "series":  # not the identity of a fork
            _note(layer, name, notes, depth, weights)
    z, cache = copied.forward(x, Mode(train=True, rng=np.random.default_rng(seed)))
    value, loss_cache = loss.forward(z, y)
    copied.backward(loss.backward(loss_cache), cache)
    updates = {} if optimizer is None else _updates(copied, optimizer)
    rows = tuple(TraceRow(**note, **_of_weights(layer, updates)) for layer, note in notes)
    return Trace(rows, float(value))


def _note(
    layer: Layer,
    name: str,
    notes: list[tuple[Layer, dict[str, Any]]],
    depth: list[int],
    weights: set[int],
) -> None:
    """Have a layer of a shadow noted each time it runs, unless layers inside it are."""
    text = repr(layer)

    def after(y: Array, cache: Any) -> dict[str, Any] | None:
        if len(notes) > depth.pop():
            return None  # a container: what is in it has been noted
        times = 1 + sum(noted is layer for noted, _ in notes)
        dead = None
        if isinstance(layer, ReLU | ReLU6):
            alive = (y > getattr(layer, "threshold", 0)).reshape(-1, y.shape[-1]).any(axis=0)
            dead = 1 - float(array_module(y).asarray(alive, dtype=float).mean())
        note = {
            "name": name if times == 1 else f"{name} ({times})",
            "layer": text,
            "output_shape": tuple(y.shape[1:]),
            "activation_rms": rms(y),
            "gradient_rms": None,
            "zeros": float((y == 0).mean()),
            "dead": dead,
            "bytes_cached": sum(a.nbytes for a in arrays_in(cache) if id(a) not in weights),
        }
        notes.append((layer, note))
        return note

    def before(note: dict[str, Any] | None, dy: Array) -> None:
        if note is not None:
            note["gradient_rms"] = rms(dy)

    watch(layer, after, before, before_forward=lambda: depth.append(len(notes)))


def _of_weights(layer: Layer, updates: dict[int, tuple[float, float]]) -> dict[str, Any]:
    parameters = list(layer.parameters().values())
    steps = [updates[id(p)] for p in parameters if p.trainable and id(p) in updates]
    change, before = np.linalg.norm(steps, axis=0) if steps else (0.0, 0.0)
    return {
        "weight_norm": _norm([p.value for p in parameters]) if parameters else None,
        "weight_gradient": _norm([p.grad for p in parameters]) if parameters else None,
        "update_ratio": float(change / before) if before else None,
    }


def _updates(model: Layer, optimizer: Optimizer) -> dict[int, tuple[float, float]]:
    """id(Parameter) -> (√ Σ Δw², √ Σ w²) of the step that ``optimizer`` would make now.

    A copy of the optimiser makes it, on copies of the weights.
    """
    originals = model.parameters()
    copies: dict[str, Parameter] = {}
    for name, parameter in originals.items():
        copies[name] = copy(parameter)
        copies[name].value, copies[name].grad = parameter.value.copy(), parameter.grad.copy()
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


def findings(rows: Sequence[TraceRow]) -> list[str]:
    """Return lines about a trace's rows, the gravest first; none if nothing stands out.

    Gradients and activations are compared at the layers with weights, since pooling changes
    their scale by design.
    """
    broken = [row for row in rows if not math.isfinite(row.activation_rms)]
    if broken:
        return [f"activations are not finite from {broken[0].name} on: lower the learning rate"]
    weighed = [row for row in rows if row.weight_norm is not None]
    updated = [(row, row.update_ratio) for row in rows if row.update_ratio is not None]
    dead = [(row, row.dead) for row in rows if row.dead is not None]
    named = {
        "no gradient reaches ": [row.name for row in weighed if not row.gradient_rms],
        "dead for this batch, all units: ": [row.name for row, share in dead if share == 1],
        "many dead units: ": [
            f"{row.name} ({share:.0%} of its units)" for row, share in dead if DEAD <= share < 1
        ],
        f"one update changes more than {LARGE:.0%} of the weights of ": [
            row.name for row, ratio in updated if ratio > LARGE
        ],
        f"updates below {SMALL:g} of the weights hardly change ": [
            row.name for row, ratio in updated if 0 < ratio < SMALL
        ],
    }
    lines = [
        text + ", ".join(names[:MOST]) + (f" and {len(names) - MOST} more" if names[MOST:] else "")
        for text, names in named.items()
        if names
    ]
    folds = _folds("gradient", "gradient_rms", weighed[::-1], "on its way back ")
    folds += _folds("activation", "activation_rms", weighed, "")
    lost = bool(named["no gradient reaches "])
    return lines[:lost] + folds + lines[lost:]


def _folds(what: str, column: str, rows: Sequence[TraceRow], way: str) -> list[str]:
    """Where, in the order given, the value falls or rises by the largest factor."""
    rows = [row for row in rows if (v := getattr(row, column)) and math.isfinite(v)]
    values = np.array([getattr(row, column) for row in rows])
    lines = []
    for verb, extreme in (("shrinks", np.maximum), ("grows", np.minimum)):
        if not rows:
            continue
        before = extreme.accumulate(values)
        folds = abs(np.log10(before) - np.log10(values))
        stop = folds.argmax()
        start = (values == before[stop]).argmax()
        if folds[stop] >= math.log10(FOLD):
            lines.append(
                f"the {what} {verb} {10 ** folds[stop]:.0e}-fold {way}between {rows[start].name} "
                f"(rms {values[start]:.1e}) and {rows[stop].name} (rms {values[stop]:.1e})"
            )
    return lines


class TraceCallback:
    """Take the backward trace of the same batch after each epoch.

        traces = TraceCallback(loss, x[:64], y[:64], optimizer=optimizer)
        fit(model, loss, optimizer, (x, y), epochs=10, callbacks=[traces])
        traces.plot("gradients.png")

    loss, x, y, optimizer, seed   as in ``backward_trace``; none of them is changed
    every                         trace every n-th epoch only, beginning with the first
    epochs, traces                what was taken so far
    """

    def __init__(
        self,
        loss: Loss,
        x: Array,
        y: Array,
        *,
        optimizer: Optimizer | None = None,
        seed: int = 0,
        every: int = 1,
    ) -> None:
        if every < 1:
            raise ValueError(f"every is {every}, want a whole number from 1")
        self.loss, self.x, self.y = loss, x, y
        self.optimizer, self.seed, self.every = optimizer, seed, every
        self.epochs: list[int] = []
        self.traces: list[Trace] = []

    def __call__(self, row: dict[str, Any], model: Layer) -> None:
        """Trace the model as it is after the epoch of this row of the history."""
        epoch = int(row["epoch"])
        if self.epochs and epoch - self.epochs[-1] < self.every:
            return
        trace = backward_trace(
            model, self.loss, self.x, self.y, optimizer=self.optimizer, seed=self.seed
        )
        self.traces.append(trace)
        self.epochs.append(epoch)

    def plot(self, file: str | Path, quantity: str = "gradient_rms") -> None:
        """Draw one quantity as a heat map, layers × epochs.

        quantity   "gradient_rms", "activation_rms", "update_ratio", "weight_gradient", "zeros" or
                   "dead"
        Raises ValueError for another quantity, for one that no layer has, or before the first
        epoch; ImportError if matplotlib is missing.
        """
        if quantity not in QUANTITIES:
            raise ValueError(f"quantity is {quantity!r}, want one of {', '.join(QUANTITIES)}")
        if not self.traces:
            raise ValueError("no epoch has been traced yet: hand it to fit(callbacks=[...]) first")
        _plot_run(self.epochs, self.traces, file, quantity)

    def to_json(self) -> str:
        """A list of {"epoch": n, "loss": L, "rows": [...]}, one for each epoch traced."""
        pairs = zip(self.epochs, self.traces, strict=True)
        return json.dumps([{"epoch": n} | json.loads(trace.to_json()) for n, trace in pairs])


def _plot_trace(trace: Trace, file: str | Path) -> None:
    rows = trace.rows
    n = len(rows)
    dead = [(i, row.dead) for i, row in enumerate(rows) if row.dead is not None]
    updates = any(row.update_ratio is not None for row in rows)
    shares = bool(dead) or any(row.zeros for row in rows)
    heights = [3.0, *[1.8] * updates, *[1.6] * shares]
    width = min(max(7.0, 0.16 * n + 1.5), 24.0)
    figure = new_figure(width, sum(heights) + 1.8)
    grid = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)
    panels = list(grid[:, 0])

    def draw(panel: Any, column: str, style: str, colour: str, label: str) -> None:
        panel.set_yscale("log")
        values = [(i, getattr(row, column)) for i, row in enumerate(rows)]
        shown = [(i, v) for i, v in values if v and math.isfinite(v)]  # a logarithm has no 0
        if shown:
            panel.plot(
                *zip(*shown, strict=True), style, color=colour, label=label, linewidth=1.2,
                markersize=4 if n <= 60 else 2.5,
            )  # fmt: skip

    draw(panels[0], "activation_rms", "o-", BLUE, "activations y")
    draw(panels[0], "gradient_rms", "s-", ORANGE, "gradients ∂L/∂y")
    panels[0].set_ylabel("root mean square")
    panels[0].set_title(f"Backward trace, loss {trace.loss:.3g}", loc="left", fontweight="bold")
    if updates:
        panels[1].axhspan(1e-4, 1e-2, color=GREY, alpha=0.15, linewidth=0, label="usual")
        draw(panels[1], "update_ratio", "D", GREEN, "one update")
        panels[1].set_ylabel("update / weight")
    if shares:
        zeros = [row.zeros for row in rows]
        panels[-1].bar(range(n), zeros, color=GREY, alpha=0.45, label="zeros in y")
        if dead:
            panels[-1].plot(
                *zip(*dead, strict=True), "x", color=ORANGE, label="dead units of ReLUs"
            )
        panels[-1].set(ylabel="share", ylim=(0, 1.04))
    for panel in panels:
        panel.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
        panel.grid(axis="y", alpha=0.25)
        panel.set_xlim(-0.7, n - 0.3)
        panel.spines[["top", "right"]].set_visible(False)
    shown = _labelled(n, width)
    panels[-1].set_xticks(shown, [rows[i].name for i in shown], rotation=90, fontsize=7)
    figure.savefig(file, dpi=110)


def _plot_run(
    epochs: Sequence[int], traces: Sequence[Trace], file: str | Path, quantity: str
) -> None:
    """Draw traces as columns of a heat map: layers from the input down, epochs to the right."""
    label, logarithmic = QUANTITIES[quantity]
    values = np.array([[getattr(row, quantity) for row in t.rows] for t in traces], float).T
    kept = np.flatnonzero(np.isfinite(values).any(axis=1))
    if not len(kept):
        raise ValueError(f"no trace has {quantity}: give TraceCallback an optimizer")
    names, values = [traces[0].rows[i].name for i in kept], values[kept]
    if logarithmic:
        values[~(np.isfinite(values) & (values > 0))] = np.nan
    height = min(max(3.0, 0.17 * len(names) + 1.2), 18.0)
    figure = new_figure(min(max(5.5, 0.32 * len(epochs) + 3.6), 16.0), height)
    axes = figure.subplots()
    limits: Any = {"norm": "log"} if logarithmic else {"vmin": 0, "vmax": 1}
    image = axes.imshow(values, aspect="auto", cmap="viridis", interpolation="nearest", **limits)
    figure.colorbar(image, ax=axes, label=label)
    shown = _labelled(len(names), height)
    axes.set_yticks(shown, [names[i] for i in shown], fontsize=7)
    ticks = np.unique(np.linspace(0, len(epochs) - 1, min(len(epochs), 12)).round().astype(int))
    axes.set_xticks(ticks, [str(epochs[i]) for i in ticks])
    axes.set_xlabel("epoch")
    axes.set_title(f"{label[0].upper()}{label[1:]}, by layer", loc="left", fontweight="bold")
    figure.savefig(file, dpi=110)


def _labelled(n: int, inches: float) -> list[int]:
    """Return which of n layers are named along an axis: all that have room, else every k-th."""
    room = max(1, min(MOST_LABELS, int(inches / 0.14)))
    return list(range(0, n, -(-n // room)))
