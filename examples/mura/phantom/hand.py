"""The finger, the hand and the wrist.  The palm faces the front (+z), the fingers point up (+y)."""

from __future__ import annotations

import numpy as np

from examples.mura.phantom.scene import Body, Bone, Joint, Scene
from examples.mura.phantom.solids import Array, Blob, Tube, cross, outline, profile, turn

FRONT = np.array([0.0, 0.0, 1.0])

# (position, right, left, front, back) in units of the shaft's half-width
METACARPAL = profile(
    (
        (0.0, 1.45, 1.4, 1.3, 1.3), (0.1, 1.4, 1.35, 1.25, 1.25), (0.28, 1.02, 1.0, 1.0, 1.0),
        (0.52, 0.88, 0.88, 0.95, 0.85), (0.74, 1.02, 1.02, 1.1, 0.95),
        (0.89, 1.36, 1.36, 1.55, 1.25), (1.0, 1.25, 1.25, 1.4, 1.1),
    ),
    caps=(0.035, 0.14), cortex=(0.12, 0.42, 0.12), fill=(0.34, 0.05, 0.34),
)  # fmt: skip
PHALANX = profile(
    (
        (0.0, 1.5, 1.5, 1.15, 1.15), (0.09, 1.5, 1.5, 1.15, 1.15), (0.3, 1.08, 1.08, 0.8, 0.95),
        (0.6, 0.9, 0.9, 0.65, 0.85), (0.8, 1.02, 1.02, 0.75, 0.8),
        (0.92, 1.2, 1.2, 1.0, 0.85), (1.0, 1.12, 1.12, 0.95, 0.75),
    ),
    caps=(0.05, 0.1), cortex=(0.12, 0.38, 0.12), fill=(0.34, 0.06, 0.32),
)  # fmt: skip
TIP = profile(
    (
        (0.0, 1.75, 1.75, 1.2, 1.2), (0.12, 1.65, 1.65, 1.15, 1.15), (0.35, 0.95, 0.95, 0.75, 0.75),
        (0.65, 0.72, 0.72, 0.6, 0.6), (0.85, 1.1, 1.1, 0.55, 0.55), (1.0, 1.0, 1.0, 0.4, 0.4),
    ),
    caps=(0.08, 0.16), cortex=(0.12, 0.34, 0.2), fill=(0.34, 0.1, 0.3),
)  # fmt: skip
FINGER = profile(
    ((0.0, 0.98, 0.98, 1.05, 0.85), (0.5, 0.93, 0.93, 1.0, 0.8), (1.0, 1.0, 1.0, 1.0, 0.85)),
    caps=(0.25, 0.25),
)
FINGERTIP = profile(
    ((0.0, 0.98, 0.98, 1.0, 0.85), (0.5, 0.98, 0.98, 1.0, 0.75), (1.0, 0.8, 0.8, 0.7, 0.5)),
    caps=(0.2, 0.38),
)
THENAR = profile(
    ((0.0, 0.9, 0.9, 1.0, 0.9), (0.5, 1.25, 1.25, 1.2, 1.1), (1.0, 0.9, 0.9, 0.9, 0.8)),
    caps=(0.4, 0.3),
)
RADIUS_END = profile(
    (
        (0.0, 0.5, 0.5, 0.5, 0.5), (0.45, 0.56, 0.56, 0.55, 0.55), (0.68, 0.85, 0.72, 0.68, 0.65),
        (0.86, 1.36, 1.05, 1.0, 0.92), (0.95, 1.62, 1.08, 1.05, 1.0), (1.0, 1.7, 1.02, 0.95, 1.0),
    ),
    caps=(0.0, 0.045), cortex=(0.26, 0.22, 0.07), fill=(0.04, 0.08, 0.26), ends=0.3,
)  # fmt: skip
ULNA_END = profile(
    (
        (0.0, 0.48, 0.48, 0.48, 0.48), (0.55, 0.44, 0.44, 0.44, 0.44), (0.78, 0.5, 0.5, 0.5, 0.5),
        (0.93, 0.78, 0.76, 0.72, 0.72), (1.0, 0.72, 0.74, 0.66, 0.66),
    ),
    caps=(0.0, 0.06), cortex=(0.22, 0.2, 0.07), fill=(0.04, 0.06, 0.28), ends=0.22,
)  # fmt: skip
# forearm and palm as one: from 10 cm below the wrist joint to the webs of the fingers
MITT = profile(
    (
        (0.0, 3.3, 3.3, 2.5, 2.3), (0.3, 2.85, 2.85, 2.0, 1.8), (0.5, 2.7, 2.7, 1.75, 1.6),
        (0.62, 3.0, 2.95, 1.8, 1.5), (0.8, 3.85, 3.7, 1.65, 1.25), (0.92, 4.15, 4.05, 1.3, 1.1),
        (1.0, 4.0, 3.9, 1.0, 0.9),
    ),
    caps=(0.0, 0.08),
)  # fmt: skip

