"""Sums over the cells of each channel: in float32 over some cells, then in float64.

A float32 keeps 7 digits, so a sum of a million numbers of one sign would lose most of them. Few
conversions are needed where every ``FEW`` numbers are added up before they are converted.
x is seen as rows of several cells (``arrays.as_rows``); a lane is a place in the row.
"""

from __future__ import annotations

import numpy as np

from tinynet.backend import Array
from tinynet.engine.kernels.numba.compile import compiled, inlined

FEW = 1024  # numbers that are added up in the arrays' own dtype
SAMPLE = 16  # one in so many rows tells about where the mean is


@inlined
def passed(dy: float, through: bool) -> float:
    """dy or 0, as dy · (1 or 0): a NaN, or the NaN that 0 · ∞ is, is not hidden."""
    return dy if through else dy - dy


@compiled
def fold(lanes: Array, total: Array) -> None:
    """total (C,) float64 gets lanes (cells · C,), which then are 0."""
    channels = len(total)
    for first in range(0, len(lanes), channels):
        for c in range(channels):
            total[c] += lanes[first + c]
            lanes[first + c] = 0


@compiled
def moments(x: Array, out: Array) -> None:
    """out (2, C) float64: the mean μ and Σ (x − μ)² of every channel of x (rows, cells · C).

        d = x − a,   μ = a + Σd / n,   Σ (x − μ)² = Σd² − (Σd)² / n      for any a

    With a far from μ the difference would lose digits. a is the mean of the first 1/16 of the
    rows: were all others Δ away from it, Σ (x − μ)² ≥ n Δ² / 16 · 15/16 would be of the size of
    what is subtracted, so that two digits at most are lost, whatever x is.
    Source: Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance".
    """
    rows, width = x.shape
    channels = out.shape[1]
    sums, squares = np.zeros(width, x.dtype), np.zeros(width, x.dtype)
    near, total, total_squares = np.zeros(channels), np.zeros(channels), np.zeros(channels)

    sample = (rows + SAMPLE - 1) // SAMPLE
    for first in range(0, sample, FEW):
        for i in range(first, min(first + FEW, sample)):
            for q in range(width):
                sums[q] += x[i, q]
        fold(sums, near)
    near /= sample * (width // channels)
    a = np.empty(width, x.dtype)
    for q in range(width):
        a[q] = near[q % channels]

    for first in range(0, rows, FEW):
        for i in range(first, min(first + FEW, rows)):
            for q in range(width):
                d = x[i, q] - a[q]
                sums[q] += d
                squares[q] += d * d
        fold(sums, total)
        fold(squares, total_squares)
    n = rows * (width // channels)
    for c in range(channels):
        out[0, c] = a[c] + total[c] / n
        out[1, c] = total_squares[c] - total[c] * total[c] / n


def joined_moments(parts: list[Array], counts: list[int]) -> tuple[Array, Array]:
    """Mean and variance (C,) of all cells, from the ``moments`` of blocks of them.

        μ = Σ n_b μ_b / n,   σ² = Σ (M_b + n_b (μ_b − μ)²) / n

    Source: Chan, Golub & LeVeque 1983.
    """
    both, n = np.array(parts), np.array(counts, float)[:, None]
    means, squares = both[:, 0], both[:, 1]
    mean = (n * means).sum(axis=0) / n.sum()
    variance = (squares + n * (means - mean) ** 2).sum(axis=0) / n.sum()
    return mean, variance
