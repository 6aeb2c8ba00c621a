"""Write a set of synthetic radiographs in MURA-v1.1's exact layout.

Each patient is drawn from (seed, patient) alone, so the set is the same bit for bit whatever the
number of processes, and the same call finishes a set that was interrupted. Of two calls at the
same moment, the second waits for the first and uses its set.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image
from tqdm import tqdm

from examples.mura.errors import UserError
from examples.mura.phantom.studies import STUDIES, draw_studies, patient_body, take_study
from examples.mura.processes import locked, usable_cores, worker_pool

TRAIN_PATIENTS, VALID_PATIENTS = 1500, 230
ROOT = "MURA-v1.1"
NOTICE = "SYNTHETIC.txt"
TRUTH = "synthetic_truth.csv"
DONE = "unfinished.jsonl"  # one line for each patient whose pictures are all written
LOCK = f"{ROOT}.lock"  # beside the set, left there afterwards
VERSION = 1  # to be raised when the same settings draw other pictures
CHUNK = 4  # patients handed to a process at a time

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
    A finished set with the same settings is left as it is; an unfinished one is finished.
    Raises UserError if the folder holds a real MURA-v1.1 or a set with other settings, if a
    number is out of range, or if the files cannot be written.
    """
    settings = Settings(train_patients, valid_patients, seed, side)
    check(settings, workers)
    root = Path(folder) / ROOT
    try:
        if is_finished_now(root, settings):
            return root
        root.parent.mkdir(parents=True, exist_ok=True)
        with locked(root.parent / LOCK, f"synthetic radiographs in {root}"):
            if not is_finished(root, settings):
                make(root, settings, workers, progress)
    except OSError as error:
        reason = error.strerror or str(error)
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
    """Whether the set is complete; raises UserError if the folder is not ours to write to."""
    if not root.exists() or not any(root.iterdir()):
        return False
    notice = root / NOTICE
    if not notice.exists():
        raise UserError(
            f"{root} has no {NOTICE}, so it may be the real data set: choose another folder"
        )
    if notice.read_text(encoding="utf-8") != notice_text(settings):
        raise UserError(
            f"{root} holds synthetic radiographs with other settings (see {notice}): "
            "choose another folder, or delete this one"
        )
    return (root / TRUTH).exists() and not (root / DONE).exists()


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
    root.mkdir(exist_ok=True)
    (root / NOTICE).write_text(notice_text(settings), encoding="utf-8")
    rows = recorded(root)
    left = [patient for patient in settings.patients() if patient[1] not in rows]
    with (
        (root / DONE).open("a", encoding="utf-8") as done,
        tqdm(
            total=len(rows) + len(left), initial=len(rows), unit="patient",
            desc="synthetic radiographs", disable=not progress,
        ) as bar,
    ):  # fmt: skip
        for number, drawn in render_all(root, settings, left, workers):
            rows[number] = drawn
            done.write(json.dumps([number, drawn]) + "\n")
            done.flush()
            bar.update()
    write_tables(root, [row for number in sorted(rows) for row in rows[number]])
    (root / DONE).unlink()


def recorded(root: Path) -> dict[int, list[Row]]:
    """The rows of the patients that an interrupted run finished."""
    done = root / DONE
    if not done.exists():
        return {}
    whole = done.read_text(encoding="utf-8").split("\n")[:-1]  # without a line that was cut short
    done.write_text("".join(line + "\n" for line in whole), encoding="utf-8")
    return dict(json.loads(line) for line in whole)


def render_all(
    root: Path, settings: Settings, patients: list[Patient], workers: int | None
) -> Iterator[tuple[int, list[Row]]]:
    """Write the patients' pictures in ``workers`` processes; yields the patients in order."""
    render = partial(render_patient, root, settings)
    workers = min(workers or usable_cores(), -(-len(patients) // CHUNK))
    if workers <= 1:
        yield from map(render, patients)
        return
    with worker_pool(workers) as pool:
        yield from pool.map(render, patients, chunksize=CHUNK)


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


def write_tables(root: Path, rows: list[Row]) -> None:
    """MURA's four headerless CSVs, and the truth, which has a header and is written last."""
    order = list(STUDIES["train"])
    rows = sorted(rows, key=lambda row: (order.index(row["part"]), row["path"]))
    for split in ("train", "valid"):
        mine = [row for row in rows if row["path"].startswith(f"{ROOT}/{split}/")]
        studies = {f"{PurePosixPath(row['path']).parent}/": row["label"] for row in mine}
        write_csv(root / f"{split}_image_paths.csv", ((row["path"],) for row in mine))
        write_csv(root / f"{split}_labeled_studies.csv", studies.items())
    write_csv(root / TRUTH, [COLUMNS, *(tuple(row.values()) for row in rows)])


def write_csv(path: Path, rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
