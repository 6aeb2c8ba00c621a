"""The two passes of a training step, on the processor and in a captured graph.  Report §2.3.2."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any

from tinynet.backend import Array, array_module
from tinynet.engine.plan.build import training_plans
from tinynet.engine.precision import stored, widened
from tinynet.layer import Layer, Mode
from tinynet.losses import Loss
from tinynet.regularizers import Regularizer


def passes(
    model: Layer,
    loss: Loss,
    regularizer: Regularizer | None,
    x: Array,
    y: Array,
    mode: Mode,
    precision: str,
    pieces: Sequence[slice],
    shares: Sequence[Any],
    *,
    captured: bool = False,
) -> tuple[Any, Any]:
    """L = loss(model(x), y) + penalty(w), in training; ∂L/∂w is added to each ``Parameter.grad``.

    x, y        (N, ...) the batch, and labels (N,) or (N, K)
    precision   of the activations; see ``tinynet.engine.precision``
    pieces      of the batch, which go through the network one after the other
    shares      of their losses in L; what has a share of 0 has no backward pass
    captured    True: y has passed ``loss.check_labels``, shares are on the GPU, which nothing
                waits for
    Returns L, a scalar, and the network's output z, (N, K) or, with auxiliary classifiers, a
    tuple of such.
    """
    before, rest = training_plans(model)
    values, outputs = [], []
    for piece, share in zip(pieces, shares, strict=True):
        whole = len(pieces) == 1
        part, labels = (x, y) if whole else (x[piece], y[piece])
        z, cache = rest.forward(before.run(stored(part, precision), mode), mode)
        z = widened(z)
        outputs.append(z)
        if not captured and share == 0:
            continue
        value, loss_cache = loss.compute(z, labels) if captured else loss.forward(z, labels)
        values.append(value if whole else share * value)
        dz = loss.backward(loss_cache)
        if not whole:
            dz = tuple(share * d for d in dz) if isinstance(dz, tuple) else share * dz
        rest.backward(stored(dz, precision), cache)
        del z, cache, loss_cache, dz  # before the next piece asks for memory
    z = _joined(outputs)
    if not captured and 0 in shares:
        loss.check_labels(z, y)
    total = sum(values[1:], start=values[0])
    if regularizer is not None:
        parameters = model.parameters()
        total = total + regularizer.penalty(parameters)
        regularizer.add_gradients(parameters)
    return total, z


def divided(loss: Loss, x: Array, y: Array, most: int | None) -> tuple[list[slice], list[float]]:
    """Pieces of a batch x with labels y, of at most ``most`` examples, as even as they can be.

    And the shares of their mean losses in the batch's. None: all in one piece, in which labels
    stay, too, that the loss refuses.
    """
    whole, size = ([slice(None)], [1.0]), x.shape[:1]
    if most is None or not size or y.shape[:1] != size or len(x) <= most:
        return whole
    count = -(-len(x) // most)
    cuts = [i * len(x) // count for i in range(count + 1)]
    pieces = [slice(*ends) for ends in pairwise(cuts)]
    if loss.reduction == "sum":
        return pieces, [1.0] * count
    weights = [0.0]
    with suppress(IndexError):  # there is no such class
        weights = [loss.weight_of(y[piece]) for piece in pieces]
    total = sum(weights)
    return (pieces, [w / total for w in weights]) if total else whole


def _joined(outputs: list[Any]) -> Any:
    if len(outputs) == 1:
        return outputs[0]
    if isinstance(outputs[0], tuple):
        return tuple(_joined(list(parts)) for parts in zip(*outputs, strict=True))
    return array_module(*outputs).concatenate(outputs)
