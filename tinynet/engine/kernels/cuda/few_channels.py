"""Convolutions of images with few channels: launchers of ``few_channels.cu``."""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array, load_library
from tinynet.engine.kernels.cuda.launch import THREADS, blocks, contiguous
from tinynet.engine.kernels.cuda.source import Definitions, dtype_macros, function, window_macros
from tinynet.layers.window import Window

MOST_CHANNELS = 4
MOST_SHARED = 40_000  # bytes of filters that a block keeps
TAPS_EACH = 9  # sums of a thread, for each of its filters
MOST_PARTS = 528  # four blocks for each of 132 multiprocessors
ROUNDS = 16  # positions that a thread goes through, at least


def covers(x: Array, w: Array, groups: int) -> bool:
    """Return True if the kernels here convolve x (N, H, W, C) with w (kh, kw, C, K)."""
    few = groups == 1 and w.shape[2] <= MOST_CHANNELS
    fits = w.nbytes <= MOST_SHARED and w.shape[3] // each(w.shape[3]) <= THREADS
    return dtype_macros(x, w) is not None and few and fits and x.size > 0


def convolve(x: Array, w: Array, b: Array | None, window: Window, relu: bool = False) -> Array:
    """z (N, H', W', K) = x * w + b, or max{z, 0}."""
    n, filters = len(x), w.shape[3]
    z = load_library("cupy").empty((n, *window.output_size, filters), x.dtype)
    given = definitions(x, w, window, has_bias=b is not None, relu=relu)
    kernel = function("few_channels", "few_channels_forward", given)
    x, w = contiguous(x), contiguous(w)
    arguments = x, w, w if b is None else contiguous(b), z, np.int32(n)
    kernel((blocks(z.size // each(filters)),), (THREADS,), arguments)
    return z


def weight_gradient(dz: Array, x: Array, w: Array, window: Window) -> Array:
    """dw (the shape of w); the order of summation is deterministic."""
    n, lanes = len(x), w.shape[3] // each(w.shape[3])
    rows = max(1, THREADS // lanes)
    parts = max(1, min(MOST_PARTS, dz[..., 0].size // (rows * ROUNDS)))
    dw = load_library("cupy").empty((parts, *w.shape), w.dtype)
    given = definitions(x, w, window, rows=rows)
    kernel = function("few_channels", "few_channels_weight_gradient", given)
    chunks = -(-w[..., 0].size // TAPS_EACH)
    arguments = contiguous(x), contiguous(dz), dw, np.int32(n), np.int32(parts)
    kernel((parts, chunks), (lanes, rows), arguments)
    return dw[0] if parts == 1 else dw.sum(axis=0)


def each(filters: int) -> int:
    """Neighbouring filters of a thread: up to 4, as divides their number."""
    return next(count for count in (4, 2, 1) if filters % count == 0)


def definitions(
    x: Array,
    w: Array,
    window: Window,
    has_bias: bool = False,
    relu: bool = False,
    rows: int = 1,
) -> Definitions:
    """The macros of ``few_channels.cu``."""
    return (
        *(dtype_macros(x, w) or ()),
        *(("CHANNELS", w.shape[2]), ("FILTERS", w.shape[3]), ("EACH", each(w.shape[3]))),
        *window_macros(window),
        *(("HAS_BIAS", int(has_bias)), ("RELU", int(relu))),
        *(("ROWS", rows), ("TAPS_EACH", TAPS_EACH)),
    )
