"""Training: epochs of weight updates, measured as they go.  Report §2.3.

``fit`` is the whole of it; ``TrainStep`` is one update; ``evaluate`` and ``predict`` run a network
without training it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinynet.backend import Array, check_choice, check_number, checked, described
from tinynet.engine import one_blas_thread, uploaded
from tinynet.layer import Layer
from tinynet.layers import BatchNorm
from tinynet.losses.base import Loss
from tinynet.metrics import accuracy
from tinynet.optimizers.base import Optimizer
from tinynet.regularizers import Regularizer
from tinynet.schedules import Schedule
from tinynet.train.average import WeightAverage
from tinynet.train.checkpoint import load_checkpoint
from tinynet.train.data import Dataset, as_dataset, batches, generator, prefetch
from tinynet.train.evaluation import (
    METRICS,
    Metric,
    device_of,
    evaluate,
    labelled,
    metric_functions,
    predict,
)
from tinynet.train.interrupts import held_interrupts
from tinynet.train.progress import Progress
from tinynet.train.run_folder import Row, RunFolder, TrainingState
from tinynet.train.step import TrainingError, TrainStep, not_finite, why_not_finite

__all__ = ["METRICS", "TrainStep", "TrainingError", "best_row", "evaluate", "fit", "predict"]

Data: TypeAlias = Dataset | tuple[Array, Array]


@one_blas_thread()
@checked
def fit(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    train: Data,
    validation: Data | None = None,
    *,
    epochs: int,
    batch_size: int | None = 32,
    micro_batch: int | None = None,
    seed: int = 0,
    schedule: Schedule | None = None,
    schedule_per: str = "epoch",
    regularizer: Regularizer | None = None,
    average: float | None = None,
    metrics: Sequence[str | Metric] = ("accuracy",),
    monitor: str | None = None,
    patience: int | None = None,
    restore_best: bool = False,
    folder: str | Path | None = None,
    resume: bool = False,
    callbacks: Sequence[Callable[[Row, Layer], object]] = (),
    progress: bool = True,
    precision: str = "fp32",
) -> list[Row]:
    """Train ``model``; the same arguments give the same weights, bit for bit.  Report §2.3.4.

    train, validation   datasets, or pairs (x, y) of arrays
    epochs              passes through the training set; with ``resume``, in all
    batch_size          m of §2.3.4; None: the whole set, full-batch gradient descent. With batch
                        norm, a last batch of one example joins the one before it
    micro_batch         accumulate a batch's gradient over pieces of at most this many examples, for
                        batches that do not fit into memory; see ``TrainStep``
    seed                whatever is drawn (shuffles, augmentation, dropout) follows from it
    schedule            called before each epoch; sets the optimiser's learning rate (§2.3.5)
    schedule_per        "step": it is called before each update, with the number of updates so far
    regularizer         a penalty, part of the training loss and of the number shown for it
    average             decay of a moving average of the weights, such as 0.99: what is validated,
                        saved as the best, given to callbacks and left in the model at the end is
                        the average; see ``WeightAverage``
    metrics             "accuracy", "kappa", "auc" (of class 1), or functions of labels (N,) and
                        probabilities (N, K), each called once over a whole epoch's predictions
    monitor             what "best" means, a key of the history: lower is better for a loss, higher
                        for all else; None: the validation loss, or without one the training loss
    patience            stop after this many epochs in a row without a new best; None: never
    restore_best        end with the best epoch's weights instead of the last one's
    folder              keep history.jsonl, last.safetensors and best.safetensors there
    resume              continue the run in ``folder``, from within an epoch if it stopped there
    callbacks           functions (row, model) called after each epoch, when it is on disk; they
                        may look at the model but not change it
    progress            False: silent; else a bar on a terminal, one line per epoch elsewhere
    precision           on a GPU "fp32", "tf32" or "bf16", see ``tinynet.engine.precision``
    Returns the history, one row per epoch: epoch (from 1), train_loss, train_accuracy,
    validation_loss, validation_accuracy, learning_rate, seconds. Training figures are those of
    the batches as they were trained on, with dropout and augmentation.

    On Ctrl-C the step in hand is finished, a checkpoint written and KeyboardInterrupt raised.
    Raises TrainingError if the loss or a weight is no longer finite, and after an epoch, when it is
    on disk, if a metric raised; CheckpointError if the folder holds another run, is in use by
    another process or thread, or cannot be written; ValueError or TypeError for settings that make
    no sense.
    """
    how = {"seed": seed, "regularizer": regularizer, "precision": precision}
    step = TrainStep(model, loss, optimizer, micro_batch=micro_batch, **how)  # type: ignore[arg-type]
    train = as_dataset(train)
    validation = None if validation is None else as_dataset(validation)
    functions = metric_functions(metrics)
    monitor = monitor or ("train_loss" if validation is None else "validation_loss")
    _check_settings(epochs, patience, monitor, functions, validation is not None)
    _check_functions(schedule, callbacks)
    by: dict[str, Schedule | None] = {"epoch": None, "step": None}
    by[check_choice("schedule_per", schedule_per, list(by))] = schedule
    averaged = None if average is None else WeightAverage(model, average)
    measured = model if averaged is None else averaged.model
    if folder is not None and (not isinstance(folder, str | Path) or not str(folder).strip()):
        raise ValueError(f"folder is {described(folder)}, want a path, or None for no files")
    if resume and folder is None:
        raise ValueError("resume is True and folder is None, want the run's folder")
    size = len(epoch_batches(model, len(train), batch_size, seed, 0))

    settings = {
        "seed": seed,
        "batch_size": batch_size,
        "training_examples": len(train),
        "metrics": list(functions),
        "monitor": monitor,
        "validation_examples": 0 if validation is None else len(validation),
    }
    files = None if folder is None else RunFolder(folder, model, optimizer, settings, averaged)
    best_state: dict[str, Array] = {}
    failed: dict[str, Exception] = {}  # metrics that raised, in the last epoch

    with (
        nullcontext(TrainingState()) if files is None else files.opened(resume) as position,
        Progress(epochs, size, len(position.history) * size + position.batch, progress) as shown,
    ):
        history = position.history
        step.count = position.steps
        try:
            while len(history) < epochs and not stalled(history, monitor, patience) and not failed:
                _set_rate(optimizer, by["epoch"], "epoch", len(history), history)
                _train_epoch(step, train, batch_size, position, shown, by["step"], averaged)
                row = _measure(step, measured, validation, batch_size, position, functions, failed)
                with held_interrupts():
                    position.finish_epoch(row)
                    is_best = best_row(history, monitor) is row
                    if is_best and files is not None:
                        files.save_best(row)
                    elif is_best and restore_best:
                        best_state = {name: x.copy() for name, x in measured.state().items()}
                    if files is not None:
                        files.save(position)
                shown.epoch(row)
                for callback in callbacks:
                    callback(row, measured)
        except KeyboardInterrupt:
            if files is not None and step.whole:
                with held_interrupts():
                    files.save(position)
            raise
        except TrainingError as error:
            where = f"batch {position.batch + 1} of {size}" if position.batch < size else "its end"
            kept = f"; the last good checkpoint is {files.last}" if files is not None else ""
            raise TrainingError(f"epoch {len(history) + 1}, {where}: {error}{kept}") from None
        for name, cause in failed.items():
            kept = "" if files is None else f" and in {files.last}: go on with resume=True"
            raise TrainingError(
                f"epoch {len(history)}: {name} failed ({type(cause).__name__}: {cause}); mend the "
                f"metric; the epoch's weights are in the model{kept}"
            ) from cause
        if len(history) < epochs:
            shown.say(f"stopped early: no better {monitor} in {patience} epochs")
        if step.gpu_memory:
            shown.say(f"GPU memory held at most: {step.gpu_memory / 2**20:,.0f} MiB")

    if averaged is not None:
        model.load_state(measured.state())
    if restore_best and best_row(history, monitor) is not None:
        if files is not None:
            load_checkpoint(files.best, model)
        else:
            model.load_state(best_state)
    return history


def best_row(history: Sequence[Row], monitor: str) -> Row | None:
    """The row of the best epoch: the lowest loss, or the highest of anything else.

    The first of equals; None if there is none, NaN passed over.
    """
    sign = 1 if monitor.endswith("loss") else -1
    rows = [row for row in history if not math.isnan(row[monitor])]
    return min(rows, key=lambda row: sign * row[monitor], default=None)


def stalled(history: Sequence[Row], monitor: str, patience: int | None) -> bool:
    """Return True if the last ``patience`` epochs brought no new best: early stopping.

    Source: Prechelt 1998, "Early stopping - but when?", the criterion UP.  Not in the report.
    """
    if patience is None:
        return False
    best = best_row(history, monitor)
    return len(history) - (best["epoch"] if best else 0) >= patience


def _train_epoch(
    step: TrainStep,
    data: Dataset,
    batch_size: int | None,
    position: TrainingState,
    shown: Progress,
    schedule: Schedule | None,
    averaged: WeightAverage | None,
) -> None:
    """Train on those batches of the epoch in hand that were not trained on yet."""
    epoch = len(position.history)
    order = epoch_batches(step.model, len(data), batch_size, step.seed, epoch)
    left, device = range(position.batch, len(order)), device_of(step.model)
    start = time.perf_counter() - position.seconds
    if position.batch:  # nothing may be left but to measure
        _set_rate(step.optimizer, schedule, "step", position.steps - 1, position.history)
    reading = (data.batch(order[b], generator(step.seed, "augment", epoch, b)) for b in left)

    def figures() -> dict[str, float]:
        labels, probabilities = position.predictions()
        return {
            "loss": position.loss(),
            "accuracy": accuracy(labels, probabilities.argmax(axis=1)) if len(labels) else math.nan,
        }

    with closing(prefetch(uploaded(reading, device))) as loaded:
        for x, y in loaded:
            _set_rate(step.optimizer, schedule, "step", position.steps, position.history)
            with held_interrupts():
                loss = step(x, y)
                if averaged is not None:
                    averaged.update()
                weight = step.loss.weight_of(y)
                shown_of = labelled(step.loss, y, step.last_probabilities())
                position.add(step.loss.mean_of(loss, weight), weight, *shown_of)
                position.seconds = time.perf_counter() - start
            shown.batch(figures)
    names = not_finite(step.model)
    if names:
        cause = why_not_finite(step.model, step.optimizer)
        raise TrainingError(f"the weights are no longer finite: {cause}")


def _measure(
    step: TrainStep,
    model: Layer,
    validation: Dataset | None,
    batch_size: int | None,
    position: TrainingState,
    functions: dict[str, Metric],
    failed: dict[str, Exception],
) -> Row:
    """Return the epoch's row of the history; a metric that raises is NaN, and put in ``failed``."""
    start = time.perf_counter()
    labels, probabilities = position.predictions()
    parts = {"train": (position.loss(), labels, probabilities)}
    if validation is not None:
        with np.errstate(over="ignore", invalid="ignore"):  # reported below, once
            parts["validation"] = evaluate(
                model, step.loss, validation, batch_size, precision=step.precision
            )
    row: Row = {"epoch": len(position.history) + 1}
    for part, (loss, labels, probabilities) in parts.items():
        if not math.isfinite(loss):
            cause = (
                "its examples or labels hold NaN, the loss ignores all of them, or the network's "
                "outputs overflow"
            )
            raise TrainingError(f"the {part} loss is {loss}: {cause}")
        row[f"{part}_loss"] = loss
        for name, function in functions.items():
            column = f"{part}_{name}"
            try:
                row[column] = float(function(labels, probabilities))
            except Exception as error:  # whatever it is, the epoch is not lost
                row[column], failed[column] = math.nan, error
    row["learning_rate"] = float(step.optimizer.learning_rate)
    row["seconds"] = round(position.seconds + time.perf_counter() - start, 3)
    return row


