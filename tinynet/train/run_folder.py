"""A training run on disk, and the state of its training.

last.safetensors    model, optimiser and position: all that resuming needs
best.safetensors    the model at its best monitored value
history.jsonl       one JSON object per epoch
run.lock            empty; locked while a run uses the folder, left there afterwards
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Layer
from tinynet.optimizers.base import Optimizer
from tinynet.train.average import WeightAverage
from tinynet.train.checkpoint import apply_checkpoint, load_all, read_checkpoint, save_checkpoint
from tinynet.train.files import LOCK, CheckpointError, locked, remove_half_written, write_whole
from tinynet.train.reading import FileError, Schema, mismatch, naming, refuse_unless

Row = dict[str, Any]
AVERAGE = "average/"  # before the names of averaged weights
POSITION: Schema = {
    "history": [{"epoch": int, str: float}],
    **dict.fromkeys(("steps", "batch"), int),
    **dict.fromkeys(("loss_sum", "weight?", "seconds"), float),
    **dict.fromkeys(("labels", "probabilities"), (None, np.ndarray)),
}


@dataclass
class TrainingState:
    """Where a run stands: all that it depends on besides the model and the optimiser.

    history                 one row for each finished epoch
    steps                   weight updates so far
    batch                   batches of the epoch in hand that were trained on
    loss_sum, weight        sum of their losses times what each mean divided by, and of the latter
    seconds                 time spent on them
    labels, probabilities   theirs, (n,) and (n, K) in all
    """

    history: list[Row] = field(default_factory=list)
    steps: int = 0
    batch: int = 0
    loss_sum: float = 0.0
    weight: float = 0.0
    seconds: float = 0.0
    labels: list[Array] = field(default_factory=list)
    probabilities: list[Array] = field(default_factory=list)

    def add(self, loss: float, weight: float, labels: Array, probabilities: Array) -> None:
        """Count one batch that was trained on; its loss is a mean with the sum ``weight`` below."""
        self.steps += 1
        self.batch += 1
        self.loss_sum += loss * weight
        self.weight += weight
        self.labels.append(labels)
        self.probabilities.append(probabilities)

    def loss(self) -> float:
        """Mean loss of the epoch in hand, so far."""
        return self.loss_sum / self.weight if self.weight else math.nan

    def predictions(self) -> tuple[Array, Array]:
        """Labels (n,) and probabilities (n, K) of the epoch in hand, so far."""
        self.labels = [np.concatenate(self.labels)]
        self.probabilities = [np.concatenate(self.probabilities)]
        return self.labels[0], self.probabilities[0]

    def finish_epoch(self, row: Row) -> None:
        """Turn to the next epoch."""
        self.history.append(row)
        self.batch, self.loss_sum, self.weight, self.seconds = 0, 0.0, 0.0, 0.0
        self.labels, self.probabilities = [], []

    def to_dict(self) -> dict[str, Any]:
        """Return what a checkpoint stores."""
        values = vars(self) | {"labels": None, "probabilities": None}
        if self.labels:
            values["labels"] = np.concatenate(self.labels)
            values["probabilities"] = np.concatenate(self.probabilities)
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingState:
        """The position that ``to_dict`` described.

        Raises FileError if it is not one, whatever else it is.
        """
        rows = values.get("history")
        if isinstance(rows, list):
            rows = [_finite(row) if isinstance(row, dict) else row for row in rows]
        wrong = mismatch(values | {"history": rows}, POSITION, "its position")
        if not wrong:
            if "weight" not in values and values["labels"] is not None:  # of an older version
                values = values | {"weight": float(len(values["labels"]))}
            wrong = _contradiction(values)
        if wrong:
            raise FileError(f"is damaged, {wrong}: use another checkpoint")
        parts = {n: [] if values[n] is None else [values[n]] for n in ("labels", "probabilities")}
        return cls(**values | parts)


class RunFolder:
    """The files of one run.

    settings   what a resumed run must share with the one it continues; JSON-able
    average    of the weights, if there is one: it is saved with the rest, and is the best model
    """

    def __init__(
        self,
        folder: str | Path,
        model: Layer,
        optimizer: Optimizer,
        settings: dict[str, Any],
        average: WeightAverage | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.last = self.folder / "last.safetensors"
        self.best = self.folder / "best.safetensors"
        self.history = self.folder / "history.jsonl"
        self.model, self.optimizer, self.settings = model, optimizer, settings
        self.average = average
        if average is not None:
            self.settings = settings | {"average": average.decay}

    @contextmanager
    def opened(self, resume: bool) -> Iterator[TrainingState]:
        """Begin or resume the run, and keep others out of its folder to the end of the block.

        Raises CheckpointError as ``begin`` and ``resume`` do, and if another run uses the folder.
        """
        with locked(self.folder / LOCK):
            for file in (self.last, self.best, self.history):
                remove_half_written(self.folder, file.name)
                file.with_name(f"{file.name}.tmp").unlink(missing_ok=True)  # of version 0.1.0
            yield self.resume() if resume else self.begin()

    def begin(self) -> TrainingState:
        """Start a run.  Raises CheckpointError if the folder holds one already."""
        found = [path.name for path in (self.last, self.best, self.history) if path.exists()]
        if found:
            raise CheckpointError(
                f"{self.folder}: holds a run already ({', '.join(found)}): "
                "continue it with resume=True, or choose another folder"
            )
        position = TrainingState()
        # A first checkpoint, untrained, so that a full disk shows now and any kill can be resumed
        self.save(position)
        return position

    def resume(self) -> TrainingState:
        """Load the run's last checkpoint into the model and the optimiser.

        Raises CheckpointError, with both as they were, if there is none or it is of another run.
        """
        if not self.last.exists():
            raise CheckpointError(
                f"{self.last}: there is no such file, so no run to resume: "
                "check the folder, or start without resume"
            )
        expect = {"average": None} | self.settings
        values, arrays = read_checkpoint(self.last, self.optimizer, expect)
        averages = {
            name.removeprefix(AVERAGE): x for name, x in values.items() if name.startswith(AVERAGE)
        }
        values = {
            name: value
            for name, value in values.items()
            if name not in self.settings and not name.startswith(AVERAGE)
        }
        with naming(self.last, CheckpointError):
            position = TrainingState.from_dict(values)
            monitor = self.settings.get("monitor", "epoch")
            known = all(monitor in row for row in position.history)
            refuse_unless(known, f"its history has no {monitor} in some row")
        if self.average is not None and position.steps:
            load_all(f"{self.last}: the averages", self.average.model, averages)
            self.average.updates = position.steps
        apply_checkpoint(self.last, arrays, self.model, self.optimizer)
        self.save_history(position)  # a kill may have come between the checkpoint and the history
        return position

    def save(self, position: TrainingState) -> None:
        """Write the last checkpoint, then the history."""
        self._check_there()
        values = position.to_dict() | self.settings
        if self.average is not None and self.average.updates:
            values |= {AVERAGE + name: x for name, x in self.average.model.state().items()}
        save_checkpoint(self.last, self.model, self.optimizer, values)
        self.save_history(position)

    def save_best(self, row: Row) -> None:
        """Write the model as the best one so far, with the row of its epoch."""
        self._check_there()
        model = self.model if self.average is None else self.average.model
        save_checkpoint(self.best, model, position=row)

    def _check_there(self) -> None:
        """Never go on in a new folder that has half of the run."""
        if not self.folder.is_dir():
            raise CheckpointError(
                f"{self.folder}: was moved or removed while the run used it: resume the run where "
                "it is now, or start a new one"
            )

    def save_history(self, position: TrainingState) -> None:
        """Write history.jsonl; NaN and infinity, which JSON cannot hold, become null."""
        lines = [json.dumps(_plain(row), allow_nan=False) + "\n" for row in position.history]
        write_whole(self.history, "".join(lines).encode())


def _finite(row: Row) -> Row:
    """A row without the infinities that a metric may have given."""
    return {
        name: 0.0 if isinstance(value, float) and math.isinf(value) else value
        for name, value in row.items()
    }


def _contradiction(values: dict[str, Any]) -> str:
    """What cannot be in a position whose parts are of the right types; "" if nothing."""
    labels, probabilities = values["labels"], values["probabilities"]
    for name in ("steps", "batch", "loss_sum", "weight", "seconds"):
        number = values.get(name, 0)
        if not math.isfinite(number) or (number < 0 and name != "loss_sum"):
            return f"its position's {name} is {number}"
    if [row["epoch"] for row in values["history"]] != list(range(1, len(values["history"]) + 1)):
        return "its position's history leaves epochs out"
    parts = [part for part in (labels, probabilities) if part is not None]
    right = len(parts) == (2 if values["batch"] else 0)
    if parts and right:
        right = labels.ndim == 1 and probabilities.ndim == 2 and len(labels) == len(probabilities)
        right &= labels.dtype.kind in "iu" and probabilities.dtype.kind == "f" and len(labels) > 0
    return "" if right else "its position's labels and probabilities are not those of its batches"


def _plain(row: Row) -> Row:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
