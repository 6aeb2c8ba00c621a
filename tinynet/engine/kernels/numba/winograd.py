"""Convolution 3×3 at stride 1 by Winograd's F(4×4, 3×3), with its epilogue, piece by piece.

The algorithm and its matrices are those of ``kernels/numpy/winograd.py``, nested: 36
multiplications for a tile of 4 × 4 outputs instead of 144. For a few dozen tiles at a time, from
whichever images,

    forward    V = Bᵀ d B;   M_f = V_f U_f at each of the 36 points f;   z = Aᵀ M A, its epilogue
    backward   dM = A dz Aᵀ, with dz made from dy, ReLU and pool;   V = Bᵀ d B, again
               dU_f += V_fᵀ dM_f;   dV_f = dM_f U_fᵀ;   dx += B dV Bᵀ
    filters    U = G g Gᵀ before, dw = Gᵀ dU G after

where V_f is (tiles, C), U_f (C, K), M_f (tiles, K). All that is between stays in the cache; what
goes to memory is x, y and their gradients, once each. The products are those of ``products.py``.

The price is rounding: docs/performance.md has the measured error, and TINYNET_WINOGRAD=0 turns
this off.

Flat arrays and plain numbers come in: see ``conv.py`` for shapes and callers. ``scratch`` has room
for two patches of vectors.
Source: Lavin & Gray 2015, "Fast algorithms for convolutional neural networks", §4.
"""

from __future__ import annotations

from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numba.products import GAP, PANEL, add_outer, multiply
from tinynet.engine.kernels.numba.vectors import (
    LANES,
    add_six,
    broadcast,
    load,
    load_bytes,
    load_four,
    load_six,
    load_some,
    load_some_of_three,
    load_three,
    store,
    store_bytes,
    store_four,
    store_six,
    store_some,
    store_some_of_three,
    store_three,
    where_equal,
    where_greater,
)
from tinynet.engine.plan.epilogues import NO_WINNER

TILE = 4  # outputs a side
PATCH = 6  # inputs under them
POINTS = PATCH * PATCH
RELU, RELU_POOL = 1, 2  # as in tinynet.engine.plan.epilogues.EPILOGUES

# Each of the next functions is one of the matrices times a vector; the numbers may be floats,
# NumPy arrays or registers full of channels.


@compiled
def transform_filter(g0, g1, g2):  # type: ignore[no-untyped-def]
    """G g: six numbers from three."""
    sixth, outer = (1 / 6) * (g0 + g2), (1 / 24) * g0 + (1 / 6) * g2
    return (
        0.25 * g0,
        -1 * (sixth + (1 / 6) * g1),
        (1 / 6) * g1 - sixth,
        outer + (1 / 12) * g1,
        outer - (1 / 12) * g1,
        g2,
    )


@compiled
def filter_gradient(u0, u1, u2, u3, u4, u5):  # type: ignore[no-untyped-def]
    """Gᵀ u, the transpose of ``transform_filter``: three numbers from six."""
    near, far = (1 / 6) * (u1 + u2), u3 + u4
    return (
        0.25 * u0 - near + (1 / 24) * far,
        (1 / 6) * (u2 - u1) + (1 / 12) * (u3 - u4),
        (1 / 6) * far - near + u5,
    )


@compiled
def transform_input(d0, d1, d2, d3, d4, d5):  # type: ignore[no-untyped-def]
    """Bᵀ d: six numbers from six."""
    even, odd = d4 - 4 * d2, d3 - 4 * d1
    close, apart = d4 - d2, 2 * (d3 - d1)
    return (
        4 * d0 - 5 * d2 + d4,
        even + odd,
        even - odd,
        close + apart,
        close - apart,
        4 * d1 - 5 * d3 + d5,
    )


