"""The shoulder and the humerus: the scapula, the clavicle, and the ribs behind them."""

from __future__ import annotations

import numpy as np

from examples.mura.phantom.arm import (
    HUMERUS,
    RIGHT,
    UP,
    UPPER_ARM,
    add_forearm,
    add_humerus,
    flesh_girth,
)
from examples.mura.phantom.hand import FRONT
from examples.mura.phantom.scene import Body, Bone, Joint, Scene
from examples.mura.phantom.solids import Array, Blob, Tube, outline, profile, turn, unit

STRUT = profile(
    ((0.0, 1.0, 1.0, 1.0, 1.0), (0.5, 0.9, 0.9, 0.9, 0.9), (1.0, 1.0, 1.0, 1.0, 1.0)),
    caps=(0.1, 0.1), cortex=(0.14, 0.18, 0.14), fill=(0.25, 0.15, 0.25),
)  # fmt: skip
ACROMION = profile(
    ((0.0, 0.9, 0.9, 1.4, 1.4), (0.5, 1.05, 0.95, 2.4, 2.6), (1.0, 0.8, 0.8, 2.0, 2.0)),
    caps=(0.15, 0.14), cortex=(0.12, 0.12, 0.12), fill=(0.14, 0.14, 0.14),
)  # fmt: skip
CLAVICLE = profile(
    (
        (0.0, 0.85, 0.85, 1.0, 1.0), (0.1, 0.85, 0.85, 0.95, 0.95), (0.35, 0.65, 0.65, 0.65, 0.65),
        (0.6, 0.62, 0.62, 0.62, 0.62), (0.85, 0.8, 0.8, 0.8, 0.8), (1.0, 1.2, 1.2, 1.1, 1.1),
    ),
    caps=(0.05, 0.04), cortex=(0.12, 0.24, 0.14), fill=(0.22, 0.08, 0.22),
)  # fmt: skip
RIB = profile(
    ((0.0, 0.7, 0.7, 0.42, 0.42), (1.0, 0.62, 0.62, 0.4, 0.4)),
    caps=(0.02, 0.02), cortex=(0.06, 0.06, 0.06), fill=(0.12, 0.12, 0.12),
)  # fmt: skip
HOOK = profile(
    ((0.0, 1.1, 1.1, 1.1, 1.1), (0.5, 0.85, 0.85, 0.85, 0.85), (1.0, 0.8, 0.8, 0.8, 0.8)),
    caps=(0.4, 0.4), cortex=(0.09, 0.09, 0.09), fill=(0.16, 0.16, 0.16),
)  # fmt: skip
TRIANGLE = outline(0.62, 0.95, 1.0, 1.05, 0.78, 0.66, 0.7, 0.85, 1.12, 1.0, 0.72, 0.58)


def add_scapula(scene: Scene, head: Array, own: np.random.Generator) -> None:
    """The scapula around a humeral head at ``head``: socket, coracoid, spine, acromion, blade."""
    body = scene.body
    k = body.size * (0.5 + 0.5 * body.girth)
    # the blade lies back from the frontal plane by a third of a right angle
    tilt = turn(UP, -32 + own.normal(0, 3))

    def place(x: float, y: float, z: float) -> Array:
        return head + tilt @ (np.array([x, y, z]) * k)

    front = tilt @ FRONT
    # the socket: a shallow disc on the vault of bone that carries it
    axes = tilt.T
    socket = Blob(
        place(-2.8, -0.15, 0), (0.36 * k, 1.9 * k, 1.25 * k), axes, cortex=0.1, fill=0.25, flat=3.0
    )
    vault = Blob(place(-4.4, -0.4, 0), (1.9 * k, 1.5 * k, 0.85 * k), axes, cortex=0.05, fill=0.14)
    border = Tube(place(-3.7, -1.5, 0), place(-6.9, -13.0, 0), front, STRUT, 0.55 * k)
    blade = Blob(
        place(-7.3, -4.9, -0.1), (3.6 * k, 7.7 * k, 0.2 * k),
        turn(front, 8).dot(tilt).T, TRIANGLE, 0.025, 0.07, 6.0,
    )  # fmt: skip
    scene.add(Bone("scapula", [border, socket, vault, blade]))
    hook = Tube(
        place(-3.6, 1.3, 0.5), place(-1.9, 2.0, 3.4), unit(place(0, 1, 0) - head), HOOK, 0.72 * k
    )
    scene.add(Bone("coracoid", [hook], hangs_on="scapula"))
    spine = Tube(place(-10.6, -1.2, -1.2), place(-1.2, 3.2, -2.4), front, STRUT, 0.55 * k)
    acromion = Tube(
        place(-1.6, 3.35, -1.8), place(1.75, 3.05, -0.9), front, ACROMION, 0.55 * k, UP * 0.25 * k
    )
    scene.add(Bone("acromion", [spine, acromion], hangs_on="scapula"))
    scene.joints["shoulder joint"] = Joint(
        "shoulder joint", place(-2.25, -0.2, 0), unit(place(1, 0.05, 0) - head),
        np.array([0.0, -1.0, 0.0]), front, 1.9 * k, 1.3 * k, "scapula", ("humerus",),
    )  # fmt: skip


