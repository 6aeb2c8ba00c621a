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


def test_no_heat_leaves_the_image_and_the_most_heat_covers_it():
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
    other = overlaid(255 - grey, heat, strength=1.0)[3 * 16, 5 * 16]
    np.testing.assert_array_equal(solid, other)


def test_an_overlay_on_disk_is_what_was_computed(tmp_path):
    package("matplotlib")
    image, heat = batch(n=1, side=20, channels=3)[0], np.random.default_rng(0).random((20, 20))
    overlay(image, heat, tmp_path / "o.png")
    pixels = np.round(255 * read(tmp_path / "o.png")).astype(np.uint8)
    np.testing.assert_array_equal(pixels, overlaid(image, heat))
    assert pixels.shape == (260, 260, 3)


def test_colours_of_images():
    assert as_colours(np.full((2, 2), 255, np.uint8)).max() == 1
    numbers = as_colours(np.array([[[-1.0], [3.0]]]))
    np.testing.assert_array_equal(numbers[0, :, 0], [0, 1])
    assert as_colours(np.full((2, 2, 3), 7.0)).max() == 0


def test_mosaic():
    tiles = [np.full((2, 3), k) for k in range(5)]
    plane = mosaic(tiles, gap=-1, across=2)
    assert plane.shape == (1 + 3 * 3, 1 + 2 * 4)
    np.testing.assert_array_equal(plane[1::3, 1::4][:3], [[0, 1], [2, 3], [4, -1]])


def test_what_makes_no_sense_is_refused(tmp_path):
    file = tmp_path / "x.png"
    with pytest.raises(ValueError, match="has no Conv2D layer"):
        first_layer_filters(Sequential(dense(2, 2)), file)
    with pytest.raises(ValueError, match="want one image"):
        feature_maps(everything(), batch(n=2), "base.conv", file)
    with pytest.raises(ValueError, match=r"is \(6,\), want \(h, w, K\)"):
        feature_maps(everything(), batch(n=1), "head.hidden", file)
    with pytest.raises(ValueError, match="want the same size"):
        overlay(np.zeros((4, 4), np.uint8), np.zeros((4, 5)), file)
    with pytest.raises(ValueError, match=r"image is \(4, 4, 2\)"):
        overlay(np.zeros((4, 4, 2)), np.zeros((4, 4)), file)
    with pytest.raises(ValueError, match="strength is 2"):
        overlay(np.zeros((4, 4), np.uint8), np.zeros((4, 4)), file, strength=2)
    assert not file.exists()
