"""Arrays between tinynet's order of axes and torch's.

           tinynet                               torch
images     (N, H, W, C)                          (N, C, H, W), in memory either way
filters    (kernel height, width, C/groups, K)   (K, C/groups, kernel height, width)
dense      (in, out)                             (out, in)
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.ops.op import CHANNELS_LAST

Array = NDArray[np.float32]


def random(seed: int, *shape: int) -> Array:
    """Standard normal numbers, the same in every process."""
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def images(x: Array, way: str) -> Any:
    """x (N, H, W, C) for torch, in memory as ``way`` says."""
    return ordered(x.transpose(0, 3, 1, 2), way)


def filters(w: Array, way: str) -> Any:
    """w (kernel height, width, C/groups, K) for torch."""
    return ordered(w.transpose(3, 2, 0, 1), way)


def ordered(x: Array, way: str) -> Any:
    """A tensor of x (four axes, torch's order), contiguous or channels last."""
    import torch

    order = torch.channels_last if way == CHANNELS_LAST else torch.contiguous_format
    return torch.from_numpy(x.copy()).contiguous(memory_format=order)


def from_images(x: Any) -> Array:
    """The reverse of ``images``."""
    array: Array = x.detach().numpy().transpose(0, 2, 3, 1)
    return array


def from_filters(w: Any) -> Array:
    """The reverse of ``filters``."""
    array: Array = w.detach().numpy().transpose(2, 3, 1, 0)
    return array
