"""Fractures, worn joints, lesions, dislocations and implants, made in the solid bones.

Each changes the scene in three dimensions before any view is taken, and returns a ``Mark``: a break
that shifts towards the tube is hard to see in that view and plain in the next, as in a clinic.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from examples.mura.phantom.scene import Bone, Deposit, Joint, Scene
from examples.mura.phantom.solids import Array, Bar, Blob, Cut, Rod, Tube, cross, outline, turn

STEEL, TITANIUM = 14.0, 5.4  # attenuation per cm near 50 keV


@dataclass(frozen=True)
class Mark:
    """Where a finding is, and the direction in which it shows; None: it shows from all sides."""

    at: Array
    direction: Array | None


def around(right: Array, front: Array, degrees: float) -> Array:
    angle = np.deg2rad(degrees)
    return np.cos(angle) * right + np.sin(angle) * front


def fracture(
    scene: Scene, bone: str, at: float, azimuth: float, *, shift: float, tilt: float, gap: float,
    slope: float, teeth: float, chips: int, callus: float, seed: int,
) -> Mark:  # fmt: skip
    """Break a shaft across.

    at: fraction along the bone. shift: displacement in half-widths of the bone. tilt: degrees.
    gap: between the fragments in half-widths, below 0 where they override. slope: obliquity.
    chips: loose fragments. callus: healing bone about the break, 0 for none.
    """
    whole = scene.bones[bone]
    shaft = whole.tube()
    way = around(shaft.right, shaft.front, azimuth)
    half = min(shaft.reach_at(at, way), 1.25 * shaft.reach_at(0.5, way))
    cut = Cut(
        at, slope * float(np.cos(np.deg2rad(azimuth))), slope * float(np.sin(np.deg2rad(azimuth))),
        -1, teeth * half, seed % 7,
    )  # fmt: skip
    pivot = shaft.point(at)
    near, far = split(whole, shaft, cut)
    scene.bones[bone] = near
    scene.add(far)
    for other in scene.bones.values():
        if other.hangs_on == bone and other is not far:
            other.hangs_on = far.name
    for key, joint in scene.joints.items():
        if joint.near == bone:
            scene.joints[key] = replace(joint, near=far.name)
    rotation = turn(cross(shaft.axis, way), tilt)
    moved = way * (shift * half) + shaft.axis * (gap * half)
    scene.move(scene.followers(far.name), rotation, pivot, moved)

    centre = pivot + moved / 2
    rng = np.random.default_rng(seed)
    for i in range(chips):
        chip_way = around(shaft.right, shaft.front, rng.uniform(0, 360))
        place = centre + chip_way * half * rng.uniform(0.5, 1.5)
        place = place + shaft.axis * rng.normal(0, 0.5) * half
        long, wide = half * rng.uniform(0.25, 0.6), half * rng.uniform(0.12, 0.3)
        shape = outline(*rng.uniform(0.6, 1.3, 7).tolist())
        blob = Blob(place, (wide, long, wide), turn(rng.normal(size=3), 40).T, shape, 0.05 * half)
        scene.add(Bone(f"{bone} chip {i}", [replace(blob, fill=0.6)], hangs_on=bone))
    if callus:
        axes = np.stack([shaft.right, shaft.axis, shaft.front])
        size = (1.7 * half, 2.0 * half, 1.7 * half)
        cloud = Blob(centre, size, axes, outline(*rng.uniform(0.8, 1.1, 9).tolist()))
        scene.deposits.append(Deposit(cloud, 0.16 * callus))
    return Mark(pivot, way)


def split(bone: Bone, shaft: Tube, cut: Cut) -> tuple[Bone, Bone]:
    near = replace(bone, parts=[], flesh=[])
    far = replace(bone, name=f"{bone.name} fragment", parts=[], flesh=[], hangs_on=bone.name)
    for part in bone.parts:
        if part is shaft:
            near.parts.append(replace(shaft, cuts=(*shaft.cuts, cut)))
            far.parts.append(replace(shaft, cuts=(*shaft.cuts, replace(cut, side=1))))
            continue
        centre = part.centre if isinstance(part, Blob) else part.point(0.5)
        along = float((centre - shaft.start) @ shaft.axis) / shaft.length
        (near if along < cut.at else far).parts.append(part)
    for flesh in bone.flesh:  # the limb bends with the bone
        if isinstance(flesh, Tube):
            along = float((shaft.point(cut.at) - flesh.start) @ flesh.axis) / flesh.length
            before, beyond = (
                Cut(along - 0.04 * side, 0.0, 0.0, side, 0.0, 0.0) for side in (-1, 1)
            )
            near.flesh.append(replace(flesh, cuts=(*flesh.cuts, before)))
            far.flesh.append(replace(flesh, cuts=(*flesh.cuts, beyond)))
    return near, far


def worn_joint(scene: Scene, name: str, azimuth: float, severity: float, seed: int) -> Mark:
    """Narrow a joint; its surfaces are dense, with spurs at the margins and cysts beneath."""
    joint = scene.joints[name]
    rng = np.random.default_rng(seed)
    way = around(joint.right, joint.front, azimuth)
    depth = cross(joint.axis, way)
    half = joint.half
    near_end = joint.at - joint.axis * 0.08
    scene.move(scene.followers(*joint.far), np.eye(3), joint.at, -joint.axis * 0.16 * severity)
    axes = np.stack([way, joint.axis, depth])
    for side in (-1.0, 1.0):
        band = near_end + side * joint.axis * 0.26 * half + way * half * 0.25
        plate = Blob(band, (0.85 * half, 0.3 * half, 0.8 * joint.depth), axes, flat=2.5)
        scene.deposits.append(Deposit(plate, 0.36 * severity))
        for margin in (-1.0, 1.0):
            if rng.random() <= 0.55 + 0.4 * severity:
                grow = severity * rng.uniform(0.7, 1.3)
                spur(scene, joint, way, side, margin, grow)
    for _ in range(rng.poisson(1.2 * severity)):
        at = near_end + joint.axis * half * rng.choice([-0.6, 0.6])
        at = at + way * half * rng.normal(0, 0.4)
        scene.deposits.append(Deposit(Blob(at, (0.22 * half,) * 3, flat=3.0), -0.6))
    return Mark(joint.at, way)


def spur(scene: Scene, joint: Joint, way: Array, side: float, margin: float, grow: float) -> None:
    half = joint.half
    at = joint.at + margin * way * half * (0.95 + 0.15 * grow) + side * joint.axis * half * 0.2
    lean = turn(cross(joint.axis, way), side * margin * 30) @ way
    axes = np.stack([lean, cross(cross(lean, way), lean) + joint.axis, joint.front])
    axes = np.linalg.qr(axes.T)[0].T
    size = (0.34 * half * grow, 0.17 * half, 0.45 * joint.depth)
    name = f"{joint.name} spur {len(scene.bones)}"
    owner = joint.near if side < 0 else joint.far[0]
    scene.add(Bone(name, [Blob(at, size, axes, cortex=0.07, fill=0.5)], hangs_on=owner))


def lesion(
    scene: Scene, bone: str, at: float, azimuth: float, *, size: float, gain: float, rim: float,
    swollen: bool, seed: int,
) -> Mark:  # fmt: skip
    """Make a hole in the bone (gain below 0), with or without a dense rim, or a dense focus."""
    whole = scene.bones[bone]
    shaft = whole.tube()
    rng = np.random.default_rng(seed)
    way = around(shaft.right, shaft.front, azimuth)
    half = min(shaft.reach_at(at, way), 1.4 * shaft.reach_at(0.5, way))
    centre = shaft.point(at) + way * half * 0.3
    axes = np.stack([way, shaft.axis, cross(way, shaft.axis)])
    radius = size * half
    x, y, z = radius, radius * rng.uniform(1.0, 1.6), radius
    shape = outline(*rng.uniform(0.82, 1.12, 9).tolist())
    blob = Blob(centre, (x, y, z), axes, shape, flat=3.5)
    if swollen:
        shell = Blob(centre, (x * 1.15, y * 1.2, z * 1.15), axes, shape, 0.07)
        whole.parts = [*whole.parts, replace(shell, fill=0.08)]
    if rim:
        scene.deposits.append(Deposit(replace(blob, size=(x * 1.2, y * 1.17, z * 1.2)), rim))
    scene.deposits.append(Deposit(blob, gain))
    return Mark(centre, None)


def dislocation(scene: Scene, name: str, azimuth: float, amount: float, tilt: float) -> Mark:
    """Move the far bone off the near one by ``amount`` widths of the joint."""
    joint = scene.joints[name]
    way = around(joint.right, joint.front, azimuth)
    names = scene.followers(*joint.far)
    shift = way * (2 * amount * joint.half) - joint.axis * (0.5 * amount * joint.half)
    scene.move(names, turn(cross(joint.axis, way), tilt), joint.at, shift)
    return Mark(joint.at, way)


# ---- implants; ``metal`` is their attenuation per cm


def fragment_at(scene: Scene, bone: str, s: float) -> Tube:
    """The piece of a bone, broken or not, that holds fraction ``s`` of its length."""
    near = scene.bones[bone].tube()
    far = scene.bones.get(f"{bone} fragment")
    if far is not None and near.cuts and s > near.cuts[-1].at:
        return far.tube()
    return near


def surface(scene: Scene, bone: str, s: float, way: Array) -> Array:
    tube = fragment_at(scene, bone, s)
    return tube.point(s) + way * tube.reach_at(s, way)


def plate(
    scene: Scene, bone: str, at: float, azimuth: float, span: float, screws: int, metal: float
) -> Mark:
    """A plate on a shaft with screws through both cortices; span: fraction of the bone."""
    tube = fragment_at(scene, bone, at)
    way = around(tube.right, tube.front, azimuth)
    low, high = max(at - span / 2, 0.03), min(at + span / 2, 0.97)
    start, end = surface(scene, bone, low, way), surface(scene, bone, high, way)
    half = tube.reach_at(0.5, way)
    thick = 0.14 + 0.1 * half
    places = (np.arange(screws) + 0.5) / screws
    lift = way * thick / 2
    bar = Bar(start + lift, end + lift, way, 0.75 * half + 0.25, thick, tuple(places))
    scene.metal.append((bar, metal))
    empty = int(screws * 7.0 * at) % screws if screws > 4 else -1
    for i, place in enumerate(places):
        if i == empty:  # the hole over the break is often left free
            continue
        s = low + place * (high - low)
        head = start + place * (end - start) + lift
        through = fragment_at(scene, bone, s)
        length = through.reach_at(s, way) + through.reach_at(s, -way) + 0.15
        scene.metal.append((Rod(head, head - way * length, 0.1 + 0.07 * half, 0.22), metal))
        scene.metal.append((Rod(head, head + way * 0.05, 0.17 + 0.09 * half), metal))
    return Mark(tube.point(at), None)


def nail(scene: Scene, bone: str, low: float, high: float, azimuth: float, metal: float) -> Mark:
    """A rod down the marrow, locked by screws at both ends."""
    a, b = fragment_at(scene, bone, low), fragment_at(scene, bone, high)
    start, end = a.point(low), b.point(high)
    half = a.reach_at(0.5, a.right)
    scene.metal.append((Rod(start, end, 0.42 * half), metal))
    way = around(a.right, a.front, azimuth)
    for place in (0.06, 0.14, 0.92):
        at = start + place * (end - start)
        s = low + place * (high - low)
        reach = fragment_at(scene, bone, s).reach_at(s, way)
        screw = Rod(at - way * reach, at + way * (reach + 0.3), 0.08 + 0.07 * half, 0.15)
        scene.metal.append((screw, metal))
    return Mark((start + end) / 2, None)


def wires(
    scene: Scene, bone: str, at: float, azimuth: float, count: int, metal: float, seed: int
) -> Mark:
    """Smooth pins driven obliquely through a bone, their ends left standing out."""
    tube = fragment_at(scene, bone, at)
    rng = np.random.default_rng(seed)
    centre = tube.point(at)
    half = tube.reach_at(at, tube.right)
    for i in range(count):
        way = around(tube.right, tube.front, azimuth + rng.normal(0, 25))
        lean = (1 if i % 2 else -1) * rng.uniform(18, 48)
        axis = turn(cross(tube.axis, way), lean) @ tube.axis
        length = min(half * rng.uniform(3.5, 6.0), 0.8 * tube.length)
        place = centre + rng.normal(0, 0.25, 3) * half
        rod = Rod(place - axis * length * 0.6, place + axis * length * 0.6, 0.06 + 0.06 * half)
        scene.metal.append((rod, metal))
    return Mark(centre, None)


def screws(
    scene: Scene, bone: str, at: float, azimuth: float, count: int, metal: float, seed: int
) -> Mark:
    """Lag screws or suture anchors across the end of a bone."""
    tube = fragment_at(scene, bone, at)
    rng = np.random.default_rng(seed)
    centre = tube.point(at)
    for i in range(count):
        way = around(tube.right, tube.front, azimuth + rng.normal(0, 8))
        half = tube.reach_at(at, way)
        axis = turn(cross(tube.axis, way), rng.normal(0, 15)) @ way
        place = centre + tube.axis * half * (0.7 * (i - (count - 1) / 2))
        head, tip = place + axis * half * 1.05, place - axis * half * rng.uniform(0.4, 0.95)
        scene.metal.append((Rod(head, tip, 0.1 + 0.08 * half, 0.25), metal))
        scene.metal.append((Rod(head, head + axis * 0.08, 0.14 + 0.12 * half), metal))
    return Mark(centre, None)


def prosthesis(scene: Scene, name: str, bone: str, ball: float, metal: float) -> Mark:
    """A ball on a stem in place of a bone's end; ball: radius in half-widths of the joint."""
    joint = scene.joints[name]
    tube = scene.bones[bone].tube()
    scene.bones[bone].parts = [tube]  # the surgeon took the head away
    at_start = np.linalg.norm(tube.start - joint.at) < np.linalg.norm(tube.end - joint.at)
    way = tube.axis if at_start else -tube.axis
    end = tube.start if at_start else tube.end
    radius = ball * joint.half
    centre = end + way * radius * 0.6
    reach = tube.reach_at(0.5, tube.right)
    stem = min(0.45 * tube.length, 9.0)
    scene.metal.append((Rod(centre, centre + way * 0.05, radius), 0.6 * metal))
    scene.metal.append((Rod(centre, end + way * stem, 0.45 * reach), metal))
    return Mark(centre, None)
