"""Fractures, degenerative joints, lesions and dislocations, made in the solid bones.

Each acts in three dimensions before any view is taken, so a break that shifts towards the tube is
hard to see in that view and plain in the next, as it is in a clinic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from examples.mura.phantom.geometry import Array, cross, turn
from examples.mura.phantom.scene import Bone, Deposit, Joint, Scene
from examples.mura.phantom.solids import Blob, Cut, Tube, outline


@dataclass(frozen=True)
class Mark:
    """Where a finding is, and the direction in which it shows; None: it shows from all sides."""

    at: Array
    direction: Array | None


class Finding(Protocol):
    """Something that makes a study abnormal."""

    @property
    def kind(self) -> str:
        """One of the four of ``findings.PROPORTIONS``."""

    def apply(self, scene: Scene) -> Mark:
        """Change the scene; the same change whatever the view."""


def around(right: Array, front: Array, degrees: float) -> Array:
    """The direction at an angle from ``right`` towards ``front``."""
    angle = np.deg2rad(degrees)
    return np.cos(angle) * right + np.sin(angle) * front


@dataclass(frozen=True)
class Fracture:
    """A break across a shaft.

    at: fraction along the bone. shift: displacement in half-widths of the bone. tilt: degrees.
    gap: between the fragments in half-widths, below 0 where they override. slope: obliquity.
    chips: loose fragments. callus: healing bone about the break, 0 for none.
    """

    bone: str
    at: float
    azimuth: float
    shift: float
    tilt: float
    gap: float
    slope: float
    teeth: float
    chips: int
    callus: float
    seed: int
    kind: str = "fracture"

    def apply(self, scene: Scene) -> Mark:
        """Break the bone; mark the break."""
        bone = scene.bones[self.bone]
        shaft = bone.tube()
        way = around(shaft.right, shaft.front, self.azimuth)
        half = min(shaft.reach_at(self.at, way), 1.25 * shaft.reach_at(0.5, way))
        cut = Cut(
            self.at,
            self.slope * float(np.cos(np.deg2rad(self.azimuth))),
            self.slope * float(np.sin(np.deg2rad(self.azimuth))),
            -1, self.teeth * half, self.seed % 7,
        )  # fmt: skip
        pivot = shaft.point(self.at)
        near, far = self._split(bone, shaft, cut)
        scene.bones[self.bone] = near
        scene.add(far)
        for other in scene.bones.values():
            if other.hangs_on == self.bone and other is not far:
                other.hangs_on = far.name
        for key, joint in scene.joints.items():
            if joint.near == self.bone:
                scene.joints[key] = replace(joint, near=far.name)
        rotation = turn(cross(shaft.axis, way), self.tilt)
        shift = way * (self.shift * half) + shaft.axis * (self.gap * half)
        scene.move(scene.followers(far.name), rotation, pivot, shift)
        self._scatter(scene, shaft, pivot + shift / 2, half)
        return Mark(pivot, way)

    def _split(self, bone: Bone, shaft: Tube, cut: Cut) -> tuple[Bone, Bone]:
        near = replace(bone, parts=[], flesh=[])
        far = replace(bone, name=f"{bone.name} fragment", parts=[], flesh=[], hangs_on=bone.name)
        for part in bone.parts:
            if part is shaft:
                near.parts.append(replace(shaft, cuts=(*shaft.cuts, cut)))
                far.parts.append(replace(shaft, cuts=(*shaft.cuts, replace(cut, side=1))))
                continue
            centre = part.centre if isinstance(part, Blob) else part.point(0.5)
            along = float((centre - shaft.start) @ shaft.axis) / shaft.length
            (near if along < self.at else far).parts.append(part)
        for flesh in bone.flesh:  # the limb bends with the bone
            if isinstance(flesh, Tube):
                along = float((shaft.point(self.at) - flesh.start) @ flesh.axis) / flesh.length
                before, beyond = (
                    Cut(along - 0.04 * side, 0.0, 0.0, side, 0.0, 0.0) for side in (-1, 1)
                )
                near.flesh.append(replace(flesh, cuts=(*flesh.cuts, before)))
                far.flesh.append(replace(flesh, cuts=(*flesh.cuts, beyond)))
        return near, far

    def _scatter(self, scene: Scene, shaft: Tube, centre: Array, half: float) -> None:
        rng = np.random.default_rng(self.seed)
        for i in range(self.chips):
            way = around(shaft.right, shaft.front, rng.uniform(0, 360))
            at = (
                centre + way * half * rng.uniform(0.5, 1.5) + shaft.axis * rng.normal(0, 0.5) * half
            )
            long, wide = half * rng.uniform(0.25, 0.6), half * rng.uniform(0.12, 0.3)
            shape = outline(*rng.uniform(0.6, 1.3, 7).tolist())
            blob = Blob(at, (wide, long, wide), turn(rng.normal(size=3), 40).T, shape, 0.05 * half)
            scene.add(Bone(f"{self.bone} chip {i}", [replace(blob, fill=0.6)], hangs_on=self.bone))
        if self.callus:
            axes = np.stack([shaft.right, shaft.axis, shaft.front])
            size = (1.7 * half, 2.0 * half, 1.7 * half)
            cloud = Blob(centre, size, axes, outline(*rng.uniform(0.8, 1.1, 9).tolist()))
            scene.deposits.append(Deposit(cloud, 0.16 * self.callus))


@dataclass(frozen=True)
class Degenerative:
    """A worn joint: narrowed, its surfaces dense, with spurs at the margins and cysts beneath."""

    joint: str
    azimuth: float
    severity: float
    seed: int
    kind: str = "degenerative"

    def apply(self, scene: Scene) -> Mark:
        """Narrow the joint, roughen its rims; mark the joint."""
        joint = scene.joints[self.joint]
        rng = np.random.default_rng(self.seed)
        way = around(joint.right, joint.front, self.azimuth)
        depth = cross(joint.axis, way)
        half, grade = joint.half, self.severity
        near_end = joint.at - joint.axis * 0.08
        scene.move(scene.followers(*joint.far), np.eye(3), joint.at, -joint.axis * 0.16 * grade)
        axes = np.stack([way, joint.axis, depth])
        for side in (-1.0, 1.0):
            band = near_end + side * joint.axis * 0.26 * half + way * half * 0.25
            plate = Blob(band, (0.85 * half, 0.3 * half, 0.8 * joint.depth), axes, flat=2.5)
            scene.deposits.append(Deposit(plate, 0.36 * grade))
            for margin in (-1.0, 1.0):
                if rng.random() > 0.55 + 0.4 * grade:
                    continue
                self._spur(scene, joint, way, side, margin, rng)
        for _ in range(rng.poisson(1.2 * grade)):
            at = (
                near_end
                + joint.axis * half * rng.choice([-0.6, 0.6])
                + way * half * rng.normal(0, 0.4)
            )
            scene.deposits.append(Deposit(Blob(at, (0.22 * half,) * 3, flat=3.0), -0.6))
        return Mark(joint.at, way)

    def _spur(
        self,
        scene: Scene,
        joint: Joint,
        way: Array,
        side: float,
        margin: float,
        rng: np.random.Generator,
    ) -> None:
        half = joint.half
        grow = self.severity * rng.uniform(0.7, 1.3)
        at = joint.at + margin * way * half * (0.95 + 0.15 * grow) + side * joint.axis * half * 0.2
        lean = turn(cross(joint.axis, way), side * margin * 30) @ way
        axes = np.stack([lean, cross(cross(lean, way), lean) + joint.axis, joint.front])
        axes = np.linalg.qr(axes.T)[0].T
        size = (0.34 * half * grow, 0.17 * half, 0.45 * joint.depth)
        name = f"{joint.name} spur {len(scene.bones)}"
        owner = joint.near if side < 0 else joint.far[0]
        scene.add(Bone(name, [Blob(at, size, axes, cortex=0.07, fill=0.5)], hangs_on=owner))


@dataclass(frozen=True)
class Lesion:
    """A hole in the bone (gain below 0), with or without a dense rim, or a dense focus."""

    bone: str
    at: float
    azimuth: float
    size: float
    gain: float
    rim: float
    swollen: bool
    seed: int
    kind: str = "other"

    def apply(self, scene: Scene) -> Mark:
        """Eat a hole into the bone, or fill it; mark the place."""
        bone = scene.bones[self.bone]
        shaft = bone.tube()
        rng = np.random.default_rng(self.seed)
        way = around(shaft.right, shaft.front, self.azimuth)
        half = min(shaft.reach_at(self.at, way), 1.4 * shaft.reach_at(0.5, way))
        centre = shaft.point(self.at) + way * half * 0.3
        axes = np.stack([way, shaft.axis, cross(way, shaft.axis)])
        radius = self.size * half
        size = (radius, radius * rng.uniform(1.0, 1.6), radius)
        shape = outline(*rng.uniform(0.82, 1.12, 9).tolist())
        blob = Blob(centre, size, axes, shape, flat=3.5)
        if self.swollen:
            shell = Blob(centre, (size[0] * 1.15, size[1] * 1.2, size[2] * 1.15), axes, shape, 0.07)
            bone.parts = [*bone.parts, replace(shell, fill=0.08)]
        if self.rim:
            edge = replace(blob, size=(size[0] * 1.2, size[1] * 1.17, size[2] * 1.2))
            scene.deposits.append(Deposit(edge, self.rim))
        scene.deposits.append(Deposit(blob, self.gain))
        return Mark(centre, None)


@dataclass(frozen=True)
class Dislocation:
    """The far bone stands off the near one: ``amount`` in widths of the joint."""

    joint: str
    azimuth: float
    amount: float
    tilt: float
    kind: str = "other"

    def apply(self, scene: Scene) -> Mark:
        """Put the joint out; mark it."""
        joint = scene.joints[self.joint]
        way = around(joint.right, joint.front, self.azimuth)
        names = scene.followers(*joint.far)
        shift = way * (2 * self.amount * joint.half) - joint.axis * (0.5 * self.amount * joint.half)
        scene.move(names, turn(cross(joint.axis, way), self.tilt), joint.at, shift)
        return Mark(joint.at, way)
