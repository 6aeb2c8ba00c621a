"""Figures and the report of a small run: all there, self-contained, and honest about what it is."""

import json
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as Pillow

from examples.mura.dataset import Image
from examples.mura.errors import UserError
from examples.mura.evaluate import evaluate, save_metrics
from examples.mura.figures import different_studies, measures, write_figures
from examples.mura.printed import duration, number, percent
from examples.mura.report import comparison, data_counts, flattened, interval, write_report
from examples.mura.studies import image_cases
from tests.examples.test_evaluate import drawn

VOID = {"meta", "img", "br", "link", "input", "hr", "source"}
HISTORY = [
    {
        "epoch": k,
        "train_loss": 1 / k,
        "validation_loss": 0.5 + abs(k - 2),
        "train_accuracy": 0.6,
        "validation_accuracy": None,
        "learning_rate": 1e-3,
        "seconds": 1.0,
    }
    for k in (1, 2, 3)
]
FIGURES = {
    *("curves_loss", "curves_accuracy", "kappa_by_part", "confusion_image", "confusion_study"),
    *("roc", "roc_by_part", "reliability", "examples"),
}


class Page(HTMLParser):
    """Reads a page, and fails where a tag is not closed or closed twice."""

    def __init__(self, file):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def make_run(folder, images=None):
    """A run folder with everything but the report, and figures of an earlier evaluation."""
    (folder / "figures").mkdir()
    (folder / "figures/roc.png").write_bytes(b"")
    p, everything = drawn(30, seed=0)
    images = images or everything
    p = p[: len(images)]
    rng = np.random.default_rng(0)
    baselines = {"majority": np.full(len(p), 0.4), "logistic_regression": rng.random(len(p))}
    metrics = evaluate(p, images, synthetic=True, baselines=baselines)
    pixels = rng.integers(0, 256, (len(p), 16, 16), np.uint8)
    data = SimpleNamespace(images=images, pixels=pixels.__getitem__)
    save_metrics(folder / "metrics.json", metrics)
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in HISTORY))
    config = {
        "command": "python -m examples.mura demo --name '<b>&'",
        "settings": {"filters": [16, 32], "batch_norm": True, "patience": None},
        "versions": {"tinynet": "0.1.0"},
        "data_counts": {"train": data_counts(images), "valid": data_counts(images)},
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_figures(folder, HISTORY, metrics, p, data)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("run"))
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(run):
    return Page(run / "report.html")


def test_every_figure_is_there_and_legible(run):
    assert {path.stem for path in (run / "figures").iterdir()} == FIGURES
    for path in (run / "figures").iterdir():
        with Pillow.open(path) as image:
            grey = np.asarray(image.convert("L"))
        assert min(grey.shape) > 400
        assert grey.std() > 5
        for edge in (grey[0], grey[-1], grey[:, 0], grey[:, -1]):
            assert edge.min() > 250, f"{path.name}: a label is cut off"


def test_the_page_is_well_formed_and_stands_alone(run, page):
    text = (run / "report.html").read_text(encoding="utf-8")
    assert text.startswith("<!DOCTYPE html>")
    images = [attrs for tag, attrs in page.tags if tag == "img"]
    assert len(images) == len(FIGURES)
    assert all(str(attrs["src"]).startswith("data:image/png;base64,") for attrs in images)
    assert all(attrs["alt"] for attrs in images)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "source"}
    assert not re.search(r"http|url\(|@import", re.sub(r"base64,[^\"]*", "", text))
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    links = [str(attrs["href"]) for tag, attrs in page.tags if tag == "a"]
    assert len(ids) == len(set(ids))
    assert links
    assert {link.removeprefix("#") for link in links} <= set(ids)


def test_the_page_says_what_it_is(page):
    assert page.text.count("Not for clinical use") >= 2
    assert "Synthetic radiographs." in page.text
    assert "Synthetic is not real" in page.text
    assert "ynthetic" in page.text.split("Normal or abnormal?")[0]  # in the title too


def test_the_page_has_the_result_and_how_to_make_it_again(run, page):
    metrics = json.loads((run / "metrics.json").read_text())
    assert f"a kappa of {interval(metrics['study'])}" in page.text
    for part, levels in metrics["parts"].items():
        assert part.capitalize() in page.text
        assert interval(levels["study"]) in page.text
        assert interval(levels["image"]) in page.text
    for words in (
        "Majority class",
        "Logistic regression",
        "python -m examples.mura demo --name '<b>&'",  # escaped on the page, whole when read
        "16, 32",
        "TP / (TP + FN)",
        "FP / (TN + FP)",
        "plates or screws are labelled normal",
        "Training: 30 patients",
        "Validation: 30 patients",
    ):
        assert words in page.text


def test_metrics_of_real_data_alone_make_a_report(run, tmp_path):
    metrics = json.loads((run / "metrics.json").read_text())
    save_metrics(tmp_path / "metrics.json", metrics | {"synthetic": False})
    page = Page(write_report(tmp_path))
    assert "ynthetic" not in page.text
    assert "Not for clinical use" in page.text
    assert "best of three radiologists" in page.text
    assert "What was evaluated: 30 patients" in page.text
    assert "img" not in {tag for tag, _ in page.tags}


