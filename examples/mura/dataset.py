"""Which images a MURA folder holds, and whether its CSVs, files and labels agree.

    MURA-v1.1/train/XR_HAND/patient00001/study1_positive/image1.png
    MURA-v1.1/train_image_paths.csv       a row per image, no header
    MURA-v1.1/train_labeled_studies.csv   a row per study and its label, no header

Names that start with a dot are passed over: the published folder holds some that macOS left there
(``._image2.png``), which no decoder opens. Symbolic links are followed, and what they lead to twice
is read once. Whatever is passed over is named in a warning. Nothing here opens an image.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from examples.mura.decode import SUFFIXES
from examples.mura.errors import UserError
from tinynet.train.data import generator

ROOT_NAME = "MURA-v1.1"
SPLITS = ("train", "valid")
PARTS = ("ELBOW", "FINGER", "FOREARM", "HAND", "HUMERUS", "SHOULDER", "WRIST")
LABELS = {"negative": 0, "positive": 1}  # negative = normal, positive = abnormal
SYNTHETIC_MARK = "SYNTHETIC.txt"
HIDDEN = "names that begin with a dot"
EXPLAINED = ".explained.png"  # how the names of the pictures end that ``explain`` makes

STUDY_PATH = re.compile(
    r"(?:[^/]+/)?(?P<split>train|valid)/XR_(?P<part>" + "|".join(PARTS) + ")"
    r"/(?P<patient>patient\d+)/(?P<study>study\d+_(?P<label>negative|positive))"
)
IMAGE_PATH = re.compile(STUDY_PATH.pattern + r"/(?P<name>[^/.][^/]*)")

Study = tuple[str, str, str]  # part, patient, folder name


@dataclass(frozen=True)
class Counts:
    """(normal, abnormal) studies and images of a body part in a split."""

    studies: tuple[int, int]
    images: tuple[int, int]


# the MURA-v1.1 release and its paper (Rajpurkar et al. 2017, arXiv 1712.06957); the totals are
# those of the report's Table 1
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
        """(part, patient, study number): a patient may have a study1 of several parts."""
        return self.part, self.patient, self.study.partition("_")[0]


@dataclass(frozen=True)
class Dataset:
    """The images of a MURA folder, sorted, and what was found wrong with it."""

    root: Path
    images: list[Image]
    synthetic: bool = False
    warnings: list[str] = field(default_factory=list)

    def file(self, image: Image) -> Path:
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
    required: Collection[str] | None = None,
    parts: Collection[str] = PARTS,
) -> Dataset:
    """Return the images of ``folder``, which is MURA-v1.1 or its parent folder.

    Each split is read from its CSVs, or by walking its folders if it has none.
    check_files  compare the rows with the files; False reads the CSVs alone
    skip_bad     leave out what is wrong and list it in ``Dataset.warnings``
    splits, parts  read only these
    required     the splits that must have images; None: all; of the others a folder may lack
    Raises UserError, one line that names the file and the fix, for a missing or half-copied
    folder, a malformed row, a row without its file, a file without its row, a label that
    contradicts its folder, CSVs that disagree, and a patient in both splits.
    """
    root = find_root(Path(folder))
    required = splits if required is None else required
    findings, pictures = Findings(skip_bad), Pictures()
    images: list[Image] = []
    for split in splits:
        reader = SplitReader(root, split, parts, findings, pictures)
        images += reader.read(check_files, split in required)
    images = without_two_labels(images, root, findings)
    images = without_shared_patients(images, root, findings)
    for split in required:
        if not any(image.split == split for image in images):
            raise UserError(f"{root / split} holds no image of {', '.join(parts)}: give others")
    if not images:
        raise UserError(f"{root} holds no image of {', '.join(parts)}: give MURA-v1.1 with --data")
    warnings = [*findings.warnings, *pictures.passed_over()]
    return Dataset(root, sorted(images), (root / SYNTHETIC_MARK).exists(), warnings)


def split_by_patient(
    images: Iterable[Image], fraction: float, seed: int
) -> tuple[list[Image], list[Image]]:
    """Split ``images`` into (train, held out), ``fraction`` of the patients being held out.

    All the images of a patient fall on one side: with two views of one bone on both sides a
    network could recognise the patient instead of the abnormality.
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


