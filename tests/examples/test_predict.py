"""Predictions for files: which of them make a study, what is printed, what is refused."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.mura.errors import UserError
from examples.mura.predict import as_table, find_images, predict_files, write_csv
from examples.mura.settings import Settings
from tinynet.layer import EVAL, Layer
from tinynet.train.checkpoint import CheckpointError


class Brightness(Layer):
    """A network whose probability of abnormal is the image's mean grey, 0 to 1."""

    def forward(self, x, mode=EVAL):
        grey = (x.mean(axis=(1, 2, 3)) * 0.25 + 0.5).clip(1e-6, 1 - 1e-6)
        return np.log(np.stack([1 - grey, grey], axis=1)), None


def draw(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30), round(255 * grey), np.uint8)).save(path)
    return path


def predicted(*files, **options):
    return predict_files(Brightness(), files, Settings(side=8), **({"synthetic": True} | options))


@pytest.fixture
def folder(tmp_path):
    """Two studies in MURA's layout, and two files in one folder beside them."""
    wrist = tmp_path / "MURA-v1.1/valid/XR_WRIST/patient11185"
    draw(wrist / "study1_positive/image1.png", 0.9)
    draw(wrist / "study1_positive/image2.png", 0.3)
    draw(wrist / "study2_negative/image1.png", 0.2)
    draw(tmp_path / "scans/a.png", 0.4)
    draw(tmp_path / "scans/b.jpg", 0.8)
    (wrist / "study1_positive/._image2.png").write_bytes(b"left by another system")
    (tmp_path / "scans/notes.txt").write_text("no image")
    return tmp_path


def test_files_of_one_folder_are_one_study(folder, monkeypatch):
    whole = predicted(folder / "MURA-v1.1", folder / "scans")
    studies = whole.studies
    assert [Path(s.name).name for s in studies] == ["study1_positive", "study2_negative", "scans"]
    assert [len(s.views) for s in studies] == [2, 1, 2]
    assert [s.probability for s in studies] == pytest.approx([0.6, 0.2, 0.6], abs=0.01)
    assert [s.abnormal for s in studies] == [True, False, True]
    assert [p for _, p in studies[0].views] == pytest.approx([0.9, 0.3], abs=0.01)
    monkeypatch.setattr("examples.mura.predict.AT_ONCE", 2)
    assert predicted(folder / "MURA-v1.1", folder / "scans") == whole


def test_separate_files_rule_and_threshold(folder):
    studies = predicted(folder / "scans", separate=True).studies
    assert [Path(s.name).name for s in studies] == ["a.png", "b.jpg"]
    assert [s.abnormal for s in studies] == [False, True]
    study = folder / "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive"
    assert predicted(study, rule="max").studies[0].probability == pytest.approx(0.9, abs=0.01)
    assert not predicted(study, threshold=0.7).studies[0].abnormal


def test_order_given_is_kept_and_a_file_counts_once(folder):
    b, a = folder / "scans/b.jpg", folder / "scans/a.png"
    a.with_name("a.explained.png").write_bytes(a.read_bytes())  # which ``explain`` left
    assert find_images([b, a, folder / "scans", folder / "scans/../scans/a.png"]) == [b, a]


def test_table(folder):
    lines = as_table(predicted(folder / "scans")).splitlines()
    assert [line.split() for line in lines[1:4]] == [
        [str(folder / "scans"), "0.600", "abnormal"], ["a.png", "0.400"], ["b.jpg", "0.800"],
    ]  # fmt: skip
    assert "Files of one folder are views of one study" in lines[4]
    assert lines[-1] == "Trained on synthetic radiographs; not for clinical use."
    alone = as_table(predicted(folder / "scans", separate=True, synthetic=False))
    assert len(alone.splitlines()) == 1 + 2 + 2
    assert alone.endswith("\nNot for clinical use.")


def test_csv(folder):
    predictions, file = predicted(folder / "MURA-v1.1"), folder / "out.csv"
    write_csv(predictions, file)
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [Path(row["file"]).name for row in rows] == ["image1.png", "image2.png", "image1.png"]
    assert [float(row["probability"]) for row in rows] == pytest.approx([0.9, 0.3, 0.2], abs=0.01)
    assert [row["study_abnormal"] for row in rows] == ["1", "1", "0"]
    assert [row["views"] for row in rows] == ["2", "2", "1"]
    notice = "trained on synthetic radiographs; not for clinical use"
    assert {row["notice"] for row in rows} == {notice}
    with pytest.raises(CheckpointError, match=r"out\.csv"):
        write_csv(predictions, folder / "scans/a.png/out.csv")


def test_what_is_not_an_image_is_named(tmp_path):
    with pytest.raises(UserError, match=r"holds no \.png, \.jpg, \.jpeg"):
        predicted(tmp_path)
    with pytest.raises(UserError, match="no files were given"):
        predicted()
    with pytest.raises(UserError, match="no such file: .*missing.png"):
        predicted(tmp_path / "missing.png")
    (tmp_path / "words.png").write_bytes(b"these are words")
    with pytest.raises(UserError, match=r"words.png is not an image: give PNG or JPEG images$"):
        predicted(tmp_path / "words.png")
