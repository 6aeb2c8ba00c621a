"""Who is X-rayed, how often, of what, and which studies are abnormal: MURA's own frequencies."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from examples.mura.dataset import PUBLISHED
from examples.mura.phantom.arm import build_elbow, build_forearm
from examples.mura.phantom.belongings import Belongings, cover, draw_belongings, folds, wear
from examples.mura.phantom.findings import draw_findings, draw_kinds
from examples.mura.phantom.hand import build_finger, build_hand, build_wrist
from examples.mura.phantom.imaging import (
    attenuation,
    collimate,
    draw_exposure,
    expose,
    mark,
    render,
    trabeculae,
)
from examples.mura.phantom.scene import Body, Scene, draw_body
from examples.mura.phantom.shoulder import build_humerus, build_shoulder
from examples.mura.phantom.solids import Array, Camera, turn

BUILD = {
    "SHOULDER": build_shoulder,
    "HUMERUS": build_humerus,
    "FINGER": build_finger,
    "ELBOW": build_elbow,
    "WRIST": build_wrist,
    "FOREARM": build_forearm,
    "HAND": build_hand,
}
# studies of MURA-v1.1, (normal, abnormal); the order of the parts decides what is drawn
STUDIES = {split: {part: PUBLISHED[split][part].studies for part in BUILD} for split in PUBLISHED}
# chance that a patient has a study of a second part, and of the same part again
AGAIN = {"train": (0.13, 0.07), "valid": (0.32, 0.2)}
# chances of 1, 2, 3 and 4 views: MURA's means are 2.1 for the long bones, 2.8 for the rest
FEW, MANY = (0.08, 0.76, 0.12, 0.04), (0.07, 0.24, 0.53, 0.16)
# view and the angle in degrees by which the beam leaves the frontal
VIEWS = {
    "SHOULDER": (("external", 0.0), ("internal", 0.0), ("frontal", 28.0), ("lateral", 62.0)),
    "HUMERUS": (("frontal", 0.0), ("lateral", 85.0), ("frontal", 25.0), ("frontal", -20.0)),
    "FINGER": (("frontal", 0.0), ("oblique", 42.0), ("lateral", 86.0), ("oblique", -40.0)),
    "ELBOW": (("frontal", 0.0), ("lateral", 88.0), ("oblique", 40.0), ("oblique", -40.0)),
    "WRIST": (("frontal", 0.0), ("oblique", 42.0), ("lateral", 87.0), ("scaphoid", 5.0)),
    "FOREARM": (("frontal", 0.0), ("lateral", 87.0), ("oblique", 35.0), ("oblique", -30.0)),
    "HAND": (("frontal", 0.0), ("oblique", 38.0), ("lateral", 80.0), ("oblique", -35.0)),
}

# a shift across the bone is seen in a view that shows at least this share of it
FORESHORTENED = 0.45
# share of the views in which something has to be seen, and how often to try for it
SEEN_IN, ATTEMPTS = 0.66, 12


@dataclass(frozen=True)
class Study:
    """One study: what is settled before its first view is taken."""

    part: str
    number: int
    findings: tuple[str, ...]  # kinds; none in a normal study
    views: int
    seed: tuple[int, ...]

    @property
    def abnormal(self) -> bool:
        return bool(self.findings)

    @property
    def folder(self) -> str:
        return f"study{self.number}_{'positive' if self.abnormal else 'negative'}"


@dataclass(frozen=True)
class View:
    """One picture (height, width) uint8, and what can be seen in it."""

    pixels: Array
    name: str
    findings: tuple[str, ...]
    visible: tuple[bool, ...]


@cache
def part_weights(split: str) -> tuple[tuple[str, ...], tuple[float, ...]]:
    counts = {part: sum(pair) for part, pair in STUDIES[split].items()}
    total = sum(counts.values())
    return tuple(counts), tuple(n / total for n in counts.values())


def draw_studies(seed: int, patient: int, split: str) -> list[Study]:
    """The studies of one patient, by part in MURA's order."""
    rng = np.random.default_rng([seed, patient, 2])
    parts, weights = part_weights(split)
    second, again = AGAIN[split]
    count = 2 if rng.random() < second else 1
    chosen = rng.choice(len(parts), size=count, replace=False, p=weights)
    studies = []
    for index in sorted(chosen):
        part = parts[index]
        normal, abnormal = STUDIES[split][part]
        for number in range(1, 3 if rng.random() < again else 2):
            chances = FEW if part in ("FOREARM", "HUMERUS") else MANY
            views = int(rng.choice(4, p=chances)) + 1
            positive = bool(rng.random() < abnormal / (normal + abnormal))
            kinds = tuple(draw_kinds(rng)) if positive else ()
            studies.append(Study(part, number, kinds, views, (seed, patient, int(index), number)))
    return studies


