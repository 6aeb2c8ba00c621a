"""The cache of prepared pixels: its content, what is said of bad files, and how it goes on."""

import errno
import json
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image as Pillow

from examples.mura import decode
from examples.mura import prepare as module
from examples.mura.dataset import Dataset, read_dataset
from examples.mura.decode import read_square
from examples.mura.errors import UserError
from examples.mura.prepare import (
    DONE,
    LOCK,
    MANIFEST,
    PIXELS,
    cache_name,
    open_prepared,
    prepare,
)
from tests.examples.small_mura import grey, make_mura

SIDE = 16
STUDY = "train/XR_ELBOW/patient00001/study1_negative"
FOREIGN = "give an empty or a new folder with --cache"


@pytest.fixture
def data(tmp_path):
    return read_dataset(make_mura(tmp_path))


def run(data, cache, **options):
    return prepare(data, cache, **({"side": SIDE, "progress": False} | options))


def fails(data, cache, **options):
    with pytest.raises(UserError) as caught:
        run(data, cache, **options)
    return str(caught.value)


def squares(data, images=None):
    return np.stack([read_square(data.file(i), SIDE) for i in images or data.images])


def failing_after(calls, error):
    """``read_square`` that raises ``error`` after some images."""
    left = iter(range(calls))

    def read(file, *settings):
        if next(left, None) is None:
            raise error
        return read_square(file, *settings)

    return read


def test_the_cache_holds_every_image_in_order_and_is_made_once(data, tmp_path, decoded):
    prepared = run(data, tmp_path / "cache")
    assert prepared.images == data.images
    assert prepared.labels.tolist() == [image.label for image in data.images]
    assert prepared.labels.dtype == np.int64
    assert (prepared.side, prepared.fit, prepared.synthetic) == (SIDE, "stretch", False)
    assert prepared.left_out == []
    assert isinstance(prepared.pixels, np.memmap)
    assert not prepared.pixels.flags.writeable
    np.testing.assert_array_equal(prepared.pixels, squares(data))
    assert len(np.unique(prepared.pixels, axis=0)) == len(data.images)
    assert sorted(os.listdir(prepared.folder)) == [MANIFEST, PIXELS, LOCK]
    decoded.clear()
    again = run(data, tmp_path / "cache")
    assert decoded == []
    np.testing.assert_array_equal(again.pixels, prepared.pixels)


def test_processes_write_the_same_cache(data, tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "CHUNK", 4)
    one = run(data, tmp_path / "one", workers=1)
    two = run(data, tmp_path / "two", workers=2)
    assert (tmp_path / "one" / PIXELS).read_bytes() == (tmp_path / "two" / PIXELS).read_bytes()
    assert one.images == two.images


class Killed(BaseException):
    """Stands for the end of the process, which no except clause of ours catches."""


def test_a_killed_run_goes_on_from_what_is_done(data, tmp_path, monkeypatch, decoded):
    cache = tmp_path / "cache"
    saves, save = iter(range(3)), module.save_done
    with monkeypatch.context() as patch:
        patch.setattr(decode, "CHUNK", 2)
        patch.setattr(module, "SAVE_EVERY", 2)
        patch.setattr(decode, "read_square", failing_after(7, Killed()))
        # a process that is killed runs no clean-up: only what is saved on the way counts
        patch.setattr(module, "save_done", lambda *a: next(saves, None) is None or save(*a))
        with pytest.raises(Killed):
            run(data, cache)
    assert np.count_nonzero(np.fromfile(cache / DONE, np.uint64)) == 6
    half = f"{cache} is half prepared: run prepare again, it goes on from there"
    with pytest.raises(UserError, match=f"^{half}$"):
        open_prepared(cache)

    resumed = run(data, cache)
    assert decoded == [data.file(image) for image in data.images[6:]]
    np.testing.assert_array_equal(resumed.pixels, squares(data))
    assert sorted(os.listdir(cache)) == [MANIFEST, PIXELS, LOCK]


def test_other_settings_or_images_are_refused(data, tmp_path):
    cache = tmp_path / "cache"
    run(data, cache)
    fix = "give another folder with --cache or delete this one"
    made = f"{cache} was prepared"
    assert cache_name(data, 16, "stretch").startswith("16-stretch-")
    assert fails(data, cache, side=8) == (
        f"{made} at 16 x 16 (stretch), want 8 x 8 (stretch): {fix}"
    )
    assert fails(data, cache, fit="letterbox") == (
        f"{made} at 16 x 16 (stretch), want 16 x 16 (letterbox): {fix}"
    )
    fewer = Dataset(data.root, data.images[:-1])
    assert cache_name(fewer, 16, "stretch") != cache_name(data, 16, "stretch")
    assert fails(fewer, cache) == f"{made} from other images (15, want 14): {fix}"
    Pillow.fromarray(grey(99, 80, 60)).save(data.file(data.images[0]))
    assert fails(data, cache) == f"{made} before some of its images were replaced: {fix}"
    assert fails(data, tmp_path / "other", side=0, fit="crop") == (
        "got side 0 and fit 'crop', want 1 or more and stretch or letterbox"
    )


