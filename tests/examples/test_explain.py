"""Pictures that explain: where they go, what is in them, what is refused."""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from examples.mura.dataset import Image as MuraImage
from examples.mura.errors import UserError
from examples.mura.explain import (
    explain_files,
    explained_sheet,
    heat_maps,
    picture_paths,
)
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


def draw(path, grey=200, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path)
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


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("shape", [(300, 420), (500, 260)])
def test_the_heat_lies_over_the_radiograph_itself(fit, shape, tmp_path):
    """Every pixel of it is in the picture, whatever the size of the network's input."""
    height, width = shape
    grey = np.random.default_rng(0).integers(100, 256, shape).astype(np.uint8)
    Image.fromarray(grey).save(tmp_path / "a.png")
    settings = Settings(side=8, fit=fit)
    one = explain_files(bright_is_abnormal(), [tmp_path / "a.png"], settings, synthetic=True)[0]
    with Image.open(one.picture) as picture:
        page = np.asarray(picture.convert("RGB"))
    gap, top = max(width, 360) // 20, (len(page) - height) // 2
    plain, over = (
        page[top : top + height, left : left + width] for left in (gap, 2 * gap + max(width, 360))
    )
    np.testing.assert_array_equal(plain, np.repeat(grey[..., None], 3, axis=-1))
    differs = (plain != over).any(axis=-1)
    assert differs[: height // 3, : width // 3].mean() > 0.95  # where the network looks
    assert not differs[3 * height // 4 :].any()
    assert not differs[:, 3 * width // 4 :].any()


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
def test_a_sheet_of_few_images(labels, tmp_path):
    pixels = np.full((3, 8, 8), 200, np.uint8)
    images = [MuraImage("valid", "HAND", "patient1", "study1", f"{k}.png", 1) for k in range(3)]
    draw(tmp_path.joinpath(*images[1].path.parts[1:]), size=(60, 50))
    prepared = SimpleNamespace(fit="stretch")
    data = SimpleNamespace(labels=np.array(labels), pixels=pixels.__getitem__, form=GREY,
                           images=images, prepared=prepared)  # fmt: skip
    figure = explained_sheet(bright_is_abnormal(), data, np.array([0.2, 0.9991, 0.5]), tmp_path)
    shown = [ax for part in figure.subfigs for ax in part.axes if ax.get_visible()]
    sizes = [ax.get_images()[0].get_array().shape for ax in shown]
    assert sizes[0] == (250, 300, 3)  # the radiograph, enlarged
    assert sizes[1] == (256, 256, 3)  # without one, the network's input
    assert [ax.get_title() for ax in shown][:2] == ["p = 0.999", "p = 0.50"]
    assert len(shown) == 3


def test_what_makes_no_sense_is_named(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        explained(tmp_path / "missing.png")
    with pytest.raises(
        UserError, match="--layer base.9: the network has no such layer, its base has 0 to 3"
    ):
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
    assert "--layer base.conv: the network has no such layer, its base has base.0 to" in message
    message = cli.error("explain", "--run", "run", mura, "--layer", "head.1")
    assert "--layer head.1: the output of layer 'head.1' is" in message
