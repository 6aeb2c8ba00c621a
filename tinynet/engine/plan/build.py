"""A network rewritten for speed: runs of its layers become fused operations.

    convolution → ReLU → max-pool 2×2        one ``FusedConv2D``
    batch norm → ReLU → max-pool 2×2         one ``FusedBatchNorm`` (in training)
    convolution → batch norm → …             one ``FusedConv2D`` outside training: the batch norm
                                             only scales and shifts then, and so can the filters
    dense layer                              one ``FusedDense`` (in training)

A plan shares the parameters and statistics of its network, and computes the same numbers to
rounding. It is made anew for every step, which costs microseconds a layer, so that a network may be
changed, frozen or unfrozen at any time. ``Sequential``, ``Residual`` and ``Concat`` are looked
into; a layer that writes its own forward pass is run as it is.
"""

from __future__ import annotations

from tinynet.engine.plan.nodes import (
    Epilogue,
    FusedBatchNorm,
    FusedConv2D,
    FusedDense,
    Plan,
    PlannedConcat,
    PlannedResidual,
)
from tinynet.layer import Layer
from tinynet.layers import BatchNorm, Concat, Conv2D, Dense, MaxPool2D, ReLU, Residual


def training_plans(model: Layer) -> tuple[Plan, Plan]:
    """The plans of a training step: up to the first trainable parameter, and from there on.

        y = rest(r),  r = before(x);   ∂L/∂r is not needed  (§2.5.6)

    ``before`` is for ``run``. What the backward pass of ``rest`` returns is not ∂L/∂r, which is
    left out where its first layer is a convolution or a dense layer. Only ``Sequential`` layers
    are cut in two: in a branch, "before" and "after" are not defined.
    """
    before, rest = without_gradient(model)
    plan = Plan(_fused(rest, training=True))
    if plan.layers and isinstance(plan.layers[0], FusedConv2D | FusedDense):
        plan.layers[0].need_dx = False
    return Plan(_fused(before, training=True)), plan


def without_gradient(model: Layer) -> tuple[list[Layer], list[Layer]]:
    """A network's layers before the first trainable parameter, and the rest.  Report §2.5.6."""
    layers = in_sequence(model)
    count = 0
    while count < len(layers) and not any(
        parameter.trainable for parameter in layers[count].parameters().values()
    ):
        count += 1
    return layers[:count], layers[count:]


def inference_plan(model: Layer) -> Plan:
    """The plan of a network outside training, for ``run``; made for the weights as they are now."""
    return Plan(_fused(in_sequence(model), training=False))


def _fused(layers: list[Layer], training: bool) -> list[Layer]:
    """Layers in sequence, as many as possible fused with the operation before them."""
    planned: list[Layer] = []
    at = 0
    while at < len(layers):
        layer, rest = layers[at], layers[at + 1 :]
        if type(layer) is Conv2D:
            norm = rest[0] if not training and rest and type(rest[0]) is BatchNorm else None
            epilogue = _epilogue(rest[1:] if norm else rest)
            planned.append(FusedConv2D(layer, epilogue, norm))
            at += 1 + bool(norm) + len(epilogue.layers)
        elif type(layer) is BatchNorm and training and _normalises_images(layer, planned):
            epilogue = _epilogue(rest)
            planned.append(FusedBatchNorm(layer, epilogue))
            at += 1 + len(epilogue.layers)
        else:
            planned.append(_inside(layer, training))
            at += 1
    return planned


def _epilogue(layers: list[Layer]) -> Epilogue:
    """The first of the layers that can be fused with a convolution or batch norm before them."""
    if not layers or type(layers[0]) is not ReLU or layers[0].threshold:
        return Epilogue("none", [])
    if len(layers) > 1 and _halves(layers[1]):
        return Epilogue("relu_pool", layers[:2])
    return Epilogue("relu", layers[:1])


def _halves(layer: Layer) -> bool:
    """Return True for a max-pool 2×2 without padding."""
    return (
        type(layer) is MaxPool2D
        and layer.pool_size == layer.stride == (2, 2)
        and layer.dilation == (1, 1)
        and layer.padding in ("valid", 0)
    )


def _normalises_images(norm: BatchNorm, before: list[Layer]) -> bool:
    """Return True if a batch norm takes (N, H, W, C) and uses the batch's own statistics."""
    return not norm.frozen_statistics and bool(before) and isinstance(before[-1], FusedConv2D)


def _inside(layer: Layer, training: bool) -> Layer:
    """A container of plans, a fused dense layer, or the layer itself."""
    if type(layer) is Dense and training:
        return FusedDense(layer)
    wiring = layer.promise("wiring")
    if wiring == "sum":
        assert isinstance(layer, Residual)
        skip = None if layer.skip is None else _plan(layer.skip, training)
        return PlannedResidual(layer, _plan(layer.main, training), skip)
    if wiring == "concat":
        assert isinstance(layer, Concat)
        return PlannedConcat(layer, [_plan(branch, training) for branch in layer.branches])
    return layer


def _plan(layer: Layer, training: bool) -> Plan:
    return Plan(_fused(in_sequence(layer), training))


def in_sequence(layer: Layer) -> list[Layer]:
    """Return the layers that a plain ``Sequential`` runs in turn, nested ones flattened."""
    if layer.promise("wiring") != "series":
        return [layer]
    return [inner for child in layer.children().values() for inner in in_sequence(child)]
