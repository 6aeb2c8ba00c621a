"""Augmentation: the geometry against NumPy and SciPy, and what it must leave alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from examples.mura.augment import (
    NO_CHANGE,
    AugmentSettings,
    affine_maps,
    augment,
    normalise,
    warp,
)
from examples.mura.dataset import read_dataset
from examples.mura.errors import UserError
from examples.mura.prepare import prepare
from examples.mura.radiographs import Radiographs
from tests.examples.small_mura import make_mura

STRONG = AugmentSettings(True, True, 30.0, (0.6, 0.9), 0.1, 0.2, 0.3)
MIDDLE = np.full(8, 0.5)  # draws that change nothing: no flip, angle 0, centred


def pictures(n: int = 5, side: int = 21) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (n, side, side), dtype=np.uint8)


def maps_for(settings: AugmentSettings, side: int, **draws: float) -> np.ndarray:
    """The map of one image, from the draws named and otherwise those that change nothing."""
    names = ("vertical", "horizontal", "angle", "area", "row", "column", "down", "right")
    values = np.array([draws.get(name, MIDDLE[i]) for i, name in enumerate(names)])
    return affine_maps(values[None], side, settings)


def test_normalise_is_the_formula_in_its_docstring() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    x = normalise(pixels)
    assert (x.shape, x.dtype) == ((1, 16, 16, 1), np.float32)
    np.testing.assert_allclose(x[..., 0], (pixels / 255 - 0.5) / 0.25, atol=1e-6)
    assert (x.min(), x.max()) == (-2.0, 2.0)


@pytest.mark.parametrize("side", [1, 2, 21, 64])
def test_no_strength_is_normalise_bit_for_bit(side: int) -> None:
    pixels = pictures(side=side)
    np.testing.assert_array_equal(
        augment(pixels, np.random.default_rng(0), NO_CHANGE), normalise(pixels)
    )


@pytest.mark.parametrize(
    ("settings", "flip"),
    [
        (replace(NO_CHANGE, horizontal_flip=True), lambda x: x[:, ::-1]),
        (replace(NO_CHANGE, vertical_flip=True), lambda x: x[::-1]),
    ],
)
def test_flips_half_of_the_images_exactly(settings: AugmentSettings, flip) -> None:
    pixels = pictures(400, 6)
    x, plain = augment(pixels, np.random.default_rng(1), settings), normalise(pixels)
    flipped = 0
    for image, original in zip(x, plain, strict=True):
        if not np.array_equal(image, original):
            np.testing.assert_array_equal(image, flip(original))
            flipped += 1
    assert 160 < flipped < 240  # 4 standard deviations either side of 200


@pytest.mark.parametrize("side", [20, 21])
def test_quarter_turns_are_those_of_numpy(side: int) -> None:
    pixels = pictures(3, side)
    for draw, turns in ((0.75, 1), (0.25, -1)):  # 180 degrees · (2 draw - 1) = ±90
        maps = maps_for(replace(NO_CHANGE, rotation=180), side, angle=draw)
        turned = warp(pixels, np.repeat(maps, 3, axis=0))
        np.testing.assert_allclose(turned, np.rot90(pixels, turns, axes=(1, 2)), atol=2e-2)


@pytest.mark.parametrize("degrees", [-30, -7, 13, 30])
def test_rotation_is_that_of_scipy(degrees: float) -> None:
    pixels = pictures(1, 33)
    maps = maps_for(replace(NO_CHANGE, rotation=30), 33, angle=(degrees / 30 + 1) / 2)
    expected = ndimage.rotate(
        pixels[0].astype(float), degrees, reshape=False, order=1, mode="grid-constant"
    )
    np.testing.assert_allclose(warp(pixels, maps)[0], expected, atol=2e-2)


def test_any_map_is_that_of_scipy() -> None:
    side, n = 24, 12
    pixels = pictures(n, side)
    maps = affine_maps(np.random.default_rng(3).random((n, 8)), side, STRONG)
    warped = warp(pixels, maps)
    centre = np.full(2, (side - 1) / 2)
    for image, (a, b, t), result in zip(pixels, np.moveaxis(maps, 2, 1), warped, strict=True):
        matrix = np.stack([a, b], axis=1).astype(float)
        expected = ndimage.affine_transform(
            image.astype(float), matrix, t + centre - matrix @ centre, order=1, mode="grid-constant"
        )
        np.testing.assert_allclose(result, expected, atol=2e-2)


def test_crop_shows_the_part_it_should() -> None:
    side = 40
    ramp = np.broadcast_to(np.arange(side, dtype=np.uint8) * 6, (1, side, side))
    settings = replace(NO_CHANGE, crop=(0.25, 0.25))  # half the side
    for draw, first in ((0.0, 0), (0.5, 10), (1.0, 20)):  # left, middle, right
        row = warp(ramp, maps_for(settings, side, column=draw))[0, side // 2] / 6
        # a crop of columns first to first + 20, drawn twice as wide
        expected = first - 0.25 + 0.5 * np.arange(side)
        np.testing.assert_allclose(row[1:-1], expected[1:-1], atol=1e-3)


def test_crops_and_turns_within_the_image_show_no_border() -> None:
    white = np.full((200, 16, 16), 255, np.uint8)
    settings = replace(NO_CHANGE, crop=(0.3, 0.95))
    x = augment(white, np.random.default_rng(2), settings)
    inner = x[:, 1:-1, 1:-1]  # the outermost points lie within half a pixel of the edge
    np.testing.assert_allclose(inner, 2.0, atol=1e-4)


def test_shift_moves_by_its_share_and_brings_in_black() -> None:
    pixels = pictures(1, 20) // 2 + 100
    maps = maps_for(replace(NO_CHANGE, shift=0.2), 20, down=1.0)  # 4 rows
    warped = warp(pixels, maps)[0]
    np.testing.assert_allclose(warped[:-4], pixels[0, 4:], atol=1e-3)
    assert (warped[-4:] == 0).all()


def test_brightness_and_contrast_scale_about_mid_grey() -> None:
    pixels = np.full((300, 2, 2), 153, np.uint8)  # 0.6: x = 0.4
    bright = augment(pixels, np.random.default_rng(4), replace(NO_CHANGE, brightness=0.1))
    assert 0.39 < bright.max() - 0.4 <= 0.4001
    assert -0.4001 <= bright.min() - 0.4 < -0.39
    contrast = augment(pixels, np.random.default_rng(4), replace(NO_CHANGE, contrast=0.5))
    assert 0.58 < contrast.max() <= 0.6001
    assert 0.1999 <= contrast.min() < 0.22
    both = augment(pictures(50), np.random.default_rng(4), STRONG)
    assert (both.min(), both.max()) == (-2.0, 2.0)


def test_same_generator_same_batch() -> None:
    pixels = pictures(9)
    first = augment(pixels, np.random.default_rng(5), STRONG)
    np.testing.assert_array_equal(first, augment(pixels, np.random.default_rng(5), STRONG))
    assert not np.array_equal(first, augment(pixels, np.random.default_rng(6), STRONG))
    assert (first.shape, first.dtype) == ((9, 21, 21, 1), np.float32)


def test_one_setting_does_not_alter_what_another_draws() -> None:
    pixels = np.repeat(pictures(1, 8), 64, axis=0)
    flips = replace(NO_CHANGE, horizontal_flip=True)
    alone = augment(pixels, np.random.default_rng(8), flips)
    with_more = augment(pixels, np.random.default_rng(8), replace(flips, brightness=1e-7))
    np.testing.assert_allclose(with_more, alone, atol=1e-5)


def test_images_in_one_batch_are_changed_each_its_own_way() -> None:
    x = augment(np.repeat(pictures(1), 20, axis=0), np.random.default_rng(9), STRONG)
    assert len(np.unique(x.reshape(20, -1), axis=0)) == 20


def test_result_does_not_depend_on_the_block_size(monkeypatch) -> None:
    pixels = pictures(10)
    whole = augment(pixels, np.random.default_rng(5), STRONG)
    monkeypatch.setattr("examples.mura.augment.BLOCK", 3 * 21 * 21)
    np.testing.assert_array_equal(whole, augment(pixels, np.random.default_rng(5), STRONG))


def test_pixels_are_left_as_they_were() -> None:
    pixels = pictures()
    before = pixels.copy()
    augment(pixels, np.random.default_rng(0), STRONG)
    np.testing.assert_array_equal(pixels, before)


def test_empty_batch() -> None:
    assert augment(pictures(0), np.random.default_rng(0), STRONG).shape == (0, 21, 21, 1)


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
def test_settings_out_of_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as caught:
        AugmentSettings(**wrong)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_radiographs_augment_pixels_and_never_labels(tmp_path: Path) -> None:
    data = read_dataset(make_mura(tmp_path))
    prepared = prepare(data, tmp_path / "cache", side=12, progress=False)
    rows = prepared.rows(data.split("train"))
    train = Radiographs(prepared, rows, STRONG)
    indices = np.array([4, 1, 9, 0])
    x, y = train.batch(indices, np.random.default_rng(0))
    expected = augment(prepared.pixels[rows[indices]], np.random.default_rng(0), STRONG)
    np.testing.assert_array_equal(x, expected)
    np.testing.assert_array_equal(y, prepared.labels[rows[indices]])
    plain, labels = train.batch(indices, None)
    np.testing.assert_array_equal(plain, normalise(prepared.pixels[rows[indices]]))
    np.testing.assert_array_equal(labels, y)
