"""One probability from several networks and several looks at an image.  Report §2.7.

    p = (1/M) Σ_m (1/V) Σ_v p_m(view v of x)

The views are the image and, with ``mirror``, its mirror image: a mirrored radiograph is as normal
or abnormal as before, and the networks are trained on both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinynet.ensemble import average_probabilities
from tinynet.layer import Layer
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.train import predict
from tinynet.train.data import ArrayDataset


class Mirrored:
    """A data set of images (N, H, W, C), mirrored left to right."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: NDArray[np.int64], rng: np.random.Generator | None = None) -> Any:
        x, y = self.data.batch(indices, rng)
        return np.ascontiguousarray(x[:, :, ::-1]), y


def averaged(
    models: Sequence[Layer], data: Any, mirror: bool = False, precision: str = "fp32"
) -> NDArray[np.float64]:
    """Return the probability (n,) of each image being abnormal.

    data   a data set such as ``Radiographs``, or an array (n, side, side, channels)
    """
    if not hasattr(data, "batch"):
        data = ArrayDataset(data, np.zeros(len(data), np.int64))
    views = [data, Mirrored(data)] if mirror else [data]
    loss = SoftmaxCrossEntropy()
    return average_probabilities(
        [
            average_probabilities([predict(m, loss, v, precision=precision) for v in views])
            for m in models
        ]
    )[:, 1].astype(np.float64)
