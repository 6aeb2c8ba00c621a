"""A network's filters, its feature maps, and heat maps over images, as pictures.  Report §2.5.2."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinynet.backend import Array
from tinynet.layer import Layer
from tinynet.layers import Conv2D
from tinynet.seeing.observe import activation_at
from tinynet.seeing.pictures import (
    as_colours,
    as_numpy,
    coloured,
    mosaic,
    new_figure,
    save_pixels,
    stretched,
)

MOST_FILTERS = 144
SMALLEST = 256  # side in pixels up to which an overlay is enlarged


def first_layer_filters(model: Layer, file: str | Path) -> None:
    """Draw the filters of the first convolution, which see the image itself.

    A filter of a colour image is drawn in colour, of a greyscale image in grey: mid-grey is a
    weight of 0, and all filters have one scale. Of other inputs each filter's mean over the
    channels is drawn. The first 144 are shown if there are more.
    Raises ValueError if there is no convolution, ImportError where matplotlib is missing.
    """
    found = [(n, part) for n, part in model.named_layers().items() if isinstance(part, Conv2D)]
    if not found:
        raise ValueError(f"{type(model).__name__} has no Conv2D layer, so no filters to draw")
    name, conv = found[0]
    w = as_numpy(conv.weight.value).astype(np.float64)
    height, width, channels, count = w.shape
    shown = w if channels in (1, 3) else w.mean(axis=2, keepdims=True)
    largest = float(abs(shown).max()) or 1.0
    tiles = [0.5 + shown[..., k] / (2 * largest) for k in range(min(count, MOST_FILTERS))]
    if shown.shape[2] == 1:
        tiles = [tile[..., 0] for tile in tiles]
    plane = mosaic(tiles, gap=1.0)
    what = "" if channels in (1, 3) else ", mean over channels"
    more = f", the first {MOST_FILTERS}" if count > MOST_FILTERS else ""
    title = f"{name or 'filters'}: {count} filters {height} × {width} × {channels}{what}{more}"
    figure, axes = _panel(plane.shape, title)
    if plane.ndim == 3:
        axes.imshow(plane, interpolation="nearest")
    else:
        image = axes.imshow(
            (2 * plane - 1) * largest,
            cmap="gray",
            vmin=-largest,
            vmax=largest,
            interpolation="nearest",
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
    All tiles have one scale. The network is run as outside training and not changed.
    Raises ValueError for more than one image, an unknown layer or one whose output has no places;
    ImportError where matplotlib is missing.
    """
    batch = x if x.ndim == 4 else x[None]
    if batch.ndim != 4 or len(batch) != 1:
        raise ValueError(f"feature_maps: x is {tuple(x.shape)}, want one image (H, W, C)")
    y = as_numpy(activation_at(model, batch, layer_name))
    if y.ndim != 4:
        raise ValueError(
            f"feature_maps: the output of {layer_name!r} is {tuple(y.shape[1:])}, want (h, w, K)"
        )
    maps = y[0].astype(np.float64)
    strongest = np.sort(np.argsort(-abs(maps).mean(axis=(0, 1)), kind="stable")[:most])
    count = maps.shape[2]
    chosen = f", the {most} strongest" if count > most else ""
    title = f"{layer_name}: {count} maps {maps.shape[0]} × {maps.shape[1]}{chosen}"
    plane = mosaic([maps[..., k] for k in strongest], gap=np.nan)
    figure = new_figure(10.5, 6.6)
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.4))
    left.imshow(as_colours(_drawable(as_numpy(batch[0]))), interpolation="nearest")
    left.set_title("input", loc="left", fontsize=10)
    low = min(0.0, float(np.nanmin(plane)))
    image = right.imshow(plane, cmap="viridis", vmin=low, interpolation="nearest")
    right.set_facecolor("white")
    right.set_title(title, loc="left", fontsize=10)
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
    Raises ValueError for shapes that do not fit, ImportError where matplotlib is missing.
    """
    save_pixels(overlaid(image, heat, strength), file)


def overlaid(image: Array, heat: Array, strength: float = 0.65) -> np.ndarray:
    """The pixels that ``overlay`` writes, (H, W, 3) uint8.  Arguments and errors as there."""
    picture, h = as_colours(image), as_numpy(heat)
    if h.shape != picture.shape[:2]:
        raise ValueError(f"heat is {h.shape}, the image {picture.shape[:2]}: want the same size")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}, want 0 to 1")
    most = float(h.max()) if h.size else 0.0
    share = np.clip(h / most, 0, 1) if most > 0 else np.zeros(h.shape)
    opacity = strength * share[..., None] ** 0.7  # weak heat still shows
    mixed = picture * (1 - opacity) + coloured(0.25 + 0.75 * share) * opacity
    pixels = np.round(255 * mixed).astype(np.uint8)
    factor = max(1, -(-SMALLEST // max(pixels.shape[:2])))
    return pixels.repeat(factor, axis=0).repeat(factor, axis=1)


def _drawable(image: np.ndarray) -> np.ndarray:
    """An image of any number of channels as one that can be drawn."""
    if image.shape[2] in (1, 3):
        return image
    return stretched(image.mean(axis=2, keepdims=True))


def _panel(shape: tuple[int, ...], title: str) -> tuple[Any, Any]:
    width = 6.0
    figure = new_figure(width + 1, max(2.0, min(9.0, width * shape[0] / shape[1])) + 0.5)
    axes = figure.subplots()
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_axis_off()
    return figure, axes
