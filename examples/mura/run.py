"""A run's folder: its config.json, and the steps that fill the folder.

config.json          settings, data, versions, the command that made it
history.jsonl        a line per epoch
last.safetensors     where training stands      best.safetensors   the best epoch's weights
predictions.csv      probability of each evaluated image
metrics.json         every figure               figures/           the pictures
report.html          all of it, to be read
evaluations/         the last four again, for each later ``evaluate`` in a folder of its name
run.lock             empty; locked while a run fills the folder, left there afterwards
"""

from __future__ import annotations

import itertools
import json
import platform
import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import tinynet
from examples.mura import printed
from examples.mura.averaging import averaged
from examples.mura.baselines import Selected, logistic_regression
from examples.mura.computing import CPU, Computing
from examples.mura.dataset import PARTS, SPLITS, Dataset, Image, read_dataset, split_by_patient
from examples.mura.errors import UserError
from examples.mura.evaluate import Metrics, evaluate, load_metrics, save_metrics
from examples.mura.explain import write_sheet
from examples.mura.figures import write_figures
from examples.mura.model import build_model
from examples.mura.output import as_csv, warn
from examples.mura.prepare import Prepared, cache_name, prepare
from examples.mura.radiographs import Radiographs
from examples.mura.records import MORE, RUN, read_config, read_history, read_record
from examples.mura.report import data_counts, write_report
from examples.mura.settings import Settings
from tinynet.models import Classifier
from tinynet.train.checkpoint import load_checkpoint, write_whole
from tinynet.train.files import LOCK, InUseError, holds_something, locked, remove_half_written

CACHES = Path("data/prepared")
CONFIG = "config.json"


@dataclass(frozen=True)
class Run:
    """A run's folder and the content of its config.json."""

    folder: Path
    settings: Settings
    data: Path
    cache: Path
    synthetic: bool

    @property
    def history(self) -> list[dict[str, Any]]:
        """The rows of history.jsonl; [] before the end of the first epoch."""
        return read_history(self.folder)


def start_run(
    folder: Path,
    settings: Settings,
    data: Path,
    prepared: Prepared,
    command: str,
    more: dict[str, Any],
) -> Run:
    """Write the config.json of a run in ``folder``; ``more`` are further entries."""
    run = Run(folder, settings, data, prepared.folder, prepared.synthetic)
    config = {
        "synthetic": run.synthetic,
        "not_for_clinical_use": True,
        "settings": asdict(settings),
        "data": str(run.data.resolve()),
        "cache": str(run.cache.resolve()),
        "data_counts": {split: data_counts(prepared.split(split)) for split in SPLITS},
        "held_out_images": len(training_rows(prepared, settings)[1]),
        "command": command,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "versions": {
            "tinynet": tinynet.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": f"{platform.system()} {platform.machine()}",
    } | more
    write_whole(folder / CONFIG, json.dumps(config, indent=2).encode())
    return run


@contextmanager
def claimed(folder: Path, numbered: bool) -> Iterator[Path]:
    """An empty folder, locked against other processes to the end of the block.

    numbered   if the folder holds something, take ``folder-2``, ...; False: raise UserError
    """
    place, number = folder, 1
    with ExitStack() as lock:
        while True:
            try:
                if not holds_something(place):
                    lock.enter_context(in_use(place))
                    if not holds_something(place):  # else another process was first, a moment ago
                        break
                    lock.close()
            except InUseError:
                if not numbered:
                    raise
            else:
                if not numbered:
                    raise taken(place)
            number += 1
            place = folder.with_name(f"{folder.name}-{number}")
        yield place


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Lock a run's folder, and remove what kills have left half-written there.

    Raises InUseError if another process has it.
    """
    with locked(folder / LOCK):
        for place in (folder, folder / "figures", folder / "features"):
            remove_half_written(place)
        yield


def evaluation_folder(run: Run, rule: str, threshold: float) -> Path:
    """A new folder in the run's: evaluations/max-0.4, max-0.4-2, ..."""
    folder = run.folder / "evaluations"
    for number in itertools.count(1):
        place = folder / f"{rule}-{printed.threshold(threshold)}{f'-{number}' * (number > 1)}"
        try:
            place.mkdir(parents=True)
            break
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"{place}: {error.strerror}: name another folder with --out") from error
    return place


def taken(folder: Path) -> UserError:
    return UserError(
        f"{folder} is not empty: continue that run with --resume, or name another --run folder"
    )


def open_run(folder: Path) -> Run:
    """The run in ``folder``; raises UserError if there is none or its config is damaged."""
    file = folder / CONFIG
    if not file.exists():
        raise UserError(f"{folder} holds no run (no config.json): give the folder of one")
    config = read_record(file, RUN | MORE)
    try:
        settings = Settings.from_json(config["settings"])
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return Run(folder, settings, Path(config["data"]), Path(config["cache"]), config["synthetic"])


def note_resumed(run: Run, how: Computing, command: str) -> None:
    """Write to config.json what differs as a run goes on: where it is computed, how long.

    "resumed": {"after epoch 3": "cpu, fp32"}; of a run of more epochs, both commands are kept.
    """
    before = read_config(run.folder)
    config = dict(before)
    began = Computing(*(config.get(n, getattr(CPU, n)) for n in ("device", "precision", "gpu")))
    resumed = config.get("resumed", {})
    if [str(began), *resumed.values()][-1] != str(how):
        config["resumed"] = resumed | {f"after epoch {len(run.history)}": str(how)}
    if config["settings"].get("epochs") != run.settings.epochs:
        config["settings"] = config["settings"] | {"epochs": run.settings.epochs}
        config["command"] = "\n".join([*config.get("command", "").splitlines(), command])
    if config != before:
        write_whole(run.folder / CONFIG, json.dumps(config, indent=2).encode())


