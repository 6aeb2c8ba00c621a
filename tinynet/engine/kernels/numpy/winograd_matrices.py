"""Winograd's convolution F(4, 3): four outputs of three taps by 6 multiplications instead of 12.

    y_i = Σ_j d_{i+j} g_j  (i = 0 … 3, j = 0 … 2)      y = Aᵀ [(G g) ⊙ (Bᵀ d)]

Where it comes from: two polynomials of degree 3 and 2 are multiplied by evaluating both at six
points, multiplying the values and interpolating. The points are 0, 1, −1, 2, −2 and ∞ (the leading
coefficient); Aᵀ evaluates the one, G the other, with the interpolation's denominators. That is a
polynomial product p = q g. The filter above is the transposed map, in which evaluation and
interpolation change places: hence Bᵀ, the transposed interpolation, for the input.

Everything is linear, so gradients are the transposed maps:

    ∂L/∂g = Gᵀ [(Bᵀ d) ⊙ (A ∂L/∂y)]

Sources: Winograd 1980, "Arithmetic complexity of computations"; Lavin & Gray 2015, "Fast
algorithms for convolutional neural networks", §4.
"""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array

TILE = 4  # outputs of a tile
TAPS = 3
POINTS = 6  # TILE + TAPS − 1, also the inputs under a tile

B_T = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)
G = np.array(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    np.float64,  # filters are transformed once a call: exactly, then rounded
)
A_T = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ],
    np.float32,
)
A = np.ascontiguousarray(A_T.T)


def over_rows(g: Array, matrix: Array) -> Array:
    """matrix · g along the first axis: (m, ...) from g (n, ...) and matrix (m, n), in g's dtype."""
    result = matrix.astype(g.dtype) @ g.reshape(len(g), -1)
    return result.reshape(len(matrix), *g.shape[1:])
