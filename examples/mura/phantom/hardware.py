"""Implants: plates with screws, nails, wires, lag screws, anchors and a joint prosthesis."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from examples.mura.phantom.abnormalities import Mark, around
from examples.mura.phantom.geometry import Array, cross, turn
from examples.mura.phantom.metal import Bar, Rod
from examples.mura.phantom.scene import Scene
from examples.mura.phantom.solids import Tube

STEEL, TITANIUM = 14.0, 5.4  # attenuation per cm near 50 keV


def fragment_at(scene: Scene, bone: str, s: float) -> Tube:
    """The piece of a bone, broken or not, that holds fraction ``s`` of its length."""
    near = scene.bones[bone].tube()
    far = scene.bones.get(f"{bone} fragment")
    if far is not None and near.cuts and s > near.cuts[-1].at:
        return far.tube()
    return near


def surface(scene: Scene, bone: str, s: float, way: Array) -> Array:
    """The point of the bone surface at fraction ``s`` of its length, towards ``way``."""
    tube = fragment_at(scene, bone, s)
    return tube.point(s) + way * tube.reach_at(s, way)


@dataclass(frozen=True)
class Plate:
    """A plate on a shaft with a row of screws through both cortices."""

    bone: str
    at: float
    span: float  # fraction of the bone's length
    azimuth: float
    screws: int
    metal: float
    kind: str = "hardware"

    def apply(self, scene: Scene) -> Mark:
        """Put the implant into the scene; mark where it sits."""
        tube = fragment_at(scene, self.bone, self.at)
        way = around(tube.right, tube.front, self.azimuth)
        low, high = max(self.at - self.span / 2, 0.03), min(self.at + self.span / 2, 0.97)
        start, end = surface(scene, self.bone, low, way), surface(scene, self.bone, high, way)
        half = tube.reach_at(0.5, way)
        thick = 0.14 + 0.1 * half
        places = (np.arange(self.screws) + 0.5) / self.screws
        lift = way * thick / 2
        bar = Bar(start + lift, end + lift, way, 0.75 * half + 0.25, thick, tuple(places))
        scene.metal.append((bar, self.metal))
        empty = int(self.screws * 7.0 * self.at) % self.screws if self.screws > 4 else -1
        for i, place in enumerate(places):
            if i == empty:  # the hole over the break is often left free
                continue
            s = low + place * (high - low)
            head = start + place * (end - start) + lift
            through = fragment_at(scene, self.bone, s)
            length = through.reach_at(s, way) + through.reach_at(s, -way) + 0.15
            screw = Rod(head, head - way * length, 0.1 + 0.07 * half, 0.22)
            scene.metal.append((screw, self.metal))
            scene.metal.append((Rod(head, head + way * 0.05, 0.17 + 0.09 * half), self.metal))
        return Mark(tube.point(self.at), None)


@dataclass(frozen=True)
class Nail:
    """A rod down the marrow, locked by screws at both ends."""

    bone: str
    low: float
    high: float
    azimuth: float
    metal: float
    kind: str = "hardware"

    def apply(self, scene: Scene) -> Mark:
        """Put the implant into the scene; mark where it sits."""
        a = fragment_at(scene, self.bone, self.low)
        b = fragment_at(scene, self.bone, self.high)
        start, end = a.point(self.low), b.point(self.high)
        half = a.reach_at(0.5, a.right)
        scene.metal.append((Rod(start, end, 0.42 * half), self.metal))
        way = around(a.right, a.front, self.azimuth)
        for place in (0.06, 0.14, 0.92):
            at = start + place * (end - start)
            s = self.low + place * (self.high - self.low)
            reach = fragment_at(scene, self.bone, s).reach_at(s, way)
            screw = Rod(at - way * reach, at + way * (reach + 0.3), 0.08 + 0.07 * half, 0.15)
            scene.metal.append((screw, self.metal))
        return Mark((start + end) / 2, None)


@dataclass(frozen=True)
class Wires:
    """Smooth pins driven obliquely through a bone, their ends left standing out."""

    bone: str
    at: float
    count: int
    azimuth: float
    metal: float
    seed: int
    kind: str = "hardware"

    def apply(self, scene: Scene) -> Mark:
        """Put the implant into the scene; mark where it sits."""
        tube = fragment_at(scene, self.bone, self.at)
        rng = np.random.default_rng(self.seed)
        centre = tube.point(self.at)
        half = tube.reach_at(self.at, tube.right)
        for i in range(self.count):
            way = around(tube.right, tube.front, self.azimuth + rng.normal(0, 25))
            lean = (1 if i % 2 else -1) * rng.uniform(18, 48)
            axis = turn(cross(tube.axis, way), lean) @ tube.axis
            length = min(half * rng.uniform(3.5, 6.0), 0.8 * tube.length)
            at = centre + rng.normal(0, 0.25, 3) * half
            rod = Rod(at - axis * length * 0.6, at + axis * length * 0.6, 0.06 + 0.06 * half)
            scene.metal.append((rod, self.metal))
        return Mark(centre, None)


@dataclass(frozen=True)
class Screws:
    """Lag screws or suture anchors across the end of a bone."""

    bone: str
    at: float
    count: int
    azimuth: float
    metal: float
    seed: int
    kind: str = "hardware"

    def apply(self, scene: Scene) -> Mark:
        """Put the implant into the scene; mark where it sits."""
        tube = fragment_at(scene, self.bone, self.at)
        rng = np.random.default_rng(self.seed)
        centre = tube.point(self.at)
        for i in range(self.count):
            way = around(tube.right, tube.front, self.azimuth + rng.normal(0, 8))
            half = tube.reach_at(self.at, way)
            axis = turn(cross(tube.axis, way), rng.normal(0, 15)) @ way
            at = centre + tube.axis * half * (0.7 * (i - (self.count - 1) / 2))
            head, tip = at + axis * half * 1.05, at - axis * half * rng.uniform(0.4, 0.95)
            scene.metal.append((Rod(head, tip, 0.1 + 0.08 * half, 0.25), self.metal))
            scene.metal.append((Rod(head, head + axis * 0.08, 0.14 + 0.12 * half), self.metal))
        return Mark(centre, None)


@dataclass(frozen=True)
class Prosthesis:
    """A metal ball or cap on a stem, in place of a bone's end at a joint."""

    joint: str
    bone: str
    ball: float  # radius in half-widths of the joint
    metal: float
    kind: str = "hardware"

    def apply(self, scene: Scene) -> Mark:
        """Put the implant into the scene; mark where it sits."""
        joint = scene.joints[self.joint]
        bone = scene.bones[self.bone]
        tube = bone.tube()
        bone.parts = [tube]  # the surgeon took the head away
        at_start = np.linalg.norm(tube.start - joint.at) < np.linalg.norm(tube.end - joint.at)
        way = tube.axis if at_start else -tube.axis
        end = tube.start if at_start else tube.end
        radius = self.ball * joint.half
        centre = end + way * radius * 0.6
        reach = tube.reach_at(0.5, tube.right)
        stem = min(0.45 * tube.length, 9.0)
        cap = Rod(centre, centre + way * 0.05, radius)
        scene.metal.append((cap, 0.6 * self.metal))
        scene.metal.append((Rod(centre, end + way * stem, 0.45 * reach), self.metal))
        return Mark(centre, None)
