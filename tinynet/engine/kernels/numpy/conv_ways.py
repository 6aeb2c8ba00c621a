"""Which way convolves: by strips for 3 × 3 filters, else im2col, bundles or sums over the taps.

A small model of what was measured (float32, one core with AVX2, ns for each number of z, C = K,
forward): a plain sum takes 9C multiplications and additions, 0.23 C ns; ``Rows`` half of them and
2 ns for its transforms; ``Tiles`` a quarter and 5 ns. So at 64 channels and more ``Tiles`` wins,
if there are positions enough to share the reading of its 36 C × K filters; below, ``Rows``. With
fewer than 8 channels on a side there is next to nothing to save.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.engine.kernels import winograd_switch
from tinynet.engine.kernels.numpy import depthwise, grouped, im2col
from tinynet.engine.kernels.numpy.frame import Frame, frame_of
from tinynet.engine.kernels.numpy.planes import MOST_CHANNELS, Planes
from tinynet.engine.kernels.numpy.winograd_rows import Rows
from tinynet.engine.kernels.numpy.winograd_tiles import Tiles
from tinynet.layers.window import Window

FEWEST_CHANNELS = 8  # of C and of K, for Winograd's convolution
TILES_CHANNELS = 64  # from here on both ways, if there are so many
TILES_POSITIONS = 128


def strip_way(
    x: Array, w: Array, groups: int, window: Window, need_dx: bool = False
) -> tuple[Any, Frame] | None:
    """(way, frame) for x (N, H, W, C) and w (3, 3, C, K); None if im2col does it."""
    frame = frame_of(window)
    if frame is None or groups != 1:
        return None
    fewer = min(w.shape[2:])
    if w.shape[2] <= MOST_CHANNELS:
        return None if need_dx else (Planes, frame)
    if not winograd_switch.WINOGRAD or x.dtype != np.float32 or fewer < FEWEST_CHANNELS:
        return None
    enough = len(x) * frame.tiles * frame.across >= TILES_POSITIONS
    return (Tiles if fewer >= TILES_CHANNELS and enough else Rows), frame


def way_for(w: Array, groups: int) -> ModuleType:
    """What convolves with filters w (kernel height, kernel width, C / groups, K)."""
    if groups == 1:
        return im2col
    return depthwise if w.shape[2] == 1 else grouped
