"""Probabilities for any files: per image, and per study.  Report §5.4.

Files that lie in one folder are the views of one study, as in MURA
(``.../patient11185/study1_positive/``); ``separate`` makes every file a study of its own.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.mura.augment import normalise
from examples.mura.decode import BadImage, Fit, read_square
from examples.mura.errors import UserError
from examples.mura.inputs import GREY, InputForm
from examples.mura.layout import SUFFIXES
from examples.mura.studies import RULES, combine
from tinynet.train import predict
from tinynet.train.checkpoint import write_whole

AT_ONCE = 256
CALLS = {True: "abnormal", False: "normal"}
NOTICE = "not for clinical use"
COLUMNS = (
    "file",
    "probability",
    "study",
    "views",
    "study_probability",
    "study_abnormal",
    "notice",
)
SYNTHETIC_NOTICE = "trained on synthetic radiographs; not for clinical use"

EXPLAINED = ".explained.png"  # how the names of the pictures end that ``explain`` makes


@dataclass(frozen=True)
class Study:
    """One study: its folder (or file), its probability and call, its views' probabilities."""

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
        """What every output says."""
        return SYNTHETIC_NOTICE if self.synthetic else NOTICE


def predict_files(
    model: Any,
    loss: Any,
    files: Iterable[str | os.PathLike[str]],
    *,
    side: int,
    fit: Fit,
    rule: str = "mean",
    threshold: float = 0.5,
    separate: bool = False,
    synthetic: bool,
    form: InputForm = GREY,
    precision: str = "fp32",
) -> Predictions:
    """Probability of being abnormal for each file and each study.

    files       images, or folders that are searched for them
    side, fit   as the model's training images were prepared
    rule, threshold   as in ``studies.study_probabilities``
    separate    every file is a study, whatever its folder
    synthetic   whether the model was trained on synthetic radiographs
    form        what the model takes
    precision   on a GPU, see ``tinynet.engine.precision``
    Raises UserError, naming the file, for what is missing or is no image.
    """
    found = find_images(files)
    names = [str(path if separate else path.parent) for path in found]
    places = [path.resolve() if separate else path.resolve().parent for path in found]
    number: dict[Path, int] = {}
    index = np.array([number.setdefault(place, len(number)) for place in places])

    p = image_probabilities(model, loss, found, side, fit, form, precision)
    score, abnormal = combine(p, index, rule, threshold)
    studies = []
    for k in range(len(number)):
        rows = np.flatnonzero(index == k).tolist()
        views = [(found[i], float(p[i])) for i in rows]
        studies.append(Study(names[rows[0]], float(score[k]), bool(abnormal[k]), views))
    return Predictions(studies, rule, threshold, synthetic)


def find_images(files: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Every file once, in the order given; a folder stands for the images below it, sorted.

    Pictures that ``explain`` left in a folder are no radiographs, and passed over.
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
    model: Any,
    loss: Any,
    files: list[Path],
    side: int,
    fit: Fit,
    form: InputForm = GREY,
    precision: str = "fp32",
) -> NDArray[np.float64]:
    """Probability (n,) of each file being abnormal; a few hundred are in memory at a time."""
    chunks = []
    for start in range(0, len(files), AT_ONCE):
        pixels = np.stack([decode(path, side, fit) for path in files[start : start + AT_ONCE]])
        x = form(normalise(pixels))
        chunks.append(predict(model, loss, x, precision=precision)[:, 1])
    return np.concatenate(chunks).astype(np.float64)


def decode(path: Path, side: int, fit: Fit) -> NDArray[np.uint8]:
    """The file as the network's training images were prepared, (side, side)."""
    try:
        return read_square(path, side, fit)
    except BadImage as error:
        raise UserError(f"{path} {error}: give PNG or JPEG images") from error


def as_table(predictions: Predictions) -> str:
    """The predictions as text: a line per study, and below it a line per view."""
    rows = []
    for study in predictions.studies:
        rows.append((study.name, f"{study.probability:.3f}", CALLS[study.abnormal]))
        if study.views[0][0] != Path(study.name):
            rows += [(f"    {path.name}", f"{p:.3f}", "") for path, p in study.views]
    width = max(len(name) for name, *_ in rows)
    lines = [f"{'study':<{width}}  probability of abnormal"]
    lines += [f"{name:<{width}}  {p}  {call}".rstrip() for name, p, call in rows]
    return "\n".join(
        [
            *lines,
            "Files of one folder are views of one study. "
            f"Its probability: {RULES[predictions.rule]} ({predictions.threshold:g}).",
            predictions.notice[0].upper() + predictions.notice[1:] + ".",
        ]
    )


def write_csv(predictions: Predictions, path: Path) -> None:
    """A row per image with its study's probability and decision.

    Written whole or not at all; raises CheckpointError if it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for study in predictions.studies:
        whole = (study.name, len(study.views), f"{study.probability:.6f}", int(study.abnormal))
        for file, p in study.views:
            writer.writerow([file, f"{p:.6f}", *whole, predictions.notice])
    write_whole(path, text.getvalue().encode())
