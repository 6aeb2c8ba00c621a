"""MURA's layout on disk: the names of its folders and the rows of its CSVs.

    MURA-v1.1/train/XR_HAND/patient00001/study1_positive/image1.png
    MURA-v1.1/train_image_paths.csv       a row per image, no header
    MURA-v1.1/train_labeled_studies.csv   a row per study and its label, no header

Names that start with a dot are skipped: the published folder holds some that macOS left there
(``._image2.png``) and that no decoder opens.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from examples.mura.errors import UserError

ROOT_NAME = "MURA-v1.1"
SPLITS = ("train", "valid")
PARTS = ("ELBOW", "FINGER", "FOREARM", "HAND", "HUMERUS", "SHOULDER", "WRIST")
LABELS = {"negative": 0, "positive": 1}  # negative = normal, positive = abnormal
SYNTHETIC_MARK = "SYNTHETIC.txt"
SUFFIXES = (".png", ".jpg", ".jpeg")

STUDY_PATH = re.compile(
    r"(?:[^/]+/)?(?P<split>train|valid)/XR_(?P<part>" + "|".join(PARTS) + ")"
    r"/(?P<patient>patient\d+)/(?P<study>study\d+_(?P<label>negative|positive))"
)
IMAGE_PATH = re.compile(STUDY_PATH.pattern + r"/(?P<name>[^/.][^/]*)")
STUDY_LIKE = f"{ROOT_NAME}/train/XR_HAND/patient00001/study1_positive"

Study = tuple[str, str, str]  # part, patient, folder name


@dataclass(frozen=True, slots=True, order=True)
class Image:
    """One radiograph: where it lies and the label of its study, 0 normal or 1 abnormal."""

    split: str
    part: str
    patient: str
    study: str
    name: str
    label: int

    @property
    def path(self) -> PurePosixPath:
        """The path as the CSVs write it, from ``MURA-v1.1`` down."""
        folder = PurePosixPath(ROOT_NAME, self.split, f"XR_{self.part}", self.patient, self.study)
        return folder / self.name

    @property
    def study_key(self) -> Study:
        """(part, patient, study number): patients recur across parts, so no less will do."""
        return self.part, self.patient, self.study.partition("_")[0]


@dataclass
class Findings:
    """What is wrong with a folder: the first finding ends the reading, or all are collected."""

    skip_bad: bool
    warnings: list[str] = field(default_factory=list)

    def bad(self, what: str, fix: str) -> None:
        """Report something that a user may mend or leave out."""
        if not self.skip_bad:
            raise UserError(f"{what}: {fix}, or leave it out with --skip-bad")
        self.warnings.append(f"{what}: left out")


def parse_image(text: str) -> Image | None:
    """The image that a path in MURA's layout names; None if the path is not in that layout."""
    found = IMAGE_PATH.fullmatch(text)
    if found is None:
        return None
    split, part, patient, study, label, name = found.group(
        "split", "part", "patient", "study", "label", "name"
    )
    return Image(split, part, patient, study, name, LABELS[label])


def find_root(folder: Path) -> Path:
    """The folder that holds the splits: ``folder`` itself or ``MURA-v1.1`` inside it."""
    if not folder.exists():
        raise UserError(f"no such folder: {folder}: give the folder {ROOT_NAME} with --data")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: unpack it and give the folder {ROOT_NAME}")
    for root in (folder, folder / ROOT_NAME):
        if any((root / s).is_dir() or images_csv(root, s).is_file() for s in SPLITS):
            return root
    raise UserError(
        f"{folder} holds neither {ROOT_NAME} nor train and valid: "
        f"give the folder {ROOT_NAME} with --data"
    )


def images_csv(root: Path, split: str) -> Path:
    """The CSV that lists the images of a split."""
    return root / f"{split}_image_paths.csv"


def studies_csv(root: Path, split: str) -> Path:
    """The CSV that lists the studies of a split and their labels."""
    return root / f"{split}_labeled_studies.csv"


def read_rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    """("FILE, line 3", fields) of every row of a headerless CSV; empty lines are passed over."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream)
            for row in reader:
                if row:
                    yield f"{file}, line {reader.line_num}", [text.strip() for text in row]
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror}): copy it again") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} is not a CSV file ({error}): copy it again") from error


def read_images_csv(
    file: Path, split: str, parts: Collection[str], findings: Findings
) -> list[Image]:
    """The images that a CSV lists, of ``parts``; what is amiss goes to ``findings``."""
    images: dict[Image, None] = {}
    for where, row in read_rows(file):
        if row[0].rpartition("/")[2].startswith("."):
            continue
        image = parse_image(row[0]) if len(row) == 1 else None
        if image is None or image.split != split:
            example = STUDY_LIKE.replace("train", split)
            findings.bad(f"{where}: {','.join(row)!r} is not like {example}/image1.png", "mend it")
        elif image in images:
            findings.bad(f"{where}: {row[0]} is listed twice", "delete the line")
        elif image.part in parts:
            images[image] = None
    if not images:
        raise UserError(f"{file} lists no image of {', '.join(parts)}: copy it again")
    return list(images)


def read_studies_csv(
    file: Path, split: str, parts: Collection[str], findings: Findings
) -> dict[Study, bool]:
    """Every study that the file lists, and whether its label is that of its folder's name."""
    agrees: dict[Study, bool] = {}
    for where, row in read_rows(file):
        found = STUDY_PATH.fullmatch(row[0].rstrip("/"))
        well_formed = found is not None and len(row) == 2 and row[1] in ("0", "1")
        if found is None or not well_formed or found["split"] != split:
            example = STUDY_LIKE.replace("train", split)
            findings.bad(f"{where}: {','.join(row)!r} is not like {example}/,1", "mend it")
        elif found["part"] in parts:
            study = (found["part"], found["patient"], found["study"])
            agrees[study] = int(row[1]) == LABELS[found["label"]]
            if not agrees[study]:
                findings.bad(
                    f"{where}: label {row[1]} contradicts the folder {row[0]}",
                    "correct the label or rename the folder",
                )
    return agrees


def walk(root: Path, split: str, parts: Collection[str]) -> Iterator[str]:
    """Paths, as the CSVs write them, of every image file of a split."""
    unwanted = {f"XR_{part}" for part in PARTS if part not in parts}
    for folder, folders, files in os.walk(root / split):
        folders[:] = [f for f in folders if not f.startswith(".") and f not in unwanted]
        place = PurePosixPath(ROOT_NAME, *Path(folder).relative_to(root).parts)
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield f"{place}/{name}"


def walk_images(root: Path, split: str, parts: Collection[str], findings: Findings) -> list[Image]:
    """The images in the folders of a split, where it has no CSV."""
    images = []
    for path in walk(root, split, parts):
        image = parse_image(path)
        if image is None:
            file = root.joinpath(*PurePosixPath(path).parts[1:])
            findings.bad(f"{file} is not like {STUDY_LIKE}/image1.png", "move it")
        else:
            images.append(image)
    return images


def some(names: list[str]) -> str:
    """The first name, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1:,} more)"


def study_list(split: str, studies: list[Study]) -> str:
    """Some studies as paths, for a message."""
    return some([f"{ROOT_NAME}/{split}/XR_{p}/{patient}/{name}" for p, patient, name in studies])
