"""Which images a MURA folder holds, and whether its CSVs, files and labels agree.

Nothing here opens an image.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from examples.mura.errors import UserError
from examples.mura.layout import (
    LABELS,
    PARTS,
    SPLITS,
    SYNTHETIC_MARK,
    Findings,
    Image,
    Study,
    find_root,
    images_csv,
    read_images_csv,
    read_studies_csv,
    some,
    studies_csv,
    study_list,
    walk,
    walk_images,
)
from tinynet.train.data import generator

__all__ = ["LABELS", "PARTS", "SPLITS", "Dataset", "Image", "read_dataset", "split_by_patient"]


@dataclass(frozen=True)
class Dataset:
    """The images of a MURA folder, sorted, and what was found wrong with it."""

    root: Path
    images: list[Image]
    synthetic: bool = False
    warnings: list[str] = field(default_factory=list)

    def file(self, image: Image) -> Path:
        """Where the image lies on this machine."""
        return self.root.joinpath(*image.path.parts[1:])

    def split(self, name: str) -> list[Image]:
        """The images of one split, "train" or "valid"."""
        return [image for image in self.images if image.split == name]


def read_dataset(
    folder: str | os.PathLike[str],
    *,
    check_files: bool = True,
    skip_bad: bool = False,
    splits: Sequence[str] = SPLITS,
    parts: Collection[str] = PARTS,
) -> Dataset:
    """The images of ``folder``, which is MURA-v1.1 or the folder that it lies in.

    Each split is read through its CSVs, or by walking its folders where it has none.
    check_files  compare the rows with the files; False reads the CSVs alone
    skip_bad     leave out what is wrong and say so in ``Dataset.warnings``
    splits, parts  read only these
    Raises UserError, one line that names the file and the fix, for a missing or half-copied
    folder, a malformed row, a row without its file, a file without its row, a label that
    contradicts its folder, CSVs that disagree, and a patient in both splits.
    """
    root = find_root(Path(folder))
    findings = Findings(skip_bad)
    images: list[Image] = []
    for split in splits:
        images += read_split(root, split, parts, check_files, findings)
    images = without_two_labels(images, root, findings)
    images = without_shared_patients(images, root, findings)
    if not images:
        raise UserError(f"{root} holds no image of {', '.join(parts)}: give MURA-v1.1 with --data")
    return Dataset(root, sorted(images), (root / SYNTHETIC_MARK).exists(), findings.warnings)


def read_split(
    root: Path, split: str, parts: Collection[str], check_files: bool, findings: Findings
) -> list[Image]:
    """The images of one split, through its CSVs or by walking, checked against each other."""
    rows, labels = images_csv(root, split), studies_csv(root, split)
    if not (root / split).is_dir() and (check_files or not rows.is_file()):
        raise UserError(f"{root} has no folder {split}: copy it again from the MURA-v1.1 archive")
    if absent := [file.name for file in (rows, labels) if not file.is_file()]:
        findings.warnings.append(f"{root} has no {' and no '.join(absent)}: read from its folders")
    if rows.is_file():
        listed = read_images_csv(rows, split, parts, findings)
        source = rows.name
    else:
        listed = walk_images(root, split, parts, findings)
        source = f"the folder {split}"
    unlabelled: set[Study] = set()
    if labels.is_file():
        unlabelled = badly_labelled(listed, source, labels, split, parts, findings)
    if rows.is_file() and check_files:
        listed = with_files(listed, set(walk(root, split, parts)), rows, findings)
    return [i for i in listed if (i.part, i.patient, i.study) not in unlabelled]


def badly_labelled(
    images: list[Image],
    source: str,
    file: Path,
    split: str,
    parts: Collection[str],
    findings: Findings,
) -> set[Study]:
    """Studies of ``images`` without a row in the studies CSV, or with another label there."""
    agrees = read_studies_csv(file, split, parts, findings)
    studies = {(image.part, image.patient, image.study) for image in images}
    if rowless := sorted(studies - agrees.keys()):
        findings.bad(f"{file}: no row for {study_list(split, rowless)}, in {source}", "add it")
    if imageless := sorted(agrees.keys() - studies):
        findings.bad(
            f"{file}: {study_list(split, imageless)} has no image in {source}",
            "copy both from the archive again",
        )
    return {study for study in studies if not agrees.get(study, False)}


def with_files(images: list[Image], found: set[str], file: Path, findings: Findings) -> list[Image]:
    """The listed images that are there; files that are there and not listed are reported."""
    listed = {str(image.path): image for image in images}
    if missing := sorted(listed.keys() - found):
        findings.bad(
            f"{file}: {len(missing):,} of {len(listed):,} images not found, {some(missing)}",
            "copy the folder again",
        )
    if rowless := sorted(found - listed.keys()):
        findings.bad(f"{file}: no row for {some(rowless)}", "add it")
    return [image for path, image in listed.items() if path in found]


def without_two_labels(images: list[Image], root: Path, findings: Findings) -> list[Image]:
    """Without the studies that are there as normal and as abnormal."""
    names: dict[tuple[str, Study], set[str]] = {}
    for image in images:
        names.setdefault((image.split, image.study_key), set()).add(image.study)
    double = {key for key, folders in names.items() if len(folders) > 1}
    for split, key in sorted(double):
        part, patient, _ = key
        both = " and ".join(sorted(names[split, key]))
        findings.bad(f"{root / split / f'XR_{part}' / patient} holds {both}", "delete one")
    return [image for image in images if (image.split, image.study_key) not in double]


def without_shared_patients(images: list[Image], root: Path, findings: Findings) -> list[Image]:
    """Without the training images of patients who are also in the validation split."""
    patients = [{i.patient for i in images if i.split == split} for split in SPLITS]
    shared = patients[0] & patients[1]
    if shared:
        findings.bad(
            f"{root}: {some(sorted(shared))} is in train and in valid", "delete it in train"
        )
    return [i for i in images if i.split != "train" or i.patient not in shared]


def split_by_patient(
    images: Iterable[Image], fraction: float, seed: int
) -> tuple[list[Image], list[Image]]:
    """``images`` as (train, held out): ``fraction`` of the patients, drawn at random, held out.

    All the images of a patient fall on one side: two views of one bone on both sides would
    let a network recognise the patient instead of the abnormality.
    """
    if not 0 < fraction < 1:
        raise UserError(f"the fraction to hold out is {fraction}, want more than 0 and less than 1")
    images = list(images)
    patients = sorted({image.patient for image in images})
    if len(patients) < 2:
        raise UserError(f"{len(patients)} patient cannot be split in two: give more data")
    count = min(max(round(fraction * len(patients)), 1), len(patients) - 1)
    drawn = generator(seed, "split by patient").permutation(len(patients))[:count]
    held = {patients[i] for i in drawn}
    return [i for i in images if i.patient not in held], [i for i in images if i.patient in held]