#  name of the ray: base (x, y), heading in degrees from up, lengths, half-width of the metacarpal
RAYS = {
    "thumb": ((1.75, 1.75), 38.0, (4.5, 3.1, 2.4), 0.44),
    "index": ((1.15, 2.75), 9.0, (6.6, 4.0, 2.4, 1.8), 0.40),
    "middle": ((0.25, 2.85), 1.0, (6.4, 4.4, 2.8, 1.9), 0.41),
    "ring": ((-0.6, 2.7), -6.0, (5.7, 4.1, 2.7, 1.9), 0.37),
    "little": ((-1.3, 2.4), -14.0, (5.3, 3.2, 1.95, 1.7), 0.36),
}
SEGMENTS = ("metacarpal", "proximal", "middle", "distal")

#  carpal: centre (x, y, z), half-axes (right, up, front), tilt in degrees, radii of the outline
#  at equal angles from the right, anticlockwise
CARPALS = {
    "scaphoid": ((1.0, 0.86, 0.15), (0.52, 0.92, 0.55), 40.0,
                 (0.95, 0.98, 0.9, 1.02, 0.95, 0.72, 0.62, 0.74, 0.98, 1.08, 1.0, 0.95)),
    "lunate": ((-0.02, 0.68, 0.0), (0.62, 0.52, 0.7), -6.0,
               (1.0, 1.1, 0.92, 0.74, 0.92, 1.1, 1.0, 1.02, 1.05, 1.05, 1.05, 1.02)),
    "triquetrum": ((-0.98, 0.95, -0.15), (0.5, 0.52, 0.5), 25.0,
                   (1.05, 0.95, 1.12, 0.92, 1.0, 1.12, 0.95, 0.9, 1.08, 0.92)),
    "pisiform": ((-1.1, 0.88, 0.7), (0.36, 0.42, 0.36), 0.0, (1.0, 1.0, 1.0, 1.0)),
    "trapezium": ((1.72, 1.72, 0.3), (0.52, 0.54, 0.5), 28.0,
                  (1.08, 1.12, 0.88, 1.1, 1.0, 1.1, 0.92, 1.08)),
    "trapezoid": ((1.0, 2.08, 0.0), (0.4, 0.5, 0.5), 8.0,
                  (0.95, 1.2, 1.0, 1.2, 0.95, 1.05, 1.0, 1.05)),
    "capitate": ((0.2, 1.92, 0.0), (0.5, 0.98, 0.6), 3.0,
                 (0.9, 1.0, 1.12, 1.0, 1.12, 1.0, 0.9, 0.86, 0.95, 1.02, 0.95, 0.86)),
    "hamate": ((-0.68, 1.88, 0.1), (0.56, 0.74, 0.6), -10.0,
               (0.9, 1.08, 1.12, 1.02, 1.12, 1.08, 0.95, 0.9, 0.8, 0.95, 0.85, 0.82)),
}  # fmt: skip


def heading(degrees: float, flexion: float) -> tuple[Array, Array]:
    """Direction of a bone turned away from the middle and flexed to the palm; and its front."""
    h, f = np.deg2rad(degrees), np.deg2rad(flexion)
    axis = np.array([np.sin(h) * np.cos(f), np.cos(h) * np.cos(f), np.sin(f)])
    front = np.array([-np.sin(h) * np.sin(f), -np.cos(h) * np.sin(f), np.cos(f)])
    return axis, front