@compiled
def input_gradient(v0, v1, v2, v3, v4, v5):  # type: ignore[no-untyped-def]
    """B v, the transpose of ``transform_input``: six numbers from six."""
    near, far = v1 + v2, v3 + v4
    near_odd, far_odd = v1 - v2, 2 * (v3 - v4)
    return (
        4 * v0,
        4 * (v5 - near_odd) - far_odd,
        -5 * v0 - 4 * near - far,
        near_odd + far_odd - 5 * v5,
        v0 + near + far,
        v5,
    )


@compiled
def transform_output(m0, m1, m2, m3, m4, m5):  # type: ignore[no-untyped-def]
    """Aᵀ m: four numbers from six."""
    near, far = m1 + m2, m3 + m4
    near_odd, far_odd = m1 - m2, 2 * (m3 - m4)
    return m0 + near + far, near_odd + far_odd, near + 4 * far, near_odd + 4 * far_odd + m5


@compiled
def output_gradient(z0, z1, z2, z3):  # type: ignore[no-untyped-def]
    """A z, the transpose of ``transform_output``: six numbers from four."""
    even, odd = z0 + z2, z1 + z3
    even_far, odd_far = z0 + 4 * z2, 2 * z1 + 8 * z3
    return z0, even + odd, even - odd, even_far + odd_far, even_far - odd_far, z3


@compiled
def filters_to_points(w, channels, filters, first, last, u, scratch):  # type: ignore[no-untyped-def]
    """U of the panels first … last − 1 of filters, from w (3, 3, C, K).

    U is 36 matrices (panels of K, C rounded up to panels, PANEL), GAP apart; all arrays are flat.
    """
    rows = (channels + PANEL - 1) // PANEL * PANEL
    point = (filters + PANEL - 1) // PANEL * rows * PANEL + GAP
    tap, down = channels * filters, PATCH * point
    for panel in range(first, last):
        for c in range(rows):
            for k in range(panel * PANEL, (panel + 1) * PANEL, LANES):
                lanes = max(0, min(LANES, filters - k))
                u_at = (panel * rows + c) * PANEL + k - panel * PANEL
                if c >= channels or lanes == 0:
                    for f in range(POINTS):
                        store(u, u_at + f * point, broadcast(0.0))
                    continue
                at = c * filters + k
                for i in range(3):  # Gᵀ from the right: rows of three to rows of six
                    a = at + 3 * i * tap
                    if lanes == LANES:
                        row = transform_filter(*load_three(w, a, tap))
                    else:
                        row = transform_filter(*load_some_of_three(w, a, tap, lanes))
                    store_six(scratch, i * PATCH * LANES, LANES, row)
                for j in range(PATCH):  # G from the left: three such rows to six
                    column = load_three(scratch, j * LANES, PATCH * LANES)
                    store_six(u, u_at + j * point, down, transform_filter(*column))


@compiled
def points_to_filters(du, channels, filters, first, last, dw, scratch):  # type: ignore[no-untyped-def]
    """∂L/∂w (3, 3, C, K) of the panels first … last − 1 of filters, from dU, as U; all flat."""
    rows = (channels + PANEL - 1) // PANEL * PANEL
    point = (filters + PANEL - 1) // PANEL * rows * PANEL + GAP
    tap, down = channels * filters, PATCH * point
    for panel in range(first, last):
        for c in range(channels):
            for k in range(panel * PANEL, min((panel + 1) * PANEL, filters), LANES):
                lanes = min(LANES, filters - k)
                u_at = (panel * rows + c) * PANEL + k - panel * PANEL
                for j in range(PATCH):
                    column = filter_gradient(*load_six(du, u_at + j * point, down))
                    store_three(scratch, j * LANES, PATCH * LANES, column)
                for i in range(3):
                    row = filter_gradient(*load_six(scratch, i * PATCH * LANES, LANES))
                    a = c * filters + k + 3 * i * tap
                    if lanes == LANES:
                        store_three(dw, a, tap, row)
                    else:
                        store_some_of_three(dw, a, tap, row, lanes)


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
    """V of ``count`` tiles from number ``first`` on; ``rows`` is what a panel has room for.

    A patch of 6 × 6 cells that reaches into the padding is first copied, with zeros.
    """
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
    """B dV Bᵀ added to dx: patches of 6 × 6 that overlap by two cells."""
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
def output_tiles(m, b, y, winner, epilogue, sizes, first, count, rows, scratch):  # type: ignore[no-untyped-def]
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
            if epilogue == RELU_POOL:
                pool_tile(out, y, winner, image, row, column, i_1, j_1, height, width, filters, k)
                continue
            at = ((image * height + row) * width + column) * filters + k
            for i in range(i_1):
                for j in range(j_1):
                    z = load(out, (i * TILE + j) * LANES)
                    if epilogue == RELU:
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
def dz_tile(dy, y, winner, epilogue, image, row, column, i_1, j_1, sizes, k, lanes, out):  # type: ignore[no-untyped-def]
    """dz of one tile in ``out``, LANES filters: dy back through pool and ReLU.  Returns its sum."""
    _, _, _, filters, _, _, height, width, _, _ = sizes
    zero = broadcast(0.0)
    total = zero
    if epilogue == RELU_POOL:
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
                if epilogue == RELU:
                    g = where_greater(load(y, cell), zero, g, zero)
            else:
                g = load_some(dy, cell, lanes)
                if epilogue == RELU:
                    g = where_greater(load_some(y, cell, lanes), zero, g, zero)
            store(out, (i * TILE + j) * LANES, g)
            total = total + g
    return total


