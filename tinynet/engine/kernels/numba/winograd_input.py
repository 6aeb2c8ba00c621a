"""Patches of x to the 36 points, V = Bᵀ d B, and gradients back, dx += B dV Bᵀ.

Patches of 6 × 6 cells lie 4 apart, so they overlap by two cells. One that reaches into the padding
is first copied, with zeros, to ``scratch``, which has room for two patches of vectors.
"""

from __future__ import annotations

from tinynet.engine.kernels.numba.block import GAP, PANEL
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numba.strided import add_six, load_six, store_six
from tinynet.engine.kernels.numba.vector import (
    LANES,
    broadcast,
    load,
    load_some,
    store,
    store_some,
)
from tinynet.engine.kernels.numba.winograd_transforms import (
    PATCH,
    POINTS,
    TILE,
    input_gradient,
    transform_input,
)


@compiled
def transform_patch(x, at, down, right, v, v_at, point, scratch):  # type: ignore[no-untyped-def]
    """Bᵀ d B of one patch, LANES channels: its columns first, then the rows of the result."""
    for j in range(PATCH):
        column = transform_input(*load_six(x, at + j * right, down))
        store_six(scratch, j * LANES, PATCH * LANES, column)
    for i in range(PATCH):
        row = transform_input(*load_six(scratch, i * PATCH * LANES, LANES))
        store_six(v, v_at + i * PATCH * point, point, row)


@compiled
def input_tiles(x, sizes, first, count, rows, v, scratch):  # type: ignore[no-untyped-def]
    """V of ``count`` tiles from number ``first`` on; ``rows`` is what a panel has room for."""
    height, width, channels, _, top, left, _, _, down_tiles, across = sizes
    c_panels = (channels + PANEL - 1) // PANEL
    point = c_panels * rows * PANEL + GAP
    patch = scratch[POINTS * LANES :]
    for t in range(count):
        image, inside = divmod(first + t, down_tiles * across)
        row, column = inside // across * TILE - top, inside % across * TILE - left
        whole = row >= 0 and column >= 0 and row + PATCH <= height and column + PATCH <= width
        if not whole or channels % LANES:
            patch[: POINTS * LANES] = 0
        at = ((image * height + row) * width + column) * channels
        i_0, i_1 = max(0, -row), min(PATCH, height - row)
        j_0, j_1 = max(0, -column), min(PATCH, width - column)
        for c in range(0, c_panels * PANEL, LANES):
            v_at = (c // PANEL * rows + t) * PANEL + c % PANEL
            lanes = min(LANES, channels - c)
            if whole and lanes == LANES:
                transform_patch(x, at + c, width * channels, channels, v, v_at, point, scratch)
                continue
            for i in range(i_0, i_1):
                for j in range(j_0, j_1):
                    cell = at + (i * width + j) * channels + c
                    if lanes == LANES:
                        store(patch, (i * PATCH + j) * LANES, load(x, cell))
                    elif lanes > 0:
                        store(patch, (i * PATCH + j) * LANES, load_some(x, cell, lanes))
                    else:
                        store(patch, (i * PATCH + j) * LANES, broadcast(0.0))
            transform_patch(patch, 0, PATCH * LANES, LANES, v, v_at, point, scratch)


@compiled
def input_gradient_tiles(dv, dx, sizes, first, count, rows, scratch):  # type: ignore[no-untyped-def]
    """Dx += B dV Bᵀ: patches of 6 × 6 that overlap by two cells."""
    height, width, channels, _, top, left, _, _, down_tiles, across = sizes
    c_panels = (channels + PANEL - 1) // PANEL
    point = c_panels * rows * PANEL + GAP
    for t in range(count):
        image, inside = divmod(first + t, down_tiles * across)
        row, column = inside // across * TILE - top, inside % across * TILE - left
        at = ((image * height + row) * width + column) * channels
        i_0, i_1 = max(0, -row), min(PATCH, height - row)
        j_0, j_1 = max(0, -column), min(PATCH, width - column)
        for c in range(0, channels, LANES):
            v_at = (c // PANEL * rows + t) * PANEL + c % PANEL
            for j in range(PATCH):
                dv_column = load_six(dv, v_at + j * point, PATCH * point)
                store_six(scratch, j * LANES, PATCH * LANES, input_gradient(*dv_column))
            lanes = min(LANES, channels - c)
            whole = lanes == LANES and j_0 == 0 and j_1 == PATCH
            for i in range(i_0, i_1):
                s = i * PATCH * LANES
                dd = input_gradient(*load_six(scratch, s, LANES))
                cell = at + i * width * channels + c
                if whole:
                    add_six(dx, cell, channels, dd)
                    continue
                store_six(scratch, s, LANES, dd)
                for j in range(j_0, j_1):
                    z, there = load(scratch, s + j * LANES), cell + j * channels
                    if lanes == LANES:
                        store(dx, there, load(dx, there) + z)
                    else:
                        store_some(dx, there, load_some(dx, there, lanes) + z, lanes)