def add_ray(
    scene: Scene,
    name: str,
    rng: np.random.Generator,
    spread: float,
    flexion: tuple[float, ...],
    origin: Array | None = None,
) -> None:
    """A metacarpal and its phalanges, each hung on the one before, with joints and flesh.

    rng draws what belongs to the patient; spread and flexion, in degrees, belong to the pose.
    """
    body = scene.body
    base, angle, lengths, half = RAYS[name]
    at = np.array([*base, 0.0]) * body.size if origin is None else origin
    width = half * body.size * body.girth
    kinds = SEGMENTS if len(lengths) == 4 else (SEGMENTS[0], SEGMENTS[1], SEGMENTS[3])
    bend = 0.0
    parent: str | None = "capitate"
    shrink = {"metacarpal": 1.0, "proximal": 0.98, "middle": 0.84, "distal": 0.6}
    for i, (kind, length) in enumerate(zip(kinds, lengths, strict=True)):
        long = length * body.size * float(np.clip(rng.normal(1, 0.03), 0.93, 1.07))
        wide = width * shrink[kind] * float(np.clip(rng.normal(1, 0.04), 0.9, 1.1))
        bend += flexion[i]
        axis, front = heading(angle + spread, bend)
        if name == "thumb":  # the thumb shows its side when the hand lies flat
            front = turn(axis, 55) @ front
        right = cross(axis, front)
        last, metacarpal = kind == "distal", kind == "metacarpal"
        shape = TIP if last else METACARPAL if metacarpal else PHALANX
        end = at + axis * long
        bow = front * (-0.04 * long if metacarpal else -0.02 * long)
        bone = Bone(f"{name} {kind}", [Tube(at, end, front, shape, wide, bow)], hangs_on=parent)
        skin = 1.12 * body.size * (0.72 + 0.28 * body.flesh) * (0.8 if last else 0.9)
        if name == "little":
            skin *= 0.87
        if not metacarpal:
            tip = end + axis * (0.32 if last else 0.45)
            back = at - axis * (0.35 if i > 1 else 1.2)
            flesh = Tube(back, tip, front, FINGERTIP if last else FINGER, skin)
            bone.flesh.append(flesh)
        scene.add(bone)
        gap = axis * 0.17 * body.size
        if not last:
            scene.joints[f"{name} {kind} joint"] = Joint(
                f"{name} {kind} joint", end + gap / 2, axis, right, front, 1.25 * wide, 1.0 * wide,
                bone.name, (f"{name} {kinds[i + 1]}",),
            )  # fmt: skip
        parent = bone.name
        at = end + gap


def add_carpus(scene: Scene, rng: np.random.Generator) -> None:
    body = scene.body
    size = body.size * (0.5 + 0.5 * body.girth)
    for name, (centre, half, tilt, shape) in CARPALS.items():
        at = np.array(centre) * body.size + rng.normal(0, 0.03, 3)
        grow = size * float(np.clip(rng.normal(1.0, 0.04), 0.9, 1.1))
        axes = turn(FRONT, -tilt + rng.normal(0, 4)).T
        grown = (half[0] * grow, half[1] * grow, half[2] * grow)
        blob = Blob(at, grown, axes, outline(*shape), cortex=0.06, fill=0.3, flat=3.0)
        parent = "radius" if name == "capitate" else "capitate"
        scene.add(Bone(name, [blob], hangs_on=parent))


def add_forearm_end(scene: Scene, length: float, rng: np.random.Generator) -> None:
    """The far ends of radius and ulna, with the flesh around them, ``length`` cm down."""
    body = scene.body
    k = body.size * body.girth
    variance = rng.normal(0.0, 0.1)
    top = np.array([0.35 * body.size, -0.02 * body.size, 0.0])
    down = np.array([0.25, -length, 0.0])
    radius = Tube(top + down, top, FRONT, RADIUS_END, k)
    ulna_top = np.array([-1.42 * body.size, (-0.35 + variance) * body.size, -0.15])
    ulna = Tube(ulna_top + down + [0.3, 0, 0], ulna_top, FRONT, ULNA_END, k)
    styloid = Blob(
        ulna_top + np.array([-0.5, 0.12, -0.1]) * k, (0.16 * k, 0.4 * k, 0.16 * k), cortex=0.08
    )
    tip = Blob(top + np.array([1.28, 0.1, 0.0]) * k, (0.36 * k, 0.62 * k, 0.6 * k), cortex=0.08)
    scene.add(Bone("radius", [radius, tip]))
    scene.add(Bone("ulna", [ulna, styloid]))
    scene.flesh.append(mitt(body, np.zeros(3)))
    scene.joints["wrist joint"] = Joint(
        "wrist joint", top + np.array([0.2, 0.18, 0.0]), np.array([0.0, 1.0, 0.0]),
        np.array([1.0, 0.0, 0.0]), FRONT, 1.25 * k, 0.9 * k, "radius", ("capitate",),
    )  # fmt: skip