def test_one_class_and_one_patient_make_a_report_too(tmp_path):
    make_run(tmp_path, [Image("valid", "HAND", "patient1", "study1_negative", "image1.png", 0)])
    assert not (tmp_path / "figures/roc.png").exists()
    page = Page(write_report(tmp_path))
    assert "only normal cases: no ROC curve" in page.text
    assert "None" not in page.text
    assert "nan" not in page.text.lower().split()


def test_one_body_part_is_not_shown_twice(tmp_path):
    make_run(tmp_path, [image for image in drawn(30, seed=0)[1] if image.part == "HAND"])
    page = Page(write_report(tmp_path))
    assert not (tmp_path / "figures/roc_by_part.png").exists()
    assert "Hand" in page.words
    assert "All" not in page.words
    assert "a difference between two parts" not in page.text
    assert "3 epochs, 3 s." in page.text


def test_legends_and_notices_cover_nothing(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
    make_run(tmp_path)
    legends = 0
    for figure in figures:
        figure.draw_without_rendering()
        for ax in figure.axes:
            if legend := ax.get_legend():
                legends += 1
                assert not legend.get_window_extent().overlaps(ax.get_window_extent())
        notice = figure._supxlabel.get_window_extent()
        assert not any(ax.get_tightbbox().overlaps(notice) for ax in figure.axes)
    assert legends >= 5


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("history.jsonl", "null", "row 1 is null, want names and values"),
        ("history.jsonl", '{"epoch": true}', "row 1.epoch is true, want a whole number"),
        ("history.jsonl", '{"epoch": 1, "train_loss": "low"}', "row 1.train_loss is"),
        ("history.jsonl", '{"epoch": 1, "train_loss": NaN}', "NaN"),
        ("config.json", "[]", "it is [], want names and values"),
        ("config.json", "[" * 10_000, "nested too deeply"),
        ("config.json", '{"versions": []}', "versions is [], want names and values"),
        ("config.json", '{"data_counts": {"train": 3}}', "data_counts.train is 3"),
        ("metrics.json", '{"synthetic": 1}', "synthetic is 1, want true or false"),
    ],
)
def test_damaged_files_are_one_line(file, text, said, run, tmp_path):
    shutil.copy(run / "metrics.json", tmp_path)
    (tmp_path / file).write_text(text)
    with pytest.raises(UserError) as error:
        write_report(tmp_path)
    assert file in str(error.value)
    if file != "metrics.json":
        assert said in str(error.value)
    assert not (tmp_path / "report.html").exists()


def test_missing_or_broken_files_are_named(run, tmp_path):
    with pytest.raises(UserError, match=r"metrics\.json"):
        write_report(tmp_path)
    shutil.copy(run / "metrics.json", tmp_path)
    (tmp_path / "history.jsonl").write_text('{"epoch": 1')
    with pytest.raises(UserError, match=r"history\.jsonl cannot be read"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_sheet_shows_each_study_once():
    p, images = drawn(30, seed=0)
    cases = image_cases(p, images)
    members = np.flatnonzero(cases.abnormal)
    chosen = different_studies(cases, members, seed=0)
    assert len({images[i].study_key for i in chosen}) == len(chosen) == 6
    assert set(chosen) <= set(members.tolist())


def test_measures_and_numbers():
    assert measures(HISTORY) == ["loss", "accuracy"]
    numbers = (0.644, -0.1, -0.001, 0.9991, 0.99996, 0.0, 1.0, 1 - 1e-12, None)
    assert [number(v) for v in numbers] == [
        *("0.64", "−0.10", "−0.001", "0.999", "0.99996", "0.00", "1.00", "1.00", "–"),
    ]
    shares = (0.644, 0.996, 0.004, 1.0, 0.0, None)
    assert [percent(v) for v in shares] == ["64%", "99.6%", "0.4%", "100%", "0%", "–"]
    assert [duration(v) for v in (0.04, 8, 59.7, 198, 7500)] == [
        *("0.04 s", "8 s", "1 min 0 s", "3 min 18 s", "2 h 5 min"),
    ]
    nested = {"a": 1, "b": {"c": False, "d": [1, 2]}, "e": None}
    assert list(flattened(nested)) == [("a", "1"), ("b.c", "no"), ("b.d", "1, 2"), ("e", "none")]


@pytest.mark.parametrize(
    ("kappa", "low", "high", "words"),
    [
        (0.4, 0.3, 0.5, "which the network exceeds by 0.40 (0.30 to 0.50)"),
        (-0.4, -0.5, -0.3, "better than the network"),
        (0.1, -0.1, 0.3, "may be luck"),
    ],
)
def test_comparison_in_words(kappa, low, high, words):
    exceeds = {"kappa": kappa, "interval": [low, high]}
    assert words in comparison("Coin", {"kappa": 0.2, "network_exceeds_by": exceeds})
