"""Images in which it is known what matters: a ring or a cross, somewhere on noise."""

from __future__ import annotations

import numpy as np

RING, CROSS = 0, 1
SIZE = 9  # height and width of a shape


def shapes(
    n: int, side: int = 32, *, noise: float = 0.35, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, what is on them, and where.

    n, side   how many, and their height and width, from 9
    noise     standard deviation of every pixel; a shape is brighter than it by 1
    Returns x (n, side, side, 1) float32; labels (n,), RING and CROSS in turn; corners (n, 2), row
    and column where the shape's 9 × 9 pixels begin.
    """
    x = rng.normal(0, noise, (n, side, side, 1)).astype(np.float32)
    labels = np.arange(n) % 2
    corners = rng.integers(0, side - SIZE + 1, (n, 2))
    rows, columns = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    ring = abs(np.hypot(rows, columns) - 3.5) < 0.8
    cross = (abs(rows) < 1) | (abs(columns) < 1)
    for image, label, (row, column) in zip(x, labels, corners, strict=True):
        shape = (ring, cross)[label]
        image[row : row + SIZE, column : column + SIZE, 0] += shape
    return x, labels, corners
