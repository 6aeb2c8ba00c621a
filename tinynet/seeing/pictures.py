"""What all pictures of pixels and curves here share: matplotlib, asked for when it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import Array, to_device

# Okabe & Ito 2008: the colour-blind can tell them apart
BLUE, ORANGE, GREEN, GREY, INK = "#0072B2", "#D55E00", "#009E73", "#6B6B6B", "#222222"


def new_figure(width: float, height: float) -> Any:
    """An empty matplotlib figure, in inches; nothing needs a display.

    Raises ImportError, with the command that installs it, where matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install matplotlib") from error
    return Figure(figsize=(width, height), layout="constrained")


def save_pixels(pixels: np.ndarray, file: str | Path) -> None:
    """Write (H, W, 3) uint8 as they are.  Raises ImportError as ``new_figure``."""
    try:
        from matplotlib.image import imsave
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install matplotlib") from error
    imsave(file, pixels)


def coloured(values: np.ndarray) -> np.ndarray:
    """Colours (..., 3), 0 to 1, of values in 0 to 1: dark to bright, readable in grey as well.

    Raises ImportError as ``new_figure``.
    """
    try:
        from matplotlib import colormaps
    except ImportError as error:
        raise ImportError("a picture needs matplotlib: pip install matplotlib") from error
    return np.asarray(colormaps["inferno"](values))[..., :3]


def as_numpy(x: Array) -> np.ndarray:
    """Any library's array as NumPy's."""
    return np.asarray(to_device(x, "numpy"))


def as_colours(image: Array) -> np.ndarray:
    """An image (H, W), (H, W, 1) or (H, W, 3) as (H, W, 3) from 0 to 1.

    uint8 is divided by 255; any other from its least to its greatest number.
    Raises ValueError for another shape.
    """
    a = as_numpy(image)
    if a.ndim == 2:
        a = a[..., None]
    if a.ndim != 3 or a.shape[2] not in (1, 3):
        raise ValueError(f"image is {tuple(np.shape(image))}, want (H, W), (H, W, 1) or (H, W, 3)")
    grey = a / 255 if a.dtype == np.uint8 else stretched(a)
    return np.broadcast_to(grey, (*a.shape[:2], 3)).astype(np.float64)


def stretched(a: np.ndarray) -> np.ndarray:
    """From 0 for the least number to 1 for the greatest; 0 if all are equal."""
    a = a.astype(np.float64)
    span = np.ptp(a) if a.size else 0.0
    return (a - a.min()) / span if span else np.zeros_like(a)


def mosaic(tiles: Sequence[np.ndarray], gap: float, across: int | None = None) -> np.ndarray:
    """Tiles (h, w) or (h, w, 3) of one shape in rows, one pixel of value ``gap`` between them.

    across   tiles in a row; by default about as many as rows
    """
    shape = tiles[0].shape
    across = across or int(np.ceil(len(tiles) ** 0.5))
    down = -(-len(tiles) // across)
    height, width = shape[0] + 1, shape[1] + 1
    plane = np.full((down * height + 1, across * width + 1, *shape[2:]), gap, np.float64)
    for i, tile in enumerate(tiles):
        top, left = 1 + i // across * height, 1 + i % across * width
        plane[top : top + shape[0], left : left + shape[1]] = tile
    return plane
