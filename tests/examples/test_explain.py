"""Pictures that explain: where they go, what is in them, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from examples.mura.errors import UserError
from examples.mura.explain import explain_files, explained_sheet, looked_at, places
from examples.mura.inputs import GREY
from tests.examples.small_mura import make_mura
from tests.examples.test_commands import SMALL, says, the_error
from tinynet.layers import Conv2D, Dense, Flatten, ReLU, Sequential


def bright_is_abnormal() -> Sequential:
    """A network whose logit of abnormal is the grey of the image's upper left quarter."""
    conv = Conv2D(1, 1, 1, rng=np.random.default_rng(0))
    conv.weight.value[...] = 1
    conv.bias.value[...] = 1  # normalised images begin at about -1
    classes = Dense(64, 2, rng=np.random.default_rng(0))
    classes.weight.value[...] = 0
    classes.weight.value.reshape(8, 8, 2)[:4, :4, 1] = 0.1
    return Sequential(conv, ReLU(), Flatten(), classes)


def draw(path: Path, grey: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), grey, np.uint8)).save(path)
    return path


def explained(*files: Path, **options):
    settings = {"side": 8, "fit": "stretch", "synthetic": True} | options
    return explain_files(bright_is_abnormal(), files, **settings)


def test_the_heat_is_where_the_network_looks() -> None:
    pixels = np.full((2, 8, 8), 200, np.uint8)
    p, heat = looked_at(bright_is_abnormal(), pixels, GREY, "abnormal")
    assert (p > 0.5).all()
    assert (heat[:, :4, :4] > 0).all()
    assert (heat[:, 4:] == 0).all()
    assert (heat[:, :, 4:] == 0).all()
    assert (looked_at(bright_is_abnormal(), pixels, GREY, "normal")[1] == 0).all()
    even = looked_at(bright_is_abnormal(), pixels, GREY, "abnormal", average=True)[1]
    np.testing.assert_allclose(even, even.max(), rtol=1e-6)  # the mean slope knows no place


def test_pictures_lie_beside_their_images_and_are_not_explained_again(tmp_path: Path) -> None:
    images = [draw(tmp_path / f"study/image{k}.png") for k in (1, 2)]
    first = explained(tmp_path / "study")
    assert [one.file for one in first] == images
    assert [one.picture.name for one in first] == ["image1.explained.png", "image2.explained.png"]
    assert [one.file for one in explained(tmp_path / "study")] == images
    with Image.open(first[0].picture) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 10
    with pytest.raises(UserError, match="only pictures that explain"):
        explained(first[0].picture)


def test_many_images_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(3):
        draw(tmp_path / f"in/{k}.png", 80 * k)
    whole = explained(tmp_path / "in")
    monkeypatch.setattr("examples.mura.explain.AT_ONCE", 2)
    chunks = explained(tmp_path / "in")
    assert [one.probability for one in chunks] == [one.probability for one in whole]
    assert whole[2].probability > whole[0].probability


def test_folders_are_kept_apart_in_another_folder(tmp_path: Path) -> None:
    files = [tmp_path / "a/study1/image1.png", tmp_path / "a/study2/image1.png"]
    out = tmp_path / "out"
    assert places(files, out) == [
        out / "study1/image1.explained.png",
        out / "study2/image1.explained.png",
    ]
    assert places(files[:1], out) == [out / "image1.explained.png"]


def test_a_sheet_of_few_images() -> None:
    pixels = np.full((5, 8, 8), 200, np.uint8)
    for labels in (np.array([0, 1, 1]), np.array([1, 1, 1])):
        figure = explained_sheet(
            bright_is_abnormal(), pixels, np.array([4, 0, 2]), np.array([0.2, 0.9, 0.5]), labels
        )
        shown = [ax for part in figure.subfigs for ax in part.axes if ax.get_visible()]
        assert [ax.get_title() for ax in shown][:2] == ["p = 0.90", "p = 0.50"]
        assert len(shown) == 3


def test_what_makes_no_sense_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        explained(tmp_path / "missing.png")
    with pytest.raises(UserError, match="the model has no layer 'base.9'"):
        explained(draw(tmp_path / "a.png"), layer="base.9")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_command(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    mura = make_mura(tmp_path)
    arguments = ["train", "--data", mura, "--run", "run", "--epochs", "1", "--no-baselines", *SMALL]
    assert says(capsys, arguments)[0] == 0
    assert (tmp_path / "run/figures/explained.png").exists()
    assert "what speaks for abnormal" in (tmp_path / "run/report.html").read_text()
    status, err, out = says(
        capsys, ["explain", "--run", "run", mura / "valid/XR_HAND", "--out", "seen"]
    )
    assert status == 0, err
    pictures = sorted((tmp_path / "seen").rglob("*.png"))
    assert [path.name for path in pictures] == ["image1.explained.png", "image2.explained.png"]
    assert "Not for clinical use" in out
    rows = (tmp_path / "run/predictions.csv").read_text().splitlines()
    probabilities = {row.split(",")[2] for row in rows if "patient11186" in row}
    shown = [line.split()[0] for line in out.splitlines() if ".explained.png" in line]
    assert sorted(shown) == sorted(f"{float(p):.3f}" for p in probabilities)
    message = the_error(capsys, ["explain", "--run", "run", mura, "--layer", "base.conv"])
    assert "no layer 'base.conv'" in message
    assert json.loads((tmp_path / "run/config.json").read_text())["not_for_clinical_use"]
