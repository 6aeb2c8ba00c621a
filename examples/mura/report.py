"""The run folder as one page, report.html.

The page stands alone: images and style are inside it, and it loads and runs nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from examples.mura.breakdown import count, count_patients
from examples.mura.dataset import PARTS, Image
from examples.mura.evaluate import load_metrics
from examples.mura.printed import counted, duration, number, percent, threshold
from examples.mura.records import read_config, read_history
from tinynet.train.checkpoint import write_whole

TEMPLATES = Path(__file__).parent / "templates"
BASELINE_NAMES = {"logistic_regression": "Logistic regression", "majority": "Majority class"}
ENOUGH = 100  # held-out images: the kappa of fewer is known to no better than 0.2 or so
# entries of config.json that the page shows separately
APART = ("command", "data_counts", "versions", "synthetic", "not_for_clinical_use", "settings")


def write_report(folder: Path, run_folder: Path | None = None) -> Path:
    """Write ``folder/report.html`` from the folder's other files; returns its path.

    run_folder   that of the run, if the folder holds a later evaluation of it
    metrics.json and figures/*.png are the folder's, config.json and history.jsonl the run's; only
    the first must be there. Of config.json, "settings", "command" (how to make the run again),
    "versions" and "data_counts" (split -> ``data_counts``) have separate tables.
    Raises UserError if a file cannot be read, CheckpointError if the page cannot be written.
    """
    metrics = load_metrics(folder / "metrics.json")
    run_folder = run_folder or folder
    later = run_folder != folder
    config = read_config(run_folder)
    names = {"computed_on": "evaluated on", "averaged": "average of", "data": "evaluated images"}
    names["test_time_augmentation"] = "test-time augmentation"
    evaluated = {shown: metrics[name] for name, shown in names.items() if name in metrics}
    commands = [config.get("command"), metrics.get("command")]
    held_out = config.get("held_out_images")
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        percent=percent,
        interval=interval,
        threshold=threshold,
        duration=duration,
        counted=counted,
    )
    page = environment.get_template("report.html.j2").render(
        metrics=metrics,
        study=metrics["study"],
        image=metrics["image"],
        synthetic=metrics["synthetic"],
        verdict=verdict(metrics),
        classifiers=list(classifiers(metrics)),
        history=read_history(run_folder),
        figures=load_figures(folder / "figures"),
        counts={} if later else config.get("data_counts", {}),
        command="\n".join(filter(None, commands)),
        held_out="" if held_out is None else too_few(held_out),
        versions=config.get("versions", {}),
        settings=list(flattened(config.get("settings", {}))),
        run=list(flattened({k: v for k, v in config.items() if k not in APART} | evaluated)),
    )
    path = folder / "report.html"
    write_whole(path, page.encode(errors="backslashreplace"))
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


def too_few(held_out: int) -> str:
    """A sentence if too few images are held out to choose an epoch by; "" if there are enough."""
    if held_out >= ENOUGH:
        return ""
    return (
        f"Only {counted(held_out, 'image is', 'images are')} held out to choose the best epoch by: "
        "so few that chance chooses; hold out more with --held-out."
    )


def verdict(metrics: Mapping[str, Any]) -> list[str]:
    study = metrics["study"]
    sentences = [
        f"On {counted(study['n'], 'study', 'studies')} of {counted(study['patients'], 'patient')}, "
        f"the network's calls agree with the labels with a kappa of {interval(study)}, where 0 is "
        "what chance would give and 1 is perfect agreement."
    ]
    if study["kappa_interval"] and study["kappa_interval"][0] <= 0:
        sentences.append("The interval reaches 0: this cannot be told from chance.")
    (_, alarms), (missed, found) = study["confusion_matrix"]
    if study["abnormal"]:
        abnormal = counted(study["abnormal"], "abnormal study", "abnormal studies")
        sentences.append(f"Of {abnormal} it finds {found:,} and misses {missed:,}.")
    if study["normal"]:
        normal = counted(study["normal"], "normal study", "normal studies")
        sentences.append(f"Of {normal} it calls {alarms:,} abnormal.")
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


def interval(scores: Mapping[str, Any]) -> str:
    """Kappa with its interval: 0.64 (0.57 to 0.71)."""
    if scores["kappa_interval"] is None:
        return number(scores["kappa"])
    low, high = scores["kappa_interval"]
    return f"{number(scores['kappa'])} ({number(low)} to {number(high)})"


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