def parse_image(text: str) -> Image | None:
    """Return the image that a path in MURA's layout names; None for any other path."""
    found = IMAGE_PATH.fullmatch(text)
    if found is None:
        return None
    split, part, patient, study, label, name = found.group(
        "split", "part", "patient", "study", "label", "name"
    )
    return Image(split, part, patient, study, name, LABELS[label])


def find_root(folder: Path) -> Path:
    if not folder.exists():
        raise UserError(f"no such folder: {folder}: give the folder {ROOT_NAME} with --data")
    if not folder.is_dir():
        raise UserError(f"{folder} is a file: unpack it and give the folder {ROOT_NAME}")
    for root in (folder, folder / ROOT_NAME):
        if any((root / s).is_dir() or (root / f"{s}_image_paths.csv").is_file() for s in SPLITS):
            return root
    raise UserError(
        f"{folder} holds neither {ROOT_NAME} nor train and valid: "
        f"give the folder {ROOT_NAME} with --data"
    )


@dataclass
class Findings:
    """What is wrong with a folder: the first finding ends the reading, or all are collected."""

    skip_bad: bool
    warnings: list[str] = field(default_factory=list)

    def bad(self, what: str, fix: str) -> None:
        if not self.skip_bad:
            raise UserError(f"{what}: {fix}, or leave it out with --skip-bad")
        self.warnings.append(f"{what}: left out")


