"""The two passes of a training step, on the processor and in a captured graph.  Report §2.3.2."""

from __future__ import annotations

from typing import Any, NamedTuple

from tinynet.backend import Array
from tinynet.engine.plan.build import training_plans
from tinynet.engine.plan.nodes import Plan
from tinynet.engine.precision import stored, widened
from tinynet.layer import Layer, Mode, Parameter
from tinynet.losses import Loss
from tinynet.regularizers import Regularizer


class Forward(NamedTuple):
    """Result of ``forward``, and what ``backward`` needs of it."""

    z: Any  # the network's output, (N, K) or, with auxiliary classifiers, a tuple of such
    value: Any  # L, with the penalty: a scalar
    plan: Plan
    cache: Any
    loss_cache: Any


def forward(
    model: Layer,
    loss: Loss,
    regularizer: Regularizer | None,
    x: Array,
    y: Array,
    mode: Mode,
    precision: str = "fp32",
    *,
    labels_checked: bool = False,
) -> Forward:
    """L = loss(model(x), y) + penalty(w), in training.

    x           (N, ...) the batch
    y           (N,) or (N, K) labels
    precision   of the activations; see ``tinynet.engine.precision``
    labels_checked   True: y has passed ``loss.check_labels``; then nothing waits for the GPU
    """
    before, rest = training_plans(model)
    z, cache = rest.forward(before.run(stored(x, precision), mode), mode)
    z = widened(z)
    value, loss_cache = loss.compute(z, y) if labels_checked else loss.forward(z, y)
    if regularizer is not None:
        value = value + regularizer.penalty(model.parameters())
    return Forward(z, value, rest, cache, loss_cache)


def backward(
    done: Forward,
    loss: Loss,
    regularizer: Regularizer | None,
    parameters: dict[str, Parameter],
    precision: str = "fp32",
) -> None:
    """Add ∂L/∂w to the gradient of each of ``parameters``; the caches are used up."""
    done.plan.backward(stored(loss.backward(done.loss_cache), precision), done.cache)
    if regularizer is not None:
        regularizer.add_gradients(parameters)