def prepare_images(
    data: Path,
    settings: Settings,
    *,
    cache: Path | None = None,
    skip_bad: bool = False,
    required: Sequence[str] = SPLITS,
    parts: tuple[str, ...] = PARTS,
    workers: int | None = None,
) -> tuple[Prepared, Dataset]:
    """Read the data folder and prepare its images, or find them prepared; prints warnings.

    required   the splits that must have images, see ``read_dataset``
    """
    side, fit = settings.side, settings.fit
    dataset = read_dataset(data, skip_bad=skip_bad, required=required, parts=parts)
    warn(dataset.warnings)
    cache = cache or CACHES / cache_name(dataset, side, fit)
    prepared = prepare(dataset, cache, side=side, fit=fit, workers=workers, skip_bad=skip_bad)
    warn(prepared.warnings)
    return prepared, dataset


def training_rows(prepared: Prepared, s: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the images trained on, and of those of held-out training patients."""
    train, held_out = split_by_patient(prepared.split("train"), s.held_out, s.seed)
    return prepared.rows(train), prepared.rows(held_out)


def load_model(run: Run) -> Classifier:
    file = run.folder / "best.safetensors"
    if not file.exists():
        raise UserError(
            f"{run.folder} has no best.safetensors yet: train it first, "
            f"python -m examples.mura train --run {run.folder} --resume"
        )
    model = build_model(run.settings)
    load_checkpoint(file, model)
    return model


def load_models(runs: Sequence[Run], how: Computing) -> list[Classifier]:
    """The networks of several runs, on their device.

    Raises UserError for runs whose networks want different images.
    """
    for other in runs[1:]:
        for name in ("side", "fit", "form"):
            wanted, got = (getattr(run.settings, name) for run in (runs[0], other))
            if got != wanted:
                raise UserError(
                    f"{other.folder} was trained with {name} {got}, {runs[0].folder} with {wanted}:"
                    " average runs that take the same images"
                )
    return [how.placed(load_model(run)) for run in runs]


def evaluate_run(
    run: Run,
    prepared: Prepared,
    how: Computing = CPU,
    *,
    rule: str | None = None,
    threshold: float = 0.5,
    baselines: bool | None = None,
    out: Path | None = None,
    root: Path | None = None,
    parts: Collection[str] = PARTS,
    others: Sequence[Run] = (),
    mirror: bool = False,
    command: str = "",
) -> Metrics:
    """Predict the validation images; write predictions, metrics, figures and the report.

    rule, baselines   None: as the run's settings say
    out       folder to write to, None: the run's own, with what its training ends with
    root      MURA-v1.1 of the prepared images, None: the run's
    parts     body parts of the validation images
    others    runs whose probabilities are averaged with this one's
    mirror    average over each image and its mirror image
    command   what was typed, for the report of an evaluation in another folder
    """
    s, folder = run.settings, out or run.folder
    chosen = prepared.split("train"), prepared.split("valid", parts)
    train, valid = map(prepared.rows, chosen)
    if not len(valid):
        raise UserError(
            f"{prepared.folder} has no validation images of {', '.join(parts)}: "
            "give others with --data or --parts"
        )
    if baselines and not len(train):
        raise UserError("the data have no training images for the baselines: add --no-baselines")
    if baselines is None:
        baselines = s.baselines and len(train) > 0
        if s.baselines and not baselines:
            print("no training images: no baselines", file=sys.stderr)
    models = load_models([run, *others], how)
    print(f"evaluating {len(valid):,} validation images", file=sys.stderr)
    data = Radiographs(prepared, valid, None, s.form)
    probability = averaged(models, data, mirror, how.precision)
    images = data.images
    metrics = evaluate(
        probability,
        images,
        rule=rule or s.rule,
        threshold=threshold,
        synthetic=run.synthetic or prepared.synthetic or any(other.synthetic for other in others),
        baselines=baseline_probabilities(prepared, train, valid) if baselines else None,
    )
    metrics |= {"computed_on": str(how)}
    if others:
        metrics["averaged"] = ", ".join(str(one.folder) for one in (run, *others))
    if mirror:
        metrics["test_time_augmentation"] = "mean over each image and its mirror image"
    if out:
        metrics |= {"data": str(prepared.folder), "command": command}
    save_predictions(folder / "predictions.csv", images, probability, metrics["synthetic"])
    save_metrics(folder / "metrics.json", metrics)
    root = root or run.data
    write_figures(folder, run.history, metrics, probability, data, root)
    if not others:
        write_sheet(folder, models[0], data, probability, root)
    write_report(folder, run.folder)
    return load_metrics(folder / "metrics.json")


def baseline_probabilities(
    prepared: Prepared, train: np.ndarray, valid: np.ndarray
) -> dict[str, np.ndarray]:
    """Probabilities of the majority class and of a logistic regression on the same pixels."""
    print("fitting the logistic-regression baseline", file=sys.stderr)
    labels = prepared.labels[train]
    patients = [prepared.images[i].patient for i in train]
    fitted = logistic_regression(
        Selected(prepared.pixels, train), labels, patients, Selected(prepared.pixels, valid)
    )
    return {
        # the share of abnormal training images, always: at the threshold 0.5 its kappa is 0
        "majority": np.full(len(valid), np.mean(labels)),
        "logistic_regression": fitted.probability,
    }


def save_predictions(
    file: Path, images: Sequence[Image], probability: np.ndarray, synthetic: bool
) -> None:
    notice = ("synthetic, " if synthetic else "") + "not for clinical use"
    rows: list[list[object]] = [["path", "label", "probability", "notice"]]
    for image, p in zip(images, probability, strict=True):
        rows.append([str(image.path), image.label, f"{p:.6f}", notice])
    write_whole(file, as_csv(rows))
