"""Pictures as they come: the same ramp, whatever it is stored as; what cannot be read is named."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Pillow

from examples.mura import decode
from examples.mura.decode import BadImage, nearly_constant, read_square
from tests.examples.small_mura import grey

RAMP = np.tile(np.linspace(0, 1, 32), (24, 1))
WANTED = np.rint(255 * np.tile(np.linspace(0, 1, 32), (32, 1)))  # of 32 x 32
EIGHT = Pillow.fromarray(np.rint(255 * RAMP).astype(np.uint8))


def tiff(pixels, white=1, order="<", sample=1, packed=False):
    """A grey TIFF; ``white`` is 0 where zero is white, ``sample`` 1 unsigned, 2 signed, 3 float."""
    height, width = pixels.shape
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    data = zlib.compress(data) if packed else data
    tags = [
        (256, width), (257, height), (258, pixels.itemsize * 8), (259, 8 if packed else 1),
        (262, white), (273, 8), (277, 1), (278, height), (279, len(data)), (339, sample),
    ]  # fmt: skip
    parts = [struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data)), data]
    parts.append(struct.pack(f"{order}H", len(tags)))
    parts += [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags]
    return b"".join(parts) + bytes(4)


def refused(file):
    with pytest.raises(BadImage) as caught:
        read_square(file, 8)
    return str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("white", [0, 1])
@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("u1", 0, 255), ("i1", -128, 127),
        ("u2", 0, 255), ("u2", 0, 1023), ("u2", 0, 4095), ("u2", 0, 16383), ("u2", 0, 65535),
        ("i2", 0, 4095), ("i2", -32768, 32767), ("i2", -1024, 3071),
        ("u4", 0, 255), ("u4", 0, 100_000), ("u4", 0, 2**32 - 1), ("i4", 0, 65535),
        ("i4", -(2**31), 2**31 - 1),
        ("f4", 0, 1), ("f4", 0, 255), ("f4", 0, 4095), ("f4", 0, 65535), ("f4", -1, 1),
        ("f4", -0.004, 1.004), ("f8", 0, 1), ("f8", 0, 1e9),
    ],
)  # fmt: skip
def test_a_ramp_stays_a_ramp(tmp_path, dtype, low, high, white, order, packed):
    pixels = low + RAMP * (high - low)
    pixels = pixels.astype(dtype) if dtype[0] == "f" else np.rint(pixels).astype(dtype)
    (tmp_path / "a").write_bytes(tiff(pixels, white, order, "uif".index(dtype[0]) + 1, packed))
    wanted = WANTED if white else 255 - WANTED
    np.testing.assert_allclose(read_square(tmp_path / "a", 32), wanted, atol=2)


def test_the_scale_is_that_of_the_bits_not_of_the_picture(tmp_path):
    """Two pictures of one 12-bit set, of which one is darker."""
    for pixels in (4095 * RAMP, 2000 * RAMP):
        Pillow.fromarray(np.rint(pixels).astype(np.uint16)).save(tmp_path / "a.png")
        brightest = read_square(tmp_path / "a.png", 32).max()
        assert brightest == pytest.approx(255 * pixels.max() / 4095, abs=1)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("kind", decode.FORMATS)
def test_every_mode_of_every_format(tmp_path, kind, mode):
    image = EIGHT if mode != "1" else EIGHT.point(lambda v: 255 * (v > 127))
    if mode == "I;16":
        if kind not in ("PNG", "TIFF", "JPEG2000", "PPM"):
            pytest.skip("has no 16 bits")
        image = Pillow.fromarray(np.asarray(EIGHT).astype(np.uint16) * 257)
    wanted = WANTED if mode != "1" else 255 * (WANTED > 127)
    try:
        image.convert(mode).save(tmp_path / "a", kind)
    except (OSError, ValueError) as error:  # a format has not every mode
        pytest.skip(str(error))
    found = read_square(tmp_path / "a", 32).astype(int)
    assert np.abs(found - wanted).max() <= (130 if mode == "1" else 8)  # a soft edge, lossy formats
    assert np.abs(found - wanted).mean() < 6


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path, kind, orientation):
    upright = Pillow.fromarray(grey(3, 24, 32) // 2)
    turned = upright
    method = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(orientation)
    if method is not None:
        turned = upright.transpose(Pillow.Transpose(method))
    exif = Pillow.Exif()
    exif[274] = orientation
    turned.save(tmp_path / "a", kind, exif=exif, quality=100)
    upright.save(tmp_path / "b", kind, quality=100)
    found, wanted = (read_square(tmp_path / name, 24).astype(int) for name in "ab")
    assert np.abs(found - wanted).mean() < 4


def test_what_is_transparent_lies_over_black(tmp_path):
    clear = np.stack([np.full((24, 32), 255), np.asarray(EIGHT)], axis=-1).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        Pillow.fromarray(clear).save(tmp_path / "a", kind)
        np.testing.assert_allclose(read_square(tmp_path / "a", 32), WANTED, atol=2)
    clear[..., 0], clear[..., 1] = np.asarray(EIGHT), 0  # as programs leave a channel unused
    Pillow.fromarray(clear).save(tmp_path / "a", "PNG")
    np.testing.assert_allclose(read_square(tmp_path / "a", 32), WANTED, atol=2)
    EIGHT.convert("P").save(tmp_path / "a", "PNG", transparency=255)
    assert read_square(tmp_path / "a", 32)[:, -1].max() < 200


def test_one_picture_a_file(tmp_path):
    other = EIGHT.transpose(Pillow.Transpose.FLIP_LEFT_RIGHT)
    for kind in ("TIFF", "GIF", "PNG", "WEBP"):
        EIGHT.save(tmp_path / "a", kind, save_all=True, append_images=[other])
        assert refused(tmp_path / "a") == "holds several pictures, want one: save each as a file"
    EIGHT.save(tmp_path / "a", "MPO", save_all=True, append_images=[other])
    np.testing.assert_allclose(read_square(tmp_path / "a", 32), WANTED, atol=6)
    small = EIGHT.resize((8, 8))
    small.encoderinfo = {"tiffinfo": {254: 1}}  # a preview
    EIGHT.save(tmp_path / "a", "TIFF", save_all=True, append_images=[small])
    np.testing.assert_allclose(read_square(tmp_path / "a", 32), WANTED, atol=2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers(tmp_path, value):
    pixels = RAMP.astype(np.float32)
    pixels[3, 4] = value
    (tmp_path / "a").write_bytes(tiff(pixels, sample=3))
    assert refused(tmp_path / "a") == "has pixels that are NaN or infinite"


def png16(channels, colour):
    """A PNG of 16 bits a channel, which Pillow cannot write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in np.stack(channels, axis=-1))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 32, 24, 16, colour, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def test_colours_of_sixteen_bits(tmp_path):
    full, part = (np.rint(RAMP * high).astype(np.uint16) for high in (65535, 4095))
    for channels, colour in (([full] * 3, 2), ([full, full * 0 + 65535], 4)):
        (tmp_path / "a").write_bytes(png16(channels, colour))
        np.testing.assert_allclose(read_square(tmp_path / "a", 32), WANTED, atol=2)
    for channels, colour in (([part] * 3, 2), ([part, part * 0 + 65535], 4)):
        (tmp_path / "a").write_bytes(png16(channels, colour))
        assert "16-bit colours that use 14 bits or fewer" in refused(tmp_path / "a")


