"""The prepared radiographs as the data set that ``tinynet.train.fit`` takes its batches from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from examples.mura.augment import AugmentSettings, augment, normalise
from examples.mura.cache import Prepared
from examples.mura.errors import UserError
from examples.mura.inputs import GREY, InputForm
from examples.mura.layout import Image


class Radiographs:
    """Some rows of a prepared cache, read from the disk a batch at a time.

    rows      which rows of ``prepared``, for example ``prepared.rows(data.split("valid"))``
    augment   how to change a batch that comes with a generator; None: not at all
    form      what the network takes: grey, or three channels in the form of its weights
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
        self.prepared = prepared
        self.settings = augment
        self.form = form

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def images(self) -> list[Image]:
        """What is known of each radiograph, in the order of the rows."""
        return [self.prepared.images[row] for row in self.rows]

    @property
    def labels(self) -> NDArray[np.int64]:
        """(n,) labels, 0 normal and 1 abnormal."""
        return self.prepared.labels[self.rows]

    def batch(
        self, indices: NDArray[np.int64], rng: np.random.Generator | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """x (n, side, side, C) and labels y (n,); augmented if a generator is given."""
        rows = self.rows[indices]
        pixels = self.prepared.pixels[rows]
        if rng is None or self.settings is None:
            return self.form(normalise(pixels)), self.prepared.labels[rows]
        return self.form(augment(pixels, rng, self.settings)), self.prepared.labels[rows]
