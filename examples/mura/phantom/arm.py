"""The forearm and the elbow.  The thumb's side is +x; the elbow bends to +z."""

from __future__ import annotations

import numpy as np

from examples.mura.phantom.hand import FRONT, RAYS, add_carpus, add_ray, hand_flexion, mitt
from examples.mura.phantom.scene import Body, Bone, Deposit, Joint, Scene
from examples.mura.phantom.solids import Array, Blob, Tube, cross, profile, turn

UP = np.array([0.0, 1.0, 0.0])
RIGHT = np.array([1.0, 0.0, 0.0])

# whole bones in cm at average girth, from the elbow to the wrist
RADIUS = profile(
    (
        (0.0, 1.08, 1.08, 1.05, 1.05), (0.035, 1.12, 1.12, 1.1, 1.1),
        (0.07, 0.66, 0.66, 0.66, 0.66),
        (0.12, 0.68, 0.92, 0.8, 0.66), (0.18, 0.64, 0.68, 0.62, 0.62), (0.45, 0.62, 0.72, 0.6, 0.6),
        (0.75, 0.72, 0.7, 0.64, 0.64), (0.88, 1.0, 0.85, 0.78, 0.74),
        (0.955, 1.5, 1.06, 1.02, 0.96),
        (1.0, 1.7, 1.02, 0.95, 1.0),
    ),
    caps=(0.02, 0.016), cortex=(0.09, 0.25, 0.08), fill=(0.26, 0.05, 0.26), ends=0.12,
)  # fmt: skip
ULNA = profile(
    (
        (0.0, 0.85, 0.85, 0.9, 0.75), (0.025, 1.1, 1.15, 0.35, 0.95), (0.06, 1.15, 1.25, 0.2, 1.0),
        (0.088, 1.1, 1.2, 1.45, 0.95), (0.13, 0.85, 0.9, 0.85, 0.85), (0.25, 0.7, 0.7, 0.68, 0.75),
        (0.6, 0.58, 0.58, 0.56, 0.58), (0.88, 0.46, 0.46, 0.46, 0.46),
        (0.965, 0.75, 0.75, 0.7, 0.7),
        (1.0, 0.7, 0.72, 0.66, 0.66),
    ),
    caps=(0.03, 0.02), cortex=(0.12, 0.25, 0.08), fill=(0.3, 0.05, 0.28), ends=0.12,
)  # fmt: skip
# from the shoulder to the elbow; right is the medial side, since the axis points down
HUMERUS = profile(
    (
        (0.0, 1.2, 1.5, 1.5, 1.5), (0.03, 1.6, 2.15, 1.95, 1.85), (0.07, 1.7, 2.2, 2.0, 1.9),
        (0.12, 1.5, 1.75, 1.6, 1.55), (0.19, 1.22, 1.32, 1.25, 1.25), (0.4, 1.1, 1.18, 1.12, 1.12),
        (0.7, 1.08, 1.08, 1.0, 1.0), (0.84, 1.5, 1.4, 0.78, 0.85), (0.9, 2.2, 1.95, 0.72, 0.8),
        (0.945, 3.1, 2.7, 0.95, 0.75), (0.965, 2.95, 2.65, 1.35, 0.8), (1.0, 2.25, 2.2, 1.35, 0.75),
    ),
    caps=(0.03, 0.032), cortex=(0.12, 0.42, 0.1), fill=(0.24, 0.05, 0.26), ends=0.17,
)  # fmt: skip
FOREARM = profile(
    ((0.0, 4.4, 4.2, 3.9, 3.8), (0.2, 4.6, 4.4, 4.1, 3.9), (0.55, 3.7, 3.6, 3.2, 3.0),
     (0.85, 2.85, 2.85, 2.1, 2.0), (1.0, 2.75, 2.75, 1.9, 1.8)),
    caps=(0.12, 0.05),
)  # fmt: skip
UPPER_ARM = profile(
    ((0.0, 5.2, 5.6, 5.2, 5.2), (0.25, 4.9, 5.1, 5.0, 5.0), (0.6, 4.4, 4.4, 4.6, 4.6),
     (0.88, 4.1, 4.1, 3.7, 3.7), (1.0, 4.3, 4.3, 3.6, 3.6)),
    caps=(0.1, 0.1),
)  # fmt: skip


def flesh_girth(body: Body) -> float:
    return body.size * (0.55 + 0.45 * body.flesh) + 0.06 * body.fat


def add_forearm(
    scene: Scene, elbow: Array, down: Array, front: Array, own: np.random.Generator
) -> None:
    """Radius and ulna from the elbow along ``down``, ``front`` their palmar side."""
    body = scene.body
    k = body.size * body.girth
    lateral = cross(down, front)
    if lateral[0] < 0:
        lateral = -lateral
    long = 23.5 * body.size * float(np.clip(own.normal(1, 0.02), 0.95, 1.05))
    head = elbow + down * 1.05 * body.size + lateral * 1.75 * k
    radius_end = elbow + down * (long + 1.0 * body.size) + lateral * (1.35 * body.size)
    bow = lateral * (0.7 * body.size) + front * 0.25
    radius = Tube(head, radius_end, front, RADIUS, k, bow)
    top = elbow - down * 1.25 * body.size - lateral * 0.95 * k - front * 0.75 * k
    ulna_end = elbow + down * (long + 0.7 * body.size) - lateral * (1.05 * body.size)
    ulna = Tube(top, ulna_end, front, ULNA, k, -front * 0.3)
    tip = Blob(
        radius_end + (lateral * 1.28 + down * 0.1) * k, (0.36 * k, 0.62 * k, 0.6 * k), cortex=0.08
    )
    scene.add(Bone("radius", [radius, tip], hangs_on="humerus"))
    scene.add(Bone("ulna", [ulna], hangs_on="humerus"))
    width = flesh_girth(body)
    # not the ulna's own: when one of the two bones breaks, the other holds the limb straight
    flesh = Tube(elbow - down * 2.5, elbow + down * (long + 1.5), front, FOREARM, width)
    scene.add(Bone("forearm", [], [flesh], hangs_on="humerus"))
    scene.joints["elbow joint"] = Joint(
        "elbow joint", elbow + down * 0.55 * body.size - lateral * 0.4, down, lateral, front,
        2.1 * k, 1.1 * k, "humerus", ("ulna", "radius", "forearm"),
    )  # fmt: skip


