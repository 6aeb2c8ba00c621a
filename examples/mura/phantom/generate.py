"""Write a set of synthetic radiographs in MURA-v1.1's exact layout.

Each patient is drawn from (seed, patient) alone, so the set is the same bit for bit whatever the
number of processes, and the same call finishes a set that was interrupted, or that a power cut has
damaged. Of two calls at the same moment, the second waits for the first and uses its set.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from tqdm import tqdm

from examples.mura.errors import UserError
from examples.mura.phantom.studies import STUDIES, draw_studies, patient_body, take_study
from examples.mura.processes import in_workers, usable_cores
from tinynet.train.files import (
    CheckpointError,
    holds_something,
    locked,
    remove_half_written,
    write_whole,
)

TRAIN_PATIENTS, VALID_PATIENTS = 1500, 230
ROOT = "MURA-v1.1"
NOTICE = "SYNTHETIC.txt"
TRUTH = "synthetic_truth.csv"
DONE = "unfinished.jsonl"  # one line for each patient whose pictures are all written
LOCK = f"{ROOT}.lock"  # beside the set, left there afterwards
VERSION = 1  # to be raised when the same settings draw other pictures
CHUNK = 4  # patients handed to a process at a time
PNG_END = b"IEND\xaeB`\x82"

TEXT = """SYNTHETIC radiographs: drawn by a program from geometry; nobody was X-rayed.
They follow the layout of MURA-v1.1 and contain none of its images. Not for clinical use.
{truth} says what was drawn in each picture and whether it can be seen in it.
Settings: {settings}
"""

# one picture's line in the truth file; findings and visible are joined by "+"
COLUMNS = ("path", "part", "label", "view", "findings", "visible")
Row = dict[str, Any]
Patient = tuple[str, int]  # split, number


@dataclass(frozen=True)
class Settings:
    """The settings that decide every pixel of a set."""

    train_patients: int
    valid_patients: int
    seed: int
    side: int
    version: int = VERSION

    def patients(self) -> list[Patient]:
        """Numbered as in MURA: training first, then validation, none in both."""
        numbers = range(1, self.train_patients + self.valid_patients + 1)
        return [("train" if n <= self.train_patients else "valid", n) for n in numbers]


def generate(
    folder: Path,
    *,
    train_patients: int = TRAIN_PATIENTS,
    valid_patients: int = VALID_PATIENTS,
    seed: int = 0,
    side: int = 192,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Write ``folder``/MURA-v1.1 full of synthetic radiographs and return that path.

    side: pixels of a picture's longer side. workers: processes; None: one per core.
    A finished set with the same settings is left as it is; an unfinished one is finished, and what
    is missing or cut short is drawn again.
    Raises UserError if the folder holds a real MURA-v1.1 or a set with other settings, if a
    number is out of range, or if the files cannot be written.
    """
    settings = Settings(train_patients, valid_patients, seed, side)
    check(settings, workers)
    root = Path(folder) / ROOT
    try:
        if is_finished_now(root, settings):
            return root
        with locked(root.parent / LOCK, f"synthetic radiographs in {root}"):
            if not is_finished(root, settings):
                make(root, settings, workers, progress)
    except (OSError, CheckpointError) as error:
        cause = error.__cause__ or error  # the system's own error, where write_whole wrapped it
        reason = getattr(cause, "strerror", None) or cause
        raise UserError(
            f"cannot write synthetic radiographs to {root}: {reason}; "
            "free some space or choose another folder, then run the same command to go on"
        ) from error
    return root


def check(settings: Settings, workers: int | None) -> None:
    train, valid = settings.train_patients, settings.valid_patients
    for fine, message in (
        (min(train, valid) >= 1,
         f"got {train} training and {valid} validation patients, want at least 1 of each"),
        (train + valid <= 99_999,
         "got more than 99999 patients, MURA's names have five digits: ask for fewer"),
        (48 <= settings.side <= 512,
         f"got pictures of side {settings.side}, want 48 to 512 pixels"),
        (settings.seed >= 0, f"got seed {settings.seed}, want 0 or more"),
        (workers is None or workers >= 1, f"got {workers} workers, want at least 1"),
    ):  # fmt: skip
        if not fine:
            raise UserError(message)


def is_finished(root: Path, settings: Settings) -> bool:
    """Whether the set is complete and whole; raises UserError if the folder is not ours to use."""
    if not holds_something(root):
        return False
    notice = root / NOTICE
    if not notice.exists():
        raise UserError(
            f"{root} has no {NOTICE}, so it may be the real data set: choose another folder"
        )
    found, wanted = notice.read_text(encoding="utf-8", errors="replace"), notice_text(settings)
    if cut_short(found, wanted):
        return False
    if found != wanted:
        raise UserError(
            f"{root} holds synthetic radiographs with other settings (see {notice}): "
            "choose another folder, or delete this one"
        )
    rows = {} if (root / DONE).exists() else recorded(root, settings)
    return len(rows) == len(settings.patients()) and not any(
        cut_short(read(root / name), table) for name, table in tables(rows).items()
    )


def cut_short(found: str, wanted: str) -> bool:
    """Whether a file's text is the beginning of what was to be written, as after a power cut."""
    found = found.rstrip("\0")
    return found != wanted and wanted.startswith(found)


