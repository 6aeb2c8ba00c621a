"""What the patient wears: rings, bracelets, press studs, casts, splints and folds of cloth.

All of it is drawn without a look at the label, and so cannot give the label away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from examples.mura.phantom.imaging import Maps, union
from examples.mura.phantom.scene import Scene
from examples.mura.phantom.solids import Array, Bar, Camera, Rod, Tube

ALLOY = 8.0  # attenuation per cm of what people wear
PLASTER = 0.26


@dataclass(frozen=True)
class Belongings:
    """What the patient wears through the whole study; 0 or "" for what is absent."""

    ring: str
    ring_at: float
    bracelet: float
    cast: float  # thickness in cm
    splint: bool
    snaps: int
    seed: int


def draw_belongings(part: str, rng: np.random.Generator) -> Belongings:
    """What a patient has on; each number is drawn even where it is not used, so none shifts."""
    wrist, fingers = part in ("WRIST", "FOREARM", "HAND"), part in ("HAND", "FINGER")
    clothed = part in ("SHOULDER", "HUMERUS", "ELBOW")
    chance = rng.random(5)
    ring = str(rng.choice(["index", "middle", "ring", "ring", "little"]))
    ring_at, up_the_arm = rng.uniform(0.35, 0.7), rng.uniform(2.5, 5.0)
    thick = rng.uniform(0.35, 0.8)
    snaps = int(rng.integers(1, 4))
    return Belongings(
        ring=ring if fingers and chance[0] < 0.12 else "",
        ring_at=float(ring_at),
        bracelet=float(up_the_arm) if wrist and chance[1] < 0.04 else 0.0,
        cast=float(thick) if chance[2] < 0.06 else 0.0,
        splint=bool(chance[3] < 0.05),
        snaps=snaps if clothed and chance[4] < 0.1 else 0,
        seed=int(rng.integers(2**31)),
    )


def wear(scene: Scene, things: Belongings) -> None:
    rng = np.random.default_rng(things.seed)
    bone = scene.bones.get(f"{things.ring} proximal")
    if bone is not None:
        tube = bone.tube()
        skin = (
            bone.flesh[0].reach_at(0.5, tube.right)
            if bone.flesh and isinstance(bone.flesh[0], Tube)
            else 0.9
        )
        at = tube.point(things.ring_at)
        band = 0.1 + 0.12 * rng.random()
        for offset in (-band, 0.0, band):
            middle = at + tube.axis * offset
            scene.metal.append(
                (Rod(middle - tube.right * skin, middle + tube.right * skin, band), 0.5 * ALLOY)
            )
    if things.bracelet and "radius" in scene.bones:
        radius = scene.bones["radius"].tube()
        at = radius.point(1 - things.bracelet / radius.length) - np.array([1.1, 0.0, 0.0])
        lean = np.array([0.0, 0.5 * rng.normal(), 0.0])
        right = np.array([3.0, 0.0, 0.0]) * scene.body.size
        scene.metal.append((Rod(at - right - lean, at + right + lean, 0.16), 0.4 * ALLOY))
    for _ in range(things.snaps):
        width, height = scene.extent
        at = scene.target + np.array(
            [rng.uniform(-0.4, 0.4) * width, rng.uniform(-0.4, 0.4) * height, 5.0]
        )
        face = np.array([0.3 * rng.normal(), 0.3 * rng.normal(), 1.0])
        scene.metal.append((Rod(at, at + 0.12 * face, float(rng.uniform(0.35, 0.6))), 0.25 * ALLOY))


def cover(scene: Scene, things: Belongings, camera: Camera, maps: Maps, weave: Array) -> Array:
    """(height, width) attenuation of plaster and of splints, shared by all views of a study."""
    total = np.zeros(camera.shape, np.float32)
    if things.cast:
        limbs = [*scene.flesh, *(f for bone in scene.bones.values() for f in bone.flesh)]
        wrapped = []
        for limb in limbs:
            reach = float(limb.reach(limb.right).mean()) if isinstance(limb, Tube) else 0.0
            if isinstance(limb, Tube) and reach > 1.6:
                wrapped.append(Tube(limb.start, limb.end, limb.front, limb.profile,
                                    limb.girth * (1 + things.cast / reach), limb.bow))  # fmt: skip
        shell = np.maximum(union(list(wrapped), camera) - maps.flesh, 0)
        total += PLASTER * gaussian_filter(shell, 1.0) * (1 + 0.06 * weave)
    if things.splint:
        rng = np.random.default_rng(things.seed + 1)
        width, height = scene.extent
        aside = np.array([rng.normal(0, 0.12) * width, 0.0, 0.0])
        along = np.array([rng.normal(0, 0.08), rng.uniform(0.25, 0.7), 0.0]) * height
        middle = scene.target + aside
        bar = Bar(middle - along, middle + along, np.array([0.0, 0.0, 1.0]),
                  width * rng.uniform(0.2, 0.5), 1.0)  # fmt: skip
        shadow = bar.thickness(camera)
        if shadow is not None:
            total[shadow[0]] += 0.22 * shadow[1] * (1 + 0.05 * weave[shadow[0]])
    return total


def folds(shape: tuple[int, int], rng: np.random.Generator) -> Array:
    """(height, width) faint attenuation of clothing or a pillow: a few soft ridges."""
    total = np.zeros(shape, np.float32)
    if rng.random() > 0.18:
        return total
    rows = np.arange(shape[0], dtype=np.float32)[:, None]
    columns = np.arange(shape[1], dtype=np.float32)[None, :]
    for _ in range(int(rng.integers(1, 5))):
        angle = rng.uniform(0, np.pi)
        along = np.cos(angle) * columns + np.sin(angle) * rows
        offset = rng.uniform(0.1, 0.9) * max(shape)
        bend = 6 * np.sin(along * rng.uniform(0.01, 0.04) + rng.uniform(0, 6))
        across = np.abs(np.cos(angle) * rows - np.sin(angle) * columns + bend - offset)
        total += rng.uniform(0.02, 0.09) * np.exp(-((across / rng.uniform(2, 6)) ** 2))
    return total
