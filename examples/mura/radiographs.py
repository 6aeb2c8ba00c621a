"""The prepared radiographs as the data set that ``tinynet.train.fit`` takes its batches from.

Networks that were trained on colour photographs get the grey image in all three channels, each
scaled and shifted as that channel was in their training.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.mura.augment import DEVIATION, MEAN, AugmentSettings, augment, normalise
from examples.mura.dataset import Image
from examples.mura.decode import BadImage, read_grey
from examples.mura.errors import UserError
from examples.mura.prepare import Prepared
from tinynet.interop.preprocess import KINDS, imagenet_preprocess

LARGEST = 4096  # pixels
FORMS = ("centred", *KINDS)  # ours, as ``augment.normalise`` gives it; then ImageNet's


@dataclass(frozen=True)
class InputForm:
    """How a normalised grey image becomes the network's input.

    name       one of FORMS
    channels   1, or 3: the grey image three times
    Raises UserError if the form does not have that many channels.
    """

    name: str = "centred"
    channels: int = 1

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise UserError(f"--channels is {self.channels}, want 1, 3, or 0 to choose by weights")
        if self.channels == 1 and self.name != "centred":
            raise UserError(
                f"--preprocessing {self.name} has three colours: want it with --channels 3"
            )

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """The network's input (N, S, S, channels) from x (N, S, S, 1), as ``normalise`` gives it.

        Returns x itself for "centred" with one channel.
        """
        if self.name == "centred":
            return x if self.channels == 1 else np.repeat(x, self.channels, axis=-1)
        pixels = np.clip((x * np.float32(DEVIATION) + np.float32(MEAN)) * 255, 0, 255)
        return imagenet_preprocess(pixels, self.name)


GREY = InputForm()


class Radiographs:
    """Some rows of a prepared cache, read from the disk a batch at a time.

    rows      which rows of ``prepared``, for example ``prepared.rows(data.split("valid"))``
    augment   how to change a batch that comes with a generator; None: not at all
    form      the network's input: grey, or three channels in the form of its weights
    """

    def __init__(
        self,
        prepared: Prepared,
        rows: Sequence[int] | NDArray[np.int64],
        augment: AugmentSettings | None = None,
        form: InputForm = GREY,
    ) -> None:
        self.rows = np.asarray(rows, dtype=np.int64)
        if self.rows.ndim != 1 or len(self.rows) == 0:
            raise UserError(
                f"no radiographs: got rows of shape {self.rows.shape} of {prepared.folder}, "
                "want at least one: choose other body parts or a larger share"
            )
        self.prepared, self.settings, self.form = prepared, augment, form

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def images(self) -> list[Image]:
        return [self.prepared.images[row] for row in self.rows]

    @property
    def labels(self) -> NDArray[np.int64]:
        return self.prepared.labels[self.rows]

    def pixels(self, indices: NDArray[np.int64] | int) -> NDArray[np.uint8]:
        """(n, side, side) grey levels."""
        return self.prepared.pixels[self.rows[indices]]

    def batch(
        self, indices: NDArray[np.int64], rng: np.random.Generator | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """x (n, side, side, C) and labels y (n,); augmented if a generator is given."""
        pixels, y = self.pixels(indices), self.labels[indices]
        if rng is None or self.settings is None:
            return self.form(normalise(pixels)), y
        return self.form(augment(pixels, rng, self.settings)), y


def radiograph(file: Path) -> NDArray[np.uint8]:
    """An image file (H, W) at its own resolution, reduced beyond ``LARGEST`` pixels a side.

    Raises BadImage if it cannot be decoded.
    """
    image = read_grey(file)
    image.thumbnail((LARGEST, LARGEST))
    return np.asarray(image)


def picture(data: Radiographs, i: int, root: Path | None) -> NDArray[np.uint8]:
    """What to show of image i: its radiograph in MURA-v1.1, or if it is not there the input."""
    if root is not None:
        with suppress(BadImage):
            return radiograph(root.joinpath(*data.images[i].path.parts[1:]))
    return data.pixels(i)
