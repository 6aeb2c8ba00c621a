"""How many studies, images and patients there are, and how many MURA-v1.1 should have.

Source: the MURA-v1.1 release and its paper (Rajpurkar et al. 2017, arXiv 1712.06957); the
totals are those of the report's Table 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from examples.mura.dataset import PARTS, SPLITS, Dataset, Image


@dataclass(frozen=True)
class Counts:
    """(normal, abnormal) studies and images of a body part in a split."""

    studies: tuple[int, int]
    images: tuple[int, int]


PUBLISHED = {
    "train": {
        "ELBOW": Counts((1094, 660), (2925, 2006)),
        "FINGER": Counts((1280, 655), (3138, 1968)),
        "FOREARM": Counts((590, 287), (1164, 661)),
        "HAND": Counts((1497, 521), (4059, 1484)),
        "HUMERUS": Counts((321, 271), (673, 599)),
        "SHOULDER": Counts((1364, 1457), (4211, 4168)),
        "WRIST": Counts((2134, 1326), (5765, 3987)),
    },
    "valid": {
        "ELBOW": Counts((92, 66), (235, 230)),
        "FINGER": Counts((92, 83), (214, 247)),
        "FOREARM": Counts((69, 64), (150, 151)),
        "HAND": Counts((101, 66), (271, 189)),
        "HUMERUS": Counts((68, 67), (148, 140)),
        "SHOULDER": Counts((99, 95), (285, 278)),
        "WRIST": Counts((140, 97), (364, 295)),
    },
}
PUBLISHED_PATIENTS = {"train": 11184, "valid": 783}
PUBLISHED_SHARED_PATIENTS = {"train": 1467, "valid": 248}  # with studies of two parts or more


def count(images: Iterable[Image]) -> Counts:
    """Studies and images by label."""
    images = list(images)
    studies = Counter(label for *_, label in {(i.split, i.study_key, i.label) for i in images})
    labels = Counter(image.label for image in images)
    return Counts((studies[0], studies[1]), (labels[0], labels[1]))


def count_patients(images: Iterable[Image]) -> int:
    """Number of patients, each counted once."""
    return len({image.patient for image in images})


def count_shared_patients(images: Iterable[Image]) -> int:
    """Patients with studies of two body parts or more."""
    parts = Counter(patient for patient, _ in {(i.patient, i.part) for i in images})
    return sum(n > 1 for n in parts.values())


def views_per_study(images: Iterable[Image]) -> list[int]:
    """How many images each study has."""
    return list(Counter((image.split, image.study_key) for image in images).values())


def check_counts(dataset: Dataset) -> list[str]:
    """Where the data differs from the published MURA-v1.1, a line each; [] where it is equal.

    Synthetic data claims no such counts and gives [].  Body parts and splits that are not there
    at all are one line, and then the totals, which must differ, are not compared.
    """
    if dataset.synthetic:
        return []
    parts = [p for p in PARTS if any(image.part == p for image in dataset.images)]
    splits = [s for s in SPLITS if any(image.split == s for image in dataset.images)]
    absent = [f"XR_{p}" for p in PARTS if p not in parts] + [s for s in SPLITS if s not in splits]
    lines = [f"not in this data: {', '.join(absent)}"] if absent else []
    for split in splits:
        images = dataset.split(split)
        for part in parts:
            found = count(image for image in images if image.part == part)
            if differing := differences(found, PUBLISHED[split][part]):
                lines.append(f"XR_{part} {split}: {'; '.join(differing)}")
        if len(parts) == len(PARTS):
            totals = (
                ("patients", count_patients(images), PUBLISHED_PATIENTS[split]),
                (
                    "patients with several body parts",
                    count_shared_patients(images),
                    PUBLISHED_SHARED_PATIENTS[split],
                ),
            )
            lines += [
                f"{split}: {found:,} {what}, published {published:,}"
                for what, found, published in totals
                if found != published
            ]
    return lines


def differences(found: Counts, published: Counts) -> list[str]:
    """Studies and images that differ: in their number, or else in how many of them are normal."""
    lines = []
    for what in ("studies", "images"):
        here, there = getattr(found, what), getattr(published, what)
        if sum(here) != sum(there):
            lines.append(f"{sum(here):,} {what}, published {sum(there):,}")
        elif here != there:
            lines.append(f"{here[0]:,} normal {what}, published {there[0]:,}")
    return lines
