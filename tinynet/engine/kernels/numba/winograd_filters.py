"""Filters to the 36 points and back: U = G g Gᵀ and dw = Gᵀ dU G, in the panels of ``block.py``."""

from __future__ import annotations

from tinynet.engine.kernels.numba.block import GAP, PANEL
from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numba.strided import (
    load_six,
    load_some_of_three,
    load_three,
    store_six,
    store_some_of_three,
    store_three,
)
from tinynet.engine.kernels.numba.vector import LANES, broadcast, store
from tinynet.engine.kernels.numba.winograd_transforms import (
    PATCH,
    POINTS,
    filter_gradient,
    transform_filter,
)


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
    """Dw (3, 3, C, K) of the panels first … last − 1 of filters, from dU, as U; all flat."""
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
