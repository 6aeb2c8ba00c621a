"""Patches of x to the 36 points, V = Bᵀ d B, and gradients back, dx += B dV Bᵀ.

Patches of 6 × 6 cells lie 4 apart, so they overlap by two cells. One that reaches into the padding
is first copied, with zeros, to ``scratch``, which has room for two patches of vectors.
"""

from __future__ import annotations

from tinynet.kernels.compiled.block import PANEL
from tinynet.kernels.compiled.compile import compiled
from tinynet.kernels.compiled.vector import (
    LANES,
    broadcast,
    load,
    load_some,
    store,
    store_some,
)
from tinynet.kernels.compiled.winograd_transforms import (
    PATCH,
    POINTS,
    TILE,
    input_gradient,
    transform_input,
)

GAP = 16  # numbers between the matrices of two points: 36 streams a power of two apart would
# all fall on the same lines of the cache


@compiled
def transform_patch(x, at, down, right, v, v_at, point, scratch):  # type: ignore[no-untyped-def]
    """Bᵀ d B of one patch, LANES channels: its columns first, then the rows of the result."""
    for j in range(PATCH):
        i = at + j * right
        t0, t1, t2, t3, t4, t5 = transform_input(
            load(x, i),
            load(x, i + down),
            load(x, i + 2 * down),
            load(x, i + 3 * down),
            load(x, i + 4 * down),
            load(x, i + 5 * down),
        )
        store(scratch, j * LANES, t0)
        store(scratch, (PATCH + j) * LANES, t1)
        store(scratch, (2 * PATCH + j) * LANES, t2)
        store(scratch, (3 * PATCH + j) * LANES, t3)
        store(scratch, (4 * PATCH + j) * LANES, t4)
        store(scratch, (5 * PATCH + j) * LANES, t5)
    for i in range(PATCH):
        s = i * PATCH * LANES
        t0, t1, t2, t3, t4, t5 = transform_input(
            load(scratch, s),
            load(scratch, s + LANES),
            load(scratch, s + 2 * LANES),
            load(scratch, s + 3 * LANES),
            load(scratch, s + 4 * LANES),
            load(scratch, s + 5 * LANES),
        )
        v_i = v_at + i * PATCH * point
        store(v, v_i, t0)
        store(v, v_i + point, t1)
        store(v, v_i + 2 * point, t2)
        store(v, v_i + 3 * point, t3)
        store(v, v_i + 4 * point, t4)
        store(v, v_i + 5 * point, t5)


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
                i = v_at + j * point
                t0, t1, t2, t3, t4, t5 = input_gradient(
                    load(dv, i),
                    load(dv, i + PATCH * point),
                    load(dv, i + 2 * PATCH * point),
                    load(dv, i + 3 * PATCH * point),
                    load(dv, i + 4 * PATCH * point),
                    load(dv, i + 5 * PATCH * point),
                )
                store(scratch, j * LANES, t0)
                store(scratch, (PATCH + j) * LANES, t1)
                store(scratch, (2 * PATCH + j) * LANES, t2)
                store(scratch, (3 * PATCH + j) * LANES, t3)
                store(scratch, (4 * PATCH + j) * LANES, t4)
                store(scratch, (5 * PATCH + j) * LANES, t5)
            lanes = min(LANES, channels - c)
            whole = lanes == LANES and j_0 == 0 and j_1 == PATCH
            for i in range(i_0, i_1):
                s = i * PATCH * LANES
                t0, t1, t2, t3, t4, t5 = input_gradient(
                    load(scratch, s),
                    load(scratch, s + LANES),
                    load(scratch, s + 2 * LANES),
                    load(scratch, s + 3 * LANES),
                    load(scratch, s + 4 * LANES),
                    load(scratch, s + 5 * LANES),
                )
                cell = at + i * width * channels + c
                if whole:
                    store(dx, cell, load(dx, cell) + t0)
                    cell += channels
                    store(dx, cell, load(dx, cell) + t1)
                    cell += channels
                    store(dx, cell, load(dx, cell) + t2)
                    cell += channels
                    store(dx, cell, load(dx, cell) + t3)
                    cell += channels
                    store(dx, cell, load(dx, cell) + t4)
                    cell += channels
                    store(dx, cell, load(dx, cell) + t5)
                    continue
                store(scratch, s, t0)
                store(scratch, s + LANES, t1)
                store(scratch, s + 2 * LANES, t2)
                store(scratch, s + 3 * LANES, t3)
                store(scratch, s + 4 * LANES, t4)
                store(scratch, s + 5 * LANES, t5)
                for j in range(j_0, j_1):
                    z, there = load(scratch, s + j * LANES), cell + j * channels
                    if lanes == LANES:
                        store(dx, there, load(dx, there) + z)
                    else:
                        store_some(dx, there, load_some(dx, there, lanes) + z, lanes)
