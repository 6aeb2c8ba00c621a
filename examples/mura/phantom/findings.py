"""Which findings an abnormal study has, where they are, and how grave they are.

Report §4.2: of 100 abnormal studies 53 had fractures, 48 hardware, 35 degenerative disease, 29
something else. They overlap, so each is drawn independently and a study without any is drawn again;
``base_rates`` gives the rates that lead to those proportions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from examples.mura.phantom import abnormalities as make
from examples.mura.phantom.scene import Scene

# kind, one of PROPORTIONS; and the function that puts it into a scene
Finding: TypeAlias = tuple[str, Callable[[Scene], make.Mark]]

PROPORTIONS = {"fracture": 0.53, "hardware": 0.48, "degenerative": 0.35, "other": 0.29}

RAY_NAMES = ("thumb", "index", "middle", "ring", "little")
Site = tuple[str, float, float, float]  # bone, lowest and highest position along it, weight

FINGER_BONES: list[Site] = [
    ("{finger} proximal", 0.25, 0.8, 3), ("{finger} middle", 0.3, 0.75, 3),
    ("{finger} distal", 0.3, 0.7, 1),
]  # fmt: skip
HAND_BONES: list[Site] = [
    *((f"{ray} metacarpal", 0.25, 0.85, 2.0) for ray in RAY_NAMES),
    *((f"{ray} proximal", 0.25, 0.8, 1.0) for ray in RAY_NAMES),
]
BREAKS: dict[str, list[Site]] = {
    "FINGER": FINGER_BONES,
    "HAND": HAND_BONES,
    "WRIST": [("radius", 0.68, 0.88, 4), ("ulna", 0.6, 0.9, 1)],
    "FOREARM": [("radius", 0.25, 0.85, 2), ("ulna", 0.25, 0.85, 2)],
    "ELBOW": [("humerus", 0.8, 0.9, 3), ("radius", 0.07, 0.14, 2), ("ulna", 0.14, 0.22, 2)],
    "HUMERUS": [("humerus", 0.13, 0.85, 1)],
    "SHOULDER": [("humerus", 0.13, 0.26, 3), ("clavicle", 0.6, 0.85, 2)],
}
JOINTS: dict[str, list[str]] = {
    "FINGER": ["{finger} metacarpal joint", "{finger} proximal joint", "{finger} middle joint"],
    "HAND": [
        *(f"{ray} {kind} joint" for ray in RAY_NAMES for kind in ("metacarpal", "proximal")),
        *(f"{ray} middle joint" for ray in RAY_NAMES[1:]),
    ],
    "WRIST": ["wrist joint"],
    "FOREARM": ["wrist joint", "elbow joint"],
    "ELBOW": ["elbow joint"],
    "HUMERUS": ["shoulder joint", "elbow joint"],
    "SHOULDER": ["shoulder joint", "shoulder joint", "clavicle joint"],
}


def base_rates() -> dict[str, float]:
    """p with p_i / (1 − Π(1 − p_j)) = the proportion of finding i among abnormal studies."""
    rates = dict(PROPORTIONS)
    for _ in range(50):
        some = 1 - float(np.prod([1 - p for p in rates.values()]))
        rates = {kind: share * some for kind, share in PROPORTIONS.items()}
    return rates


def draw_kinds(rng: np.random.Generator) -> list[str]:
    """The kinds of finding of one abnormal study: at least one."""
    rates = base_rates()
    while True:
        kinds = [kind for kind, p in rates.items() if rng.random() < p]
        if kinds:
            return kinds


def draw_site(part: str, finger: str, rng: np.random.Generator) -> tuple[str, float]:
    sites = BREAKS[part]
    weights = np.array([site[3] for site in sites])
    bone, low, high, _ = sites[int(rng.choice(len(sites), p=weights / weights.sum()))]
    bone = bone.format(finger=finger)
    if bone == "thumb middle":
        bone = "thumb proximal"
    return bone, float(rng.uniform(low, high))


def draw_joint(part: str, finger: str, rng: np.random.Generator) -> str:
    joints = [name.format(finger=finger) for name in JOINTS[part]]
    joints = [name for name in joints if name != "thumb middle joint"]
    return joints[int(rng.integers(len(joints)))]


def draw_fracture(bone: str, at: float, fixed: bool, rng: np.random.Generator) -> Finding:
    """fixed: it was set and held by an implant, so little displacement is left."""
    grave = float(rng.beta(2.6, 1.2)) * (0.6 if fixed else 1.0)
    shift = 0.35 + 1.2 * grave
    tilt = 11 if bone in ("radius", "ulna") else 24  # its fellow holds the limb straight
    healing = rng.random() < 0.2
    return "fracture", partial(
        make.fracture, bone=bone, at=at, azimuth=float(rng.uniform(0, 360)), shift=shift,
        tilt=float(rng.normal(0, 4) + tilt * grave),
        gap=-0.3 if shift > 1.3 else 0.55 + 0.6 * float(rng.random()),
        slope=float(rng.normal(0, 0.5)), teeth=float(rng.uniform(0.02, 0.12)),
        chips=int(rng.poisson(1.8 * grave + 0.2)),
        callus=float(rng.uniform(0.6, 1.4)) if healing else 0.0, seed=int(rng.integers(2**31)),
    )  # fmt: skip


def draw_hardware(part: str, bone: str, at: float, rng: np.random.Generator) -> Finding:
    metal = make.STEEL if rng.random() < 0.5 else make.TITANIUM
    angle, seed = float(rng.uniform(0, 360)), int(rng.integers(2**31))
    small = bone.split()[0] in RAY_NAMES
    pick = rng.random()

    def implant(put: Callable[..., make.Mark], **settings: object) -> Finding:
        return "hardware", partial(put, metal=metal, **settings)

    where = {"bone": bone, "at": at, "azimuth": angle}
    if part == "SHOULDER" and bone == "humerus" and pick < 0.3:
        return implant(make.prosthesis, name="shoulder joint", bone="humerus", ball=1.2)
    if bone == "humerus" and part != "ELBOW" and pick < 0.5:
        return implant(make.nail, bone="humerus", low=0.05, high=0.85, azimuth=angle)
    if pick < 0.45 if small else pick > 0.85:
        return implant(make.wires, **where, count=int(rng.integers(2, 4)), seed=seed)
    if 0.7 < pick < 0.85:
        return implant(make.screws, **where, count=int(rng.integers(2, 5)), seed=seed)
    if bone == "clavicle":
        return implant(make.plate, **where, span=0.5, screws=int(rng.integers(5, 9)))
    spans = {"WRIST": 0.5, "FOREARM": 0.36, "ELBOW": 0.24, "HUMERUS": 0.4, "SHOULDER": 0.3}
    span = (0.6 if small else spans.get(part, 0.5)) * float(rng.uniform(0.8, 1.2))
    return implant(make.plate, **where, span=span, screws=int(rng.integers(4, 8)))


def draw_worn_joints(part: str, finger: str, rng: np.random.Generator) -> list[Finding]:
    """Degenerative joints: several in a hand, where the disease seldom keeps to one."""
    count = int(rng.integers(2, 6)) if part == "HAND" else int(rng.integers(1, 3))
    joints = {draw_joint(part, finger, rng) for _ in range(count)}
    return [
        ("degenerative", partial(
            make.worn_joint, name=joint, azimuth=float(rng.normal(0, 35)),
            severity=0.8 + 0.9 * float(rng.beta(2, 2)), seed=int(rng.integers(2**31)),
        ))
        for joint in sorted(joints)
    ]  # fmt: skip


def draw_lesion(bone: str, at: float, rng: np.random.Generator) -> Finding:
    """A hole, sharp or with a dense rim, now and then swelling the bone; or a dense focus."""
    lytic = rng.random() < 0.65
    size = rng.uniform(0.95, 1.45) if lytic else rng.uniform(0.6, 1.0)
    return "other", partial(
        make.lesion, bone=bone, at=at, azimuth=float(rng.uniform(0, 360)), size=float(size),
        gain=-float(rng.uniform(0.82, 0.98)) if lytic else float(rng.uniform(0.5, 0.9)),
        rim=0.25 if lytic and rng.random() < 0.5 else 0.0,
        swollen=bool(lytic and rng.random() < 0.4), seed=int(rng.integers(2**31)),
    )  # fmt: skip


def draw_dislocation(part: str, finger: str, rng: np.random.Generator) -> Finding:
    amount = float(rng.uniform(0.45, 0.95))
    azimuth, tilt = float(rng.uniform(0, 360)), float(rng.normal(0, 14))
    joint = draw_joint(part, finger, rng)
    return "other", partial(make.dislocation, name=joint, azimuth=azimuth, amount=amount, tilt=tilt)


def draw_findings(
    kinds: Sequence[str], part: str, finger: str, rng: np.random.Generator
) -> list[Finding]:
    """The findings of one abnormal study, in the order in which they are applied.

    A break and an implant share a bone, as they do after surgery; in a hand, where neighbours
    break together, they may take up to three.
    """
    count = int(rng.integers(1, 4)) if part == "HAND" else 1
    sites = dict(draw_site(part, finger, rng) for _ in range(count))
    found: list[Finding] = []
    if "fracture" in kinds:
        fixed = "hardware" in kinds and rng.random() < 0.7
        found += [draw_fracture(bone, at, fixed, rng) for bone, at in sites.items()]
    if "degenerative" in kinds:
        found += draw_worn_joints(part, finger, rng)
    if "other" in kinds:
        if rng.random() < 0.4:
            found.append(draw_dislocation(part, finger, rng))
        else:
            bone, at = draw_site(part, finger, rng)
            if "fracture" in kinds and bone in sites:  # beside the break
                at = max(sites[bone] - 0.15, 0.05)
            found.append(draw_lesion(bone, at, rng))
    if "hardware" in kinds:
        found += [draw_hardware(part, bone, at, rng) for bone, at in sites.items()]
    return found
