"""Convolution 3×3 at stride 1 by Winograd's F(4×4, 3×3), with what follows it, piece by piece.

For a few dozen tiles of 4 × 4 outputs at a time, from whichever images,

    forward    V = Bᵀ d B;   M_f = V_f U_f at each of the 36 points f;   z = Aᵀ M A;   bias, ReLU, pool
    backward   dM = A dz Aᵀ, with dz made from dy, ReLU and pool;   V = Bᵀ d B, again
               dU_f += V_fᵀ dM_f;   dV_f = dM_f U_fᵀ;   dx += B dV Bᵀ

where V_f is (tiles, C), U_f (C, K), M_f (tiles, K). All that is between stays in the cache; what
goes to memory is x, y and their gradients, once each. The formulas are in
``winograd_transforms.py``, the products in ``block.py``.

A quarter of the multiplications is left. The price is rounding: see docs/performance.md for the
measured error, and TINYNET_WINOGRAD=0 turns this off.

Flat arrays and plain numbers come in: see ``conv_block.py`` for shapes and for who calls this.
"""

from __future__ import annotations

from tinynet.blocks import NOBODY
from tinynet.kernels.compiled.block import PANEL, add_outer, multiply
from tinynet.kernels.compiled.compile import compiled
from tinynet.kernels.compiled.vector import (
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
from tinynet.kernels.compiled.winograd_transforms import (
    PATCH,
    POINTS,
    TILE,
    input_gradient,
    output_gradient,
    transform_input,
    transform_output,
)

GAP = 16  # numbers between the matrices of two points: 36 streams a power of two apart would
# all fall on the same lines of the cache
NONE, RELU, RELU_POOL = 0, 1, 2  # tails, as in tinynet.blocks.TAILS


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
def relu(z):  # type: ignore[no-untyped-def]
    """max{z, 0}; NaN stays NaN."""
    zero = broadcast(0.0)
    return where_greater(zero, z, zero, z)


@compiled
def transform_back(m, m_at, point, bias, out, scratch):  # type: ignore[no-untyped-def]
    """Aᵀ M A + b of one tile, LANES filters: 16 vectors in ``out``."""
    for j in range(PATCH):
        i = m_at + j * point
        t0, t1, t2, t3 = transform_output(
            load(m, i),
            load(m, i + PATCH * point),
            load(m, i + 2 * PATCH * point),
            load(m, i + 3 * PATCH * point),
            load(m, i + 4 * PATCH * point),
            load(m, i + 5 * PATCH * point),
        )
        store(scratch, j * LANES, t0)
        store(scratch, (PATCH + j) * LANES, t1)
        store(scratch, (2 * PATCH + j) * LANES, t2)
        store(scratch, (3 * PATCH + j) * LANES, t3)
    for i in range(TILE):
        s = i * PATCH * LANES
        t0, t1, t2, t3 = transform_output(
            load(scratch, s),
            load(scratch, s + LANES),
            load(scratch, s + 2 * LANES),
            load(scratch, s + 3 * LANES),
            load(scratch, s + 4 * LANES),
            load(scratch, s + 5 * LANES),
        )
        o = i * TILE * LANES
        store(out, o, t0 + bias)
        store(out, o + LANES, t1 + bias)
        store(out, o + 2 * LANES, t2 + bias)
        store(out, o + 3 * LANES, t3 + bias)


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
            store_bytes(winner, cell + k, where_greater(best, zero, who, broadcast(NOBODY)))


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
                total = total + where_equal(who, broadcast(NOBODY), zero, g)
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
                t0, t1, t2, t3, t4, t5 = output_gradient(
                    load(dz, j * LANES),
                    load(dz, (TILE + j) * LANES),
                    load(dz, (2 * TILE + j) * LANES),
                    load(dz, (3 * TILE + j) * LANES),
                )
                store(scratch, j * LANES, t0)
                store(scratch, (TILE + j) * LANES, t1)
                store(scratch, (2 * TILE + j) * LANES, t2)
                store(scratch, (3 * TILE + j) * LANES, t3)
                store(scratch, (4 * TILE + j) * LANES, t4)
                store(scratch, (5 * TILE + j) * LANES, t5)
            m_at = (k // PANEL * rows + t) * PANEL + k % PANEL
            for i in range(PATCH):
                s = i * TILE * LANES
                t0, t1, t2, t3, t4, t5 = output_gradient(
                    load(scratch, s),
                    load(scratch, s + LANES),
                    load(scratch, s + 2 * LANES),
                    load(scratch, s + 3 * LANES),
                )
                m_i = m_at + i * PATCH * point
                store(dm, m_i, t0)
                store(dm, m_i + point, t1)
                store(dm, m_i + 2 * point, t2)
                store(dm, m_i + 3 * point, t3)
                store(dm, m_i + 4 * point, t4)
                store(dm, m_i + 5 * point, t5)


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


@compiled
def forward(x, u, b, y, winner, tail, sizes, first, last, rows, v, m, scratch):  # type: ignore[no-untyped-def]
    """Y of the tiles first … last − 1, ``rows`` at a time."""
    _, _, channels, filters, _, _, _, _, _, _ = sizes
    c_panels, k_panels = (channels + PANEL - 1) // PANEL, (filters + PANEL - 1) // PANEL
    v_point, m_point = c_panels * rows * PANEL + GAP, k_panels * rows * PANEL + GAP
    u_point = k_panels * c_panels * PANEL * PANEL
    for start in range(first, last, rows):
        count = min(rows, last - start)
        input_tiles(x, sizes, start, count, rows, v, scratch)
        for f in range(POINTS):
            multiply(
                v, f * v_point, c_panels, u, f * u_point, m, f * m_point, k_panels, count, rows
            )
        output_tiles(m, b, y, winner, tail, sizes, start, count, rows, scratch)


@compiled
def backward(dy, x, ut, y, winner, tail, sizes, first, last, rows, dx, du, db, v, m, scratch):  # type: ignore[no-untyped-def]
    """dU += and db += of the tiles first … last − 1; dx += too, unless dx is empty."""
    _, _, channels, filters, _, _, _, _, _, _ = sizes
    c_panels, k_panels = (channels + PANEL - 1) // PANEL, (filters + PANEL - 1) // PANEL
    v_point, m_point = c_panels * rows * PANEL + GAP, k_panels * rows * PANEL + GAP
    u_point = k_panels * c_panels * PANEL * PANEL
    for start in range(first, last, rows):
        count = min(rows, last - start)
        input_tiles(x, sizes, start, count, rows, v, scratch)
        gradient_tiles(dy, y, winner, tail, sizes, start, count, rows, m, db, scratch)
        for f in range(POINTS):
            add_outer(
                v, f * v_point, c_panels, m, f * m_point, k_panels, du, f * u_point, count, rows
            )
        if dx.size == 0:
            continue
        for f in range(POINTS):  # V is not needed any more: dV takes its place
            multiply(
                m, f * m_point, k_panels, ut, f * u_point, v, f * v_point, c_panels, count, rows
            )
        input_gradient_tiles(v, dx, sizes, start, count, rows, scratch)
