"""Small folders in MURA's layout for the tests, and a data set with MURA's published counts."""

from itertools import product
from pathlib import Path

import numpy as np
from PIL import Image as Pillow

from examples.mura.dataset import (
    PARTS,
    PUBLISHED,
    PUBLISHED_PATIENTS,
    PUBLISHED_SHARED_PATIENTS,
    Dataset,
    Image,
)

NAMES = ("negative", "positive")
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


def grey(seed, height=40, width=30):
    """A smooth picture that no other seed gives."""
    rows, columns = np.mgrid[:height, :width]
    return ((seed * 37 + 3 * rows + 2 * columns) % 256).astype(np.uint8)


def make_mura(folder, *, csvs=True):
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
                Pillow.fromarray(grey(seed)).save(folder / rows[-1])
        if csvs:
            for name, lines in (("image_paths", rows), ("labeled_studies", labels)):
                file = folder / f"MURA-v1.1/{split}_{name}.csv"
                file.write_text("\n".join(lines) + "\n")
    return folder / "MURA-v1.1"


def draw_spots(folder, parts=("ELBOW", "FINGER", "HAND")):
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
                Pillow.fromarray(pixels).save(place / "image1.png")
    return folder / "MURA-v1.1"


def published():
    """A data set with every published count of MURA-v1.1: its tables, patients, shared patients.

    Per split with S studies, P patients and K of them shared between parts: K patients have one
    study in each of two parts, the others one study, and some a second one of the same part.
    """
    found, number = [], 0
    for split, counts in PUBLISHED.items():
        # a study is (label, number of images); images are dealt out as evenly as possible
        studies = {part: [] for part in PARTS}
        for part, label in product(PARTS, (0, 1)):
            n, images = counts[part].studies[label], counts[part].images[label]
            studies[part] += [(label, images // n + (i < images % n)) for i in range(n)]

        def give(part, patient, study=1, split=split, studies=studies):
            label, count = studies[part].pop()
            place = (split, part, f"patient{patient:05d}", f"study{study}_{NAMES[label]}")
            found.extend(Image(*place, f"image{i}.png", label) for i in range(1, count + 1))

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
    return Dataset(Path("MURA-v1.1"), sorted(found))
