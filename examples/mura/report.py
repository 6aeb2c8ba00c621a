"""The run folder as one page, report.html.

The page stands alone: images and style are inside it, and it loads and runs nothing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from examples.mura.breakdown import count, count_patients
from examples.mura.dataset import PARTS, Image
from examples.mura.errors import UserError
from examples.mura.evaluate import load_metrics
from tinynet.train.checkpoint import write_whole

TEMPLATES = Path(__file__).parent / "templates"
BASELINE_NAMES = {"logistic_regression": "Logistic regression", "majority": "Majority class"}
# entries of config.json that the page shows separately
APART = ("command", "data_counts", "versions", "synthetic", "not_for_clinical_use", "settings")


def write_report(run_folder: Path) -> Path:
    """Write ``run_folder/report.html`` from the folder's other files; returns its path.

    metrics.json must be there; config.json, history.jsonl and figures/*.png are used if they
    are. Of config.json, "settings", "command" (how to make the run again), "versions" and
    "data_counts" (split -> ``data_counts``) have separate tables.
    Raises UserError if a file cannot be read, CheckpointError if the page cannot be written.
    """
    metrics = load_metrics(run_folder / "metrics.json")
    config = read_json(run_folder / "config.json", {})
    evaluated = {"evaluated on": metrics["computed_on"]} if "computed_on" in metrics else {}
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent, interval=interval)
    page = environment.get_template("report.html.j2").render(
        metrics=metrics,
        study=metrics["study"],
        image=metrics["image"],
        synthetic=metrics["synthetic"],
        verdict=verdict(metrics),
        classifiers=list(classifiers(metrics)),
        history=read_json(run_folder / "history.jsonl", [], json_lines),
        figures=load_figures(run_folder / "figures"),
        counts=config.get("data_counts", {}),
        command=config.get("command"),
        versions=config.get("versions", {}),
        settings=list(flattened(config.get("settings", {}))),
        run=list(flattened({k: v for k, v in config.items() if k not in APART} | evaluated)),
    )
    path = run_folder / "report.html"
    write_whole(path, page.encode())
    return path


def data_counts(images: Iterable[Image]) -> dict[str, Any]:
    """The counts of one split, for config.json's "data_counts".

    {"patients": n, "parts": {"ELBOW": {"studies": [normal, abnormal], "images": [...]}, ...}}
    """
    images = list(images)
    by_part = {part: count(i for i in images if i.part == part) for part in PARTS}
    return {
        "patients": count_patients(images),
        "parts": {
            part: {"studies": list(counts.studies), "images": list(counts.images)}
            for part, counts in by_part.items()
            if sum(counts.images)
        },
    }


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    study = metrics["study"]
    sentences = [
        f"On {study['n']:,} studies of {study['patients']:,} patients, the network's calls agree "
        f"with the labels with a kappa of {interval(study)}, where 0 is what chance would give "
        "and 1 is perfect agreement."
    ]
    if study["kappa_interval"] and study["kappa_interval"][0] <= 0:
        sentences.append("The interval reaches 0: this cannot be told from chance.")
    rates = study["rates"]
    if rates["true_positive_rate"] is not None:
        found = round(100 * rates["true_positive_rate"])
        sentences.append(f"Of 100 abnormal studies it finds {found} and misses {100 - found}.")
    if rates["false_positive_rate"] is not None:
        alarms = round(100 * rates["false_positive_rate"])
        sentences.append(f"Of 100 normal studies it calls {alarms} abnormal.")
    against = [
        comparison(BASELINE_NAMES.get(name, name), baseline["study"])
        for name, baseline in metrics["baselines"].items()
    ]
    return [" ".join(paragraph) for paragraph in (sentences, against) if paragraph]


def comparison(name: str, baseline: Mapping[str, Any]) -> str:
    """By how much the network exceeds a baseline, and whether that could be luck."""
    exceeds = baseline["network_exceeds_by"]
    sentence = f"{name}: kappa {number(baseline['kappa'])}"
    if exceeds["interval"] is None:
        return f"{sentence}."
    low, high = exceeds["interval"]
    difference = f"{number(exceeds['kappa'])} ({number(low)} to {number(high)})"
    if low > 0:
        return f"{sentence}, which the network exceeds by {difference}."
    if high < 0:
        return f"{sentence}, better than the network; its kappa less this one is {difference}."
    return f"{sentence}; the network's less this one is {difference}, which may be luck."


def classifiers(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "The network", metrics
    for name, baseline in metrics["baselines"].items():
        yield BASELINE_NAMES.get(name, name), baseline


def number(value: float | None, digits: int = 2) -> str:
    """0.64; a true minus sign; an en dash for what is undefined."""
    if value is None:
        return "–"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if not float(text) else text.replace("-", "−")


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.0%}"


def interval(scores: Mapping[str, Any]) -> str:
    """Kappa with its interval: 0.64 (0.57 to 0.71)."""
    if scores["kappa_interval"] is None:
        return number(scores["kappa"])
    low, high = scores["kappa_interval"]
    return f"{number(scores['kappa'])} ({number(low)} to {number(high)})"


def read_json(path: Path, default: Any, read: Callable[[str], Any] = json.loads) -> Any:
    if not path.exists():
        return default
    try:
        return read(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; mend it, or delete it") from error


def json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def load_figures(folder: Path) -> dict[str, str]:
    return {
        path.stem: "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()
        for path in sorted(folder.glob("*.png"))
    }


def flattened(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """(name, value) of every setting; the name of an inner one has a dot: model.filters."""
    for name, value in config.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{name}.")
        elif isinstance(value, bool) or value is None:
            yield prefix + name, {True: "yes", False: "no", None: "none"}[value]
        elif isinstance(value, list):
            yield prefix + name, ", ".join(map(str, value))
        else:
            yield prefix + name, str(value)
