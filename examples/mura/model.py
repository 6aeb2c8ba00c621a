"""From settings to what ``fit`` takes: network, loss, optimiser, schedule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from examples.mura.settings import Settings
from tinynet.data import generator
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.models import Classifier, vgg_like
from tinynet.optimizers import SGD, Adam, Optimizer, RMSProp
from tinynet.schedules import Constant, Cosine, ReduceOnPlateau, Schedule

CLASSES = ("normal", "abnormal")


def build_model(s: Settings) -> Classifier:
    """The network with its starting weights; the same settings give the same weights."""
    return vgg_like(
        len(CLASSES),
        (s.side, s.side, 1),
        s.filters,
        s.hidden,
        batch_norm=s.batch_norm,
        keep_prob=s.keep_prob,
        rng=generator(s.seed, "weights"),
    )


def build_loss(s: Settings, train_labels: NDArray[np.integer]) -> SoftmaxCrossEntropy:
    """Cross-entropy on logits; with class weights, the mean weight over ``train_labels`` is 1.

    w_class = N / (2 N_class): both classes then count alike, however many images they have.
    """
    counts = np.bincount(train_labels, minlength=len(CLASSES))
    if not s.class_weights or 0 in counts:
        return SoftmaxCrossEntropy()
    return SoftmaxCrossEntropy(class_weight=(counts.sum() / (len(CLASSES) * counts)).tolist())


def build_optimizer(s: Settings) -> Optimizer:
    """The weight-update rule."""
    if s.optimizer == "sgd":
        return SGD(s.learning_rate, momentum=0.9, nesterov=True, weight_decay=s.weight_decay)
    if s.optimizer == "rmsprop":
        return RMSProp(s.learning_rate, weight_decay=s.weight_decay)
    return Adam(s.learning_rate, weight_decay=s.weight_decay, decoupled=True)


def build_schedule(s: Settings) -> Schedule:
    """How the learning rate decays."""
    if s.schedule == "cosine":
        return Cosine(s.learning_rate, s.epochs)
    if s.schedule == "plateau":  # as the MURA paper: by 10 when the validation loss plateaus
        return ReduceOnPlateau(s.learning_rate, factor=0.1, patience=3)
    return Constant(s.learning_rate)
