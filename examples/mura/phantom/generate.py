"""Write a set of synthetic radiographs in MURA-v1.1's exact layout."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

from PIL import Image
from tqdm import tqdm

from examples.mura.errors import UserError
from examples.mura.phantom.studies import (
    STUDIES,
    draw_studies,
    patient_body,
    take_study,
)

ROOT = "MURA-v1.1"
NOTICE = "SYNTHETIC.txt"
TRUTH = "synthetic_truth.csv"
PATIENTS_PER_TASK = 4

TEXT = """These are synthetic radiographs: drawn by a program, no patient was X-rayed.
They follow the layout of MURA-v1.1 and contain none of its images. Not for clinical use.
"""


@dataclass(frozen=True)
class Settings:
    """What decides every pixel of a set."""

    train_patients: int
    valid_patients: int
    seed: int
    side: int

    def patients(self) -> Iterator[tuple[str, int]]:
        """(split, patient) with ids as in MURA: training first, then validation."""
        for number in range(1, self.train_patients + self.valid_patients + 1):
            yield "train" if number <= self.train_patients else "valid", number


@dataclass(frozen=True)
class Row:
    """One picture's line in the truth file."""

    path: str
    part: str
    label: int
    view: str
    findings: str
    visible: str


def render_patient(root: Path, settings: Settings, split: str, patient: int) -> list[Row]:
    """Write all pictures of one patient."""
    rows = []
    body = patient_body(settings.seed, patient)
    for study in draw_studies(settings.seed, patient, split):
        where = PurePosixPath(ROOT, split, f"XR_{study.part}", f"patient{patient:05d}", study.folder)
        folder = root.parent / where
        folder.mkdir(parents=True, exist_ok=True)
        for number, view in enumerate(take_study(study, body, settings.side), start=1):
            name = f"image{number}.png"
            Image.fromarray(view.pixels).save(folder / name, compress_level=1)
            rows.append(Row(
                str(where / name), study.part, int(study.abnormal), view.name,
                "+".join(view.findings), "+".join("yes" if v else "no" for v in view.visible),
            ))  # fmt: skip
    return rows


def render_patients(task: tuple[Path, Settings, list[tuple[str, int]]]) -> list[list[Row]]:
    root, settings, patients = task
    return [render_patient(root, settings, split, number) for split, number in patients]


def generate(
    folder: Path,
    *,
    train_patients: int,
    valid_patients: int,
    seed: int = 0,
    side: int = 192,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    root = Path(folder) / ROOT
    settings = Settings(train_patients, valid_patients, seed, side)
    if root.exists() and not (root / NOTICE).exists():
        raise UserError(f"{root} holds a MURA-v1.1 that is not synthetic: choose another folder")
    root.mkdir(parents=True, exist_ok=True)
    (root / NOTICE).write_text(TEXT + json.dumps(asdict(settings)) + "\n", encoding="utf-8")
    patients = list(settings.patients())
    tasks = [
        (root, settings, patients[i : i + PATIENTS_PER_TASK])
        for i in range(0, len(patients), PATIENTS_PER_TASK)
    ]
    count = workers or os.cpu_count() or 1
    rows: list[Row] = []
    with tqdm(total=len(patients), unit="patient", disable=not progress) as bar:
        for done in run(tasks, count):
            bar.update(len(done))
            rows += [row for patient in done for row in patient]
    write_tables(root, rows)
    return root


def run(
    tasks: list[tuple[Path, Settings, list[tuple[str, int]]]], workers: int
) -> Iterator[list[list[Row]]]:
    if workers == 1:
        yield from map(render_patients, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(render_patients, tasks)


def write_tables(root: Path, rows: list[Row]) -> None:
    """MURA's four headerless CSVs, and the truth with a header."""
    order = {part: i for i, part in enumerate(STUDIES["train"])}
    rows = sorted(rows, key=lambda row: (order[row.part], row.path))
    for split in ("train", "valid"):
        mine = [row for row in rows if row.path.startswith(f"{ROOT}/{split}/")]
        studies = dict.fromkeys((str(PurePosixPath(r.path).parent) + "/", r.label) for r in mine)
        write_csv(root / f"{split}_image_paths.csv", ((row.path,) for row in mine))
        write_csv(root / f"{split}_labeled_studies.csv", studies)
    header = tuple(asdict(rows[0])) if rows else ()
    write_csv(root / TRUTH, [header, *(tuple(asdict(row).values()) for row in rows)])


def write_csv(path: Path, rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
