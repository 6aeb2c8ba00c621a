"""Predictions for files: which of them make a study, what is printed, what is refused."""

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.mura.decode import SUFFIXES
from examples.mura.errors import UserError
from examples.mura.predict import (
    as_table,
    find_images,
    predict_files,
    refuse_to_overwrite,
    write_csv,
)
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
    with pytest.raises(UserError, match="a file's name is empty: name images"):
        predicted("")
    with pytest.raises(UserError, match="no such file: .*missing.png"):
        predicted(tmp_path / "missing.png")
    (tmp_path / "words.png").write_bytes(b"these are words")
    with pytest.raises(UserError, match=r"words.png is not an image, or not of a kind that can"):
        predicted(tmp_path / "words.png")


def test_what_cannot_be_used_is_named_and_the_rest_predicted(folder, monkeypatch):
    scans = folder / "scans"
    (scans / "c.png").write_bytes(b"these are words")
    (scans / "d.tif").write_bytes(b"")
    (scans / "e.png").symlink_to("nowhere.png")
    monkeypatch.setattr("examples.mura.predict.AT_ONCE", 1)
    whole = predicted(scans, folder / "none.png")
    assert [path.name for path, _ in whole.studies[0].views] == ["a.png", "b.jpg"]
    assert whole.studies[0].probability == pytest.approx(0.6, abs=0.01)
    assert [line.split(" (")[0] for line in whole.notes.bad] == [
        f"no such file: {folder}/none.png",
        f"{scans}/c.png is not an image, or not of a kind that can be read",
        f"{scans}/d.tif is empty",
    ]
    assert whole.notes.warnings == [
        f"passed over 1 links to what is not there: {scans}/e.png",
        f"passed over 1 files that are not {', '.join(SUFFIXES)}: {scans}/notes.txt",
        f"{scans}/a.png is nearly constant: look at it",
        f"{scans}/b.jpg is nearly constant: look at it",
    ]


def test_links_make_the_studies_that_their_folders_are(folder):
    for study, name in (("one", "a.png"), ("two", "b.jpg"), ("two", "again.jpg")):
        (folder / study).mkdir(exist_ok=True)
        (folder / study / name).symlink_to(folder / "scans" / name.replace("again", "b"))
    (folder / "two/loop").symlink_to(folder / "two")
    whole = predicted(folder / "one", folder / "two")
    assert [Path(s.name).name for s in whole.studies] == ["one", "two"]
    assert [len(s.views) for s in whole.studies] == [1, 1]
    assert whole.notes.warnings[0] == (
        f"passed over 2 links to what is there already: {folder}/two/b.jpg -> "
        f"{folder}/two/again.jpg, {folder}/two/loop -> {folder}/two"
    )


NAMES = [
    *("=1+1.png", "+a.png", "-a.png", "@a.png", "\t=1.png", "\r=1.png", "\x1b[2J.png", "a\nb.png"),
    *("\u202ea.png", os.fsdecode(b"\xff.png")),
]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_and_written_so_that_they_do_no_harm(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(Path("a.png"), 0.4).rename(name)
    predictions = predicted(name, separate=True)
    table = as_table(predictions)
    assert len(table.splitlines()) == 4
    assert all(line.isprintable() for line in table.splitlines())
    write_csv(predictions, Path("out.csv"))
    with open("out.csv", newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["file"].isprintable()
    assert row["file"][0] not in "=+-@"
    assert row["file"].endswith(".png")


def test_a_table_replaces_nothing_but_a_table(folder):
    image, table = folder / "scans/a.png", folder / "out.csv"
    refuse_to_overwrite(table)
    write_csv(predicted(image), table)
    refuse_to_overwrite(table)
    (folder / "link.csv").symlink_to(image)
    (folder / "dangling.csv").symlink_to("nowhere")
    (folder / "mine.csv").write_text("my,own,table\n")
    for taken in (image, folder, "link.csv", "dangling.csv", "mine.csv"):
        with pytest.raises(UserError, match="is there and is not a table of predict: give the"):
            refuse_to_overwrite(folder / taken)
