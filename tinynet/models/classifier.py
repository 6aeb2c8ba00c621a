"""A network in two parts, a convolutional base and a head.  Report §2.5.5."""

from __future__ import annotations

from tinynet.layer import Layer
from tinynet.layers.combine import Sequential
from tinynet.models.architecture import Architecture


class Classifier(Sequential):
    """The base makes a representation of the image, the head makes class scores of it.

    base   layers from (H, W, C) to a representation
    head   layers from the representation to logits (num_classes,)
    Either can be replaced or frozen by itself, which is transfer learning (§2.5.6):
    ``model.base.freeze()``.
    architecture   name and settings, where a builder of ``tinynet.models`` made the network
    """

    def __init__(self, base: Layer, head: Layer) -> None:
        super().__init__(base=base, head=head)
        self.architecture: Architecture | None = None

    @property
    def base(self) -> Layer:
        """The convolutional base."""
        return self.layers[0]

    @property
    def head(self) -> Layer:
        """The layers after the base."""
        return self.layers[1]

    @head.setter
    def head(self, head: Layer) -> None:
        self.layers[1] = head
