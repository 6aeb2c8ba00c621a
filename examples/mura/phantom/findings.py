"""Which findings an abnormal study carries, where they sit, and how grave they are.

Report §4.2: of 100 abnormal studies 53 had fractures, 48 hardware, 35 degenerative disease, 29
something else. They overlap, so each is drawn by itself and a study without any is drawn again;
``base_rates`` chooses the separate rates so that those proportions come out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from examples.mura.phantom.abnormalities import (
    Degenerative,
    Dislocation,
    Finding,
    Fracture,
    Lesion,
)
from examples.mura.phantom.hardware import (
    STEEL,
    TITANIUM,
    Nail,
    Plate,
    Prosthesis,
    Screws,
    Wires,
)

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
    """A bone of the part and a place along it."""
    sites = BREAKS[part]
    weights = np.array([site[3] for site in sites])
    bone, low, high, _ = sites[int(rng.choice(len(sites), p=weights / weights.sum()))]
    bone = bone.format(finger=finger)
    if bone == "thumb middle":
        bone = "thumb proximal"
    return bone, float(rng.uniform(low, high))


def draw_joint(part: str, finger: str, rng: np.random.Generator) -> str:
    """A joint of the body part that can degenerate or be dislocated."""
    joints = [name.format(finger=finger) for name in JOINTS[part]]
    joints = [name for name in joints if name != "thumb middle joint"]
    return joints[int(rng.integers(len(joints)))]


def draw_fracture(bone: str, at: float, fixed: bool, rng: np.random.Generator) -> Fracture:
    """fixed: it was set and held by an implant, so little displacement is left."""
    grave = float(rng.beta(2.6, 1.2)) * (0.6 if fixed else 1.0)
    shift = 0.35 + 1.2 * grave
    tilt = 11 if bone in ("radius", "ulna") else 24  # its fellow holds the limb straight
    healing = rng.random() < 0.2
    return Fracture(
        bone, at, float(rng.uniform(0, 360)), shift, float(rng.normal(0, 4) + tilt * grave),
        gap=-0.3 if shift > 1.3 else 0.55 + 0.6 * float(rng.random()),
        slope=float(rng.normal(0, 0.5)), teeth=float(rng.uniform(0.02, 0.12)),
        chips=int(rng.poisson(1.8 * grave + 0.2)),
        callus=float(rng.uniform(0.6, 1.4)) if healing else 0.0, seed=int(rng.integers(2**31)),
    )  # fmt: skip


def draw_hardware(part: str, bone: str, at: float, rng: np.random.Generator) -> Finding:
    """An implant that suits the bone."""
    metal = STEEL if rng.random() < 0.5 else TITANIUM
    angle, seed = float(rng.uniform(0, 360)), int(rng.integers(2**31))
    small = bone.split()[0] in RAY_NAMES
    pick = rng.random()
    if part == "SHOULDER" and bone == "humerus" and pick < 0.3:
        return Prosthesis("shoulder joint", "humerus", 1.2, metal)
    if bone == "humerus" and part != "ELBOW" and pick < 0.5:
        return Nail("humerus", 0.05, 0.85, angle, metal)
    if small and pick < 0.45:
        return Wires(bone, at, int(rng.integers(2, 4)), angle, metal, seed)
    if not small and pick > 0.85:
        return Wires(bone, at, int(rng.integers(2, 4)), angle, metal, seed)
    if 0.7 < pick < 0.85:
        return Screws(bone, at, int(rng.integers(2, 5)), angle, metal, seed)
    span = {"WRIST": 0.5, "FOREARM": 0.36, "ELBOW": 0.24, "HUMERUS": 0.4, "SHOULDER": 0.3}
    if bone == "clavicle":
        return Plate(bone, at, 0.5, angle, int(rng.integers(5, 9)), metal)
    low = 0.6 if small else span.get(part, 0.5)
    return Plate(
        bone, at, low * float(rng.uniform(0.8, 1.2)), angle, int(rng.integers(4, 8)), metal
    )


def draw_worn(part: str, finger: str, rng: np.random.Generator) -> list[Finding]:
    """Degenerative joints: several in a hand, where the disease seldom keeps to one."""
    count = int(rng.integers(2, 6)) if part == "HAND" else int(rng.integers(1, 3))
    joints = {draw_joint(part, finger, rng) for _ in range(count)}
    return [
        Degenerative(
            joint, float(rng.normal(0, 35)), 0.8 + 0.9 * float(rng.beta(2, 2)),
            int(rng.integers(2**31)),
        )
        for joint in sorted(joints)
    ]  # fmt: skip


def draw_lesion(bone: str, at: float, rng: np.random.Generator) -> Lesion:
    """A hole, sharp or with a dense rim, now and then swelling the bone; or a dense focus."""
    lytic = rng.random() < 0.65
    size = rng.uniform(0.95, 1.45) if lytic else rng.uniform(0.6, 1.0)
    return Lesion(
        bone, at, float(rng.uniform(0, 360)), float(size),
        gain=-float(rng.uniform(0.82, 0.98)) if lytic else float(rng.uniform(0.5, 0.9)),
        rim=0.25 if lytic and rng.random() < 0.5 else 0.0,
        swollen=bool(lytic and rng.random() < 0.4), seed=int(rng.integers(2**31)),
    )  # fmt: skip


def draw_dislocation(part: str, finger: str, rng: np.random.Generator) -> Dislocation:
    """A dislocation of one joint of the body part."""
    amount = float(rng.uniform(0.45, 0.95))
    azimuth, tilt = float(rng.uniform(0, 360)), float(rng.normal(0, 14))
    return Dislocation(draw_joint(part, finger, rng), azimuth, amount, tilt)


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
        found += draw_worn(part, finger, rng)
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
