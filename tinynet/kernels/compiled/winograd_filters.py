"""Filters to the 36 points and back: U = G g Gᵀ and dw = Gᵀ dU G, in the panels of ``block.py``."""

from __future__ import annotations

from tinynet.kernels.compiled.block import PANEL
from tinynet.kernels.compiled.compile import compiled
from tinynet.kernels.compiled.strided import (
    load_six,
    load_some_of_three,
    load_three,
    store_six,
    store_some_of_three,
    store_three,
)
from tinynet.kernels.compiled.vector import LANES, broadcast, store
from tinynet.kernels.compiled.winograd_transforms import (
    PATCH,
    POINTS,
    filter_gradient,
    transform_filter,
)


@compiled
def filters_to_points(w, channels, filters, u):  # type: ignore[no-untyped-def]
    """U (36, panels of K, C rounded up to panels, PANEL) from w (3, 3, C, K), both flat."""
    rows = (channels + PANEL - 1) // PANEL * PANEL
    k_panels = (filters + PANEL - 1) // PANEL
    point = k_panels * rows * PANEL
    tap = channels * filters
    for k in range(0, k_panels * PANEL, LANES):
        lanes = max(0, min(LANES, filters - k))
        for c in range(rows):
            u_at = (k // PANEL * rows + c) * PANEL + k % PANEL
            if c >= channels or lanes == 0:
                for f in range(POINTS):
                    store(u, u_at + f * point, broadcast(0.0))
                continue
            at = c * filters + k
            for i in range(3):  # Gᵀ from the right: rows of three to rows of six, kept at once
                a = at + 3 * i * tap
                if lanes == LANES:
                    row = transform_filter(*load_three(w, a, tap))
                else:
                    row = transform_filter(*load_some_of_three(w, a, tap, lanes))
                store_six(u, u_at + i * PATCH * point, point, row)
            down = PATCH * point
            for j in range(PATCH):  # G from the left: three such rows to six, in their place
                a = u_at + j * point
                store_six(u, a, down, transform_filter(*load_three(u, a, down)))


@compiled
def points_to_filters(du, channels, filters, dw, scratch):  # type: ignore[no-untyped-def]
    """Dw (3, 3, C, K) from dU (36, panels of K, C rounded up to panels, PANEL), both flat."""
    rows = (channels + PANEL - 1) // PANEL * PANEL
    point = (filters + PANEL - 1) // PANEL * rows * PANEL
    tap, down = channels * filters, PATCH * point
    for k in range(0, filters, LANES):
        lanes = min(LANES, filters - k)
        for c in range(channels):
            u_at = (k // PANEL * rows + c) * PANEL + k % PANEL
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