def frame(angle: float, roll: float, mirror: bool) -> Array:
    """The camera's axes, ``angle`` degrees round the limb from the frontal view."""
    t = np.deg2rad(angle)
    right = np.array([np.cos(t), 0.0, -np.sin(t)]) * (-1 if mirror else 1)
    axes = np.stack([right, [0.0, -1.0, 0.0], [np.sin(t), 0.0, np.cos(t)]])
    return turn([0, 0, 1], roll) @ axes


def place_camera(
    scene: Scene, angle: float, mirror: bool, side: int, rng: np.random.Generator
) -> Camera:
    """Aim at the part: shift, scale and turn a little; now and then lay the picture on its side."""
    width, height = (n * scene.body.size for n in scene.extent)
    width *= 1 - 0.25 * abs(np.sin(np.deg2rad(angle)))
    roll = rng.normal(0, 7)
    quarter = rng.random()
    roll += (
        90.0 if quarter < 0.03 else -90.0 if quarter < 0.05 else 180.0 if quarter < 0.09 else 0.0
    )
    if quarter < 0.05:
        width, height = height, width
    width *= rng.uniform(0.92, 1.15)
    height *= rng.uniform(0.85, 1.02)
    scale = side / max(width, height)
    shape = max(round(height * scale), side // 3), max(round(width * scale), side // 3)
    jitter = rng.normal(0, 0.035, 2) * (width, height)
    axes = frame(angle + rng.normal(0, 5), roll, mirror)
    return Camera(shape, axes, scene.target + jitter @ axes[:2], scale)


def pose(
    study: Study, body: Body, left: bool, index: int, side: int
) -> tuple[Scene, Camera, np.random.Generator]:
    """The healthy part posed for one view, the camera aimed at it, and the view's generator."""
    rng = np.random.default_rng([*study.seed, 1, index])
    options = VIEWS[study.part]
    name, angle = options[index % len(options)]
    scene = BUILD[study.part](body, name, rng)
    return scene, place_camera(scene, angle, left, side, rng), rng


def put_findings(
    study: Study, attempt: int, scene: Scene, camera: Camera
) -> tuple[tuple[str, ...], tuple[bool, ...]]:
    """Put the study's findings into the scene; their kinds, and whether each can be seen."""
    kinds, seen = [], []
    rng = np.random.default_rng([*study.seed, 2, attempt])
    for kind, put in draw_findings(study.findings, study.part, scene.finger, rng):
        marked = put(scene)
        column, row = camera.project(marked.at)
        inside = 0 <= column < camera.shape[1] and 0 <= row < camera.shape[0]
        shows = 1.0
        if marked.direction is not None:
            shows = float(np.linalg.norm(camera.frame[:2] @ marked.direction))
        kinds.append(kind)
        seen.append(bool(inside and shows > FORESHORTENED))
    return tuple(kinds), tuple(seen)


def expose_view(
    scene: Scene, camera: Camera, things: Belongings, left: bool, rng: np.random.Generator
) -> Array:
    exposure = draw_exposure(rng)
    weave = trabeculae(camera.shape, rng)
    wear(scene, things)
    maps = render(scene, camera, weave)
    cloth = cover(scene, things, camera, maps, weave) + folds(camera.shape, rng)
    total = attenuation(maps, cloth)
    picture = expose(total, total - maps.metal - cloth, exposure, rng)
    picture = collimate(mark(picture, "L" if left else "R", rng), rng)
    return (255 * np.clip(picture, 0, 1)).astype(np.uint8)


def take_study(study: Study, body: Body, side: int) -> list[View]:
    """All views of one study.

    Findings that are hidden in too many of its views are drawn again: a radiologist would not have
    called the study abnormal.
    """
    rng = np.random.default_rng([*study.seed, 3])
    things = draw_belongings(study.part, rng)
    left = bool(rng.random() < 0.5)
    nothing: tuple[tuple[str, ...], tuple[bool, ...]] = ((), ())
    for attempt in range(ATTEMPTS):
        posed = [pose(study, body, left, i, side) for i in range(study.views)]
        if not study.abnormal:
            found = [nothing] * study.views
            break
        found = [put_findings(study, attempt, scene, camera) for scene, camera, _ in posed]
        if np.mean([any(visible) for _, visible in found]) >= SEEN_IN:
            break
    return [
        View(expose_view(scene, camera, things, left, rng), VIEWS[study.part][i][0], *found[i])
        for i, (scene, camera, rng) in enumerate(posed)
    ]


def patient_body(seed: int, patient: int) -> Body:
    return draw_body(np.random.default_rng([seed, patient, 1]))