@compiled
def gradient_tiles(dy, y, winner, epilogue, sizes, first, count, rows, dm, db, scratch):  # type: ignore[no-untyped-def]
    """A dz Aᵀ of tiles to dM, and Σ dz added to db."""
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
                    dy, y, winner, epilogue, image, row, column, i_1, j_1, sizes, k, lanes, dz
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


@compiled
def forward(x, u, b, y, winner, epilogue, sizes, first, last, rows, v, m, scratch):  # type: ignore[no-untyped-def]
    """The output of the tiles first … last − 1, ``rows`` at a time."""
    _, _, channels, filters, _, _, _, _, _, _ = sizes
    c_panels, k_panels = (channels + PANEL - 1) // PANEL, (filters + PANEL - 1) // PANEL
    v_point, m_point = c_panels * rows * PANEL + GAP, k_panels * rows * PANEL + GAP
    u_point = k_panels * c_panels * PANEL * PANEL + GAP
    for start in range(first, last, rows):
        count = min(rows, last - start)
        input_tiles(x, sizes, start, count, rows, v, scratch)
        for f in range(POINTS):
            multiply(
                v, f * v_point, channels, u, f * u_point, m, f * m_point, k_panels, count, rows
            )
        output_tiles(m, b, y, winner, epilogue, sizes, start, count, rows, scratch)


@compiled
def backward(dy, x, ut, y, winner, epilogue, sizes, first, last, rows, dx, du, db, v, m, scratch):  # type: ignore[no-untyped-def]
    """Add what the tiles first … last − 1 give to dU, db and, unless it is empty, dx."""
    _, _, channels, filters, _, _, _, _, _, _ = sizes
    c_panels, k_panels = (channels + PANEL - 1) // PANEL, (filters + PANEL - 1) // PANEL
    v_point, m_point = c_panels * rows * PANEL + GAP, k_panels * rows * PANEL + GAP
    u_point = k_panels * c_panels * PANEL * PANEL + GAP
    for start in range(first, last, rows):
        count = min(rows, last - start)
        input_tiles(x, sizes, start, count, rows, v, scratch)
        gradient_tiles(dy, y, winner, epilogue, sizes, start, count, rows, m, db, scratch)
        for f in range(POINTS):
            add_outer(
                v, f * v_point, c_panels, m, f * m_point, k_panels, du, f * u_point, count, rows
            )
        if dx.size == 0:
            continue
        for f in range(POINTS):  # V is not needed any more: dV takes its place
            multiply(
                m, f * m_point, filters, ut, f * u_point, v, f * v_point, c_panels, count, rows
            )
        input_gradient_tiles(v, dx, sizes, start, count, rows, scratch)
