"""Filters, feature maps and overlays: what is in the pixels."""

import numpy as np
import pytest

from tests.oracles import package
from tests.visualize.networks import batch, conv, dense, everything
from tinynet.layers import Sequential
from tinynet.visualize import feature_maps, first_layer_filters, overlaid, overlay
from tinynet.visualize.feature_maps import as_colours, mosaic


def read(file):
    return package("matplotlib.image").imread(file)[..., :3]


@pytest.mark.parametrize(("channels", "count"), [(1, 5), (2, 4), (3, 200)])
def test_filters(tmp_path, channels, count):
    package("matplotlib")
    first_layer_filters(Sequential(conv(channels, count)), tmp_path / "f.png")
    image = read(tmp_path / "f.png")
    assert image.std() > 0.02
    colourful = abs(image - image.mean(axis=-1, keepdims=True)).max() > 0.05
    assert colourful == (channels == 3)


def test_feature_maps_of_an_inner_layer(tmp_path):
    package("matplotlib")
    model = everything()
    feature_maps(model, batch(n=1), "base.stack", tmp_path / "a.png", most=4)
    feature_maps(model, batch(n=1)[0], "base.stack", tmp_path / "b.png", most=4)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), read(tmp_path / "b.png"))
    assert read(tmp_path / "a.png").std() > 0.02


def test_no_heat_leaves_the_image_and_the_most_heat_covers_it(tmp_path):
    package("matplotlib")
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    heat = np.zeros((16, 16))
    plain = overlaid(grey, heat)
    assert plain.shape == (256, 256, 3)
    np.testing.assert_array_equal(plain[::16, ::16], grey[..., None].repeat(3, axis=-1))
    heat[3, 5] = 2.0
    warm = overlaid(grey, heat)
    changed = (warm != plain).any(axis=-1)
    np.testing.assert_array_equal(np.argwhere(changed[::16, ::16]), [[3, 5]])
    solid = overlaid(grey, heat, strength=1.0)[3 * 16, 5 * 16]
    np.testing.assert_array_equal(solid, overlaid(255 - grey, heat, strength=1.0)[3 * 16, 5 * 16])
    overlay(grey, heat, tmp_path / "o.png")
    pixels = np.round(255 * read(tmp_path / "o.png")).astype(np.uint8)
    np.testing.assert_array_equal(pixels, warm)


def test_colours_of_images():
    assert as_colours(np.full((2, 2), 255, np.uint8)).max() == 1
    numbers = as_colours(np.array([[[-1.0], [3.0]]]))
    np.testing.assert_array_equal(numbers[0, :, 0], [0, 1])
    assert as_colours(np.full((2, 2, 3), 7.0)).max() == 0


def test_mosaic():
    plane = mosaic([np.full((2, 3), k) for k in range(5)], gap=-1, across=2)
    assert plane.shape == (1 + 3 * 3, 1 + 2 * 4)
    np.testing.assert_array_equal(plane[1::3, 1::4][:3], [[0, 1], [2, 3], [4, -1]])


BLANK = np.zeros((4, 4), np.uint8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f: first_layer_filters(Sequential(dense(2, 2)), f), "has no Conv2D layer"),
        (lambda f: feature_maps(everything(), batch(n=2), "base.conv", f), "want one image"),
        (
            lambda f: feature_maps(everything(), batch(n=1), "head.hidden", f),
            r"is \(6,\), want \(h, w, K\)",
        ),
        (lambda f: overlay(BLANK, np.zeros((4, 5)), f), "want the same size"),
        (lambda f: overlay(np.zeros((4, 4, 2)), BLANK, f), r"image is \(4, 4, 2\)"),
        (lambda f: overlay(BLANK, BLANK, f, strength=2), "strength is 2"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, call, message):
    with pytest.raises(ValueError, match=message):
        call(tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()
