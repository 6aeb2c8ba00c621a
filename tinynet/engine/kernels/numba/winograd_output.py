"""From the 36 points to tiles of y, z = Aᵀ M A, and from dy back, dM = A dz Aᵀ.

Bias, ReLU and pool are done here while a tile is in registers, and undone while dz is made. A tile
of 4 × 4 cells may reach beyond the output's edge; what is there is left out. ``scratch`` has room
for two patches of vectors.
"""

from __future__ import annotations

from tinynet.engine.kernels.numba.block import PANEL
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numba.strided import load_four, load_six, store_four, store_six
from tinynet.engine.kernels.numba.vector import (
    LANES,
    broadcast,
    load,
    load_bytes,
    load_some,
    store,
    store_bytes,
    store_some,
    where_equal,
    where_greater,
)
from tinynet.engine.kernels.numba.winograd_input import GAP
from tinynet.engine.kernels.numba.winograd_transforms import (
    PATCH,
    POINTS,
    TILE,
    output_gradient,
    transform_output,
)
from tinynet.engine.plan.epilogues import NO_WINNER

RELU, RELU_POOL = 1, 2  # tails, as in tinynet.engine.plan.epilogues.TAILS


@compiled
def relu(z):  # type: ignore[no-untyped-def]
    """max{z, 0}; NaN stays NaN."""
    zero = broadcast(0.0)
    return where_greater(zero, z, zero, z)


@compiled
def transform_back(m, m_at, point, bias, out, scratch):  # type: ignore[no-untyped-def]
    """Aᵀ M A + b of one tile, LANES filters: 16 vectors in ``out``."""
    for j in range(PATCH):
        column = transform_output(*load_six(m, m_at + j * point, PATCH * point))
        store_four(scratch, j * LANES, PATCH * LANES, column)
    for i in range(TILE):
        z = transform_output(*load_six(scratch, i * PATCH * LANES, LANES))
        z = (z[0] + bias, z[1] + bias, z[2] + bias, z[3] + bias)
        store_four(out, i * TILE * LANES, LANES, z)