@pytest.mark.parametrize(
    ("kind", "mode", "side"),
    [("PNG", "L", 6000), ("PNG", "RGBA", 2600), ("TIFF", "F", 2600), ("JPEG", "L", 7000)],
)
def test_a_small_file_of_very_many_pixels(tmp_path, kind, mode, side):
    packed = {"compression": "tiff_deflate"} if kind == "TIFF" else {}
    Pillow.new(mode, (side, side)).save(tmp_path / "a", kind, **packed)
    assert "MB to decode, out of proportion to its" in refused(tmp_path / "a")


def test_damaged_files_are_named_whatever_the_decoder_raises(tmp_path, monkeypatch):
    EIGHT.save(tmp_path / "a", "PNG")
    for error, said in (
        (KeyError(3), "cannot be decoded (3)"),
        (RuntimeError(), "cannot be decoded (RuntimeError)"),
        (PermissionError(13, "Permission denied"), "cannot be read (Permission denied)"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(
                Pillow, "open", lambda *_, error=error, **__: (_ for _ in ()).throw(error)
            )
            assert refused(tmp_path / "a") == said
    (tmp_path / "link.png").symlink_to("nowhere")
    assert refused(tmp_path / "link.png") == "is a link to a file that is not there"
    assert refused(tmp_path) == "is not a file"


def test_nearly_constant():
    square = np.full((8, 8), 90, np.uint8)
    assert nearly_constant(square)
    square[:2], square[:, 7] = 0, 0  # a black border
    assert nearly_constant(square)
    square[4, 4] = 106
    assert not nearly_constant(square)
    assert nearly_constant(square * 0)


def test_colour_and_sixteen_bits_become_grey(tmp_path):
    picture = grey(5, 16, 16)
    stored = {
        "grey.png": Pillow.fromarray(picture),
        "rgb.png": Pillow.fromarray(np.repeat(picture[..., None], 3, axis=2)),
        "rgba.png": Pillow.fromarray(picture).convert("RGBA"),
        "palette.png": Pillow.fromarray(picture).convert("P"),
        "sixteen.png": Pillow.fromarray(picture.astype(np.uint16) * 257),
    }
    for name, image in stored.items():
        image.save(tmp_path / name)
        np.testing.assert_array_equal(read_square(tmp_path / name, 16), picture, err_msg=name)


def test_letterbox_keeps_the_aspect_ratio(tmp_path):
    file = tmp_path / "image.png"
    Pillow.new("L", (20, 80), 255).save(file)
    expected = np.zeros((32, 32), np.uint8)
    expected[:, 12:20] = 255  # a quarter as wide as it is high, in the middle
    np.testing.assert_array_equal(read_square(file, 32, "letterbox"), expected)
    assert (read_square(file, 32, "stretch") == 255).all()
    Pillow.new("L", (400, 1), 255).save(file)
    assert (read_square(file, 8, "letterbox") == 255).sum() == 8  # a sliver keeps a pixel


def test_downsampling_averages_instead_of_aliasing(tmp_path):
    stripes = np.zeros((256, 256), np.uint8)
    stripes[:, ::2] = 255
    Pillow.fromarray(stripes).save(tmp_path / "stripes.png")
    square = read_square(tmp_path / "stripes.png", 32)
    assert abs(square.astype(int) - 127).max() <= 8
