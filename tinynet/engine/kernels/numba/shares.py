"""How a convolution is cut into pieces, and its sums over them joined."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array
from tinynet.engine.kernels.numba.block import PANEL
from tinynet.engine.kernels.numba.winograd_transforms import POINTS
from tinynet.engine.threads import over_shares

FLOAT = np.dtype(np.float32)
NO_BYTES, NO_FLOATS = np.zeros(0, np.uint8), np.zeros(0, FLOAT)

# Window positions: enough to use each filter often, few enough for the cache.
AT_A_TIME = 48
# Tiles: 24 were 5 to 15% faster than 48 where 36 (C + K) numbers a tile then fit the second-level
# cache, and 6% slower at C = K = 256, whose filters, 9 MB, come from further away.
FEW_TILES, MANY_TILES, MANY_CHANNELS = 24, 48, 256
POINTS_BYTES = 1 << 22  # of filters at the 36 points: half a millisecond's work


def tiles_at_a_time(channels: int, filters: int) -> int:
    """How many tiles of 36 (C + K) numbers are worked on together."""
    return MANY_TILES if channels + filters > MANY_CHANNELS else FEW_TILES


def panels_a_block(channels: int) -> int:
    """Panels of filters that are brought to the 36 points, or back, in one block."""
    return max(1, POINTS_BYTES // (POINTS * channels * PANEL * FLOAT.itemsize))


def added(sums: list[Array]) -> Array:
    """The sum of arrays of one shape, in their order; the first is changed."""
    first = sums[0]

    def work(part: slice) -> None:
        for other in sums[1:]:
            first[part] += other[part]

    over_shares(len(first), work)
    return first
