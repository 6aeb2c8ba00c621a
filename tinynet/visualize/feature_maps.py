"""A network's filters, its feature maps, and heat maps over images, as pictures.  Report §2.5.2."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinynet.backend import Array, to_device
from tinynet.layer import Layer
from tinynet.layers import Conv2D
from tinynet.visualize.figures import matplotlib, new_figure
from tinynet.visualize.observe import activation_at

MOST_FILTERS = 144
SMALLEST = 256  # side in pixels up to which an overlay is enlarged


def first_layer_filters(model: Layer, file: str | Path) -> None:
    """Draw the filters of the first convolution, which see the image itself.

    A filter of a colour image is drawn in colour, of a greyscale image in grey: mid-grey is a
    weight of 0, and all filters share one scale. Of other inputs each filter's mean over the
    channels is drawn. The first 144 are shown if there are more.
    Raises ValueError if there is no convolution, ImportError if matplotlib is missing.
    """
    found = [(n, part) for n, part in model.named_layers().items() if isinstance(part, Conv2D)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no Conv2D layer, so no filters to draw")
    name, conv = found[0]
    w = _as_numpy(conv.weight.value).astype(np.float64)
    height, width, channels, count = w.shape
    coloured = channels == 3
    shown = w if coloured else w.mean(axis=2)
    largest = float(abs(shown).max()) or 1.0
    tiles = [shown[..., k] for k in range(min(count, MOST_FILTERS))]
    plane = mosaic(tiles, gap=largest)
    title = f"{name or 'filters'}: {count} filters {height} × {width} × {channels}"
    title += "" if channels in (1, 3) else ", mean over channels"
    title += f", the first {MOST_FILTERS}" if count > MOST_FILTERS else ""
    figure = new_figure(7.0, max(2.0, min(9.0, 6.0 * plane.shape[0] / plane.shape[1])) + 0.5)
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_axis_off()
    if coloured:
        axes.imshow(0.5 + plane / (2 * largest), interpolation="nearest")
    else:
        image = axes.imshow(
            plane, cmap="gray", vmin=-largest, vmax=largest, interpolation="nearest"
        )
        figure.colorbar(image, ax=axes, shrink=0.7, label="weight")
    figure.savefig(file, dpi=110)


def feature_maps(
    model: Layer, x: Array, layer_name: str, file: str | Path, *, most: int = 64
) -> None:
    """Draw what a layer makes of one image: a tile for each channel, beside the image.

    x            (H, W, C) or (1, H, W, C)   one image
    layer_name   dotted; its output is (h, w, K)
    most         channels drawn: those with the largest mean |y|, in their order
    All tiles share one scale. The network is run in evaluation mode and not changed.
    Raises ValueError for more than one image, an unknown layer or one whose output has no places;
    ImportError if matplotlib is missing.
    """
    batch = x if x.ndim == 4 else x[None]
    if batch.ndim != 4 or len(batch) != 1:
        raise ValueError(f"feature_maps: x is {tuple(x.shape)}, want one image (H, W, C)")
    y = _as_numpy(activation_at(model, batch, layer_name))
    if y.ndim != 4:
        raise ValueError(
            f"feature_maps: the output of {layer_name!r} is {tuple(y.shape[1:])}, want (h, w, K)"
        )
    maps = y[0].astype(np.float64)
    height, width, count = maps.shape
    strongest = np.sort(np.argsort(-abs(maps).mean(axis=(0, 1)), kind="stable")[:most])
    plane = mosaic([maps[..., k] for k in strongest], gap=np.nan)
    source = _as_numpy(batch[0])
    if source.shape[2] not in (1, 3):
        source = source.mean(axis=2)
    figure = new_figure(10.5, 6.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.4))
    left.imshow(as_colours(source), interpolation="nearest")
    left.set_title("input", loc="left", fontsize=10)
    low = min(0.0, float(np.nanmin(plane)))
    image = right.imshow(plane, cmap="viridis", vmin=low, interpolation="nearest")
    chosen = f", the {most} strongest" if count > most else ""
    right.set_title(
        f"{layer_name}: {count} maps {height} × {width}{chosen}", loc="left", fontsize=10
    )
    figure.colorbar(image, ax=right, shrink=0.8, label="y")
    for axes in (left, right):
        axes.set_axis_off()
    figure.savefig(file, dpi=110)


def overlay(image: Array, heat: Array, file: str | Path, *, strength: float = 0.65) -> None:
    """Write the image with the heat over it, as a PNG.

    image      (H, W), (H, W, 1) or (H, W, 3): uint8, or numbers drawn from least to greatest
    heat       (H, W), 0 or more, as one map of ``grad_cam``; its greatest value is the brightest
    strength   opacity there; a place without heat shows the image as it is
    Small images are enlarged by a whole factor, to 256 pixels or more.
    Raises ValueError for shapes that do not fit, ImportError if matplotlib is missing.
    """
    matplotlib("image").imsave(file, overlaid(image, heat, strength))


def overlaid(image: Array, heat: Array, strength: float = 0.65) -> np.ndarray:
    """Return the pixels that ``overlay`` writes, (H, W, 3) uint8; errors as there."""
    picture, h = as_colours(image), _as_numpy(heat)
    if h.shape != picture.shape[:2]:
        raise ValueError(f"heat is {h.shape}, the image {picture.shape[:2]}: want the same size")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}, want 0 to 1")
    most = float(h.max()) if h.size else 0.0
    pixels = np.empty(picture.shape, np.uint8)
    for start in range(0, len(h), 256):  # rows, so that little of a large image is in floats
        rows = slice(start, start + 256)
        share = np.clip(h[rows] / (most or 1), 0, 1)
        colours = matplotlib().colormaps["inferno"](0.25 + 0.75 * share)[..., :3]
        opacity = strength * share[..., None] ** 0.7  # weak heat still shows
        pixels[rows] = np.round(255 * (picture[rows] * (1 - opacity) + colours * opacity))
    factor = max(1, -(-SMALLEST // max(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _as_numpy(x: Array) -> np.ndarray:
    return np.asarray(to_device(x, "numpy"))


def as_colours(image: Array) -> np.ndarray:
    """Return an image (H, W), (H, W, 1) or (H, W, 3) as (H, W, 3) from 0 to 1.

    uint8 is divided by 255; numbers are stretched from the least to the greatest.
    Raises ValueError for another shape.
    """
    a = _as_numpy(image)
    if a.ndim == 2:
        a = a[..., None]
    if a.ndim != 3 or a.shape[2] not in (1, 3):
        raise ValueError(f"image is {tuple(np.shape(image))}, want (H, W), (H, W, 1) or (H, W, 3)")
    low, high = (0, 255) if a.dtype == np.uint8 else (float(a.min()), float(a.max()))
    grey = (a.astype(np.float64) - low) / ((high - low) or 1)
    return np.broadcast_to(grey, (*a.shape[:2], 3))


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
