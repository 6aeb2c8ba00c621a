"""Write a set of synthetic radiographs in MURA-v1.1's exact layout.

Each patient is drawn from (seed, patient) alone, so the set is the same bit for bit whatever the
number of processes, and the same call finishes a set that was interrupted. Of two calls at the
same moment, the second waits for the first and uses its set.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath

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
PATIENTS_PER_TASK = 4

TEXT = """SYNTHETIC radiographs: drawn by a program from geometry; nobody was X-rayed.
They follow the layout of MURA-v1.1 and contain none of its images. Not for clinical use.
{truth} says what was drawn in each picture and whether it can be seen in it.
Settings: {settings}
"""

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


@dataclass(frozen=True)
class Row:
    """One picture's line in the truth file; findings and visible are joined by "+"."""

    path: str
    part: str
    label: int
    view: str
    findings: str
    visible: str


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
    """Raise UserError for settings that no set can have."""
    if settings.train_patients < 1 or settings.valid_patients < 1:
        raise UserError(
            f"got {settings.train_patients} training and {settings.valid_patients} validation "
            "patients, want at least 1 of each"
        )
    if settings.train_patients + settings.valid_patients > 99_999:
        raise UserError(
            "got more than 99999 patients, MURA's names have five digits: ask for fewer"
        )
    if not 48 <= settings.side <= 512:
        raise UserError(f"got pictures of side {settings.side}, want 48 to 512 pixels")
    if settings.seed < 0:
        raise UserError(f"got seed {settings.seed}, want 0 or more")
    if workers is not None and workers < 1:
        raise UserError(f"got {workers} workers, want at least 1")


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
    """Draw the patients that are not recorded as done, and write the tables."""
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
            done.write(json.dumps([number, [asdict(row) for row in drawn]]) + "\n")
            done.flush()
            bar.update()
    write_tables(root, [row for number in sorted(rows) for row in rows[number]])
    (root / DONE).unlink()


def recorded(root: Path) -> dict[int, list[Row]]:
    """The rows of the patients that an interrupted run finished."""
    rows: dict[int, list[Row]] = {}
    done = root / DONE
    if not done.exists():
        return rows
    lines = done.read_text(encoding="utf-8").split("\n")
    whole = lines[:-1]  # what follows the last newline is a line that was cut short
    for line in whole:
        number, drawn = json.loads(line)
        rows[number] = [Row(**row) for row in drawn]
    done.write_text("".join(line + "\n" for line in whole), encoding="utf-8")
    return rows


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
            rows.append(Row(
                str(where / f"image{i}.png"), study.part, int(study.abnormal), view.name,
                "+".join(view.findings), "+".join("yes" if seen else "no" for seen in view.visible),
            ))  # fmt: skip
    return number, rows


def render_patients(task: tuple[Path, Settings, list[Patient]]) -> list[tuple[int, list[Row]]]:
    root, settings, patients = task
    return [render_patient(root, settings, patient) for patient in patients]


def render_all(
    root: Path, settings: Settings, patients: list[Patient], workers: int | None
) -> Iterator[tuple[int, list[Row]]]:
    """Write the patients' pictures in ``workers`` processes; yields the patients in order."""
    tasks = [
        (root, settings, patients[i : i + PATIENTS_PER_TASK])
        for i in range(0, len(patients), PATIENTS_PER_TASK)
    ]
    workers = min(workers or usable_cores(), max(len(tasks), 1))
    if workers == 1:
        for task in tasks:
            yield from render_patients(task)
        return
    with worker_pool(workers) as pool:
        for drawn in pool.map(render_patients, tasks):
            yield from drawn


def write_tables(root: Path, rows: list[Row]) -> None:
    """MURA's four headerless CSVs, and the truth, which has a header and is written last."""
    order = {part: i for i, part in enumerate(STUDIES["train"])}
    rows = sorted(rows, key=lambda row: (order[row.part], row.path))
    for split in ("train", "valid"):
        mine = [row for row in rows if row.path.startswith(f"{ROOT}/{split}/")]
        studies = dict.fromkeys((f"{PurePosixPath(row.path).parent}/", row.label) for row in mine)
        write_csv(root / f"{split}_image_paths.csv", ((row.path,) for row in mine))
        write_csv(root / f"{split}_labeled_studies.csv", studies)
    header = tuple(field.name for field in fields(Row))
    write_csv(root / TRUTH, [header, *(tuple(asdict(row).values()) for row in rows)])


def write_csv(path: Path, rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
