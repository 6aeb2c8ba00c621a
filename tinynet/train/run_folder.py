"""A training run on disk, and the state of its training.

last.safetensors    model, optimiser and position: all that resuming needs
best.safetensors    the model at its best monitored value
history.jsonl       one JSON object per epoch
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import Array, described
from tinynet.layer import Layer
from tinynet.optimizers.base import Optimizer
from tinynet.train.checkpoint import (
    CheckpointError,
    apply_checkpoint,
    read_checkpoint,
    save_checkpoint,
    write_whole,
)
from tinynet.train.files import FileError, naming, refuse_unless

Row = dict[str, Any]


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
        return self.loss_sum / self.weight

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

        Raises FileError if it is not one, whatever it is.
        """
        labels, probabilities = values.get("labels"), values.get("probabilities")
        if "weight" not in values and labels is not None:  # of an older version
            values = values | {"weight": float(len(labels))}
        names = {field.name for field in fields(cls)}
        faults = [f"has no {name}" for name in names - values.keys() - {"weight"}]
        faults += [f"has {name}" for name in values.keys() - names]
        for name in ("steps", "batch", "loss_sum", "weight", "seconds"):
            value, whole = values.get(name, 0), name in ("steps", "batch")
            right = _is_number(value, whole) and math.isfinite(value)
            if not right or (name != "loss_sum" and value < 0):
                faults.append(f"has {described(value)} for {name}")
        trained = values.get("batch") != 0
        if trained != (labels is not None) or not _are_predictions(labels, probabilities):
            faults.append("has labels and probabilities that are not those of its batches")
        rows = values.get("history")
        if not isinstance(rows, list) or not all(_is_row(row, n) for n, row in enumerate(rows, 1)):
            faults.append("has a history that is not a row of numbers for each epoch")
        if faults:
            raise FileError(f"is damaged: its position {faults[0]}: use another checkpoint")
        parts = {n: [] if values[n] is None else [values[n]] for n in ("labels", "probabilities")}
        return cls(**values | parts)


class RunFolder:
    """The files of one run.

    settings   what a resumed run must share with the one it continues; JSON-able
    """

    def __init__(
        self, folder: str | Path, model: Layer, optimizer: Optimizer, settings: dict[str, Any]
    ) -> None:
        self.folder = Path(folder)
        self.last = self.folder / "last.safetensors"
        self.best = self.folder / "best.safetensors"
        self.history = self.folder / "history.jsonl"
        self.model, self.optimizer, self.settings = model, optimizer, settings

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
        values, arrays = read_checkpoint(self.last, self.optimizer, self.settings)
        with naming(self.last, CheckpointError):
            position = TrainingState.from_dict(
                {name: value for name, value in values.items() if name not in self.settings}
            )
            monitor = self.settings.get("monitor", "epoch")
            known = all(monitor in row for row in position.history)
            refuse_unless(known, f"its history has no {monitor} in some row")
        apply_checkpoint(self.last, arrays, self.model, self.optimizer)
        self.save_history(position)  # a kill may have come between the checkpoint and the history
        return position

    def save(self, position: TrainingState) -> None:
        """Write the last checkpoint, then the history."""
        values = position.to_dict() | self.settings
        save_checkpoint(self.last, self.model, self.optimizer, values)
        self.save_history(position)

    def save_best(self, row: Row) -> None:
        """Write the model as the best one so far, with the row of its epoch."""
        save_checkpoint(self.best, self.model, position=row)

    def save_history(self, position: TrainingState) -> None:
        """Write history.jsonl; NaN and infinity, which JSON cannot hold, become null."""
        lines = [json.dumps(_plain(row), allow_nan=False) + "\n" for row in position.history]
        write_whole(self.history, "".join(lines).encode())


def _is_number(value: Any, whole: bool = False) -> bool:
    kinds = int if whole else int | float
    small = not isinstance(value, int) or 0 <= value < 2**53
    return isinstance(value, kinds) and not isinstance(value, bool) and small


def _is_row(row: Any, epoch: int) -> bool:
    """Whether this is the row of an epoch; NaN and infinity are numbers."""
    return (
        isinstance(row, dict)
        and row.get("epoch") == epoch
        and all(_is_number(value) for value in row.values())
    )


def _are_predictions(labels: Any, probabilities: Any) -> bool:
    """Whether these are labels (n,) and probabilities (n, K), or both None."""
    if labels is None or probabilities is None:
        return labels is probabilities
    return (
        hasattr(labels, "dtype")
        and hasattr(probabilities, "dtype")
        and (labels.ndim, probabilities.ndim) == (1, 2)
        and labels.dtype.kind in "iu"
        and probabilities.dtype.kind == "f"
        and len(probabilities) == len(labels) > 0
    )


def _plain(row: Row) -> Row:
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
