"""Winograd's convolution F(4, 3): four outputs of three taps with six multiplications, not twelve.

    y_i = Σ_j d_{i+j} g_j  (i < 4, j < 3)      y = Aᵀ [(G g) ⊙ (Bᵀ d)]

The two are polynomials' products, taken at the points 0, ±1, ±2 and ∞. Nested, for tiles of 4 × 4
outputs of 3 × 3 taps, it is 36 multiplications instead of 144. Since every step is linear, the
gradients are the transposed steps in reverse order:

    dw = Gᵀ [Bᵀ d B ⊙ A dy Aᵀ] G,      dd = B [(A dy Aᵀ) ⊙ (G g Gᵀ)] Bᵀ

Each function here is one of those matrices times a vector; the numbers may be floats, NumPy arrays
or registers full of channels.
Source: Lavin & Gray 2015, "Fast algorithms for convolutional neural networks", §4.
"""

from __future__ import annotations

from tinynet.engine.kernels.numba.compile import compiled

TILE = 4  # outputs a side
PATCH = 6  # inputs under them
POINTS = PATCH * PATCH


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
