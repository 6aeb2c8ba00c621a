"""The shapes that operations are timed at, from the networks that have them."""

from __future__ import annotations

from dataclasses import dataclass, replace

FLOAT = 4  # bytes


@dataclass(frozen=True)
class Conv:
    """A batch of images (batch, side, side, channels) under ``filters`` square filters."""

    batch: int
    side: int
    channels: int
    filters: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    @property
    def padding(self) -> int:
        """Zeros on each side: "same" at stride 1."""
        return self.kernel // 2

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the input."""
        return self.batch, self.side, self.side, self.channels

    @property
    def w(self) -> tuple[int, int, int, int]:
        """Shape of the filters."""
        return self.kernel, self.kernel, self.channels // self.groups, self.filters

    @property
    def y(self) -> tuple[int, int, int, int]:
        """Shape of the output."""
        side = (self.side + 2 * self.padding - self.kernel) // self.stride + 1
        return self.batch, side, side, self.filters

    @property
    def multiply_adds(self) -> int:
        """Of the output, taken directly; each of the two gradients has as many."""
        return size(self.y) * self.kernel**2 * self.channels // self.groups

    def small(self) -> Conv:
        """The same kind of convolution, for a test."""
        channels = min(self.channels, 6)
        filters = channels if self.groups > 1 else 5
        groups = channels if self.groups > 1 else 1
        return replace(self, batch=2, side=12, channels=channels, filters=filters, groups=groups)


@dataclass(frozen=True)
class Images:
    """A batch of images (batch, side, side, channels)."""

    batch: int
    side: int
    channels: int

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the images."""
        return self.batch, self.side, self.side, self.channels

    def small(self) -> Images:
        """The same for a test."""
        return Images(2, 8, min(self.channels, 6))


@dataclass(frozen=True)
class Pool:
    """Square windows over a batch of images."""

    batch: int
    side: int
    channels: int
    kernel: int = 2
    stride: int = 2
    padding: int = 0

    @property
    def x(self) -> tuple[int, int, int, int]:
        """Shape of the input."""
        return self.batch, self.side, self.side, self.channels

    @property
    def y(self) -> tuple[int, int, int, int]:
        """Shape of the output."""
        side = (self.side + 2 * self.padding - self.kernel) // self.stride + 1
        return self.batch, side, side, self.channels

    def small(self) -> Pool:
        """The same window, for a test."""
        return replace(self, batch=2, side=min(self.side, 12), channels=6)


@dataclass(frozen=True)
class Matrix:
    """A batch of vectors (batch, inputs), and how many numbers each becomes."""

    batch: int
    inputs: int
    outputs: int

    def small(self) -> Matrix:
        """The same for a test."""
        return Matrix(min(self.batch, 8), 20, min(self.outputs, 10))


def size(*shapes: tuple[int, ...]) -> int:
    """How many numbers arrays of these shapes hold together."""
    total = 0
    for shape in shapes:
        product = 1
        for length in shape:
            product *= length
        total += product
    return total


CONVOLUTIONS = {
    "W128, layer 1": Conv(32, 128, 1, 32),
    "W128, layer 2": Conv(32, 128, 32, 32),
    "W128, layer 4": Conv(32, 64, 64, 64),
    "W128, layer 6": Conv(32, 32, 128, 128),
    "W128, layer 8": Conv(32, 16, 256, 256),
    "W224, layer 2": Conv(16, 224, 32, 32),
    "W224, layer 7": Conv(16, 28, 128, 256),
    "VGG-16, conv1_1": Conv(4, 224, 3, 64),
    "VGG-16, conv2_2": Conv(4, 112, 128, 128),
    "VGG-16, conv3_2": Conv(4, 56, 256, 256),
    "VGG-16, conv5_1": Conv(4, 14, 512, 512),
    "ResNet-50, 1×1": Conv(8, 56, 256, 64, kernel=1),
    "ResNet-50, 3×3 by 2": Conv(8, 56, 128, 128, stride=2),
    "ResNet-50, 7×7 by 2": Conv(4, 224, 3, 64, kernel=7, stride=2),
}
DEPTHWISE = {
    "MobileNet, 112": Conv(8, 112, 32, 32, groups=32),
    "MobileNet, 112 by 2": Conv(8, 112, 64, 64, stride=2, groups=64),
    "MobileNet, 14": Conv(8, 14, 512, 512, groups=512),
}
IMAGES = {
    "W128, block 1": Images(32, 128, 32),
    "W224, block 4": Images(16, 28, 256),
    "demo, block 1": Images(32, 64, 8),
}