def _set_rate(
    optimizer: Optimizer, schedule: Schedule | None, per: str, done: int, history: Sequence[Row]
) -> None:
    """Set the learning rate that a schedule, ours or a function of the user's, gives."""
    if schedule is not None:
        name = f"the schedule's learning rate for {per} {done + 1}"
        optimizer.learning_rate = float(check_number(name, schedule(done, history), 0))


def epoch_batches(
    model: Layer, examples: int, batch_size: int | None, seed: int, epoch: int
) -> list[Array]:
    """Shuffled batches of one epoch; a single last example has no variance for batch norm."""
    order = batches(examples, batch_size, generator(seed, "shuffle", epoch))
    norms = [layer for layer in model.named_layers().values() if isinstance(layer, BatchNorm)]
    if len(order) > 1 and len(order[-1]) == 1 and not all(n.frozen_statistics for n in norms):
        order[-2:] = [np.concatenate(order[-2:])]
    return order


def _check_functions(schedule: Schedule | None, callbacks: Sequence[Any]) -> None:
    if callable(callbacks) or not hasattr(callbacks, "__iter__"):
        raise TypeError(f"callbacks are {described(callbacks)}, want a list of functions")
    named = {"schedule": [] if schedule is None else [schedule], "a callback": callbacks}
    for name, functions in named.items():
        for function in functions:
            if isinstance(function, type) or not callable(function):
                raise TypeError(f"{name} is {described(function)}, want a function, or an instance")


def _check_settings(
    epochs: int,
    patience: int | None,
    monitor: str,
    functions: dict[str, Metric],
    validated: bool,
) -> None:
    check_number("epochs", epochs, 1, whole=True)
    check_number("patience", 1 if patience is None else patience, 1, whole=True)
    columns = [
        f"{part}_{name}"
        for part in ("train", "validation")[: 1 + validated]
        for name in ("loss", *functions)
    ]
    if monitor not in columns:
        raise ValueError(f"monitor is {monitor!r}, want one of {', '.join(columns)}")
