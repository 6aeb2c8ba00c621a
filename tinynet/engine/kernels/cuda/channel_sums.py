"""Sums over all axes but the last: what starts the kernels of ``channel_sums.cu``."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, load_library
from tinynet.engine.kernels.cuda.columns import FINISH, divide
from tinynet.engine.kernels.cuda.launch import plain
from tinynet.engine.kernels.cuda.source import function, kinds
from tinynet.engine.precision import is_bfloat16


def channel_sums(x: Array) -> Array:
    """The sum of each channel, the gradient of a bias.  Report §2.5.6.

        db[c] = Σ x[..., c]

    x (..., C) in float32, float64 or bfloat16.  Returns db (C,), float32 for bfloat16.
    Sums of other dtypes are CuPy's.
    """
    types, channels = kinds(x), x.shape[-1]
    if types is None or not x.size:
        return x.sum(axis=tuple(range(x.ndim - 1)))
    xp, x = load_library("cupy"), plain(x)
    rows = x.size // channels
    by = divide(rows, channels, x.itemsize, x)
    dtype = real_dtype(x)
    parts = xp.empty((by.parts, channels), dtype)
    given = (*types, *by.definitions)
    arguments = x, parts, np.int64(rows), np.int32(channels), np.int64(by.chunk)
    function("channel_sums", "channel_sums_parts", given)(by.grid, by.block, arguments)
    if by.parts == 1:
        return parts[0]
    sums = xp.empty(channels, dtype)
    finish = function("channel_sums", "channel_sums_finish", given)
    finish(by.finish, FINISH, (parts, sums, np.int32(by.parts), np.int32(channels)))
    return sums


def real_dtype(x: Array) -> np.dtype[np.floating]:
    """The dtype of sums over x: its own, float32 where x is bfloat16."""
    return np.dtype(np.float32) if is_bfloat16(x) else x.dtype
