"""Pictures that explain: where they go, what is in them, what is refused."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from examples.mura.errors import UserError
from examples.mura.explain import explain_files, explained_sheet, heat_maps, picture_paths
from examples.mura.predict import Notes
from examples.mura.radiographs import GREY
from examples.mura.settings import Settings
from tests.examples.small_mura import SMALL
from tinynet.layers import Conv2D, Dense, Flatten, ReLU, Sequential


def bright_is_abnormal():
    """A network whose logit of abnormal is the grey of the image's upper left quarter."""
    conv = Conv2D(1, 1, 1, rng=np.random.default_rng(0))
    conv.weight.value[...] = 1
    conv.bias.value[...] = 1  # normalised images begin at about -1
    classes = Dense(64, 2, rng=np.random.default_rng(0))
    classes.weight.value[...] = 0
    classes.weight.value.reshape(8, 8, 2)[:4, :4, 1] = 0.1
    return Sequential(conv, ReLU(), Flatten(), classes)


def draw(path, grey=200):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), grey, np.uint8)).save(path)
    return path


def explained(*files, **options):
    return explain_files(bright_is_abnormal(), files, Settings(side=8), synthetic=True, **options)


def test_the_heat_is_where_the_network_looks():
    pixels = np.full((2, 8, 8), 200, np.uint8)
    p, heat = heat_maps(bright_is_abnormal(), pixels, GREY, "abnormal")
    assert (p > 0.5).all()
    assert (heat[:, :4, :4] > 0).all()
    assert (heat[:, 4:] == 0).all()
    assert (heat[:, :, 4:] == 0).all()
    assert (heat_maps(bright_is_abnormal(), pixels, GREY, "normal")[1] == 0).all()
    even = heat_maps(bright_is_abnormal(), pixels, GREY, "abnormal", average=True)[1]
    np.testing.assert_allclose(even, even.max(), rtol=1e-6)  # the mean slope knows no place


def test_pictures_lie_beside_their_images_and_are_not_explained_again(tmp_path, monkeypatch):
    monkeypatch.setattr("examples.mura.explain.AT_ONCE", 1)
    images = [draw(tmp_path / f"study/image{k}.png", 100 * k) for k in (1, 2)]
    first = explained(tmp_path / "study")
    assert [one.file for one in first] == images
    assert [one.picture.name for one in first] == ["image1.explained.png", "image2.explained.png"]
    assert first[1].probability > first[0].probability
    assert [one.file for one in explained(tmp_path / "study")] == images
    with Image.open(first[0].picture) as picture:
        assert np.asarray(picture.convert("RGB")).std() > 10
    with pytest.raises(UserError, match="only pictures that explain"):
        explained(first[0].picture)


def test_folders_are_kept_apart_in_another_folder(tmp_path):
    files = [tmp_path / "a/study1/image1.png", tmp_path / "a/study2/image1.png"]
    out = tmp_path / "out"
    assert picture_paths(files, out) == [
        out / "study1/image1.explained.png",
        out / "study2/image1.explained.png",
    ]
    assert picture_paths(files[:1], out) == [out / "image1.explained.png"]
    twins = [files[0], files[0].with_suffix(".tif"), files[1]]  # each keeps its picture
    assert [path.name for path in picture_paths(twins, None)] == [
        "image1.png.explained.png", "image1.tif.explained.png", "image1.explained.png",
    ]  # fmt: skip


def test_what_cannot_be_used_is_named_and_the_rest_explained(tmp_path, monkeypatch):
    monkeypatch.setattr("examples.mura.explain.AT_ONCE", 1)
    names = ["$\\frac$.png", os.fsdecode(b"\xff.png")]
    for name in names:
        draw(tmp_path / name)
    (tmp_path / "a.tif").write_bytes(b"no image")
    notes = Notes()
    seen = explained(tmp_path, tmp_path / "missing", notes=notes)
    assert [one.file.name for one in seen] == names
    assert all(one.picture.exists() for one in seen)
    assert [Path(line).name[:14] for line in notes.bad] == ["missing", "a.tif is not a"]
    assert len(notes.warnings) == 2  # both are nearly constant


@pytest.mark.parametrize("labels", [[0, 1, 1], [1, 1, 1]])
def test_a_sheet_of_few_images(labels):
    pixels = np.full((3, 8, 8), 200, np.uint8)
    data = SimpleNamespace(labels=np.array(labels), pixels=pixels.__getitem__, form=GREY)
    figure = explained_sheet(bright_is_abnormal(), data, np.array([0.2, 0.9, 0.5]))
    shown = [ax for part in figure.subfigs for ax in part.axes if ax.get_visible()]
    assert [ax.get_title() for ax in shown][:2] == ["p = 0.90", "p = 0.50"]
    assert len(shown) == 3


def test_what_makes_no_sense_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        explained(tmp_path / "missing.png")
    with pytest.raises(UserError, match="the model has no layer 'base.9'"):
        explained(draw(tmp_path / "a.png"), layer="base.9")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.usefixtures("no_figures")
def test_the_command(mura, tmp_path, cli):
    cli("train", "--data", mura, "--run", "run", "--epochs", "1", "--no-baselines", *SMALL)
    out = cli("explain", "--run", "run", mura / "valid/XR_HAND", "--out", "seen")
    pictures = sorted((tmp_path / "seen").rglob("*.png"))
    assert [path.name for path in pictures] == ["image1.explained.png", "image2.explained.png"]
    assert "Not for clinical use" in out
    rows = (tmp_path / "run/predictions.csv").read_text().splitlines()
    probabilities = {row.split(",")[2] for row in rows if "patient11186" in row}
    shown = [line.split()[0] for line in out.splitlines() if ".explained.png" in line]
    assert sorted(shown) == sorted(f"{float(p):.3f}" for p in probabilities)
    message = cli.error("explain", "--run", "run", mura, "--layer", "base.conv")
    assert "no layer 'base.conv'" in message
