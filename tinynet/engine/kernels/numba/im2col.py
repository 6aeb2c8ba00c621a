"""Convolution of any geometry as products: the taps under a window side by side in a row.

For a few dozen window positions at a time, from whichever images,

    forward    A = the taps of each window;   z = A W + b;   ReLU
    backward   dz from dy and ReLU;   dW += Aᵀ dz;   dA = dz Wᵀ, each tap added where it lies in dx

where A is (positions, kernel height · kernel width · C), W the filters as (the same, K). A piece of
A stays in the cache and is never seen in memory; a tap in the padding is 0. The products are those
of ``products.py``.

Flat arrays and plain numbers come in: see ``conv.py`` for shapes and callers.
Source: Chellapilla, Puri & Simard 2006.
"""

from __future__ import annotations

from tinynet.engine.kernels.numba.compile import compiled
from tinynet.engine.kernels.numba.products import PANEL, add_outer, multiply
from tinynet.engine.kernels.numba.vectors import (
    LANES,
    broadcast,
    load,
    load_some,
    store,
    store_some,
    where_greater,
)

RELU = 1  # as in tinynet.engine.plan.epilogues.EPILOGUES


@compiled
def copy_run(x, at, count, a, panel_at, q, panel):  # type: ignore[no-untyped-def]
    """A[q : q + count] of one position = x[at : at + count]; returns where the next run goes.

    A whole register is copied where it fits; what is too much of it is overwritten by the next run,
    or lies past the last column.
    """
    while count > 0:
        copied = 1
        if q + LANES <= PANEL and at + LANES <= x.size:
            store(a, panel_at + q, load(x, at))
            copied = min(count, LANES)
        else:
            a[panel_at + q] = x[at]
        at += copied
        count -= copied
        q += copied
        if q == PANEL:
            panel_at, q = panel_at + panel, 0
    return panel_at, q


@compiled
def gather(x, sizes, first, count, rows, a):  # type: ignore[no-untyped-def]
    """A of ``count`` positions from number ``first`` on; ``rows`` is what a panel has room for."""
    height, width, channels, _, top, left, out_h, out_w, k_h, k_w, s_h, s_w, d_h, d_w = sizes
    panel = rows * PANEL
    side_by_side = d_w == 1  # the taps of a kernel row lie in one run of memory
    image, inside = divmod(first, out_h * out_w)
    out_row, out_column = divmod(inside, out_w)
    for t in range(count):
        row, column = out_row * s_h - top, out_column * s_w - left
        across = side_by_side and column >= 0 and column + k_w <= width
        panel_at, q = t * PANEL, 0
        for i in range(k_h):
            y = row + i * d_h
            at = ((image * height + y) * width + column) * channels
            if across and 0 <= y < height:
                panel_at, q = copy_run(x, at, k_w * channels, a, panel_at, q, panel)
                continue
            for j in range(k_w):
                if 0 <= y < height and 0 <= column + j * d_w < width:
                    there = at + j * d_w * channels
                    panel_at, q = copy_run(x, there, channels, a, panel_at, q, panel)
                    continue
                for _ in range(channels):
                    a[panel_at + q] = 0
                    q += 1
                    if q == PANEL:
                        panel_at, q = panel_at + panel, 0
        out_column += 1
        if out_column == out_w:
            out_row, out_column = out_row + 1, 0
            if out_row == out_h:
                image, out_row = image + 1, 0


