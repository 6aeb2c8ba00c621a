"""From a scene to what each ray passes through: five maps in centimetres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from examples.mura.phantom.geometry import Array, Camera
from examples.mura.phantom.scene import Scene
from examples.mura.phantom.solids import Solid


@dataclass
class Maps:
    """(height, width) float32 each: cm along the ray, of bone as cm of solid mineral."""

    flesh: Array
    fat: Array
    cortical: Array
    cancellous: Array
    metal: Array  # attenuation, not cm: alloys differ


def empty(shape: tuple[int, int]) -> Array:
    """Thickness 0 everywhere, (H, W)."""
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
