"""From settings to what ``fit`` takes: network, loss, optimiser, schedule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from examples.mura.errors import UserError
from examples.mura.settings import Settings
from tinynet.layers import BatchNorm
from tinynet.losses import SoftmaxCrossEntropy, WithAuxiliary
from tinynet.losses.base import Loss
from tinynet.models import Classifier
from tinynet.models.architecture import Architecture
from tinynet.optimizers import SGD, Adam, Optimizer, RMSProp
from tinynet.schedules import Constant, Cosine, ReduceOnPlateau, Schedule
from tinynet.train.data import generator

CLASSES = ("normal", "abnormal")


def build_model(s: Settings) -> Classifier:
    """The network with its starting weights; the same settings give the same weights.

    Raises UserError if its builder refuses them, such as a --side that is too small.
    """
    try:
        model = Architecture(s.model, s.builder_settings).build(generator(s.seed, "weights"))
    except (ValueError, TypeError, OverflowError, MemoryError) as error:
        raise UserError(f"--model {s.model} cannot be built: {error}") from error
    for layer in model.named_layers().values():
        if isinstance(layer, BatchNorm):
            layer.momentum = s.batchnorm_momentum
    return model


def build_loss(s: Settings, train_labels: NDArray[np.integer]) -> Loss:
    """Cross-entropy on logits, with ``balanced_weights`` if the settings ask for class weights.

    GoogLeNet's auxiliary classifiers add 0.3 times their losses.
    """
    weights = balanced_weights(train_labels) if s.class_weights else None
    loss = SoftmaxCrossEntropy(class_weight=weights)
    return WithAuxiliary(loss) if s.model == "googlenet" else loss


def balanced_weights(labels: NDArray[np.integer]) -> list[float] | None:
    """Class weights under which both classes count alike; None if one of them is absent.

    w_class = N / (2 N_class), whose mean over the ``labels`` is 1.
    """
    counts = np.bincount(labels, minlength=len(CLASSES))
    return None if 0 in counts else (counts.sum() / (len(CLASSES) * counts)).tolist()


def build_optimizer(s: Settings) -> Optimizer:
    if s.optimizer == "sgd":
        return SGD(s.learning_rate, momentum=0.9, nesterov=True, weight_decay=s.weight_decay)
    if s.optimizer == "rmsprop":
        return RMSProp(s.learning_rate, weight_decay=s.weight_decay)
    return Adam(s.learning_rate, weight_decay=s.weight_decay, decoupled=True)


def build_schedule(s: Settings, rate: float, epochs: int) -> Schedule:
    if s.schedule == "cosine":
        return Cosine(rate, epochs)
    if s.schedule == "plateau":  # as the MURA paper: by 10 when the validation loss plateaus
        return ReduceOnPlateau(rate, factor=0.1, patience=3)
    return Constant(rate)
