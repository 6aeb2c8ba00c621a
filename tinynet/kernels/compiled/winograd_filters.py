"""Filters to the 36 points and back: U = G g Gᵀ and dw = Gᵀ dU G, in the panels of ``block.py``."""

from __future__ import annotations

from tinynet.kernels.compiled.block import PANEL
from tinynet.kernels.compiled.compile import compiled
from tinynet.kernels.compiled.vector import LANES, broadcast, load, load_some, store, store_some
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
                    g0, g1, g2 = load(w, a), load(w, a + tap), load(w, a + 2 * tap)
                else:
                    g0, g1 = load_some(w, a, lanes), load_some(w, a + tap, lanes)
                    g2 = load_some(w, a + 2 * tap, lanes)
                t0, t1, t2, t3, t4, t5 = transform_filter(g0, g1, g2)
                row = u_at + i * PATCH * point
                store(u, row, t0)
                store(u, row + point, t1)
                store(u, row + 2 * point, t2)
                store(u, row + 3 * point, t3)
                store(u, row + 4 * point, t4)
                store(u, row + 5 * point, t5)
            down = PATCH * point
            for j in range(PATCH):  # G from the left: three such rows to six, in their place
                a = u_at + j * point
                t0, t1, t2, t3, t4, t5 = transform_filter(
                    load(u, a), load(u, a + down), load(u, a + 2 * down)
                )
                store(u, a, t0)
                store(u, a + down, t1)
                store(u, a + 2 * down, t2)
                store(u, a + 3 * down, t3)
                store(u, a + 4 * down, t4)
                store(u, a + 5 * down, t5)


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
                a = u_at + j * point
                t0, t1, t2 = filter_gradient(
                    load(du, a),
                    load(du, a + down),
                    load(du, a + 2 * down),
                    load(du, a + 3 * down),
                    load(du, a + 4 * down),
                    load(du, a + 5 * down),
                )
                store(scratch, j * LANES, t0)
                store(scratch, (PATCH + j) * LANES, t1)
                store(scratch, (2 * PATCH + j) * LANES, t2)
            for i in range(3):
                s = i * PATCH * LANES
                t0, t1, t2 = filter_gradient(
                    load(scratch, s),
                    load(scratch, s + LANES),
                    load(scratch, s + 2 * LANES),
                    load(scratch, s + 3 * LANES),
                    load(scratch, s + 4 * LANES),
                    load(scratch, s + 5 * LANES),
                )
                a = c * filters + k + 3 * i * tap
                if lanes == LANES:
                    store(dw, a, t0)
                    store(dw, a + tap, t1)
                    store(dw, a + 2 * tap, t2)
                else:
                    store_some(dw, a, t0, lanes)
                    store_some(dw, a + tap, t1, lanes)
                    store_some(dw, a + 2 * tap, t2, lanes)