@compiled
def clear_rest(a, run, rows):  # type: ignore[no-untyped-def]
    """Zeros in the columns of A after the last tap, which no position writes."""
    for q in range(run, (run + PANEL - 1) // PANEL * PANEL):
        for t in range(rows):
            a[(q // PANEL * rows + t) * PANEL + q % PANEL] = 0


@compiled
def scatter(da, dx, sizes, first, count, rows):  # type: ignore[no-untyped-def]
    """Add the columns of dA to dx, each where its tap lies."""
    height, width, channels, _, top, left, out_h, out_w, k_h, k_w, s_h, s_w, d_h, d_w = sizes
    for t in range(count):
        image, inside = divmod(first + t, out_h * out_w)
        row, column = inside // out_w * s_h - top, inside % out_w * s_w - left
        for i in range(k_h):
            y = row + i * d_h
            for j in range(k_w):
                z, q = column + j * d_w, (i * k_w + j) * channels
                if not (0 <= y < height and 0 <= z < width):
                    continue
                at = ((image * height + y) * width + z) * channels
                if channels % LANES == 0:
                    for c in range(0, channels, LANES):
                        v = load(da, ((q + c) // PANEL * rows + t) * PANEL + (q + c) % PANEL)
                        store(dx, at + c, load(dx, at + c) + v)
                else:
                    for c in range(channels):
                        dx[at + c] += da[((q + c) // PANEL * rows + t) * PANEL + (q + c) % PANEL]


@compiled
def write(z, b, y, epilogue, filters, first, count, rows):  # type: ignore[no-untyped-def]
    """The output of ``count`` positions from z in panels: bias, and ReLU where wanted."""
    zero = broadcast(0.0)
    for k in range(0, filters, LANES):
        lanes = min(LANES, filters - k)
        bias = load_some(b, k, lanes)
        z_at = k // PANEL * rows * PANEL + k % PANEL
        for t in range(count):
            v = load(z, z_at + t * PANEL) + bias
            if epilogue == RELU:
                v = where_greater(zero, v, zero, v)
            if lanes == LANES:
                store(y, (first + t) * filters + k, v)
            else:
                store_some(y, (first + t) * filters + k, v, lanes)


@compiled
def read(dy, y, epilogue, filters, first, count, rows, dz, db):  # type: ignore[no-untyped-def]
    """∂L/∂z of ``count`` positions in panels, dy stopped where ReLU was 0; db += Σ dz."""
    zero = broadcast(0.0)
    for k in range(0, (filters + PANEL - 1) // PANEL * PANEL, LANES):
        lanes = max(0, min(LANES, filters - k))
        total = load(db, k)
        z_at = k // PANEL * rows * PANEL + k % PANEL
        for t in range(count):
            at = (first + t) * filters + k
            if lanes == LANES:
                v = load(dy, at)
                if epilogue == RELU:
                    v = where_greater(load(y, at), zero, v, zero)
            else:
                v = load_some(dy, at, lanes)
                if epilogue == RELU:
                    v = where_greater(load_some(y, at, lanes), zero, v, zero)
            store(dz, z_at + t * PANEL, v)
            total = total + v
        store(db, k, total)


@compiled
def forward(x, w, b, y, epilogue, sizes, first, last, rows, a, z):  # type: ignore[no-untyped-def]
    """The output of the positions first … last − 1, ``rows`` at a time; w in panels."""
    _, _, channels, filters, _, _, _, _, k_h, k_w, _, _, _, _ = sizes
    k_panels = (filters + PANEL - 1) // PANEL
    for start in range(first, last, rows):
        count = min(rows, last - start)
        gather(x, sizes, start, count, rows, a)
        multiply(a, 0, k_h * k_w * channels, w, 0, z, 0, k_panels, count, rows)
        write(z, b, y, epilogue, filters, start, count, rows)


@compiled
def backward(dy, x, wt, y, epilogue, sizes, first, last, rows, dx, dw, db, a, z):  # type: ignore[no-untyped-def]
    """Add what the positions first … last − 1 give to dw (in panels), db and, unless empty, dx."""
    _, _, channels, filters, _, _, _, _, k_h, k_w, _, _, _, _ = sizes
    a_panels = (k_h * k_w * channels + PANEL - 1) // PANEL
    k_panels = (filters + PANEL - 1) // PANEL
    clear_rest(a, k_h * k_w * channels, rows)
    for start in range(first, last, rows):
        count = min(rows, last - start)
        gather(x, sizes, start, count, rows, a)
        read(dy, y, epilogue, filters, start, count, rows, z, db)
        add_outer(a, 0, a_panels, z, 0, k_panels, dw, 0, count, rows)
        if dx.size:
            multiply(z, 0, filters, wt, 0, a, 0, a_panels, count, rows)
            scatter(a, dx, sizes, start, count, rows)
