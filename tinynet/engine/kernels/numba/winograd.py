"""Convolution 3×3 at stride 1 by Winograd's F(4×4, 3×3), with what follows it, piece by piece.

For a few dozen tiles of 4 × 4 outputs at a time, from whichever images,

    forward    V = Bᵀ d B;   M_f = V_f U_f at each of the 36 points f;   z = Aᵀ M A, its tail
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

from tinynet.engine.kernels.numba.block import GAP, PANEL, add_outer, multiply
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numba.winograd_input import input_gradient_tiles, input_tiles
from tinynet.engine.kernels.numba.winograd_output import gradient_tiles, output_tiles
from tinynet.engine.kernels.numba.winograd_transforms import POINTS


@compiled
def forward(x, u, b, y, winner, tail, sizes, first, last, rows, v, m, scratch):  # type: ignore[no-untyped-def]
    """Y of the tiles first … last − 1, ``rows`` at a time."""
    _, _, channels, filters, _, _, _, _, _, _ = sizes
    c_panels, k_panels = (channels + PANEL - 1) // PANEL, (filters + PANEL - 1) // PANEL
    v_point, m_point = c_panels * rows * PANEL + GAP, k_panels * rows * PANEL + GAP
    u_point = k_panels * c_panels * PANEL * PANEL + GAP
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
    u_point = k_panels * c_panels * PANEL * PANEL + GAP
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
