"""What is timed: training steps of the VGG-like network at three sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Workload:
    """One training step: softmax cross-entropy on logits, then Adam.

    side, batch      input (batch, side, side, 1)
    filters, hidden  of ``tinynet.models.vgg_like``
    """

    side: int
    batch: int
    filters: tuple[int, ...]
    hidden: int
    batch_norm: bool = False

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(side, side, 1)."""
        return self.side, self.side, 1

    def data(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The same images (batch, side, side, 1) and labels (batch,) for every library."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, *self.input_shape), dtype=np.float32)
        return x, rng.integers(0, 2, self.batch)


WORKLOADS = {
    "W48": Workload(48, 128, (32, 64, 128), 100),
    "W128": Workload(128, 32, (32, 64, 128, 256), 256),
    "W224": Workload(224, 16, (32, 64, 128, 256), 256),
    "demo": Workload(64, 32, (16, 32, 64), 128, batch_norm=True),
}