def spoil(case, file):
    """Make the file bad; returns what should be said of it."""
    if case == "truncated":
        noise = np.random.default_rng(0).integers(0, 256, (60, 60), dtype=np.uint8)
        Pillow.fromarray(noise).save(file)
        file.write_bytes(file.read_bytes()[:1500])
        return "is truncated"
    if case == "empty":
        file.write_bytes(b"")
        return "is empty (0 bytes)"
    if case == "text":
        file.write_text("not found")
        return f"is not an image, or not of a kind that can be read ({', '.join(decode.FORMATS)})"
    if case == "missing":
        file.unlink()
        return "is missing"
    Pillow.new("1", (20_000, 10_000) if case == "huge" else (10_000, 7_000)).save(file)
    return "has more than 64,000,000 pixels, too many to decode"


@pytest.mark.parametrize("case", ["truncated", "empty", "text", "huge", "large", "missing"])
def test_a_bad_image(case, data, tmp_path):
    cache = tmp_path / "cache"
    file = data.root / STUDY / "image2.png"
    line = f"{file} {spoil(case, file)}"
    message = f"{line}: replace it by a good copy, or leave it out with --skip-bad"
    assert fails(data, cache) == message
    # every other image is done, so that leaving it out costs nothing
    assert np.count_nonzero(np.fromfile(cache / DONE, np.uint64)) == 14

    prepared = run(data, cache, skip_bad=True)
    kept = [image for image in data.images if data.file(image) != file]
    assert prepared.images == kept
    assert prepared.left_out == [line]
    np.testing.assert_array_equal(prepared.pixels, squares(data, kept))
    assert prepared.rows(data.images).tolist() == list(range(14))
    # without --skip-bad a cache that lacks images is refused
    assert fails(data, cache) == message


def test_nothing_but_bad_images(data, tmp_path):
    for image in data.images:
        data.file(image).write_bytes(b"")
    assert "is empty (0 bytes) (and 14 more)" in fails(data, tmp_path / "c", skip_bad=True)


