"""What the radiographer leaves: the collimator's edge, lead letters and figures.

All of it is drawn without a look at the label, so none of it can give the label away.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import map_coordinates

from examples.mura.phantom.geometry import Array


@cache
def glyphs(text: str, size: int) -> Array:
    """(h, w) coverage 0..1 of a line of text."""
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(text)
    image = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
    ImageDraw.Draw(image).text((2 - left, 2 - top), text, fill=255, font=font)
    return np.asarray(image, np.float32) / 255


def collimate(picture: Array, rng: np.random.Generator) -> Array:
    """Blades shut off what lies outside a rectangle, most often dark and a little turned."""
    if rng.random() > 0.35:
        return picture
    height, width = picture.shape
    angle = rng.normal(0, 0.06)
    rows = np.arange(height, dtype=np.float32)[:, None] - height / 2
    columns = np.arange(width, dtype=np.float32)[None, :] - width / 2
    x = np.cos(angle) * columns + np.sin(angle) * rows
    y = np.cos(angle) * rows - np.sin(angle) * columns
    left, right, top, bottom = rng.uniform(0.42, 0.56, 4)
    edge = np.minimum(np.minimum(x + left * width, right * width - x),
                      np.minimum(y + top * height, bottom * height - y))  # fmt: skip
    inside = np.clip(edge / 1.5 + 0.5, 0, 1)
    kind = rng.random()
    border = 0.0 if kind < 0.85 else 0.96 if kind < 0.93 else 0.3
    return picture * inside + border * (1 - inside)


def mark(picture: Array, side: str, rng: np.random.Generator) -> Array:
    """Burn in the side's lead letter, and now and then a line of figures such as a date."""
    height, width = picture.shape
    if rng.random() < 0.65:
        size = int(rng.integers(9, 18) * max(height, width) / 220)
        text = side if rng.random() < 0.8 else side + rng.choice([" AB", " 7", " PA", "*"])
        picture = stamp(picture, glyphs(text, size), float(rng.normal(0, 12)), rng)
    if rng.random() < 0.15:
        date = f"{rng.integers(1, 13):02d}/{rng.integers(1, 29):02d}/{rng.integers(2001, 2013)}"
        picture = stamp(picture, glyphs(date, int(9 * max(height, width) / 220)), 0.0, rng)
    return picture


def stamp(picture: Array, letter: Array, degrees: float, rng: np.random.Generator) -> Array:
    """``picture`` with ``letter`` turned and burned in near one of its edges."""
    size = np.array(picture.shape)
    reach = int(np.ceil(np.hypot(*letter.shape) / 2)) + 1
    room = size - 2 * reach - 1
    if room.min() < 3:
        return picture
    place = rng.random(2)  # share of the room, down and across
    edge = int(rng.integers(2))
    place[edge] = rng.choice([0.0, 0.88]) + 0.12 * place[edge]
    top, left = (place * room).astype(int)

    angle = np.deg2rad(degrees)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    source = np.stack([np.cos(angle) * y - np.sin(angle) * x + letter.shape[0] / 2,
                       np.sin(angle) * y + np.cos(angle) * x + letter.shape[1] / 2])  # fmt: skip
    cover = map_coordinates(letter, source, order=1, cval=0.0)
    marked = picture.copy()
    at = slice(top, top + 2 * reach + 1), slice(left, left + 2 * reach + 1)
    marked[at] = marked[at] * (1 - cover) + rng.uniform(0.85, 1.0) * cover
    return marked
