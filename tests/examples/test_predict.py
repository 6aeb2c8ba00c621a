"""Predictions for files: which of them make a study, what is printed, what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.mura.errors import UserError
from examples.mura.predict import as_table, find_images, predict_files, write_csv
from tinynet.layer import EVAL, Layer
from tinynet.losses import SoftmaxCrossEntropy
from tinynet.train.checkpoint import CheckpointError


class Brightness(Layer):
    """A network whose probability of abnormal is the image's mean grey, 0 to 1."""

    def forward(self, x, mode=EVAL):
        grey = (x.mean(axis=(1, 2, 3)) * 0.25 + 0.5).clip(1e-6, 1 - 1e-6)
        return np.log(np.stack([1 - grey, grey], axis=1)), None


def draw(path: Path, grey: float) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 30), round(255 * grey), np.uint8)).save(path)
    return path


def predicted(*files: Path, **options):
    settings = {"side": 8, "fit": "stretch", "synthetic": True} | options
    return predict_files(Brightness(), SoftmaxCrossEntropy(), files, **settings)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
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


def test_files_of_one_folder_are_one_study(folder: Path) -> None:
    studies = predicted(folder / "MURA-v1.1", folder / "scans").studies
    assert [Path(s.name).name for s in studies] == ["study1_positive", "study2_negative", "scans"]
    assert [len(s.views) for s in studies] == [2, 1, 2]
    assert [s.probability for s in studies] == pytest.approx([0.6, 0.2, 0.6], abs=0.01)
    assert [s.abnormal for s in studies] == [True, False, True]
    assert [p for _, p in studies[0].views] == pytest.approx([0.9, 0.3], abs=0.01)


def test_separate_files_are_studies_of_their_own(folder: Path) -> None:
    studies = predicted(folder / "scans", separate=True).studies
    assert [Path(s.name).name for s in studies] == ["a.png", "b.jpg"]
    assert [s.abnormal for s in studies] == [False, True]


def test_rule_and_threshold(folder: Path) -> None:
    study = folder / "MURA-v1.1/valid/XR_WRIST/patient11185/study1_positive"
    assert predicted(study, rule="max").studies[0].probability == pytest.approx(0.9, abs=0.01)
    assert not predicted(study, threshold=0.7).studies[0].abnormal


def test_order_given_is_kept_and_a_file_counts_once(folder: Path) -> None:
    b, a = folder / "scans/b.jpg", folder / "scans/a.png"
    assert find_images([b, a, folder / "scans", folder / "scans/../scans/a.png"]) == [b, a]


def test_pictures_that_explain_left_are_no_radiographs(folder: Path) -> None:
    before = find_images([folder])
    image = folder / "scans/a.png"
    image.with_name("a.explained.png").write_bytes(image.read_bytes())
    assert find_images([folder]) == before


def test_many_files_in_chunks(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = predicted(folder)
    monkeypatch.setattr("examples.mura.predict.AT_ONCE", 2)
    assert predicted(folder) == whole


def test_table(folder: Path) -> None:
    text = as_table(predicted(folder / "scans"))
    assert text.splitlines()[1].split() == [str(folder / "scans"), "0.600", "abnormal"]
    assert text.splitlines()[2].split() == ["a.png", "0.400"]
    assert text.splitlines()[3].split() == ["b.jpg", "0.800"]
    assert "Files of one folder are views of one study" in text
    assert text.endswith("Trained on synthetic radiographs; not for clinical use.")
    alone = as_table(predicted(folder / "scans", separate=True, synthetic=False))
    assert len(alone.splitlines()) == 1 + 2 + 2
    assert alone.endswith("\nNot for clinical use.")


def test_csv(folder: Path) -> None:
    file = folder / "out.csv"
    write_csv(predicted(folder / "MURA-v1.1"), file)
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [Path(row["file"]).name for row in rows] == ["image1.png", "image2.png", "image1.png"]
    assert [float(row["probability"]) for row in rows] == pytest.approx([0.9, 0.3, 0.2], abs=0.01)
    assert [row["study_abnormal"] for row in rows] == ["1", "1", "0"]
    assert [row["views"] for row in rows] == ["2", "2", "1"]
    assert {row["notice"] for row in rows} == {
        "trained on synthetic radiographs; not for clinical use"
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "no such file: .*missing.png"),
        ("words.png", b"these are words", "words.png is not an image"),
        ("empty.png", b"", "empty.png is empty"),
    ],
)
def test_what_is_no_image_is_named(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        predicted(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_truncated_image(tmp_path: Path) -> None:
    file = draw(tmp_path / "cut.png", 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (60, 60), np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[:1500])
    with pytest.raises(UserError, match=r"cut\.png is truncated"):
        predicted(file)


def test_empty_folder_and_nothing_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no \.png, \.jpg, \.jpeg"):
        predicted(tmp_path)
    with pytest.raises(UserError, match="no files were given"):
        predicted()


def test_csv_that_cannot_be_written(folder: Path) -> None:
    (folder / "a file").write_text("")
    with pytest.raises(CheckpointError, match=r"out\.csv"):
        write_csv(predicted(folder / "scans"), folder / "a file" / "out.csv")
