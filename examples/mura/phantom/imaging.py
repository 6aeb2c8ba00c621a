"""From a scene to an 8-bit picture: the beam, the detector, the display, the radiographer's marks.

Thicknesses along each ray become an intensity by Beer and Lambert, exp(−Σ μ × thickness), plus
scatter, plus quantum noise. How a picture is taken and marked is drawn without a look at the label,
so none of it can give the label away.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, map_coordinates

from examples.mura.phantom.scene import Scene
from examples.mura.phantom.solids import Array, Camera, Solid

# linear attenuation per cm near 50 keV effective; bone's is what it adds to the flesh it displaces
MUSCLE, FAT, MINERAL = 0.23, 0.17, 0.85
EQUALISED = 0.55  # share of the slow changes that the display takes off


@dataclass
class Maps:
    """(height, width) float32 each: cm along the ray, of bone as cm of solid mineral."""

    flesh: Array
    fat: Array
    cortical: Array
    cancellous: Array
    metal: Array  # attenuation, not cm: alloys differ


def empty(shape: tuple[int, int]) -> Array:
    return np.zeros(shape, np.float32)


def union(solids: list[Solid], camera: Camera) -> Array:
    """Chord through the union of solids, taken as the longest chord through any of them."""
    total = empty(camera.shape)
    for solid in solids:
        seen = solid.thickness(camera)
        if seen is not None:
            window, outer, _, _ = seen
            np.maximum(total[window], outer, out=total[window])
    return total


def add_bone(parts: list[Solid], camera: Camera, mineral: float, cortex: float, maps: Maps) -> None:
    """Add one bone: shell = whole − inside, the inside filled with sparse cancellous bone."""
    seen = [s for s in (part.thickness(camera) for part in parts) if s is not None]
    if not seen:
        return
    if len(seen) == 1:
        window, outer, inner, fill = seen[0]
    else:
        rows = slice(min(s[0][0].start for s in seen), max(s[0][0].stop for s in seen))
        columns = slice(min(s[0][1].start for s in seen), max(s[0][1].stop for s in seen))
        window = rows, columns
        shape = rows.stop - rows.start, columns.stop - columns.start
        outer, inner, fill = empty(shape), empty(shape), empty(shape)
        for (r, c), o, i, f in seen:
            at = (slice(r.start - rows.start, r.stop - rows.start),
                  slice(c.start - columns.start, c.stop - columns.start))  # fmt: skip
            fill[at] = np.where(i > inner[at], f, fill[at])
            np.maximum(outer[at], o, out=outer[at])
            np.maximum(inner[at], i, out=inner[at])
    maps.cortical[window] += (mineral * cortex) * np.maximum(outer - inner, 0)
    maps.cancellous[window] += mineral * fill * inner


def render(scene: Scene, camera: Camera, trabeculae: Array) -> Maps:
    """Project every solid of the scene; ``trabeculae`` (height, width) has mean 0, deviation 1."""
    maps = Maps(*(empty(camera.shape) for _ in range(5)))
    body = scene.body
    skin = [*scene.flesh, *(f for bone in scene.bones.values() for f in bone.flesh)]
    maps.flesh = gaussian_filter(union(skin, camera), 0.1 * camera.pixels_per_cm, truncate=2.5)
    for solid in scene.air:
        seen = solid.thickness(camera)
        if seen is not None:
            maps.flesh[seen[0]] -= np.minimum(0.82 * seen[1], 0.8 * maps.flesh[seen[0]])
    maps.fat = np.minimum(maps.flesh, 2 * body.fat * (1 + 0.4 * np.exp(-maps.flesh)))
    for bone in scene.bones.values():
        add_bone(bone.parts, camera, body.mineral, body.cortex, maps)
    # struts at random depths average out: their contrast falls as the square root of the depth
    maps.cancellous += 0.1 * trabeculae * np.sqrt(maps.cancellous)
    for deposit in scene.deposits:
        seen = deposit.blob.thickness(camera)
        if seen is None:
            continue
        window, outer, _, _ = seen
        if deposit.gain > 0:
            maps.cortical[window] += deposit.gain * outer
        else:
            share = 1 + deposit.gain * np.clip(outer / max(float(outer.max()), 1e-6), 0, 1)
            maps.cortical[window] *= share
            maps.cancellous[window] *= share
    for metal, attenuation in scene.metal:
        shadow = metal.thickness(camera)
        if shadow is not None:
            maps.metal[shadow[0]] += attenuation * shadow[1]
    return maps


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
    muscle = maps.flesh - maps.fat
    bone = maps.cortical + maps.cancellous
    return MUSCLE * muscle + FAT * maps.fat + MINERAL * bone + maps.metal + cover


@dataclass(frozen=True)
class Exposure:
    quanta: float  # per pixel behind flesh of middling thickness
    scatter: float
    blur: float  # pixels
    level: float
    contrast: float
    gamma: float
    inverted: bool


def draw_exposure(rng: np.random.Generator) -> Exposure:
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


@cache
def glyphs(text: str, size: int) -> Array:
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