@pytest.mark.parametrize("lost", [0, 5])
def test_a_mended_image_is_decoded_and_the_rest_is_not(data, tmp_path, decoded, lost):
    file = data.root / STUDY / "image2.png"
    good = file.read_bytes()
    file.write_bytes(good[: len(good) // 2] + bytes(len(good) - len(good) // 2 - lost))
    assert str(file) in fails(data, tmp_path / "cache")
    file.write_bytes(good)
    decoded.clear()
    assert run(data, tmp_path / "cache").images == data.images
    assert decoded == [file]


def test_a_picture_replaced_by_one_of_equal_size_is_noticed(data, tmp_path):
    prepared = run(data, tmp_path / "cache")
    name = cache_name(data, SIDE, "stretch")
    one, other = (data.file(image) for image in data.images[:2])
    Pillow.fromarray(grey(77)).save(other, compress_level=0)
    Pillow.fromarray(grey(78)).save(one, compress_level=0)
    before = cache_name(data, SIDE, "stretch")
    size, time = one.stat().st_size, one.stat().st_mtime_ns
    one.write_bytes(other.read_bytes())
    os.utime(one, ns=(time, time + 1))
    assert one.stat().st_size == size
    assert len({name, before, cache_name(data, SIDE, "stretch")}) == 3
    assert "before some of its images were replaced" in fails(data, prepared.folder)


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
def test_nearly_constant_pictures_are_named(data, tmp_path, fit):
    files = [data.file(image) for image in data.images[:3]]
    for file, levels in zip(files, (0, 15, 40), strict=True):
        Pillow.fromarray(np.linspace(200, 200 + levels, 800).astype(np.uint8).reshape(40, 20)).save(
            file
        )
    prepared = run(data, tmp_path / "cache", fit=fit)
    assert prepared.nearly_constant == [str(file) for file in files[:2]]
    assert prepared.warnings == [
        f"{file} is nearly constant (fewer than 16 grey levels): look at it" for file in files[:2]
    ]


def test_a_full_disk_is_found_before_the_work(data, tmp_path, monkeypatch, decoded):
    cache = tmp_path / "cache"
    usage = shutil._ntuple_diskusage(9, 9, 1000)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda _: usage)
        assert fails(data, cache) == (
            f"no space in {cache}: the cache needs 3,840 bytes, 1,000 are free: "
            "free some, or give a folder on another disk with --cache"
        )
    assert decoded == []
    assert os.listdir(cache) == [LOCK]
    assert run(data, cache).images == data.images


def test_a_disk_that_fills_up_on_the_way(data, tmp_path, monkeypatch):
    cache = tmp_path / "cache"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(decode, "CHUNK", 1)
        patch.setattr(decode, "read_square", failing_after(4, full))
        assert fails(data, cache).startswith(f"no space in {cache}: the cache needs 3,840 bytes, ")
    assert np.count_nonzero(np.fromfile(cache / DONE, np.uint64)) == 4
    assert run(data, cache).images == data.images


def test_images_that_vanish_with_their_folder_are_not_left_out(data, tmp_path, monkeypatch):
    """With --skip-bad they would be."""
    cache, moved = tmp_path / "cache", tmp_path / "moved"
    real, calls = decode.read_square, iter(range(99))

    def read(file, *settings):
        if next(calls) == 4:
            data.root.rename(moved)
        return real(file, *settings)

    with monkeypatch.context() as patch:
        patch.setattr(decode, "read_square", read)
        message = fails(data, cache, skip_bad=True)
    assert message.startswith(f"{data.root} has gone while its images were read: bring it back")
    moved.rename(data.root)
    (cache / "plan.json.tinynet-0123abcd.tmp").touch()  # of a kill
    assert len(run(data, cache).images) == len(data.images)
    assert sorted(os.listdir(cache)) == [MANIFEST, PIXELS, LOCK]


def test_a_folder_that_is_not_ours_is_left_alone(data, tmp_path):
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1.txt").write_text("Introduction")
    assert fails(data, folder) == f"{folder} holds other files: {FOREIGN}"
    assert os.listdir(folder) == ["chapter1.txt"]
    cache = folder / "chapter1.txt" / "inside"
    assert fails(data, cache) == (
        f"cannot write to {cache} (Not a directory): give another with --cache"
    )


def test_open_refuses_what_is_not_a_cache(data, tmp_path):
    cache = tmp_path / "cache"
    make = f"python -m examples.mura prepare --data FOLDER --cache {cache}"
    again = f"delete the folder {cache}, then run {make}"

    def says(**kind):
        with pytest.raises(UserError) as caught:
            open_prepared(cache, **kind)
        return str(caught.value)

    assert says() == (f"{cache} holds no prepared images (no manifest.json): run {make}")
    run(data, cache)
    kind = make.replace("FOLDER", "FOLDER --side 8 --fit stretch")
    assert says(side=8, fit="stretch") == (
        f"{cache} holds images of 16 x 16 (stretch), want 8 x 8 (stretch): "
        f"delete the folder {cache}, then run {kind}"
    )
    manifest = (cache / MANIFEST).read_text()
    for content in ("{", "[]", '{"format": "of something else", "version": 1}'):
        (cache / MANIFEST).write_text(content)
        assert says() == (
            f"{cache}/manifest.json is not of a cache of prepared images: "
            "give another folder with --cache"
        )
    (cache / MANIFEST).write_text(json.dumps(json.loads(manifest) | {"version": 1}))
    assert says() == f"{cache}/manifest.json is of version 1, want 2: {again}"
    for name, values in {
        "side": (None, "16", 0, True), "fit": (None, "crop"), "synthetic": (None, 1),
        "count": ("",), "digest": (None, 5), "left_out": ("", [1]), "nearly_constant": ({},),
        "images": (None, 7, [1, 2], ["a.png"], "text"),
    }.items():  # fmt: skip
        for value in values:
            (cache / MANIFEST).write_text(json.dumps(json.loads(manifest) | {name: value}))
            assert re.fullmatch(
                f"{cache}/manifest.json is damaged \\(.*{name}.*\\): {again}", says()
            )
    entries = json.loads(manifest)
    del entries["side"]
    (cache / MANIFEST).write_text(json.dumps(entries))
    assert says() == f"{cache}/manifest.json is damaged (it lacks 'side'): {again}"
    (cache / MANIFEST).write_text(manifest)
    whole = (cache / PIXELS).read_bytes()
    for content in (whole[:-1], whole[:50], b""):
        (cache / PIXELS).write_bytes(content)
        assert says().startswith(f"{cache}/pixels.npy is damaged (got ")
    np.save(cache / PIXELS, np.zeros((15, 8, 8), np.uint8))
    assert says() == (
        f"{cache}/pixels.npy is damaged (got uint8 (15, 8, 8), want uint8 (15, 16, 16)): {again}"
    )
