"""Batches on their way to the GPU, while it works on the one before.

A copy from ordinary memory makes the processor wait while it is taken to pinned memory, page by
page. Here the thread that reads the batches does both, in a separate stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from tinynet.backend import Array, library_of, load_library, to_device


def uploaded(batches: Iterable[tuple[Array, Array]], device: str) -> Iterator[tuple[Array, Array]]:
    """(x, y) of each batch, x (m, ...) on ``device``, y there or still on the processor; in order.

    To be run by ``data.prefetch``: each x is on the GPU, whole, before it is handed on.
    """
    if device == "numpy":
        for x, y in batches:
            yield to_device(x, device), to_device(y, device)
        return
    stream = load_library("cupy").cuda.Stream(non_blocking=True)
    pinned: dict[Any, Array] = {}
    for x, y in batches:
        if library_of(x) == "numpy":
            with stream:
                x = _copied(x, pinned, stream)
        yield x, y


def _copied(x: Array, pinned: dict[Any, Array], stream: Any) -> Array:
    xp = load_library("cupy")
    key = x.shape, x.dtype
    if key not in pinned:
        memory = xp.cuda.alloc_pinned_memory(max(x.nbytes, 1))
        pinned[key] = np.frombuffer(memory, x.dtype, x.size).reshape(x.shape)
    pinned[key][...] = x
    on_gpu: Array = xp.empty(x.shape, x.dtype)
    on_gpu.set(pinned[key], stream=stream)  # type: ignore[attr-defined]
    stream.synchronize()  # the next batch is written to the same pinned memory
    return on_gpu
