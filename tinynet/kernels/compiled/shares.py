"""How a convolution is cut into pieces, by shapes alone: results do not depend on the threads."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array
from tinynet.kernels.cpu.threads import over_blocks

FLOAT = np.dtype(np.float32)
NO_BYTES, NO_FLOATS = np.zeros(0, np.uint8), np.zeros(0, FLOAT)

# Window positions: enough to use each filter often, few enough for the cache.
AT_A_TIME = 48
# Tiles: 24 were 5 to 15% faster than 48 where 36 (C + K) numbers a tile then fit the second-level
# cache, and 6% slower at C = K = 256, whose filters, 9 MB, come from further away.
FEW_TILES, MANY_TILES, MANY_CHANNELS = 24, 48, 256
BLOCKS = 32  # a batch is cut into at most so many
SUM_BYTES = 1 << 25  # for the partial sums of the filters' gradient, one for each block
FEWEST_SUMS, SUMS = 4, 16


def tiles_at_a_time(channels: int, filters: int) -> int:
    """How many tiles of 36 (C + K) numbers are worked on together."""
    return MANY_TILES if channels + filters > MANY_CHANNELS else FEW_TILES


def positions_a_block(positions: int, rows: int) -> int:
    """Tiles or window positions in one block, a multiple of ``rows`` unless it is the only one."""
    return -(-positions // (BLOCKS * rows)) * rows


def images_a_sum(images: int, bytes_a_sum: int) -> int:
    """Images in one block, where each block has a sum of its own."""
    sums = max(FEWEST_SUMS, min(SUMS, SUM_BYTES // bytes_a_sum))
    return -(-images // sums)


def added(sums: list[Array]) -> Array:
    """The sum of arrays of one shape, in their order; the first is changed."""
    first = sums[0]

    def work(part: slice) -> None:
        for other in sums[1:]:
            first[part] += other[part]

    over_blocks(len(first), -(-len(first) // BLOCKS), work)
    return first