@compiled
def output_tiles(m, b, y, winner, tail, sizes, first, count, rows, scratch):  # type: ignore[no-untyped-def]
    """From M to y: back from the points, then bias, ReLU and pool."""
    _, _, _, filters, _, _, height, width, down_tiles, across = sizes
    k_panels = (filters + PANEL - 1) // PANEL
    point = k_panels * rows * PANEL + GAP
    out = scratch[POINTS * LANES :]
    for t in range(count):
        image, inside = divmod(first + t, down_tiles * across)
        row, column = inside // across * TILE, inside % across * TILE
        i_1, j_1 = min(TILE, height - row), min(TILE, width - column)
        for k in range(0, filters, LANES):
            lanes = min(LANES, filters - k)
            bias = load_some(b, k, lanes)
            m_at = (k // PANEL * rows + t) * PANEL + k % PANEL
            transform_back(m, m_at, point, bias, out, scratch)
            if tail == RELU_POOL:
                pool_tile(out, y, winner, image, row, column, i_1, j_1, height, width, filters, k)
                continue
            at = ((image * height + row) * width + column) * filters + k
            for i in range(i_1):
                for j in range(j_1):
                    z = load(out, (i * TILE + j) * LANES)
                    if tail == RELU:
                        z = relu(z)
                    cell = at + (i * width + j) * filters
                    if lanes == LANES:
                        store(y, cell, z)
                    else:
                        store_some(y, cell, z, lanes)


@compiled
def pool_tile(out, y, winner, image, row, column, i_1, j_1, height, width, filters, k):  # type: ignore[no-untyped-def]
    """ReLU and max-pool 2×2 of one tile; the first of equal cells wins."""
    zero = broadcast(0.0)
    for i in range(i_1 // 2):
        for j in range(j_1 // 2):
            o = (2 * i * TILE + 2 * j) * LANES
            best, who = load(out, o), zero
            z = load(out, o + LANES)
            best, who = where_greater(z, best, z, best), where_greater(z, best, broadcast(1.0), who)
            z = load(out, o + TILE * LANES)
            best, who = where_greater(z, best, z, best), where_greater(z, best, broadcast(2.0), who)
            z = load(out, o + (TILE + 1) * LANES)
            best, who = where_greater(z, best, z, best), where_greater(z, best, broadcast(3.0), who)
            cell = (
                (image * (height // 2) + row // 2 + i) * (width // 2) + column // 2 + j
            ) * filters
            store(y, cell + k, relu(best))
            store_bytes(winner, cell + k, where_greater(best, zero, who, broadcast(NO_WINNER)))


@compiled
def dz_tile(dy, y, winner, tail, image, row, column, i_1, j_1, sizes, k, lanes, out):  # type: ignore[no-untyped-def]
    """dz of one tile in ``out``, LANES filters: dy back through pool and ReLU.  Returns its sum."""
    _, _, _, filters, _, _, height, width, _, _ = sizes
    zero = broadcast(0.0)
    total = zero
    if tail == RELU_POOL:
        for i in range(i_1 // 2):
            for j in range(j_1 // 2):
                cell = (image * (height // 2) + row // 2 + i) * (width // 2) + column // 2 + j
                g = load(dy, cell * filters + k)
                who = load_bytes(winner, cell * filters + k)
                o = (2 * i * TILE + 2 * j) * LANES
                store(out, o, where_equal(who, zero, g, zero))
                store(out, o + LANES, where_equal(who, broadcast(1.0), g, zero))
                store(out, o + TILE * LANES, where_equal(who, broadcast(2.0), g, zero))
                store(out, o + (TILE + 1) * LANES, where_equal(who, broadcast(3.0), g, zero))
                total = total + where_equal(who, broadcast(NO_WINNER), zero, g)
        return total
    at = ((image * height + row) * width + column) * filters + k
    for i in range(i_1):
        for j in range(j_1):
            cell = at + (i * width + j) * filters
            if lanes == LANES:
                g = load(dy, cell)
                if tail == RELU:
                    g = where_greater(load(y, cell), zero, g, zero)
            else:
                g = load_some(dy, cell, lanes)
                if tail == RELU:
                    g = where_greater(load_some(y, cell, lanes), zero, g, zero)
            store(out, (i * TILE + j) * LANES, g)
            total = total + g
    return total


@compiled
def gradient_tiles(dy, y, winner, tail, sizes, first, count, rows, dm, db, scratch):  # type: ignore[no-untyped-def]
    """DM = A dz Aᵀ of tiles, and db += Σ dz."""
    _, _, _, filters, _, _, height, width, down_tiles, across = sizes
    k_panels = (filters + PANEL - 1) // PANEL
    point = k_panels * rows * PANEL + GAP
    dz = scratch[POINTS * LANES :]
    for t in range(count):
        image, inside = divmod(first + t, down_tiles * across)
        row, column = inside // across * TILE, inside % across * TILE
        i_1, j_1 = min(TILE, height - row), min(TILE, width - column)
        if i_1 < TILE or j_1 < TILE:
            dz[: TILE * TILE * LANES] = 0
        for k in range(0, k_panels * PANEL, LANES):
            lanes = min(LANES, filters - k)
            if lanes > 0:
                total = dz_tile(
                    dy, y, winner, tail, image, row, column, i_1, j_1, sizes, k, lanes, dz
                )
                store(db, k, load(db, k) + total)
            else:
                dz[: TILE * TILE * LANES] = 0
            for j in range(TILE):
                down = output_gradient(*load_four(dz, j * LANES, TILE * LANES))
                store_six(scratch, j * LANES, TILE * LANES, down)
            m_at = (k // PANEL * rows + t) * PANEL + k % PANEL
            for i in range(PATCH):
                along = output_gradient(*load_four(scratch, i * TILE * LANES, LANES))
                store_six(dm, m_at + i * PATCH * point, point, along)
