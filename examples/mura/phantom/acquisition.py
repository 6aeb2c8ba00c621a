"""The X-ray tube, the detector and the display: from maps of thickness to an 8-bit picture.

Beer and Lambert: intensity = exp(−Σ μ × thickness), plus scatter, plus quantum noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from examples.mura.phantom.geometry import Array
from examples.mura.phantom.render import Maps

# linear attenuation per cm near 50 keV effective; bone's is what it adds to the flesh it displaces
MUSCLE, FAT, MINERAL = 0.23, 0.17, 0.85
EQUALISED = 0.55  # share of the slow changes that the display takes off


@cache
def trabecular_tile() -> Array:
    """(512, 512) band-passed noise, mean 0 and deviation 1: the weave of cancellous bone."""
    rng = np.random.default_rng(20180401)
    noise = rng.standard_normal((512, 512)).astype(np.float32)
    tile = gaussian_filter(noise, (1.3, 0.6), mode="wrap")
    tile -= gaussian_filter(tile, 3.0, mode="wrap")
    tile += 0.35 * gaussian_filter(noise.T, (0.6, 1.3), mode="wrap")
    return (tile - tile.mean()) / tile.std()


def trabeculae(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """(H, W) texture of cancellous bone, mean 1, a random piece of the tile."""
    tile = trabecular_tile()
    row, column = rng.integers(0, 512 - shape[0] + 1), rng.integers(0, 512 - shape[1] + 1)
    crop = tile[row : row + shape[0], column : column + shape[1]]
    return crop[::-1] if rng.random() < 0.5 else crop


def attenuation(maps: Maps, cover: Array | float = 0.0) -> Array:
    """Σ μ × thickness along each ray."""
    muscle = maps.flesh - maps.fat
    bone = maps.cortical + maps.cancellous
    return MUSCLE * muscle + FAT * maps.fat + MINERAL * bone + maps.metal + cover


@dataclass(frozen=True)
class Exposure:
    """How one picture was taken and shown; nothing here knows whether the study is abnormal."""

    quanta: float  # per pixel behind flesh of middling thickness
    scatter: float
    blur: float  # pixels
    level: float
    contrast: float
    gamma: float
    inverted: bool


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """How one picture was taken, drawn at random."""
    return Exposure(
        quanta=float(np.exp(rng.normal(7.1, 0.5))),
        scatter=float(rng.uniform(0.03, 0.12)),
        blur=float(rng.uniform(0.45, 0.8)),
        level=float(rng.normal(0.0, 0.12)),
        contrast=float(np.exp(rng.normal(0.0, 0.16))),
        gamma=float(np.exp(rng.normal(-0.3, 0.15))),
        inverted=bool(rng.random() < 0.015),
    )


def smooth(picture: Array, sigma: float) -> Array:
    """``picture`` (H, W) blurred so far that a quarter of its pixels carry it."""
    size = picture.shape[1], picture.shape[0]
    small = Image.fromarray(picture).resize((size[0] // 4, size[1] // 4), Image.Resampling.BOX)
    blurred = gaussian_filter(np.asarray(small), sigma / 4, mode="nearest", truncate=2.5)
    return np.asarray(Image.fromarray(blurred).resize(size, Image.Resampling.BILINEAR))


def expose(total: Array, reference: Array, exposure: Exposure, rng: np.random.Generator) -> Array:
    """(height, width) picture in 0..1 of rays that were attenuated by ``total``.

    reference: the attenuation without metal, which sets the exposure and the display's window as
    a radiographer's chart would: by body part and build, not by what is found.
    """
    body = reference > 0.15
    within = reference[body] if body.sum() > 50 else reference.ravel()
    middle = float(np.median(within))
    primary = np.exp(-total)
    reach = 0.1 * max(total.shape)
    scattered = exposure.scatter * (0.5 * smooth(primary, reach) + 0.2 * float(primary.mean()))
    intensity = gaussian_filter(primary, exposure.blur) + scattered
    # automatic exposure: as many quanta reach the detector behind a shoulder as behind a finger
    quanta = exposure.quanta * np.exp(middle)
    noise = rng.standard_normal(total.shape, dtype=np.float32)
    intensity += np.sqrt(np.maximum(intensity, 1e-4) / quanta) * noise
    seen = -np.log(np.maximum(intensity, 2e-4 * np.exp(-middle)))

    # the display takes off part of what changes slowly, so that thick and thin flesh both show bone
    slow = EQUALISED * (smooth(reference, reach) - middle)
    low, high = np.percentile((reference - slow)[body] if body.sum() > 50 else within, (10.0, 97.0))
    span = max(float(high - low), 0.35)
    centre = low + (0.62 - exposure.level * 0.6) * span
    shown = 1 / (1 + np.exp(-3.2 * exposure.contrast * (seen - slow - centre) / span))
    floor = 1 / (1 + np.exp(3.2 * exposure.contrast * max(centre, 0.35 * span) / span))
    shown = np.clip((shown - floor) / (1 - floor), 0, 1) ** exposure.gamma
    return 1 - shown if exposure.inverted else shown
