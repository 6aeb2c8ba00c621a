"""Weight updates on strips that stay in a core's cache, on several threads.

The references make a fresh array for every intermediate; for millions of weights each is a trip to
memory and back. A rule acts on each number alone, so it is run as it is, strip by strip: the
results are the reference's bit for bit, and the intermediates stay in the cache.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinynet.backend import Array, Swappable, register
from tinynet.engine.threads import over_blocks
from tinynet.optimizers.base import UPDATE_RULES

STRIP = 1 << 15  # elements: with Adam's six arrays 768 KB in float32, within a second-level cache


def register_strips(rule: Swappable[..., None]) -> None:
    """Have ``rule`` run on strips where its arrays are long and each is in one piece of memory."""

    @register(rule, "numpy")
    def update_strips(w: Array, *arguments: Any, **more: Any) -> None:
        arrays = [w, *(a for a in arguments if isinstance(a, np.ndarray))]
        numbers = arguments[len(arrays) - 1 :]
        if w.size < 2 * STRIP or any(
            (a.shape, a.dtype) != (w.shape, w.dtype) or not a.flags.c_contiguous for a in arrays
        ):
            rule.reference(w, *arguments, **more)
            return
        flat = [a.reshape(-1) for a in arrays]
        over_blocks(
            w.size, STRIP, lambda cut: rule.reference(*(a[cut] for a in flat), *numbers, **more)
        )


for _rule in UPDATE_RULES:
    register_strips(_rule)
