"""Products of matrices kept in panels, with the sums in registers.

A matrix (rows, columns) in panels is an array (columns / PANEL, rows, PANEL): PANEL columns side by
side, for all rows. What the innermost loop reads then lies in one run of memory.

    multiply     C = A B        6 rows × 2 vectors of C in registers
    add_outer    C += Aᵀ B      4 rows × 2 vectors

Twelve (eight) independent sums hide the time that one multiplication with addition takes, and a
vector loaded once serves six (four) of them. All arrays are flat, float32; ``…_at`` is where a
matrix starts.
Source: the shape of such blocks is explained in Goto & van de Geijn 2008, "Anatomy of
high-performance matrix multiplication".
"""

from __future__ import annotations

from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numba.vectors import (
    LANES,
    broadcast,
    load,
    load_broadcast,
    multiply_add,
    store,
)

PANEL = 2 * LANES
ROWS = 6  # of C that ``multiply`` makes at a time
# Numbers between matrices that are written together: streams a power of two apart would all fall on
# the same few lines of the cache.
GAP = 16


def panels(columns: int) -> int:
    """Return the number of panels that hold ``columns``; the last may be partly unused."""
    return -(-columns // PANEL)


def whole_rows(rows: int) -> int:
    """``rows`` rounded up to what ``multiply`` writes."""
    return -(-rows // ROWS) * ROWS


@compiled
def multiply(a, a_at, inner, b, b_at, c, c_at, c_panels, rows, stride):  # type: ignore[no-untyped-def]
    """C (rows, c_panels · PANEL) = A (rows, inner) B, all in panels.

    stride   rows that a panel of A and of C has room for: a multiple of ROWS, at least ``rows``;
             rows of C from ``rows`` up to the next multiple are overwritten with anything
    """
    a_panels = (inner + PANEL - 1) // PANEL
    a_panel, b_panel, c_panel = stride * PANEL, a_panels * PANEL * PANEL, stride * PANEL
    for j in range(c_panels):
        for row in range(0, rows, ROWS):
            zero = broadcast(0.0)
            c00, c01, c10, c11, c20, c21 = zero, zero, zero, zero, zero, zero
            c30, c31, c40, c41, c50, c51 = zero, zero, zero, zero, zero, zero
            b_i = b_at + j * b_panel
            for s in range(a_panels):
                a_i = a_at + s * a_panel + row * PANEL
                for q in range(min(PANEL, inner - s * PANEL)):
                    b0, b1 = load(b, b_i), load(b, b_i + LANES)
                    b_i += PANEL
                    a0 = load_broadcast(a, a_i + q)
                    c00, c01 = multiply_add(a0, b0, c00), multiply_add(a0, b1, c01)
                    a1 = load_broadcast(a, a_i + q + PANEL)
                    c10, c11 = multiply_add(a1, b0, c10), multiply_add(a1, b1, c11)
                    a2 = load_broadcast(a, a_i + q + 2 * PANEL)
                    c20, c21 = multiply_add(a2, b0, c20), multiply_add(a2, b1, c21)
                    a3 = load_broadcast(a, a_i + q + 3 * PANEL)
                    c30, c31 = multiply_add(a3, b0, c30), multiply_add(a3, b1, c31)
                    a4 = load_broadcast(a, a_i + q + 4 * PANEL)
                    c40, c41 = multiply_add(a4, b0, c40), multiply_add(a4, b1, c41)
                    a5 = load_broadcast(a, a_i + q + 5 * PANEL)
                    c50, c51 = multiply_add(a5, b0, c50), multiply_add(a5, b1, c51)
            c_i = c_at + j * c_panel + row * PANEL
            store(c, c_i, c00)
            store(c, c_i + LANES, c01)
            store(c, c_i + PANEL, c10)
            store(c, c_i + PANEL + LANES, c11)
            store(c, c_i + 2 * PANEL, c20)
            store(c, c_i + 2 * PANEL + LANES, c21)
            store(c, c_i + 3 * PANEL, c30)
            store(c, c_i + 3 * PANEL + LANES, c31)
            store(c, c_i + 4 * PANEL, c40)
            store(c, c_i + 4 * PANEL + LANES, c41)
            store(c, c_i + 5 * PANEL, c50)
            store(c, c_i + 5 * PANEL + LANES, c51)


@compiled
def add_outer(a, a_at, a_panels, b, b_at, b_panels, c, c_at, rows, stride):  # type: ignore[no-untyped-def]
    """C (a_panels · PANEL, b_panels · PANEL) += Aᵀ B, the sum over ``rows`` rows; all in panels.

    stride   rows that a panel of A and of B has room for, at least ``rows``
    """
    panel = stride * PANEL
    for j in range(b_panels):
        for i in range(a_panels):
            for q in range(0, PANEL, 4):
                c_i = c_at + ((j * a_panels + i) * PANEL + q) * PANEL
                c00, c01 = load(c, c_i), load(c, c_i + LANES)
                c10, c11 = load(c, c_i + PANEL), load(c, c_i + PANEL + LANES)
                c20, c21 = load(c, c_i + 2 * PANEL), load(c, c_i + 2 * PANEL + LANES)
                c30, c31 = load(c, c_i + 3 * PANEL), load(c, c_i + 3 * PANEL + LANES)
                a_i, b_i = a_at + i * panel + q, b_at + j * panel
                for _ in range(rows):
                    b0, b1 = load(b, b_i), load(b, b_i + LANES)
                    a0, a1 = load_broadcast(a, a_i), load_broadcast(a, a_i + 1)
                    c00, c01 = multiply_add(a0, b0, c00), multiply_add(a0, b1, c01)
                    c10, c11 = multiply_add(a1, b0, c10), multiply_add(a1, b1, c11)
                    a2, a3 = load_broadcast(a, a_i + 2), load_broadcast(a, a_i + 3)
                    c20, c21 = multiply_add(a2, b0, c20), multiply_add(a2, b1, c21)
                    c30, c31 = multiply_add(a3, b0, c30), multiply_add(a3, b1, c31)
                    a_i += PANEL
                    b_i += PANEL
                store(c, c_i, c00)
                store(c, c_i + LANES, c01)
                store(c, c_i + PANEL, c10)
                store(c, c_i + PANEL + LANES, c11)
                store(c, c_i + 2 * PANEL, c20)
                store(c, c_i + 2 * PANEL + LANES, c21)
                store(c, c_i + 3 * PANEL, c30)
                store(c, c_i + 3 * PANEL + LANES, c31)