def add_humerus(scene: Scene, elbow: Array, up: Array, own: np.random.Generator) -> None:
    """The humerus from the elbow along ``up``: shaft, head, and the round condyles."""
    body = scene.body
    k = body.size * body.girth
    long = 30.0 * body.size * float(np.clip(own.normal(1, 0.02), 0.95, 1.05))
    top = elbow + up * long
    shaft = Tube(top, elbow - up * 0.35, FRONT, HUMERUS, k, FRONT * 0.35)
    lateral = RIGHT
    head = Blob(
        top + (-lateral * 1.35 - up * 0.9) * k, (2.35 * k, 2.4 * k, 2.3 * k),
        cortex=0.09, fill=0.25,
    )  # fmt: skip
    capitellum = Blob(
        elbow + (lateral * 1.15 + FRONT * 0.55 + up * 0.1) * k, (1.05 * k, 1.1 * k, 1.15 * k),
        cortex=0.1, fill=0.25,
    )  # fmt: skip
    trochlea = Blob(
        elbow + (-lateral * 0.95 + FRONT * 0.45) * k, (1.3 * k, 1.2 * k, 1.2 * k),
        cortex=0.1, fill=0.25,
    )  # fmt: skip
    scene.add(Bone("humerus", [shaft, head, capitellum, trochlea]))
    scene.deposits.append(thin_fossa(elbow, up, k))
    width = flesh_girth(body)
    scene.flesh.append(Tube(top + up * 2, elbow - up * 2.2, FRONT, UPPER_ARM, width))


def thin_fossa(elbow: Array, up: Array, k: float) -> Deposit:
    """The olecranon fossa: bone as thin as paper above the trochlea."""
    blob = Blob(elbow + (up * 1.75 - RIGHT * 0.35) * k, (0.85 * k, 0.65 * k, 0.6 * k), flat=3.0)
    return Deposit(blob, -0.55)


def build_forearm(body: Body, view: str, rng: np.random.Generator) -> Scene:
    """Radius and ulna whole, with the elbow below and the carpus above."""
    own = body.generator()
    scene = Scene(body, np.array([0.0, -11.5, 0.0]) * body.size, (10.5, 30.0))
    add_forearm(scene, np.array([0.0, -24.3, 0.0]) * body.size, UP, FRONT, own)
    radius = scene.bones["radius"].tube()
    elbow = np.array([0.0, -24.3, 0.0]) * body.size
    add_humerus(scene, elbow, -UP, own)
    if view == "lateral":
        bend = 85 + rng.normal(0, 6)
        scene.move(["humerus"], turn(RIGHT, bend), elbow, np.zeros(3))
        arm = scene.flesh[-1]
        scene.flesh[-1] = arm.moved(turn(RIGHT, bend), elbow, np.zeros(3))
    hand = Scene(body, np.zeros(3), (1, 1))
    add_carpus(hand, own)
    for name in RAYS:
        add_ray(hand, name, own, 0.0, hand_flexion(view, name, rng))
    shift = radius.end - np.array([0.35, -0.02, 0.0]) * body.size
    hand.move(list(hand.bones), turn(FRONT, rng.normal(0, 5)), np.zeros(3), shift)
    scene.bones.update(hand.bones)
    scene.flesh.append(mitt(body, shift))
    k = body.size * body.girth
    scene.joints["wrist joint"] = Joint(
        "wrist joint", radius.end + np.array([-0.15, 0.18, 0.0]), UP, RIGHT, FRONT,
        1.25 * k, 0.9 * k, "radius", ("capitate",),
    )  # fmt: skip
    return scene


def build_elbow(body: Body, view: str, rng: np.random.Generator) -> Scene:
    """The elbow: straight in the frontal and oblique views, at a right angle in the lateral."""
    own = body.generator()
    zero = np.zeros(3)
    if view == "lateral":
        scene = Scene(body, np.array([0.0, 2.6, 2.6]) * body.size, (15.0, 15.0))
        bend = 88 + rng.normal(0, 8)
    else:
        scene = Scene(body, np.array([0.0, 0.3, 0.0]) * body.size, (11.5, 18.0))
        bend = abs(rng.normal(4, 5))
    add_humerus(scene, zero, UP, own)
    add_forearm(scene, zero, -UP, FRONT, own)
    centre = np.array([0.0, 0.0, 0.45])
    names = scene.followers("ulna", "radius", "forearm")
    scene.move(names, turn(RIGHT, -bend), centre, zero)
    carrying = turn(FRONT, 8 + rng.normal(0, 2))
    if view != "lateral":
        scene.move(names, carrying, zero, zero)
    elbow_flesh = 3.6 * flesh_girth(body)
    scene.flesh.append(Blob(zero, (elbow_flesh, elbow_flesh, elbow_flesh)))
    return scene