def mitt(body: Body, wrist: Array) -> Tube:
    low, high = np.array([-0.45, -10.0, 0.0]), np.array([-0.15, 9.6, 0.1])
    girth = body.size * (0.75 + 0.25 * body.flesh) + 0.05 * body.fat
    return Tube(wrist + low * body.size, wrist + high * body.size, FRONT, MITT, girth)


def add_thenar(scene: Scene) -> None:
    bone = scene.bones["thumb metacarpal"]
    thumb = bone.tube()
    girth = 1.2 * scene.body.size * (0.7 + 0.3 * scene.body.flesh)
    start, end = thumb.start - 1.2 * thumb.axis, thumb.end + 0.5 * thumb.axis
    bone.flesh.append(Tube(start, end, thumb.front, THENAR, girth))


def hand_flexion(view: str, name: str, rng: np.random.Generator) -> tuple[float, ...]:
    """Flexion at each joint of a ray: flat in the frontal view, fanned in the lateral."""
    rest = rng.normal(4, 3)
    if view == "lateral":
        fan = {"thumb": 5.0, "index": 34.0, "middle": 24.0, "ring": 12.0, "little": 2.0}[name]
        return (0.0, fan + rest, fan * 0.6 + rest, rest)
    return (0.0, rest, abs(rng.normal(6, 4)), abs(rng.normal(3, 3)))


def build_hand(body: Body, view: str, rng: np.random.Generator) -> Scene:
    scene = Scene(body, np.array([0.3, 7.0, 0.3]) * body.size, (13.0, 18.0))
    own = body.generator()
    spread = rng.normal(1.0, 0.35)
    add_forearm_end(scene, 6.5, own)
    add_carpus(scene, own)
    for name in RAYS:
        wide = spread * RAYS[name][1] * 0.35 + rng.normal(0, 1.5)
        add_ray(scene, name, own, wide, hand_flexion(view, name, rng))
    add_thenar(scene)
    return scene


def build_wrist(body: Body, view: str, rng: np.random.Generator) -> Scene:
    """The carpus, the ends of radius and ulna, and the bases of the metacarpals."""
    scene = Scene(body, np.array([0.0, 0.2, 0.0]) * body.size, (8.5, 13.0))
    own = body.generator()
    add_forearm_end(scene, 9.0, own)
    add_carpus(scene, own)
    for name in RAYS:
        add_ray(scene, name, own, RAYS[name][1] * 0.2, hand_flexion(view, name, rng))
    add_thenar(scene)
    lean = {"scaphoid": 18.0}.get(view, 0.0) + rng.normal(0, 4)
    names = [b for b in scene.bones if b not in ("radius", "ulna")]
    scene.move(names, turn(FRONT, lean), np.array([0.0, 0.9, 0.0]) * body.size, np.zeros(3))
    return scene


def build_finger(body: Body, view: str, rng: np.random.Generator) -> Scene:
    """One finger; in the frontal view its neighbours stand beside it, cut by the image's edge."""
    own = body.generator()
    names = list(RAYS)
    name = names[int(own.choice(5, p=(0.22, 0.24, 0.22, 0.16, 0.16)))]
    thumb = name == "thumb"
    first = sum(RAYS[name][2][0:1]) * body.size
    scene = Scene(body, np.zeros(3), (5.4, 11.0), finger=name)
    flexion = (0.0, 0.0, abs(rng.normal(10 if view == "lateral" else 4, 5)), abs(rng.normal(5, 4)))
    add_ray(scene, name, own, -RAYS[name][1], flexion, np.array([0.0, -first, 0.0]))
    shaft = scene.bones[f"{name} metacarpal"].tube()
    scene.flesh.append(Tube(shaft.start, shaft.end + 0.3, shaft.front, FINGER, 1.45 * body.size))
    if view != "lateral" and not thumb:
        for step in (-1, 1):
            other = names.index(name) + step
            if not 1 <= other < 5:
                continue
            at = np.array([-2.05 * step * body.size, -first - 0.3, -0.1])
            add_ray(scene, names[other], own, -RAYS[names[other]][1] - 3.0 * step,
                    (0.0, 0.0, 6.0, 4.0), at)  # fmt: skip
    scene.target = np.array([0.0, (2.2 if thumb else 3.6) * body.size, 0.0])
    if thumb:
        scene.extent = (5.4, 9.0)
    return scene
