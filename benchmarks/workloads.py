"""The networks that are timed: the VGG-like network at three sizes, and the demo's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

KINDS = ("training", "inference")


@dataclass(frozen=True)
class Workload:
    """A batch of images for a network.

    side, batch      input (batch, side, side, 1)
    filters, hidden  of ``tinynet.models.vgg_like``
    """

    side: int
    batch: int
    filters: tuple[int, ...]
    hidden: int
    batch_norm: bool = False

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Workload:
        """The reverse of ``dataclasses.asdict``, through JSON too, which knows no tuples."""
        return cls(**fields | {"filters": tuple(fields["filters"])})

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(side, side, 1)."""
        return self.side, self.side, 1

    def data(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The same images (batch, side, side, 1) and labels (batch,) for every library."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, *self.input_shape), dtype=np.float32)
        return x, rng.integers(0, 2, self.batch)

    def starting_model(self) -> Any:
        """tinynet's network with the weights and statistics that every library gets.

        It drops nothing out, so that all libraries compute the same numbers.
        """
        from tinynet.models import vgg_like

        rng = np.random.default_rng(0)
        model = vgg_like(
            2,
            self.input_shape,
            self.filters,
            self.hidden,
            batch_norm=self.batch_norm,
            keep_prob=1.0,
            rng=rng,
        )
        for name, statistics in model.buffers().items():
            low, high = (-0.1, 0.1) if name.endswith("running_mean") else (0.5, 1.5)
            statistics[...] = rng.uniform(low, high, statistics.shape)
        return model

    def multiply_adds(self) -> int:
        """Of a forward pass of the batch, every convolution taken directly."""
        return int(self.batch * self.starting_model().multiply_adds(self.input_shape))


WORKLOADS = {
    "W48": Workload(48, 128, (32, 64, 128), 100),
    "W128": Workload(128, 32, (32, 64, 128, 256), 256),
    "W224": Workload(224, 16, (32, 64, 128, 256), 256),
    "demo": Workload(64, 32, (8, 16, 32, 64), 128, batch_norm=True),
}
