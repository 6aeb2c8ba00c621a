"""Random changes to a batch of radiographs that leave its labels true.  Report §5.2.

Flips, rotation, random-size crop and shift are one affine map per image and so one interpolation;
brightness and contrast follow.  Every image draws the same count of numbers from the generator
whatever is switched on, so that one setting does not alter the draws of another.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from examples.mura.errors import UserError

# Fixed, so that a prediction does not depend on the data trained on: x = (p / 255 - 0.5) / 0.25
MEAN, DEVIATION = 0.5, 0.25
LOWEST, HIGHEST = -MEAN / DEVIATION, (1 - MEAN) / DEVIATION

# Pixels warped at a time: their coordinates, weights and neighbours stay in the processor's cache
BLOCK = 32 * 1024


@dataclass(frozen=True)
class AugmentSettings:
    """How strongly to change images; the defaults are the MURA paper's flips and rotations.

    horizontal_flip, vertical_flip  flip half of the images, drawn at random
    rotation     degrees; turns by an angle uniform in [-rotation, rotation], positive to the left
    crop         (least, most) area of the random-size crop, as a share of the image's
    shift        share of the side; moves uniform in [-shift, shift], along both axes
    brightness   share of the range from black to white; adds uniform in [-brightness, brightness]
    contrast     multiplies the distance from mid-grey by uniform in [1 - contrast, 1 + contrast]
    """

    horizontal_flip: bool = True
    vertical_flip: bool = False
    rotation: float = 30.0
    crop: tuple[float, float] = (1.0, 1.0)
    shift: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0

    def __post_init__(self) -> None:
        least, most = self.crop
        for name, value, bounds, fits in (
            ("rotation", self.rotation, "0 to 180 degrees", 0 <= self.rotation <= 180),
            ("crop", self.crop, "0 < least <= most <= 1", 0 < least <= most <= 1),
            ("shift", self.shift, "0 to 1", 0 <= self.shift <= 1),
            ("brightness", self.brightness, "0 to 1", 0 <= self.brightness <= 1),
            ("contrast", self.contrast, "0 to 1", 0 <= self.contrast <= 1),
        ):
            if not fits:
                raise UserError(f"augmentation: {name} is {value}, want {bounds}")


NO_CHANGE = AugmentSettings(horizontal_flip=False, rotation=0.0)


def normalise(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey levels as a network's input: x = (p / 255 - 0.5) / 0.25, from -2 to 2.

    pixels  (N, S, S) grey levels, 0 to 255
    Returns x (N, S, S, 1).
    """
    x = np.multiply(pixels, np.float32(1 / (255 * DEVIATION)), dtype=np.float32)
    x -= np.float32(MEAN / DEVIATION)
    return x[..., None]


def augment(
    pixels: NDArray[np.uint8], rng: np.random.Generator, settings: AugmentSettings
) -> NDArray[np.float32]:
    """Change each image at random, then normalise.

    pixels  (N, S, S) grey levels, 0 to 255
    Returns x (N, S, S, 1); outside the image is black.
    """
    draws = rng.random((len(pixels), 10))
    x = normalise(warp(pixels, affine_maps(draws[:, :8], pixels.shape[1], settings)))
    if settings.brightness or settings.contrast:
        x *= per_image(1 + settings.contrast * signed(draws[:, 8]))
        x += per_image(settings.brightness * signed(draws[:, 9]) / DEVIATION)
        np.clip(x, LOWEST, HIGHEST, out=x)
    return x


def affine_maps(
    draws: NDArray[np.float64], side: int, settings: AugmentSettings
) -> NDArray[np.float32]:
    """Maps from a point (row, column) of the result to the point of the image seen there.

        source = √area · R · flip · target + offset,   R = [[cos, sin], [-sin, cos]] of the angle

    both points from the centre, in pixels.

    draws  (N, 8) from [0, 1): two flips, angle, area, crop's place (2), shift (2)
    Returns (N, 2, 3): the matrix and, as its last column, the offset.
    """
    vertical = np.where(settings.vertical_flip & (draws[:, 0] < 0.5), -1, 1)
    horizontal = np.where(settings.horizontal_flip & (draws[:, 1] < 0.5), -1, 1)
    angle = np.deg2rad(settings.rotation) * signed(draws[:, 2])
    least, most = settings.crop
    scale = np.sqrt(least + (most - least) * draws[:, 3])
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    inside = (1 - scale[:, None]) / 2 * signed(draws[:, 4:6])  # the crop stays in the image
    offset = side * (inside + settings.shift * signed(draws[:, 6:8]))
    maps = [
        [cos * vertical, sin * horizontal, offset[:, 0]],
        [-sin * vertical, cos * horizontal, offset[:, 1]],
    ]
    return np.moveaxis(np.array(maps, dtype=np.float32), -1, 0)


def warp(pixels: NDArray[np.uint8], maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Resample every image through its map, by bilinear interpolation; black outside the image.

    pixels  (N, S, S) grey levels
    maps    (N, 2, 3) as ``affine_maps`` returns them
    Returns (N, S, S) grey levels, not rounded.
    """
    warped = np.empty(pixels.shape, dtype=np.float32)
    step = max(1, BLOCK // pixels.shape[1] ** 2)
    for first in range(0, len(pixels), step):
        block = slice(first, first + step)
        warp_block(pixels[block], maps[block], warped[block])
    return warped


def warp_block(
    pixels: NDArray[np.uint8], maps: NDArray[np.float32], out: NDArray[np.float32]
) -> None:
    n, side, _ = pixels.shape
    wide = side + 3
    # one black pixel before and two behind, so that all four neighbours of any point are there
    padded = np.zeros((n, wide, wide), dtype=np.uint8)
    padded[:, 1:-2, 1:-2] = pixels

    centre = np.float32((side - 1) / 2)
    target = np.arange(side, dtype=np.float32) - centre
    matrix, offset = maps[:, :, :2, None], maps[:, :, 2:] + (centre + 1)
    along_rows = matrix[:, :, 0] * target  # (n, 2, side): what a target's row adds
    along_columns = matrix[:, :, 1] * target + offset
    row, column = (along_rows[:, i, :, None] + along_columns[:, i, None, :] for i in (0, 1))
    for place in (row, column):
        np.clip(place, 0, side + 1, out=place)

    above, left = row.astype(np.int32), column.astype(np.int32)
    row -= above  # from here on the weights of the neighbours below and on the right
    column -= left
    index = above * wide + left + (np.arange(n, dtype=np.int32) * wide**2)[:, None, None]
    flat = padded.reshape(-1)

    def between_left_and_right(index: NDArray[np.int32]) -> NDArray[np.float32]:
        value = flat.take(index).astype(np.float32)
        change = flat.take(index + 1) - value
        change *= column
        value += change
        return value

    upper = between_left_and_right(index)
    lower = between_left_and_right(index + wide)
    lower -= upper
    lower *= row
    np.add(upper, lower, out=out)


def signed(draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Draws from [0, 1) as draws from [-1, 1)."""
    return 2 * draws - 1


def per_image(values: NDArray[np.float64]) -> NDArray[np.float32]:
    return values.astype(np.float32)[:, None, None, None]