def read(file: Path) -> str:
    """The text of a file, or "" if there is none."""
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def is_finished_now(root: Path, settings: Settings) -> bool:
    """``is_finished``, but False where another process may be half-way."""
    try:
        return is_finished(root, settings)
    except UserError:
        if not (root.parent / LOCK).exists():
            raise
        return False  # asked again when the lock is ours


def notice_text(settings: Settings) -> str:
    return TEXT.format(truth=TRUTH, settings=json.dumps(asdict(settings)))


def make(root: Path, settings: Settings, workers: int | None, progress: bool) -> None:
    remove_half_written(root)
    if read(root / NOTICE) != notice_text(settings):  # nor is it known what else is of
        for name in (DONE, TRUTH):
            (root / name).unlink(missing_ok=True)
        write_whole(root / NOTICE, notice_text(settings).encode())
    rows = recorded(root, settings)
    lines = "".join(json.dumps(item) + "\n" for item in rows.items())
    write_whole(root / DONE, lines.encode())
    left = [patient for patient in settings.patients() if patient[1] not in rows]
    with (
        (root / DONE).open("a", encoding="utf-8") as done,
        closing(render_all(root, settings, left, workers)) as drawn,
        tqdm(
            total=len(rows) + len(left), initial=len(rows), unit="patient",
            desc="synthetic radiographs", disable=not progress,
        ) as bar,
    ):  # fmt: skip
        for number, pictures in drawn:
            rows[number] = pictures
            done.write(json.dumps([number, pictures]) + "\n")
            done.flush()
            bar.update()
    if not (root / NOTICE).exists():
        raise FileNotFoundError(errno.ENOENT, "it was removed while it was being filled")
    for name, table in tables(rows).items():
        if cut_short(read(root / name), table):  # what somebody has changed stays so
            write_whole(root / name, table.encode())
    (root / DONE).unlink()


def recorded(root: Path, settings: Settings) -> dict[int, list[Row]]:
    """The rows of the patients whose pictures are there and whole."""
    rows: dict[int, list[Row]] = {}
    for line in read(root / DONE).splitlines():
        with suppress(ValueError, TypeError):  # a line that was cut short
            number, pictures = json.loads(line)
            rows[number] = pictures
    if not rows:
        rows = finished_rows(root, settings)
    return {
        number: pictures
        for number, pictures in rows.items()
        if all(is_whole(root.parent / row["path"]) for row in pictures)
    }


def finished_rows(root: Path, settings: Settings) -> dict[int, list[Row]]:
    """The rows of a finished set, from its truth; none if that is not of all its patients."""
    rows: dict[int, list[Row]] = {number: [] for _, number in settings.patients()}
    try:
        for row in csv.DictReader(io.StringIO(read(root / TRUTH))):
            rows[int(PurePosixPath(row["path"]).parts[3].removeprefix("patient"))].append(row)
    except (LookupError, TypeError, ValueError):
        return {}
    return rows if all(rows.values()) else {}


def is_whole(picture: Path) -> bool:
    """Whether a PNG is there to its end."""
    try:
        with picture.open("rb") as file:
            file.seek(-len(PNG_END), os.SEEK_END)
            return file.read() == PNG_END
    except OSError:  # none, or it is shorter than that
        return False


def render_all(
    root: Path, settings: Settings, patients: list[Patient], workers: int | None
) -> Generator[tuple[int, list[Row]], None, None]:
    """Write the patients' pictures in ``workers`` processes; yields the patients in order."""
    render = partial(render_patient, root, settings)
    return in_workers(render, patients, workers or usable_cores(), CHUNK)


def render_patient(root: Path, settings: Settings, patient: Patient) -> tuple[int, list[Row]]:
    split, number = patient
    rows = []
    body = patient_body(settings.seed, number)
    for study in draw_studies(settings.seed, number, split):
        where = PurePosixPath(ROOT, split, f"XR_{study.part}", f"patient{number:05d}", study.folder)
        folder = root.parent / where
        folder.mkdir(parents=True, exist_ok=True)
        for i, view in enumerate(take_study(study, body, settings.side), start=1):
            Image.fromarray(view.pixels).save(folder / f"image{i}.png", compress_level=1)
            findings = "+".join(view.findings)
            visible = "+".join("yes" if seen else "no" for seen in view.visible)
            path, label = str(where / f"image{i}.png"), int(study.abnormal)
            row = (path, study.part, label, view.name, findings, visible)
            rows.append(dict(zip(COLUMNS, row, strict=True)))
    return number, rows


def tables(rows: dict[int, list[Row]]) -> dict[str, str]:
    """MURA's four headerless CSVs, and the truth, which has a header and is written last."""
    order = list(STUDIES["train"])
    every = [row for number in sorted(rows) for row in rows[number]]
    every.sort(key=lambda row: (order.index(row["part"]), row["path"]))
    texts = {}
    for split in ("train", "valid"):
        mine = [row for row in every if row["path"].startswith(f"{ROOT}/{split}/")]
        studies = {f"{PurePosixPath(row['path']).parent}/": row["label"] for row in mine}
        texts[f"{split}_image_paths.csv"] = csv_text((row["path"],) for row in mine)
        texts[f"{split}_labeled_studies.csv"] = csv_text(studies.items())
    return texts | {TRUTH: csv_text([COLUMNS, *(tuple(row.values()) for row in every)])}


def csv_text(rows: Iterable[tuple[object, ...]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
