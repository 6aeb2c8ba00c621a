"""Several models, one prediction.  Report §2.7.

The report leaves the section open. Sources: Hansen & Salamon 1990, "Neural network ensembles";
Dietterich 2000, "Ensemble methods in machine learning". Models that err on different examples
outvote each other's errors; models that err alike gain nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from tinynet.backend import Array, array_module, checked
from tinynet.layer import EVAL, Layer, Mode, Shape
from tinynet.layers.combine import check_layers

Model = TypeVar("Model")


@checked
def average_probabilities(probabilities: Sequence[Array]) -> Array:
    """Mean over models of the predicted probabilities.  Report §2.7.

        ŷ = (1/M) Σ_m ŷ_m

    probabilities   M arrays (N, K), one for each model
    Returns ŷ (N, K).
    Raises ValueError if there are none, or their shapes differ.
    """
    _check_same_shape("probabilities", probabilities)
    return array_module(*probabilities).stack(list(probabilities)).mean(axis=0)


@checked
def majority_vote(labels: Sequence[Array]) -> Array:
    """The label that most models predict; of labels with as many votes, the smallest.  Report §2.7.

    labels   M arrays (N,) of integers from 0, one for each model
    Returns labels (N,), int64.
    Raises ValueError if there are none, their shapes differ, or they are no labels.
    """
    _check_same_shape("labels", labels)
    xp = array_module(*labels)
    votes = xp.stack(list(labels))
    if votes.dtype.kind not in "biu" or (votes < 0).any():
        raise ValueError(
            f"labels are {votes.dtype}, want integers from 0: of probabilities take argmax(axis=1)"
        )
    classes = int(votes.max()) + 1 if votes.size else 1
    counts = (votes[..., None] == xp.arange(classes)).sum(axis=0)
    return counts.argmax(axis=1).astype(xp.int64)


def best_of(models: Sequence[Model], validation_losses: Sequence[float], count: int) -> list[Model]:
    """The ``count`` models with the lowest validation loss, the best first.  Report §2.7, ours.

    Raises ValueError if the lists differ in length, a loss is NaN, or count is not 1 to M.
    Source: Rajpurkar et al. 2017, "MURA", who average their five best.
    """
    losses = np.asarray(validation_losses, np.float64)
    if losses.shape != (len(models),) or np.isnan(losses).any():
        raise ValueError(
            f"validation_losses is {losses.tolist()}, want {len(models)} numbers, one for each of "
            "the models"
        )
    if not 1 <= count <= len(models):
        raise ValueError(f"count is {count}, want 1 to {len(models)}, the number of models")
    return [models[i] for i in np.argsort(losses, kind="stable")[:count]]


class Ensemble(Layer):
    """Models side by side on one input, their probabilities averaged.  Report §2.7.

        y = (1/M) Σ_m model_m(x),      ∂L/∂x = (1/M) Σ_m through model_m

    models   M layers that return probabilities (N, K). One that returns logits is wrapped:
             ``Sequential(model, Softmax())``
    It is a layer, so whatever predicts with one model predicts with this, its loss being
    ``CrossEntropy()``, which takes probabilities. Its models are trained one by one.
    Raises TypeError for a model that is no layer, ValueError for no models, and in ``forward``
    ValueError for outputs that are no probabilities.
    """

    wiring = "mean"
    per_image = True

    def __init__(self, models: Sequence[Layer]) -> None:
        if not models:
            raise ValueError("Ensemble: got no models, want at least one")
        check_layers(self, tuple(models))
        self.models = list(models)

    def children(self) -> dict[str, Layer]:
        return {str(i): model for i, model in enumerate(self.models)}

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, list[Any]]:
        passes = [model.forward(x, mode) for model in self.models]
        for i, (y, _) in enumerate(passes):
            if (y.real < 0).any() or (y.real > 1 + 1e-3).any():
                raise ValueError(
                    f"Ensemble: model {i} returns numbers outside 0 to 1, want probabilities: "
                    "wrap it in Sequential(model, Softmax())"
                )
        return average_probabilities([y for y, _ in passes]), [cache for _, cache in passes]

    def backward(self, dy: Array, cache: list[Any]) -> Array:
        share = dy / len(self.models)
        gradients = [
            model.backward(share, model_cache)
            for model, model_cache in zip(self.models, cache, strict=True)
        ]
        return sum(gradients[1:], start=gradients[0])

    def output_shape(self, input_shape: Shape) -> Shape:
        shapes = {model.output_shape(input_shape) for model in self.models}
        if len(shapes) > 1:
            raise ValueError(f"Ensemble: the models' outputs are {sorted(shapes)}, want one shape")
        return shapes.pop()

    def __repr__(self) -> str:
        return f"Ensemble({self.models!r})"


def _check_same_shape(what: str, arrays: Sequence[Array]) -> None:
    shapes = {x.shape for x in arrays}
    if len(shapes) != 1:
        raise ValueError(
            f"{what} are of shapes {sorted(shapes)}, want at least one array, and one shape for all"
        )
