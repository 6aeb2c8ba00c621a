"""Transfer learning: a trained base under a new head, and what is frozen.  Report §2.5.5-6.

    model.base.freeze()                                 the base keeps its weights
    replace_head(model, num_classes, rng=rng)           the head starts anew
    print(frozen_table(model))                          what is frozen, part by part
    fit(model, ...)                                     trains the head
    unfreeze_from(model, "base.layer4")                 the upper part of the base, and what follows
    fit(model, ...)                                     again, with a smaller learning rate

Where the images are not augmented the base need run only once: ``tinynet.train.features``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from tinynet.backend import Array, library_of
from tinynet.layer import EVAL, Layer, Mode, Shape
from tinynet.models import Classifier
from tinynet.models.architecture import Architecture


def replace_head(
    model: Classifier, head: Layer | int, rng: np.random.Generator | None = None
) -> Classifier:
    """Give a network a new head, and leave its base as it is.  Report §2.5.5.

    head   a layer from the base's representation to logits; or a number of classes: the head that
           the network's builder makes for that number, with new starting weights throughout
    rng    generator for those weights; needed with a number of classes
    Changes the model in place and returns it. ``model.architecture`` follows a number of classes
    and becomes None with a layer, which no builder can make again.
    Raises ValueError without ``rng`` for a number, or if no builder is known or it does not fit.
    """
    if isinstance(head, Layer):
        model.head, model.architecture = head, None
        return model
    known = model.architecture
    if known is None:
        raise ValueError(
            "this network was not made by a builder of tinynet.models, so there is no head to "
            "make again: give replace_head a layer"
        )
    if rng is None:
        raise ValueError("a new head has new weights: give replace_head rng=")
    fresh = Architecture(known.name, known.settings | {"num_classes": head})
    like = next(iter(model.state().values()))
    for name, part in fresh.build(rng).children().items():
        if name != "base":  # the head, and GoogLeNet's auxiliary classifiers
            setattr(model, name, part.to(library_of(like), like.dtype))
    model.architecture = fresh
    return model


def unfreeze_from(model: Layer, name: str, *, statistics: bool = False) -> None:
    """Unfreeze a layer and all that come after it.  Report §2.5.6.

    name         dotted path, such as "base.layer4" of ResNet-50
    statistics   True: batch norm's statistics there move again. They stay frozen by default: those
                 of a small batch are noisy, and the weights were trained to other ones
    Parameters and dropout are unfrozen. What comes before stays as it is.
    Raises ValueError for a path that the network does not have.
    """
    layers = model.named_layers()
    if name not in layers:
        near = name.rpartition(".")[0]
        parent = layers.get(near, model)
        prefix = f"{near}." if near in layers and near else ""
        parts = ", ".join(prefix + child for child in parent.children())
        raise ValueError(f"there is no layer {name!r} to unfreeze from: want one such as {parts}")
    paths = list(layers)  # outer before inner, earlier before later
    for path in paths[paths.index(name) :]:
        layers[path].unfreeze(statistics=statistics)


class Frozen(NamedTuple):
    """Number of frozen layers of a kind, and of all of that kind."""

    frozen: int
    total: int

    def __str__(self) -> str:
        return f"{self.frozen:,} of {self.total:,}" if self.total else "none there"


@dataclass(frozen=True)
class FrozenPart:
    """The frozen share of one part of a network; three things can be frozen separately.

    name         dotted path of the part
    parameters   numbers that optimisers leave alone
    statistics   batch-norm layers that normalise by their moving statistics, which stand still
    dropout      dropout layers that keep every neuron in training
    """

    name: str
    parameters: Frozen
    statistics: Frozen
    dropout: Frozen

    @property
    def whole(self) -> bool:
        """True if all of it is frozen: it computes the same in training and outside."""
        return all(n.frozen == n.total for n in (self.parameters, self.statistics, self.dropout))


def frozen_parts(model: Layer, depth: int = 1) -> list[FrozenPart]:
    """Return what is frozen, part by part, in forward order.

    depth   1: the network's own parts, base and head; 2: their parts, and so on
    """
    found = []

    def visit(path: str, part: Layer, level: int) -> None:
        inner = part.children() if level < depth else {}
        for name, child in inner.items():
            visit(f"{path}.{name}" if path else name, child, level + 1)
        if not inner:
            found.append(frozen_part(path, part))

    visit("", model, 0)
    return found


def frozen_part(name: str, part: Layer) -> FrozenPart:
    """Return what is frozen of one layer and all inside it."""
    parameters = part.parameters().values()
    layers = [vars(layer) for layer in part.named_layers().values()]

    def switched(switch: str) -> Frozen:
        switches = [layer[switch] for layer in layers if switch in layer]
        return Frozen(sum(switches), len(switches))

    return FrozenPart(
        name,
        Frozen(
            sum(p.value.size for p in parameters if not p.trainable),
            sum(p.value.size for p in parameters),
        ),
        switched("frozen_statistics"),
        switched("frozen_dropout"),
    )


def frozen_table(model: Layer, depth: int = 1) -> str:
    """``frozen_parts`` as text: a line per part, how much of each kind is frozen."""
    rows = [("part", "parameters frozen", "statistics frozen", "dropout frozen")]
    for part in frozen_parts(model, depth):
        counts = (str(part.parameters), str(part.statistics), str(part.dropout))
        rows.append((part.name or "network", *counts))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


class HeadOnly(Layer):
    """A network whose base has been run already: it takes representations instead of images.

        z = head(r),   r = base(x), from ``tinynet.train.features.cached_features``

    Trains the head of ``model`` itself, so that there is nothing to put together afterwards. Its
    parameters and checkpoints have the whole network's names: a run that was begun on features
    goes on, unfrozen, on images.
    Raises ValueError for a network with more than a base and a head.
    """

    def __init__(self, model: Classifier) -> None:
        if more := [name for name in model.children() if name not in ("base", "head")]:
            raise ValueError(
                f"{' and '.join(more)} branch off inside the base, so its output is not enough to "
                "train on: build the network without them, as googlenet with auxiliary=False"
            )
        self.base, self.head = model.base, model.head

    def forward(self, x: Array, mode: Mode = EVAL) -> tuple[Array, Any]:
        """Logits (N, num_classes) from representations x (N, ...)."""
        return self.head.forward(x, mode)

    def backward(self, dy: Array, cache: Any) -> Array:
        """∂L/∂r; no gradient reaches the base."""
        return self.head.backward(dy, cache)

    def output_shape(self, input_shape: Shape) -> Shape:
        """That of the head, for the shape of one representation."""
        return self.head.output_shape(input_shape)

    def multiply_adds(self, input_shape: Shape) -> int:
        """Those of the head."""
        return self.head.multiply_adds(input_shape)

    def __repr__(self) -> str:
        return f"HeadOnly({self.head!r})"
