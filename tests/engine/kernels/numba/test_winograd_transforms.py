"""The matrices of F(4, 3), through the functions that are compiled, on plain numbers."""

import numpy as np
import pytest

pytest.importorskip("numba", reason='Numba is not installed: pip install ".[fast]"')

from tinynet.engine.kernels.numba.products import GAP, PANEL  # noqa: E402
from tinynet.engine.kernels.numba.vectors import LANES  # noqa: E402
from tinynet.engine.kernels.numba.winograd import (  # noqa: E402
    PATCH,
    POINTS,
    filter_gradient,
    filters_to_points,
    input_gradient,
    output_gradient,
    points_to_filters,
    transform_filter,
    transform_input,
    transform_output,
)


def matrix(function, columns):
    """The matrix of a linear function of so many numbers."""
    return np.array([function.py_func(*row) for row in np.eye(columns)]).T


B, G, A = matrix(transform_input, 6), matrix(transform_filter, 3), matrix(transform_output, 6)


def test_four_outputs_of_three_taps():
    rng = np.random.default_rng(0)
    d, g = rng.standard_normal(6), rng.standard_normal(3)
    want = [d[i : i + 3] @ g for i in range(4)]
    np.testing.assert_allclose(A @ ((G @ g) * (B @ d)), want, rtol=1e-12)


@pytest.mark.parametrize(
    ("backward", "forward", "columns"),
    [(input_gradient, B, 6), (filter_gradient, G, 6), (output_gradient, A, 4)],
)
def test_gradients_are_the_transposed_steps(backward, forward, columns):
    np.testing.assert_allclose(matrix(backward, columns), forward.T, atol=1e-15)


@pytest.mark.parametrize(("channels", "filters"), [(1, 1), (LANES + 1, 2 * LANES + 3)])
def test_filters_to_the_points_and_back(channels, filters):
    rng = np.random.default_rng(0)
    w = rng.standard_normal((3, 3, channels, filters)).astype(np.float32)
    rows, k_panels = -(-channels // PANEL) * PANEL, -(-filters // PANEL)
    point = k_panels * rows * PANEL
    u = np.full(POINTS * (point + GAP), np.nan, np.float32)
    scratch = np.empty(POINTS * LANES, np.float32)
    for panel in range(k_panels):
        filters_to_points(w.reshape(-1), channels, filters, panel, panel + 1, u, scratch)
    assert np.isnan(u.reshape(POINTS, -1)[:, point:]).all()
    wide = u.reshape(POINTS, -1)[:, :point]
    wide = (
        wide.reshape(POINTS, k_panels, rows, PANEL).transpose(0, 2, 1, 3).reshape(POINTS, rows, -1)
    )
    want = np.einsum("ai,bj,ijck->abck", G, G, w).reshape(POINTS, channels, filters)
    np.testing.assert_allclose(wide[:, :channels, :filters], want, atol=1e-6)
    assert (wide[:, channels:] == 0).all()
    assert (wide[:, :, filters:] == 0).all()

    dw = np.full_like(w, np.nan)
    for panel in range(k_panels):
        points_to_filters(u, channels, filters, panel, panel + 1, dw.reshape(-1), scratch)
    du = want.reshape(PATCH, PATCH, channels, filters)
    np.testing.assert_allclose(dw, np.einsum("ai,bj,abck->ijck", G, G, du), atol=1e-5)
