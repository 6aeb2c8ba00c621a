"""The shapes that operations are timed at; ``small`` is the same kind for a test."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

Shape = tuple[int, ...]


def size(*shapes: Shape) -> int:
    """Count the numbers that arrays of these shapes hold together."""
    return sum(map(prod, shapes))


@dataclass(frozen=True)
class Images:
    """A batch of images x (batch, side, side, channels)."""

    batch: int
    side: int
    channels: int

    @property
    def x(self) -> Shape:
        return self.batch, self.side, self.side, self.channels

    def small(self) -> Images:
        return Images(2, 8, min(self.channels, 6))


@dataclass(frozen=True)
class Pool(Images):
    """Square windows over a batch of images; y is the output."""

    kernel: int = 2
    stride: int = 2
    padding: int = 0

    @property
    def y(self) -> Shape:
        side = (self.side + 2 * self.padding - self.kernel) // self.stride + 1
        return self.batch, side, side, self.channels

    def small(self) -> Pool:
        return replace(self, batch=2, side=min(self.side, 12), channels=6)


@dataclass(frozen=True)
class Conv(Images):
    """A batch of images under square filters w, zeros around them ("same" at stride 1).

    tail   what follows in a block: "none", "relu" or "relu_pool"
    """

    filters: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1
    bias: bool = True
    tail: str = "none"

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def w(self) -> Shape:
        return self.kernel, self.kernel, self.channels // self.groups, self.filters

    @property
    def z(self) -> Shape:
        side = (self.side + 2 * self.padding - self.kernel) // self.stride + 1
        return self.batch, side, side, self.filters

    @property
    def y(self) -> Shape:
        batch, side, _, filters = self.z
        return (batch, side // 2, side // 2, filters) if self.tail == "relu_pool" else self.z

    @property
    def multiply_adds(self) -> int:
        """Of the output, taken directly; each of the two gradients has as many."""
        return size(self.z) * self.kernel**2 * self.channels // self.groups

    def small(self) -> Conv:
        channels = 8 if self.channels % 8 == 0 else self.channels  # tensor cores want eights
        groups = channels if self.groups > 1 else 1
        return replace(self, batch=2, side=12, channels=channels, filters=8, groups=groups)


@dataclass(frozen=True)
class Matrix:
    """A batch of vectors (batch, inputs), and how many numbers each becomes."""

    batch: int
    inputs: int
    outputs: int

    def small(self) -> Matrix:
        return Matrix(min(self.batch, 8), 20, min(self.outputs, 10))


@dataclass(frozen=True)
class Weights:
    """Arrays of these shapes."""

    shapes: tuple[Shape, ...]

    def small(self) -> Weights:
        return Weights(tuple((3,) * len(shape) for shape in self.shapes[:3]))
