"""Training a run's network: all at once, or its head first and then more of it.  Report §2.5.6.

Both parts are one run with one history. The second goes on from the first's checkpoint, which
holds the whole network, even where the first trained the head on cached features.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

from examples.mura.computing import CPU, Computing
from examples.mura.errors import UserError
from examples.mura.model import build_loss, build_model, build_optimizer, build_schedule
from examples.mura.prepare import Prepared
from examples.mura.pretrained import starting_model
from examples.mura.radiographs import Radiographs
from examples.mura.run import Run, training_rows
from examples.mura.settings import Settings
from tinynet.layer import Layer
from tinynet.models import Classifier
from tinynet.schedules import History, Schedule
from tinynet.train import fit
from tinynet.train.checkpoint import load_checkpoint
from tinynet.train.features import cached_features
from tinynet.train.transfer import HeadOnly, frozen_table, unfreeze_from


@dataclass(frozen=True)
class Later:
    """A schedule whose epoch 0 is the run's epoch ``start``."""

    schedule: Schedule
    start: int

    def __call__(self, epoch: int, history: History = ()) -> float:
        """The learning rate of the run's epoch."""
        return self.schedule(epoch - self.start, history[self.start :])


def new_network(s: Settings) -> Classifier:
    """The network to train, with its starting weights, frozen as the settings say.

    Raises UserError for settings that do not go with this network, before anything is written.
    """
    model = starting_model(s)
    try:
        unfreeze_from(model, s.unfreeze_from)  # nothing is frozen yet: is there such a layer?
        if s.cache_features:
            HeadOnly(model)
    except ValueError as error:
        raise UserError(f"--model {s.model}: {error}") from error
    freeze(model, s)
    return model


def freeze(model: Classifier, s: Settings) -> None:
    """Freeze what the settings say of the base."""
    if s.freeze == "base":
        model.base.freeze()
    elif s.freeze == "statistics":
        model.base.freeze(parameters=False, dropout=False)


def train_run(run: Run, prepared: Prepared, model: Classifier | None, how: Computing = CPU) -> None:
    """Train a network, keeping last and best checkpoints and the history in the run's folder.

    model   the run's ``new_network``; None: go on from the run's last checkpoint
    how     where it is computed; the network is moved there
    """
    s = run.settings
    resume = model is None
    if model is None:
        model = build_model(s)
        load_checkpoint(run.folder / "last.safetensors", model)
        freeze(model, s)
    model = how.placed(model)
    first = s.unfreeze_after or s.epochs
    if not (resume and s.unfreeze_after and len(run.history) >= first):
        show_frozen(model, s)
        head = HeadOnly(model) if s.cache_features else model
        data = features(run, model, prepared) if s.cache_features else images(run, prepared)
        schedule = build_schedule(s, s.learning_rate, first)
        fit_run(run, head, data, prepared, first, schedule, resume, how)
    if s.unfreeze_after:
        unfreeze_from(model, s.unfreeze_from)
        show_frozen(model, s)
        later = Later(build_schedule(s, s.fine_tune_rate, s.epochs - first), first)
        fit_run(run, model, images(run, prepared), prepared, s.epochs, later, True, how)


def fit_run(
    run: Run,
    model: Layer,
    data: tuple[Any, Any],
    prepared: Prepared,
    epochs: int,
    schedule: Schedule,
    resume: bool,
    how: Computing,
) -> None:
    """``fit`` in the run's folder, up to so many epochs in all."""
    s = run.settings
    fit(
        model,
        build_loss(s, prepared.labels[training_rows(prepared, s)[0]]),
        build_optimizer(s),
        *data,
        epochs=epochs,
        batch_size=s.batch_size,
        seed=s.seed,
        schedule=schedule,
        metrics=("accuracy", "kappa"),
        monitor="validation_loss",
        patience=s.patience or None,
        folder=run.folder,
        resume=resume,
        precision=how.precision,
    )


def images(run: Run, prepared: Prepared) -> tuple[Radiographs, Radiographs]:
    """What to train on, augmented, and the held-out training patients."""
    s = run.settings
    train, held_out = training_rows(prepared, s)
    return (
        Radiographs(prepared, train, s.augmentation, s.form),
        Radiographs(prepared, held_out, None, s.form),
    )


def features(run: Run, model: Classifier, prepared: Prepared) -> tuple[Any, Any]:
    """What the frozen base makes of both, computed once, kept in the run's folder."""
    train, held_out = images(run, prepared)
    folder = run.folder / "features"
    return tuple(cached_features(model.base, data, folder) for data in (train, held_out))  # type: ignore[return-value]


def show_frozen(model: Classifier, s: Settings) -> None:
    """Say what is frozen, if anything ever is."""
    if s.freeze != "none":
        print(frozen_table(model), file=sys.stderr)
