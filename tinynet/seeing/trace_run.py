"""Backward traces over a training run: a callback of ``fit``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tinynet.backend import Array
from tinynet.layer import Layer
from tinynet.losses.base import Loss
from tinynet.optimizers.base import Optimizer
from tinynet.seeing.trace import Trace, backward_trace
from tinynet.seeing.trace_plot import QUANTITIES, plot_run


class TraceCallback:
    """Takes the backward trace of one and the same batch after each epoch.

        traces = TraceCallback(loss, x[:64], y[:64], optimizer=optimizer)
        fit(model, loss, optimizer, (x, y), epochs=10, callbacks=[traces])
        traces.plot("gradients.png")

    loss, x, y, optimizer, seed   as in ``backward_trace``; nothing of them is changed
    every                         an epoch of so many is traced, the first one always
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
        self.traces.append(
            backward_trace(
                model, self.loss, self.x, self.y, optimizer=self.optimizer, seed=self.seed
            )
        )
        self.epochs.append(epoch)

    def plot(self, file: str | Path, quantity: str = "gradient_rms") -> None:
        """Draw one quantity as a heat map, layers × epochs.

        quantity   "gradient_rms", "activation_rms", "update_ratio", "weight_gradient", "zeros" or
                   "dead"
        Raises ValueError for another quantity, for one that no layer has, or before the first
        epoch; ImportError where matplotlib is missing.
        """
        if quantity not in QUANTITIES:
            raise ValueError(f"quantity is {quantity!r}, want one of {', '.join(QUANTITIES)}")
        if not self.traces:
            raise ValueError("no epoch has been traced yet: hand it to fit(callbacks=[...]) first")
        plot_run(self.epochs, self.traces, file, quantity)

    def to_json(self) -> str:
        """A list of {"epoch": n, "loss": L, "rows": [...]}, one for each epoch traced."""
        return json.dumps(
            [
                {"epoch": epoch} | json.loads(trace.to_json())
                for epoch, trace in zip(self.epochs, self.traces, strict=True)
            ]
        )
