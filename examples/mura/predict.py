"""Probabilities for any files: per image, and per study.  Report §5.4.

Files in one folder are the views of one study, as in MURA
(``.../patient11185/study1_positive/``); ``separate`` makes every file a separate study.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.mura import printed
from examples.mura.augment import normalise
from examples.mura.averaging import averaged
from examples.mura.dataset import SUFFIXES
from examples.mura.decode import BadImage, read_square
from examples.mura.errors import UserError
from examples.mura.settings import Settings
from examples.mura.studies import RULES, above, combine
from tinynet.layer import Layer
from tinynet.train.checkpoint import write_whole

AT_ONCE = 256
COLUMNS = ["file", "probability", "study", "views", "study_probability", "study_abnormal", "notice"]
EXPLAINED = ".explained.png"  # how the names of the pictures end that ``explain`` makes


@dataclass(frozen=True)
class Study:
    """One study: its folder (or file), its probability and decision, its views' probabilities."""

    name: str
    probability: float
    abnormal: bool
    views: list[tuple[Path, float]]


@dataclass(frozen=True)
class Predictions:
    """The studies in the order given, and how they were decided."""

    studies: list[Study]
    rule: str
    threshold: float
    synthetic: bool

    @property
    def notice(self) -> str:
        trained = "trained on synthetic radiographs; " if self.synthetic else ""
        return f"{trained}not for clinical use"


def predict_files(
    model: Layer | Sequence[Layer],
    files: Iterable[str | os.PathLike[str]],
    settings: Settings,
    *,
    mirror: bool = False,
    rule: str | None = None,
    threshold: float = 0.5,
    separate: bool = False,
    synthetic: bool,
    precision: str = "fp32",
) -> Predictions:
    """Return the probability of being abnormal of each file and each study.

    model       a network, or several whose probabilities are averaged
    files       images, or folders that are searched for them
    settings    of the model's run: how its images are prepared, its rule
    mirror      average over each image and its mirror image
    rule, threshold   as in ``studies.study_cases``; None: the settings' rule
    separate    every file is a study, whatever its folder
    synthetic   whether the model was trained on synthetic radiographs
    precision   on a GPU, one of ``tinynet.engine.precision.PRECISIONS``
    Raises UserError, naming the file, for one that is missing or not an image.
    """
    rule = rule or settings.rule
    found = find_images(files)
    names = [str(path if separate else path.parent) for path in found]
    places = [path.resolve() if separate else path.resolve().parent for path in found]
    number: dict[Path, int] = {}
    index = np.array([number.setdefault(place, len(number)) for place in places])

    models = [model] if isinstance(model, Layer) else model
    p = image_probabilities(models, found, settings, mirror, precision)
    score = combine(p, index, rule)
    abnormal = above(score, threshold)
    studies = []
    for k in range(len(number)):
        rows = np.flatnonzero(index == k).tolist()
        views = [(found[i], float(p[i])) for i in rows]
        studies.append(Study(names[rows[0]], float(score[k]), bool(abnormal[k]), views))
    return Predictions(studies, rule, threshold, synthetic)


def find_images(files: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Every file once, in the order given; a folder stands for the images below it, sorted.

    The pictures that ``explain`` leaves in a folder are passed over.
    """
    found: dict[Path, Path] = {}
    for name in files:
        path = Path(name)
        if path.is_dir():
            inside = [
                p
                for p in sorted(path.rglob("*"))
                if p.suffix.lower() in SUFFIXES
                and not p.name.startswith(".")
                and not p.name.endswith(EXPLAINED)
            ]
            if not inside:
                raise UserError(
                    f"{path} holds no {', '.join(SUFFIXES)}: give images, or their folder"
                )
        elif path.exists():
            inside = [path]
        else:
            raise UserError(f"no such file: {path}: give images, or folders that hold them")
        for p in inside:
            found.setdefault(p.resolve(), p)
    if not found:
        raise UserError("no files were given: name images, or folders that hold them")
    return list(found.values())


def image_probabilities(
    models: Sequence[Layer], files: list[Path], settings: Settings, mirror: bool, precision: str
) -> NDArray[np.float64]:
    """Probability (n,) of each file being abnormal; a few hundred are in memory at a time."""
    chunks = []
    for start in range(0, len(files), AT_ONCE):
        x = settings.form(normalise(decoded(files[start : start + AT_ONCE], settings)))
        chunks.append(averaged(models, x, mirror, precision))
    return np.concatenate(chunks)


def decoded(files: list[Path], settings: Settings) -> NDArray[np.uint8]:
    """The files as the network's training images were prepared, (n, side, side)."""
    squares = []
    for path in files:
        try:
            squares.append(read_square(path, settings.side, settings.fit))
        except BadImage as error:
            raise UserError(f"{path} {error}: give PNG or JPEG images") from error
    return np.stack(squares)


def as_table(predictions: Predictions) -> str:
    rows = []
    for study in predictions.studies:
        call = "abnormal" if study.abnormal else "normal"
        rows.append((study.name, f"{study.probability:.3f}", call))
        if study.views[0][0] != Path(study.name):
            rows += [(f"    {path.name}", f"{p:.3f}", "") for path, p in study.views]
    width = max(len(name) for name, *_ in rows)
    lines = [f"{'study':<{width}}  probability of abnormal"]
    lines += [f"{name:<{width}}  {p}  {call}".rstrip() for name, p, call in rows]
    lines.append(
        "Files of one folder are views of one study. "
        f"Its probability: {RULES[predictions.rule]}; abnormal above "
        f"{printed.threshold(predictions.threshold)}."
    )
    lines.append(predictions.notice[0].upper() + predictions.notice[1:] + ".")
    return "\n".join(lines)


def write_csv(predictions: Predictions, path: Path) -> None:
    """A row per image with its study's probability and decision.

    Written whole or not at all; raises CheckpointError if it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for study in predictions.studies:
        whole = (study.name, len(study.views), f"{study.probability:.6f}", int(study.abnormal))
        writer.writerows([file, f"{p:.6f}", *whole, predictions.notice] for file, p in study.views)
    write_whole(path, text.getvalue().encode())
