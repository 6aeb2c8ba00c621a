"""Augmentation: the geometry against NumPy and SciPy, and what it must leave alone."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from examples.mura.augment import NO_CHANGE, AugmentSettings, affine_maps, augment, normalise, warp
from examples.mura.dataset import read_dataset
from examples.mura.errors import UserError
from examples.mura.prepare import prepare
from examples.mura.radiographs import FORMS, InputForm, Radiographs
from tests.examples.small_mura import make_mura
from tinynet.interop import imagenet_preprocess

STRONG = AugmentSettings(True, True, 30.0, (0.6, 0.9), 0.1, 0.2, 0.3)
NAMES = ("vertical", "horizontal", "angle", "area", "row", "column", "down", "right")


def seeded(seed=0):
    return np.random.default_rng(seed)


def pictures(n=5, side=21):
    return seeded(7).integers(0, 256, (n, side, side), dtype=np.uint8)


def maps_for(settings, side, **draws):
    """The map of one image, from the draws named; 0.5, for the rest, changes nothing."""
    values = np.array([draws.get(name, 0.5) for name in NAMES])
    return affine_maps(values[None], side, settings)


def test_normalise_is_the_formula_in_its_docstring():
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    x = normalise(pixels)
    assert (x.shape, x.dtype) == ((1, 16, 16, 1), np.float32)
    np.testing.assert_allclose(x[..., 0], (pixels / 255 - 0.5) / 0.25, atol=1e-6)
    assert (x.min(), x.max()) == (-2.0, 2.0)


@pytest.mark.parametrize("side", [1, 2, 21, 64])
def test_no_strength_is_normalise_bit_for_bit(side):
    pixels = pictures(side=side)
    np.testing.assert_array_equal(augment(pixels, seeded(), NO_CHANGE), normalise(pixels))


@pytest.mark.parametrize(
    ("settings", "flip"),
    [
        (replace(NO_CHANGE, horizontal_flip=True), lambda x: x[:, ::-1]),
        (replace(NO_CHANGE, vertical_flip=True), lambda x: x[::-1]),
    ],
)
def test_flips_half_of_the_images_exactly(settings, flip):
    pixels = pictures(400, 6)
    x, plain = augment(pixels, seeded(1), settings), normalise(pixels)
    flipped = 0
    for image, original in zip(x, plain, strict=True):
        if not np.array_equal(image, original):
            np.testing.assert_array_equal(image, flip(original))
            flipped += 1
    assert 160 < flipped < 240  # 4 standard deviations either side of 200


@pytest.mark.parametrize("degrees", [-30, -7, 13, 30])
def test_rotation_is_that_of_scipy(degrees):
    pixels = pictures(1, 33)
    maps = maps_for(replace(NO_CHANGE, rotation=30), 33, angle=(degrees / 30 + 1) / 2)
    expected = ndimage.rotate(
        pixels[0].astype(float), degrees, reshape=False, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(warp(pixels, maps)[0], expected, atol=2e-2)


def test_any_map_is_that_of_scipy():
    side, n = 24, 12
    pixels = pictures(n, side)
    maps = affine_maps(seeded(3).random((n, 8)), side, STRONG)
    centre = np.full(2, (side - 1) / 2)
    for image, (a, b, t), result in zip(
        pixels, np.moveaxis(maps, 2, 1), warp(pixels, maps), strict=True
    ):
        matrix = np.stack([a, b], axis=1).astype(float)
        expected = ndimage.affine_transform(
            image.astype(float), matrix, t + centre - matrix @ centre, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(result, expected, atol=2e-2)


def test_crop_shows_the_part_it_should_and_no_border():
    side = 40
    ramp = np.broadcast_to(np.arange(side, dtype=np.uint8) * 6, (1, side, side))
    settings = replace(NO_CHANGE, crop=(0.25, 0.25))  # half the side
    for draw, first in ((0.0, 0), (0.5, 10), (1.0, 20)):  # left, middle, right
        row = warp(ramp, maps_for(settings, side, column=draw))[0, side // 2] / 6
        # a crop of columns first to first + 20, drawn twice as wide
        expected = first - 0.25 + 0.5 * np.arange(side)
        np.testing.assert_allclose(row[1:-1], expected[1:-1], atol=1e-3)
    white = np.full((200, 16, 16), 255, np.uint8)
    x = augment(white, seeded(2), replace(NO_CHANGE, crop=(0.3, 0.95)))
    # the outermost points lie within half a pixel of the edge
    np.testing.assert_allclose(x[:, 1:-1, 1:-1], 2.0, atol=1e-4)


def test_shift_moves_by_its_share_and_brings_in_black():
    pixels = pictures(1, 20) // 2 + 100
    warped = warp(pixels, maps_for(replace(NO_CHANGE, shift=0.2), 20, down=1.0))[0]  # 4 rows
    np.testing.assert_allclose(warped[:-4], pixels[0, 4:], atol=1e-3)
    assert (warped[-4:] == 0).all()


def test_brightness_and_contrast_scale_about_mid_grey():
    pixels = np.full((300, 2, 2), 153, np.uint8)  # 0.6: x = 0.4
    bright = augment(pixels, seeded(4), replace(NO_CHANGE, brightness=0.1))
    assert 0.39 < bright.max() - 0.4 <= 0.4001
    assert -0.4001 <= bright.min() - 0.4 < -0.39
    contrast = augment(pixels, seeded(4), replace(NO_CHANGE, contrast=0.5))
    assert 0.58 < contrast.max() <= 0.6001
    assert 0.1999 <= contrast.min() < 0.22
    both = augment(pictures(50), seeded(4), STRONG)
    assert (both.min(), both.max()) == (-2.0, 2.0)


def test_draws_follow_from_the_generator_alone(monkeypatch):
    pixels = pictures(10)
    before = pixels.copy()
    first = augment(pixels, seeded(5), STRONG)
    np.testing.assert_array_equal(first, augment(pixels, seeded(5), STRONG))
    assert not np.array_equal(first, augment(pixels, seeded(6), STRONG))
    assert (first.shape, first.dtype) == ((10, 21, 21, 1), np.float32)
    monkeypatch.setattr("examples.mura.augment.BLOCK", 3 * 21 * 21)
    np.testing.assert_array_equal(first, augment(pixels, seeded(5), STRONG))
    np.testing.assert_array_equal(pixels, before)
    assert augment(pictures(0), seeded(), STRONG).shape == (0, 21, 21, 1)

    same = np.repeat(pictures(1), 20, axis=0)
    x = augment(same, seeded(9), STRONG)
    assert len(np.unique(x.reshape(20, -1), axis=0)) == 20  # each image has its own draws
    flips = replace(NO_CHANGE, horizontal_flip=True)
    alone = augment(same, seeded(8), flips)
    with_more = augment(same, seeded(8), replace(flips, brightness=1e-7))
    np.testing.assert_allclose(with_more, alone, atol=1e-5)  # one setting does not alter another's


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"rotation": 400}, "augmentation: rotation is 400, want 0 to 180 degrees"),
        ({"rotation": float("nan")}, "augmentation: rotation is nan, want 0 to 180 degrees"),
        ({"crop": (0.9, 0.5)}, "augmentation: crop is (0.9, 0.5), want 0 < least <= most <= 1"),
        ({"shift": -0.1}, "augmentation: shift is -0.1, want 0 to 1"),
        ({"brightness": 2}, "augmentation: brightness is 2, want 0 to 1"),
        ({"contrast": -1}, "augmentation: contrast is -1, want 0 to 1"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, message):
    with pytest.raises(UserError) as caught:
        AugmentSettings(**wrong)
    assert str(caught.value) == message


def test_radiographs_augment_pixels_and_never_labels(tmp_path):
    data = read_dataset(make_mura(tmp_path))
    prepared = prepare(data, tmp_path / "cache", side=12, progress=False)
    rows = prepared.rows(data.split("train"))
    train = Radiographs(prepared, rows, STRONG)
    indices = np.array([4, 1, 9, 0])
    for rng, expected in (
        (seeded(), augment(prepared.pixels[rows[indices]], seeded(), STRONG)),
        (None, normalise(prepared.pixels[rows[indices]])),
    ):
        x, y = train.batch(indices, rng)
        np.testing.assert_array_equal(x, expected)
        np.testing.assert_array_equal(y, prepared.labels[rows[indices]])
    assert train.images == data.split("train")
    with pytest.raises(UserError, match=r"no radiographs: got rows of shape \(0,\) of "):
        Radiographs(prepared, [])


# ---- the form that a network's weights were trained on


@pytest.mark.parametrize("name", FORMS)
def test_imagenets_forms_are_those_of_the_grey_levels(name):
    pixels = pictures(3, 5)
    pixels[0, 0, :2] = 0, 255
    x = normalise(pixels)
    expected = np.repeat(x, 3, axis=-1)
    if name != "centred":
        expected = imagenet_preprocess(pixels[..., None], name)
    three = InputForm(name, 3)(x)
    assert three.dtype == np.float32
    np.testing.assert_allclose(three, expected, atol=1e-4)
    assert InputForm()(x) is x


@pytest.mark.parametrize(
    ("name", "channels", "said"),
    [("centred", 2, "--channels is 2"), ("torch", 1, "--preprocessing torch has three colours")],
)
def test_an_unknown_form(name, channels, said):
    with pytest.raises(UserError, match=said):
        InputForm(name, channels)