@dataclass
class Pictures:
    """Finds the pictures in folders, and remembers what it passes over.

    seen     real path of each folder and picture that was met, to the path it was met by
    passed   (path, why) of the files and folders that were passed over
    unread   folders that cannot be read, and why
    """

    seen: dict[str, str] = field(default_factory=dict)
    passed: list[tuple[str, str]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def below(self, folder: Path, unwanted: Collection[str] = ()) -> Iterator[Path]:
        """The pictures below a folder, sorted; folders named in ``unwanted`` are left alone."""
        start = os.path.realpath(folder)
        for place, folders, files in os.walk(folder, onerror=self.cannot_read, followlinks=True):
            real = os.path.realpath(place)
            if real != start and os.path.join(start, "").startswith(os.path.join(real, "")):
                self.passed.append((place, "links to a folder that this one is in"))
                folders.clear()
                continue
            if self.met(place, real):
                folders.clear()
                continue
            self.passed += [(os.path.join(place, f), HIDDEN) for f in folders if f.startswith(".")]
            wanted = [f for f in folders if not f.startswith(".") and f not in unwanted]
            # links last: what they lead to is met in its own place first, if it is here too
            folders[:] = sorted(wanted, key=lambda f: (os.path.islink(os.path.join(place, f)), f))
            for name in sorted(files):
                path = os.path.join(place, name)
                link = os.path.islink(path)
                if why := not_wanted(name, link and not os.path.exists(path)):
                    self.passed.append((path, why))
                elif not self.met(path, os.path.realpath(path) if link else f"{real}/{name}"):
                    yield Path(path)

    def cannot_read(self, error: OSError) -> None:
        self.unread.append(f"{error.filename} cannot be read ({error.strerror})")

    def met(self, path: str, real: str) -> bool:
        """Whether a folder or picture was met before by another path."""
        first = self.seen.setdefault(real, path)
        if first != path:
            self.passed.append((f"{path} -> {first}", "links to what is there already"))
        return first != path

    def passed_over(self) -> list[str]:
        """A line for each reason, with the number of files and the names of the first."""
        reasons: dict[str, list[str]] = {}
        for path, why in self.passed:
            reasons.setdefault(why, []).append(path)
        return [
            f"passed over {len(paths):,} {why}: {', '.join(paths[:3])}{', ...' * (len(paths) > 3)}"
            for why, paths in reasons.items()
        ]


def not_wanted(name: str, broken: bool) -> str | None:
    if broken:
        return "links to what is not there"
    if name.startswith("."):
        return HIDDEN
    if name.endswith(EXPLAINED):
        return "pictures that explain made"
    if not name.lower().endswith(SUFFIXES):
        return f"files that are not {', '.join(SUFFIXES)}"
    return None


@dataclass(frozen=True)
class SplitReader:
    """Reads one split, through its CSVs or by walking, and checks them against each other."""

    root: Path
    split: str
    parts: Collection[str]
    findings: Findings
    pictures: Pictures

    def read(self, check_files: bool, required: bool) -> list[Image]:
        """The images of the split that nothing speaks against."""
        rows = self.root / f"{self.split}_image_paths.csv"
        labels = self.root / f"{self.split}_labeled_studies.csv"
        if not (self.root / self.split).is_dir() and (check_files or not rows.is_file()):
            if required:
                raise UserError(
                    f"{self.root} has no folder {self.split}: "
                    "copy it from MURA-v1.1, or move some patients there"
                )
            self.findings.warnings.append(f"{self.root} has no folder {self.split}")
            return []
        if absent := [file.name for file in (rows, labels) if not file.is_file()]:
            self.findings.warnings.append(
                f"{self.root} has no {' and no '.join(absent)}: read from its folders"
            )
        if rows.is_file():
            listed, source = self.read_images_csv(rows), rows.name
        else:
            listed, source = self.walk_images(), f"the folder {self.split}"
        unlabelled = self.badly_labelled(listed, source, labels) if labels.is_file() else set()
        if rows.is_file() and check_files:
            listed = self.with_files(listed, rows)
        return [i for i in listed if (i.part, i.patient, i.study) not in unlabelled]

    def read_images_csv(self, file: Path) -> list[Image]:
        images: dict[Image, None] = {}
        others = 0
        for where, row, text in self.rows(file):
            if row[0].rpartition("/")[2].startswith("."):
                continue
            image = parse_image(row[0]) if len(row) == 1 else None
            if image is None or image.split != self.split:
                self.findings.bad(
                    f"{where}: {text!r} is not like {example(self.split)}/image1.png", "mend it"
                )
            elif image in images:
                self.findings.bad(f"{where}: {row[0]} is listed twice", "delete the line")
            elif image.part in self.parts:
                images[image] = None
            else:
                others += 1
        if not images and others:
            raise UserError(f"{file} lists no image of {', '.join(self.parts)}: give other --parts")
        if not images:
            raise UserError(
                f"{file} lists no image, want a line for each, like {example(self.split)}/"
                "image1.png: mend it, or move it away to have the folders read instead"
            )
        return list(images)

    def read_studies_csv(self, file: Path) -> dict[Study, bool]:
        """Every study that the file lists, and whether its label matches its folder's name."""
        agrees: dict[Study, bool] = {}
        for where, row, text in self.rows(file):
            found = STUDY_PATH.fullmatch(row[0])
            well_formed = found is not None and len(row) == 2 and row[1] in ("0", "1")
            if found is None or not well_formed or found["split"] != self.split:
                self.findings.bad(
                    f"{where}: {text!r} is not like {example(self.split)}/,1", "mend it"
                )
            elif found["part"] in self.parts:
                study = (found["part"], found["patient"], found["study"])
                agrees[study] = int(row[1]) == LABELS[found["label"]]
                if not agrees[study]:
                    self.findings.bad(
                        f"{where}: label {row[1]} contradicts the folder {row[0]}",
                        "correct the label or rename the folder",
                    )
        return agrees

    def rows(self, file: Path) -> Iterator[tuple[str, list[str], str]]:
        """("FILE, line 3", fields, as written) of every row; a header is passed over, and named."""
        for number, (where, row) in enumerate(read_rows(file)):
            text = ",".join(row)
            text = text if len(text) <= 200 else f"{text[:200]}..."
            while len(row) > 1 and not row[-1]:  # a comma at the end
                row.pop()
            row[0] = str(PurePosixPath(row[0].replace("\\", "/")))
            if number == 0 and "/" not in ",".join(row):
                self.findings.warnings.append(f"{where}: {text!r} is taken for a header")
            else:
                yield where, row, text

    def walk(self) -> Iterator[str]:
        unwanted = {f"XR_{part}" for part in PARTS if part not in self.parts}
        for file in self.pictures.below(self.root / self.split, unwanted):
            yield f"{ROOT_NAME}/{file.relative_to(self.root).as_posix()}"
        while self.pictures.unread:
            self.findings.bad(self.pictures.unread.pop(0), "mend its permissions")

    def file(self, path: str) -> Path:
        return self.root.joinpath(*PurePosixPath(path).parts[1:])

    def walk_images(self) -> list[Image]:
        images = []
        for path in self.walk():
            image = parse_image(path)
            if image is None:
                self.findings.bad(
                    f"{self.file(path)} is not like {example('train')}/image1.png", "move it"
                )
            else:
                images.append(image)
        return images

    def badly_labelled(self, images: list[Image], source: str, file: Path) -> set[Study]:
        """Studies of ``images`` without a row in the studies CSV, or with another label there."""
        agrees = self.read_studies_csv(file)
        studies = {(image.part, image.patient, image.study) for image in images}
        if rowless := sorted(studies - agrees.keys()):
            where = study_list(self.split, rowless)
            self.findings.bad(f"{file}: no row for {where}, in {source}", "add it")
        if imageless := sorted(agrees.keys() - studies):
            self.findings.bad(
                f"{file}: {study_list(self.split, imageless)} has no image in {source}",
                "copy both from the archive again",
            )
        return {study for study in studies if not agrees.get(study, False)}

    def with_files(self, images: list[Image], file: Path) -> list[Image]:
        """The listed images that exist; files that are not listed are reported."""
        found = set(self.walk())
        listed = {str(image.path): image for image in images}
        found |= self.listed_alone(listed.keys() - found)
        if missing := sorted(listed.keys() - found):
            self.findings.bad(
                f"{file}: {len(missing):,} of {len(listed):,} images not found, {some(missing)}",
                "copy the folder again",
            )
        if rowless := sorted(found - listed.keys()):
            self.findings.bad(f"{file}: no row for {some(rowless)}", "add it")
        return [image for path, image in listed.items() if path in found]

    def listed_alone(self, paths: Collection[str]) -> set[str]:
        """Those of the listed images that are there, though the walk passed over them."""
        there = {path for path in paths if self.file(path).is_file()}
        used = {str(place) for p in there for place in (self.file(p), *self.file(p).parents)}
        self.pictures.passed[:] = [
            one for one in self.pictures.passed if one[0].partition(" -> ")[0] not in used
        ]
        return there


def read_rows(file: Path) -> Iterator[tuple[str, list[str]]]:
    """("FILE, line 3", fields) of every row of a CSV; empty lines are passed over."""
    try:
        with file.open("rb") as start:
            wide = start.read(2) in (b"\xff\xfe", b"\xfe\xff")  # a spreadsheet's "Unicode text"
        encoding = "utf-16" if wide else "utf-8-sig"
        # names that are not UTF-8 are as the system gives those of files
        with file.open(newline="", encoding=encoding, errors="surrogateescape") as stream:
            reader = csv.reader(stream)
            for row in ([text.strip() for text in row] for row in reader):
                if any(row):
                    yield f"{file}, line {reader.line_num}", row
    except OSError as error:
        raise UserError(f"cannot read {file} ({error.strerror}): mend its permissions") from error
    except (UnicodeError, csv.Error) as error:
        raise UserError(
            f"{file} is not a CSV file ({error}): mend it, or move it away to have the folders "
            "read instead"
        ) from error


def without_two_labels(images: list[Image], root: Path, findings: Findings) -> list[Image]:
    """Leave out the studies that exist both as normal and as abnormal."""
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
    """Leave out the training images of patients who are also in the validation split."""
    patients = [{i.patient for i in images if i.split == split} for split in SPLITS]
    shared = patients[0] & patients[1]
    if shared:
        findings.bad(
            f"{root}: {some(sorted(shared))} is in train and in valid", "delete it in train"
        )
    return [i for i in images if i.split != "train" or i.patient not in shared]


def example(split: str) -> str:
    return f"{ROOT_NAME}/{split}/XR_HAND/patient00001/study1_positive"


def some(names: list[str]) -> str:
    """The first name, and how many more there are."""
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1:,} more)"


def study_list(split: str, studies: list[Study]) -> str:
    return some([f"{ROOT_NAME}/{split}/XR_{p}/{patient}/{name}" for p, patient, name in studies])
