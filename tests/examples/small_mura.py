"""Small folders in MURA's layout for the tests: drawn images, or CSVs with the published counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from examples.mura.dataset import (
    PARTS,
    PUBLISHED,
    PUBLISHED_PATIENTS,
    PUBLISHED_SHARED_PATIENTS,
)

# flags of a network that trains in a moment
SMALL = ("--side", "16", "--filters", "4", "8", "--hidden", "8", "--batch-size", "4")

STUDIES = {  # split -> (part, patient, study folder, number of images)
    "train": [
        ("ELBOW", "patient00001", "study1_negative", 3),
        ("ELBOW", "patient00002", "study1_positive", 2),
        ("HAND", "patient00002", "study1_negative", 1),
        ("HAND", "patient00003", "study1_positive", 2),
        ("HAND", "patient00003", "study2_negative", 2),
        ("HAND", "patient00004", "study1_negative", 1),
    ],
    "valid": [
        ("ELBOW", "patient11185", "study1_negative", 2),
        ("HAND", "patient11186", "study1_positive", 2),
    ],
}


def grey(seed: int, height: int = 40, width: int = 30) -> np.ndarray:
    """A smooth picture that no other seed gives."""
    rows, columns = np.mgrid[:height, :width]
    return ((seed * 37 + 3 * rows + 2 * columns) % 256).astype(np.uint8)


def make_mura(folder: Path, *, csvs: bool = True) -> Path:
    """MURA-v1.1 inside ``folder``: two body parts, both splits, and both kinds of CSV."""
    seed = 0
    for split, studies in STUDIES.items():
        rows, labels = [], []
        for part, patient, study, count in studies:
            place = f"MURA-v1.1/{split}/XR_{part}/{patient}/{study}"
            (folder / place).mkdir(parents=True)
            labels.append(f"{place}/,{int(study.endswith('positive'))}")
            for number in range(1, count + 1):
                seed += 1
                rows.append(f"{place}/image{number}.png")
                Image.fromarray(grey(seed)).save(folder / rows[-1])
        if csvs:
            write_csvs(folder, split, rows, labels)
    return folder / "MURA-v1.1"


def write_csvs(folder: Path, split: str, rows: list[str], labels: list[str]) -> None:
    root = folder / "MURA-v1.1"
    root.mkdir(parents=True, exist_ok=True)
    (root / f"{split}_image_paths.csv").write_text("\n".join(rows) + "\n")
    (root / f"{split}_labeled_studies.csv").write_text("\n".join(labels) + "\n")


def draw_spots(folder: Path, parts: tuple[str, ...] = ("ELBOW", "FINGER", "HAND")) -> Path:
    """MURA-v1.1 of 20 x 20 pixels, 28 patients a part; what is abnormal has a bright spot."""
    rng = np.random.default_rng(0)
    patient = 0
    for split, patients in (("train", 10), ("valid", 4)):
        for part in parts:
            for label in ("negative", "positive") * patients:
                patient += 1
                place = folder / f"MURA-v1.1/{split}/XR_{part}/patient{patient:05d}/study1_{label}"
                place.mkdir(parents=True)
                pixels = rng.integers(0, 120, (20, 20)).astype(np.uint8)
                if label == "positive":
                    y, x = rng.integers(3, 14, 2)
                    pixels[y : y + 4, x : x + 4] = 255
                Image.fromarray(pixels).save(place / "image1.png")
    return folder / "MURA-v1.1"


def make_published(folder: Path) -> Path:
    """CSVs alone, with every published count of MURA-v1.1: its tables, patients, shared patients.

    Per split with S studies, P patients and K of them shared between parts: K patients have one
    study in each of two parts, the others one study, and some a second one of the same part.
    """
    number = 0
    for split, counts in PUBLISHED.items():
        # a study is (label, number of images); images are dealt out as evenly as possible
        studies: dict[str, list[tuple[int, int]]] = {part: [] for part in PARTS}
        for part in PARTS:
            for label in (0, 1):
                n, images = counts[part].studies[label], counts[part].images[label]
                studies[part] += [(label, images // n + (i < images % n)) for i in range(n)]
        rows, labels = [], []

        def give(part: str, patient: int, study: int = 1, *, split=split, studies=studies,
                 rows=rows, labels=labels) -> None:  # fmt: skip
            label, images = studies[part].pop()
            place = f"MURA-v1.1/{split}/XR_{part}/patient{patient:05d}"
            place = f"{place}/study{study}_{('negative', 'positive')[label]}/"
            labels.append(f"{place},{label}")
            rows.extend(f"{place}image{i}.png" for i in range(1, images + 1))

        for _ in range(PUBLISHED_SHARED_PATIENTS[split]):
            number += 1
            for part in sorted(PARTS, key=lambda p: -len(studies[p]))[:2]:
                give(part, number)
        single = PUBLISHED_PATIENTS[split] - PUBLISHED_SHARED_PATIENTS[split]
        second = sum(map(len, studies.values())) - single
        while any(studies.values()):
            number += 1
            part = max(PARTS, key=lambda p: len(studies[p]))
            give(part, number)
            if second:
                give(part, number, 2)
                second -= 1
        write_csvs(folder, split, rows, labels)
    return folder / "MURA-v1.1"
