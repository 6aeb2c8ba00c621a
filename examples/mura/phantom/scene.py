"""What lies in the beam: bones that hang on one another, flesh, joints, metal, and the patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from examples.mura.phantom.solids import Array, Blob, Metal, Solid, Tube


@dataclass(frozen=True)
class Body:
    """What stays the same in every radiograph of a patient."""

    size: float  # lengths
    girth: float  # bone width
    mineral: float  # density of all bone
    cortex: float  # thickness of the cortical shell
    flesh: float  # muscle
    fat: float  # cm under the skin
    seed: int

    def generator(self) -> np.random.Generator:
        """The patient's own variation: the same bones in every view."""
        return np.random.default_rng(self.seed)


def draw_body(rng: np.random.Generator) -> Body:
    """A patient; bone thins as mineral is lost, as it does with age."""
    age = rng.beta(1.6, 1.6)
    return Body(
        size=float(np.clip(rng.normal(1.0, 0.07), 0.82, 1.18)),
        girth=float(np.clip(rng.normal(1.0, 0.08), 0.8, 1.22)),
        mineral=float(1.12 - 0.35 * age + rng.normal(0, 0.06)),
        cortex=float(1.15 - 0.4 * age + rng.normal(0, 0.06)),
        flesh=float(np.clip(rng.normal(1.0, 0.12), 0.75, 1.4)),
        fat=float(rng.gamma(3.0, 0.12)),
        seed=int(rng.integers(2**31)),
    )


@dataclass
class Bone:
    """Solids that are one bone (they unite), and the flesh that moves with it."""

    name: str
    parts: list[Solid]
    flesh: list[Solid] = field(default_factory=list)
    hangs_on: str | None = None

    def tube(self) -> Tube:
        """The shaft: the longest tube among the parts."""
        return max((p for p in self.parts if isinstance(p, Tube)), key=lambda p: p.length)


@dataclass(frozen=True)
class Joint:
    """Where ``far`` moves on ``near``: a point, the way to the far bone, and the joint's width."""

    name: str
    at: Array
    axis: Array
    right: Array
    front: Array
    half: float
    depth: float
    near: str
    far: tuple[str, ...]


@dataclass
class Deposit:
    """A region where mineral is added (gain > 0) or lost (gain from -1 to 0)."""

    blob: Blob
    gain: float


@dataclass
class Scene:
    body: Body
    target: Array
    extent: tuple[float, float]  # width and height of the part in cm, seen from the front
    bones: dict[str, Bone] = field(default_factory=dict)
    joints: dict[str, Joint] = field(default_factory=dict)
    flesh: list[Solid] = field(default_factory=list)
    air: list[Solid] = field(default_factory=list)
    deposits: list[Deposit] = field(default_factory=list)
    finger: str = ""  # the one that a study of a finger is about
    metal: list[tuple[Metal, float]] = field(default_factory=list)  # and its attenuation per cm

    def add(self, bone: Bone) -> Bone:
        self.bones[bone.name] = bone
        return bone

    def followers(self, *names: str) -> list[str]:
        """The bones that move when ``names`` do, themselves first."""
        found = list(names)
        for name in found:  # grows as it goes
            found += [
                b.name for b in self.bones.values() if b.hangs_on == name and b.name not in found
            ]
        return found

    def move(self, names: Iterable[str], rotation: Array, pivot: Array, shift: Array) -> None:
        """Turn bones, with their flesh and joints, about ``pivot`` and shift them."""
        names = set(names)
        for name in names:
            bone = self.bones[name]
            bone.parts = [p.moved(rotation, pivot, shift) for p in bone.parts]
            bone.flesh = [p.moved(rotation, pivot, shift) for p in bone.flesh]
        for key, joint in self.joints.items():
            if joint.near in names:
                self.joints[key] = replace(
                    joint,
                    at=rotation @ (joint.at - pivot) + pivot + shift,
                    axis=rotation @ joint.axis,
                    right=rotation @ joint.right,
                    front=rotation @ joint.front,
                )
