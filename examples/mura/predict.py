"""Probabilities for any files: per image, and per study.  Report §5.4.

Files in one folder are the views of one study, as in MURA
(``.../patient11185/study1_positive/``); ``separate`` makes every file a separate study.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.mura import printed
from examples.mura.augment import normalise
from examples.mura.averaging import averaged
from examples.mura.dataset import Pictures, some
from examples.mura.decode import SUFFIXES, BadImage, nearly_constant, read_square
from examples.mura.errors import UserError
from examples.mura.output import as_csv, shown
from examples.mura.settings import Settings
from examples.mura.studies import RULES, above, combine
from tinynet.layer import Layer
from tinynet.train.checkpoint import write_whole

AT_ONCE = 256
COLUMNS = ["file", "probability", "study", "views", "study_probability", "study_abnormal", "notice"]


@dataclass
class Notes:
    """What is to be said of the files: those that cannot be used, and what else was noticed."""

    bad: list[str] = field(default_factory=list)  # "FILE is truncated", a line each
    warnings: list[str] = field(default_factory=list)


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
    notes: Notes = field(default_factory=Notes)

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
    A file that is missing or not an image is left out, and named in ``Predictions.notes``; raises
    UserError, naming it, if there is no other.
    """
    rule = rule or settings.rule
    notes = Notes()
    models = [model] if isinstance(model, Layer) else model
    found = find_images(files, notes)
    found, p = image_probabilities(models, found, settings, mirror, precision, notes)
    names = [str(path if separate else path.parent) for path in found]
    # of a link its own folder counts: what it leads to may be a pool of all the images
    places = [(path if separate else path.parent).resolve() for path in found]
    number: dict[Path, int] = {}
    index = np.array([number.setdefault(place, len(number)) for place in places])

    score = combine(p, index, rule)
    abnormal = above(score, threshold)
    studies = []
    for k in range(len(number)):
        rows = np.flatnonzero(index == k).tolist()
        views = [(found[i], float(p[i])) for i in rows]
        studies.append(Study(names[rows[0]], float(score[k]), bool(abnormal[k]), views))
    return Predictions(studies, rule, threshold, synthetic, notes)


def find_images(files: Iterable[str | os.PathLike[str]], notes: Notes | None = None) -> list[Path]:
    """Every file once, in the order given; a folder stands for the images below it, sorted.

    notes   what is missing or was passed over is added to it
    Raises UserError if no image is found.
    """
    notes = notes or Notes()
    found: dict[str, Path] = {}
    for name in files:
        path = Path(name)
        inside = [path]
        if not os.fspath(name):  # else the working folder, which was not named
            notes.bad.append("a file's name is empty")
            continue
        if os.path.isdir(path):
            pictures = Pictures()
            inside = list(pictures.below(path))
            notes.warnings += pictures.passed_over()
            notes.bad += pictures.unread
            if not inside and not pictures.unread:
                notes.bad.append(f"{path} holds no {', '.join(SUFFIXES)}")
        elif not os.path.exists(path):
            what = "a link to what is not there" if path.is_symlink() else "no such file"
            notes.bad.append(f"{what}: {path}")
            continue
        for p in inside:
            first = found.setdefault(os.path.realpath(p), p)
            if os.path.abspath(first) != os.path.abspath(p):
                notes.warnings.append(f"passed over {p}, a link to what is there already: {first}")
    if not found:
        said = some(notes.bad) if notes.bad else "no files were given"
        raise UserError(f"{said}: name images, or folders that hold them")
    return list(found.values())


def image_probabilities(
    models: Sequence[Layer],
    files: list[Path],
    settings: Settings,
    mirror: bool,
    precision: str,
    notes: Notes,
) -> tuple[list[Path], NDArray[np.float64]]:
    """The files that can be decoded, and the probability (n,) of each being abnormal.

    A few hundred are in memory at a time.
    """
    good: list[Path] = []
    chunks = []
    for start in range(0, len(files), AT_ONCE):
        some_files, pixels = decoded(files[start : start + AT_ONCE], settings, notes)
        if some_files:
            x = settings.form(normalise(pixels))
            chunks.append(averaged(models, x, mirror, precision))
            good += some_files
    refuse_none(good, notes)
    return good, np.concatenate(chunks)


def decoded(
    files: list[Path], settings: Settings, notes: Notes
) -> tuple[list[Path], NDArray[np.uint8]]:
    """The files that can be decoded, and their (n, side, side) as the network was trained on."""
    good, squares = [], []
    for path in files:
        try:
            square = read_square(path, settings.side, settings.fit)
        except BadImage as error:
            notes.bad.append(f"{path} {error}")
            continue
        if nearly_constant(square):
            notes.warnings.append(f"{path} is nearly constant: look at it")
        good.append(path)
        squares.append(square)
    return good, np.array(squares)


def refuse_none(good: list[Path], notes: Notes) -> None:
    if not good:
        raise UserError(f"{some(notes.bad)}: give other images")


def refuse_to_overwrite(table: Path) -> None:
    """Raise UserError for a file that is there and is not a table that ``predict`` wrote."""
    if table.is_file():
        with table.open("rb") as stream:
            ours = stream.readline(1000).decode(errors="replace").strip() == ",".join(COLUMNS)
        if ours:
            return
    if table.exists() or table.is_symlink():
        raise UserError(
            f"--csv {table} is there and is not a table of predict: give the name of a new file"
        )


def as_table(predictions: Predictions) -> str:
    rows = []
    for study in predictions.studies:
        call = "abnormal" if study.abnormal else "normal"
        rows.append((shown(study.name), printed.plain(study.probability), call))
        if study.views[0][0] != Path(study.name):
            rows += [(f"    {shown(path.name)}", printed.plain(p), "") for path, p in study.views]
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
    rows: list[list[object]] = [[*COLUMNS]]
    for study in predictions.studies:
        whole = (study.name, len(study.views), f"{study.probability:.6f}", int(study.abnormal))
        rows += [[str(file), f"{p:.6f}", *whole, predictions.notice] for file, p in study.views]
    write_whole(path, as_csv(rows))