def add_chest(scene: Scene, head: Array, own: np.random.Generator) -> None:
    """Clavicle, ribs, lung and trunk beside a humeral head at ``head``."""
    body = scene.body
    k = body.size
    outer = head + np.array([-1.2, 3.75, -0.9]) * k
    inner = head + np.array([-14.8, 2.6 + own.normal(0, 0.5), 2.8]) * k
    clavicle = Tube(inner, outer, FRONT, CLAVICLE, k * body.girth, np.array([0.0, 0.7, 0.9]) * k)
    scene.add(Bone("clavicle", [clavicle]))
    scene.joints["clavicle joint"] = Joint(
        "clavicle joint", outer + np.array([0.15, 0, 0]) * k, np.array([1.0, -0.1, 0.0]), UP, FRONT,
        0.9 * k, 0.8 * k, "clavicle", ("scapula",),
    )  # fmt: skip
    for i in range(8):
        y = 1.2 - 2.55 * i
        wide = 8.2 + 0.95 * i - 0.06 * i * i
        start = head + np.array([-19.0, y + 3.6, -4.5]) * k
        end = head + np.array([-19.0, y - 5.0, 5.0]) * k
        bow = np.array([wide, 1.3 - 0.2 * i, -1.0]) * k
        scene.add(Bone(f"rib {i + 1}", [Tube(start, end, unit([1.0, 0.2, 0.1]), RIB, k, bow)]))
    scene.flesh += [
        Blob(head + np.array([-16.5, -19.0, 0]) * k, (14.5 * k, 25.0 * k, 9.5 * k), flat=3.0),
        Blob(head + np.array([-14.0, 2.5, -1.0]) * k, (11.5 * k, 5.8 * k, 6.5 * k)),
        Blob(head + np.array([-0.8, -1.0, 0]) * k, (6.0 * k, 6.4 * k, 6.2 * k), flat=2.4),
    ]
    lung = Blob(head + np.array([-18.5, -13.5, 0.0]) * k, (9.0 * k, 16.0 * k, 6.8 * k), flat=2.4)
    scene.air.append(lung)


def build_shoulder(body: Body, view: str, rng: np.random.Generator) -> Scene:
    own = body.generator()
    scene = Scene(body, np.array([-2.4, -2.2, 0.0]) * body.size, (15.5, 17.0))
    k = body.size * body.girth
    head = np.zeros(3)
    away = 10 + rng.normal(4, 5)
    spin = {"internal": -45.0, "external": 15.0}.get(view, -20.0) + rng.normal(0, 8)
    arm = turn(FRONT, away) @ turn(UP, spin)
    down = -UP
    top = np.array([1.35, 0.9, 0.0]) * k
    shaft = Tube(top, top + down * 30.0 * body.size, FRONT, HUMERUS, k)
    ball = Blob(head, (2.35 * k, 2.4 * k, 2.3 * k), cortex=0.1, fill=0.25)
    scene.add(Bone("humerus", [shaft, ball], hangs_on="scapula"))
    flesh = Tube(top + UP, shaft.end, FRONT, UPPER_ARM, flesh_girth(body))
    scene.bones["humerus"].flesh.append(flesh)
    scene.move(["humerus"], arm, head, np.zeros(3))
    add_chest(scene, head, own)
    add_scapula(scene, head, own)
    return scene


def build_humerus(body: Body, view: str, rng: np.random.Generator) -> Scene:
    own = body.generator()
    scene = Scene(body, np.array([-0.5, 15.5, 0.0]) * body.size, (14.5, 36.0))
    add_humerus(scene, np.zeros(3), UP, own)
    add_forearm(scene, np.zeros(3), -UP, FRONT, own)
    if view == "lateral":
        names = scene.followers("ulna", "radius", "forearm")
        scene.move(names, turn(RIGHT, -70 + rng.normal(0, 12)), np.array([0, 0, 0.45]), np.zeros(3))
    head = scene.bones["humerus"].parts[1]
    assert isinstance(head, Blob)
    if view != "lateral":  # taken with the arm held away from the chest
        add_chest(scene, head.centre, own)
    add_scapula(scene, head.centre, own)
    return scene
