"""Which learning rate to begin with: a short training at rates that grow from step to step."""

from __future__ import annotations

from itertools import count
from typing import Any

import numpy as np

from tinynet.backend import Array, check_number, checked
from tinynet.layer import Layer
from tinynet.losses import Loss
from tinynet.optimizers import Optimizer
from tinynet.train.average import copies
from tinynet.train.data import Dataset, as_dataset, generator
from tinynet.train.evaluation import check_parts
from tinynet.train.fit import epoch_batches
from tinynet.train.step import TrainingError, TrainStep

TOO_FAR = 4  # times the lowest mean of ten losses so far: the weights run away


@checked
def find_learning_rate(
    model: Layer,
    loss: Loss,
    optimizer: Optimizer,
    train: Dataset | tuple[Array, Array],
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
    batch_size: int | None = 32,
    seed: int = 0,
    **how: Any,
) -> tuple[Array, Array]:
    """Return the learning rates of some steps, each higher than the last, and the losses there.

        η_i = lowest · (highest / lowest)^(i / (steps − 1)),   i = 0, 1, …

    It trains copies: model and optimiser stay as they are, to the bit, whatever happens. A good
    rate is a third to a tenth of that at which the loss is lowest, where it still falls fast.

    train, batch_size, seed   as in ``fit``; more steps than an epoch has begin another
    how                       other keywords of ``TrainStep``
    Returns two arrays (n,): n is less than ``steps`` if a loss is not finite, or the mean of the
    last ten is four times as high as at its lowest.
    Raises ValueError or TypeError for settings that make no sense, TrainingError if the first
    loss is not finite.
    Source: Smith 2017, "Cyclical learning rates for training neural networks", §3.3.
    """
    check_parts(model, loss)
    check_number("steps", steps, 2, whole=True)
    if not 0 < check_number("lowest", lowest) < check_number("highest", highest):
        raise ValueError(f"rates go from {lowest} to {highest}, want 0 < lowest < highest")
    train = as_dataset(train)
    trained, trial = copies(model, optimizer)
    step = TrainStep(trained, loss, trial, seed=seed, **how)
    numbered = (
        (indices, generator(seed, "augment", epoch, b))
        for epoch in count()
        for b, indices in enumerate(epoch_batches(model, len(train), batch_size, seed, epoch))
    )
    rates, losses = np.geomspace(lowest, highest, steps), []
    best = np.inf
    for rate, (indices, rng) in zip(rates, numbered, strict=False):
        trial.learning_rate = float(rate)
        try:
            losses.append(step(*train.batch(indices, rng)))
        except TrainingError:
            if not losses:
                raise
            break
        best = min(best, recent := float(np.mean(losses[-10:])))
        if recent > TOO_FAR * best:
            break
    return rates[: len(losses)], np.array(losses)
