"""Images of every mode and size become the same RGB pixels by one recipe."""

import errno
import io
import os
import struct
from unittest.mock import Mock

import numpy as np
import pillow_heif
import pytest
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, features
from tests.png import png_bytes

from cifarnet import preprocessing
from cifarnet.contract import RECIPE
from cifarnet.errors import ConfigError, DataError, SizeError
from cifarnet.preprocessing import EXTENSIONS, bombs_refused, pixels, read_pixels


def _gradient(height: int = 32, width: int = 32) -> np.ndarray:
    return np.random.Generator(np.random.PCG64(1)).integers(0, 256, (height, width, 3), np.uint8)


def test_an_image_of_the_right_size_is_unchanged_and_another_gives_its_center_square():
    for image, expected in (
        (_gradient(), _gradient()),
        (_gradient(32, 51), _gradient(32, 51)[:, 9:41]),
        (_gradient(40, 32), _gradient(40, 32)[4:36]),
    ):
        np.testing.assert_array_equal(pixels(Image.fromarray(image)), expected)
    assert pixels(Image.new("RGB", (100, 60))).shape == (RECIPE["height"], RECIPE["width"], 3)


def test_shrinking_sees_every_pixel_and_none_that_is_cut_off_and_a_tiny_image_is_enlarged():
    checks = np.indices((256, 256)).sum(0) % 2 * np.uint8(255)
    shrunk = pixels(Image.fromarray(checks.astype(np.uint8)))
    # plain bilinear sampling would give black and white again; antialiasing gives the gray between them
    np.testing.assert_allclose(shrunk, 127.5, atol=2)
    image = np.full((320, 640, 3), 255, np.uint8)
    image[:, 160:480] = 0
    np.testing.assert_array_equal(pixels(Image.fromarray(image)), np.zeros((32, 32, 3)))
    np.testing.assert_array_equal(pixels(Image.new("RGB", (1, 3), (1, 2, 3))), np.full((32, 32, 3), (1, 2, 3)))


def transparent_palette():
    image = Image.new("P", (32, 32), 0)
    image.putpalette([9, 80, 7])
    image.save(file := io.BytesIO(), "PNG", transparency=0)
    return Image.open(file)


@pytest.mark.parametrize(
    ("image", "color"),
    [
        (Image.new("L", (32, 32), 77), 77),
        (Image.new("1", (32, 32), 1), 255),
        (Image.new("RGBA", (32, 32), (200, 0, 0, 0)), 255),
        (Image.new("RGBA", (32, 32), (200, 0, 0, 255)), (200, 0, 0)),
        (Image.new("LA", (32, 32), (0, 127)), 128),
        (Image.new("RGB", (32, 32), (9, 80, 7)).quantize(4), (9, 80, 7)),
        (transparent_palette(), 255),
        (Image.new("CMYK", (32, 32), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.fromarray(np.full((32, 32), 0x80FF, np.uint16)), 128),
        (Image.fromarray(np.full((32, 32), 0x80FF, ">u2")), 128),
    ],
    ids=lambda value: getattr(value, "mode", None),
)
def test_every_mode_becomes_rgb(image, color):
    np.testing.assert_array_equal(pixels(image), np.full((32, 32, 3), color))


def test_the_first_frame_of_an_animation_counts(tmp_path):
    frames = [Image.new("RGB", (32, 32), color) for color in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "a.gif") as image:
        np.testing.assert_array_equal(pixels(image), np.full((32, 32, 3), (255, 0, 0)))


def test_pixels_without_a_defined_range_and_a_folder_are_refused(tmp_path):
    for mode in "IF":
        Image.new(mode, (32, 32), 100).save(tmp_path / "a.tif")
        message = f"^pixels of mode {mode}, whose range is not defined; expected 8 or 16 bits$"
        with pytest.raises(DataError, match=message):
            read_pixels(tmp_path / "a.tif")
    # Pillow reads 12 bits as 16, in which they would be nearly black, and inverts white as 0 in 8 bits only.
    with pytest.raises(DataError, match=r"^pixels of 12 bits; expected 8 or 16 bits$"):
        read_pixels(_tiff(bits=12, black=1))
    with pytest.raises(DataError, match=r"^16-bit pixels with 0 as white; expected 0 as black$"):
        read_pixels(_tiff(bits=16, black=0))
    assert read_pixels(_tiff(bits=16, black=1)).max() == 255
    assert read_pixels(_tiff(bits=8, black=0)).max() == 0
    with pytest.raises(DataError, match=r"^Is a directory$"):
        read_pixels(tmp_path)


def _tiff(*, bits, black):
    """Return a gray TIFF file of 2x1 pixels, all bits set; ``black`` is 1 if 0 is black and 0 if it is white."""
    tags = [(256, 2), (257, 1), (258, bits), (259, 1), (262, black), (273, 8), (277, 1), (278, 1), (279, bits // 4)]
    entries = b"".join(struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags)
    head = b"II*\0" + struct.pack("<I", 12) + b"\xff\xff\xff\xff"
    return io.BytesIO(head + struct.pack("<H", len(tags)) + entries + bytes(4))


@pytest.mark.parametrize("bits", [1, 4, 8])
def test_the_transparent_value_of_a_gray_png_of_few_bits_becomes_white(bits):
    levels = 2**bits
    values = np.arange(32 * 32, dtype=np.int64).reshape(32, 32) % levels
    packed = (values.reshape(-1, 8 // bits) << np.arange(8 - bits, -1, -bits)).sum(axis=1).astype(np.uint8)
    file = png_bytes(32, 32, packed.tobytes(), bits=bits, is_gray=True, transparency=struct.pack(">H", levels // 2))
    expected = np.where(values == levels // 2, 255, values * 255 // (levels - 1))
    image = Image.open(io.BytesIO(file))
    for found in (read_pixels(io.BytesIO(file)), pixels(image), pixels(image)):
        np.testing.assert_array_equal(found, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("color", [(0x1234,), (0x1234, 0x5678, 0x9ABC)], ids=["gray", "RGB"])
def test_the_transparent_color_of_a_16_bit_png_becomes_white(color):
    values = np.tile(np.asarray(color, ">u2"), (32, 32, 1))
    values[0] = 0x4321
    transparency = struct.pack(f">{len(color)}H", *color)
    file = png_bytes(32, 32, values.tobytes(), bits=16, is_gray=len(color) == 1, transparency=transparency)
    decoded = read_pixels(io.BytesIO(file))
    np.testing.assert_array_equal(decoded[0], np.full((32, 3), 0x43))
    np.testing.assert_array_equal(decoded[1:], np.full((31, 32, 3), 255))


def test_an_error_of_the_system_is_not_taken_for_a_broken_image(monkeypatch):
    for code in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO):
        monkeypatch.setattr(Image, "open", Mock(side_effect=OSError(code, os.strerror(code))))
        with pytest.raises(OSError, match=os.strerror(code)):
            read_pixels(io.BytesIO())


def test_a_png_with_a_large_text_or_color_profile_is_read_but_a_broken_one_is_still_refused():
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 2_000_000, zip=True)
    for options in ({"pnginfo": text}, {"icc_profile": bytes(3_000_000)}):
        Image.fromarray(_gradient()).save(file := io.BytesIO(), "PNG", **options)
        np.testing.assert_array_equal(read_pixels(file), _gradient())
        content = bytearray(file.getvalue())
        content[-40] ^= 1
        with pytest.raises(DataError, match="CRC"):
            read_pixels(io.BytesIO(content))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_every_orientation_is_turned_once_as_pillow_does(kind):
    for orientation in range(1, 10):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(_gradient()).save(file := io.BytesIO(), kind, exif=exif, lossless=True)
        expected = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
        image = Image.open(file)
        for found in (read_pixels(file), pixels(image), pixels(image)):
            np.testing.assert_array_equal(found, expected)


def test_a_damaged_exif_block_does_not_matter_and_its_orientation_is_used(tmp_path):
    bright = np.zeros((32, 32, 3), np.uint8)
    bright[:16] = 255
    tags = struct.pack("<HHHII", 2, 0x0112, 3, 1, 6) + struct.pack("<HHII", 0x010F, 2, 50, 9999) + bytes(4)
    blocks = {"damaged": b"Exif\0\0IIU\0\x18\0\0\0" + bytes(64), "turned": b"Exif\0\0II*\0\x08\0\0\0" + tags}
    for name, block in blocks.items():
        Image.fromarray(bright).save(tmp_path / f"{name}.jpg", exif=block, dpi=(72, 72))
    with bombs_refused():
        damaged, turned = (read_pixels(tmp_path / f"{name}.jpg") for name in blocks)
    np.testing.assert_allclose(damaged, bright, atol=3)
    np.testing.assert_allclose(turned, np.rot90(bright, -1), atol=3)


def test_the_limit_of_pixels_can_be_raised(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    monkeypatch.setattr(preprocessing, "MAX_PIXELS", 500)
    Image.fromarray(_gradient()).save(tmp_path / "large.png")
    with pytest.raises(SizeError), bombs_refused():
        read_pixels(tmp_path / "large.png")
    monkeypatch.setenv("CIFARNET_MAX_PIXELS", "1024")
    with bombs_refused():
        np.testing.assert_array_equal(read_pixels(tmp_path / "large.png"), _gradient())
    monkeypatch.setenv("CIFARNET_MAX_PIXELS", "many")
    with pytest.raises(ConfigError, match="CIFARNET_MAX_PIXELS is 'many'; expected a whole number"):
        read_pixels(tmp_path / "large.png")


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_files_are_read(tmp_path):
    Image.new("RGB", (32, 32), (200, 100, 50)).save(tmp_path / "image.avif")
    assert {".avif", ".jfif", ".jpe", ".jpg"} <= set(EXTENSIONS)
    np.testing.assert_allclose(read_pixels(tmp_path / "image.avif"), np.full((32, 32, 3), (200, 100, 50)), atol=6)


def test_heic_photos_are_read_upright_once_and_damaged_or_too_large_ones_are_refused(tmp_path, monkeypatch):
    halves = Image.new("RGB", (40, 40), (200, 100, 50))
    halves.paste((10, 20, 30), (0, 0, 20, 40))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # the left is shown at the top
    path = tmp_path / "image.heic"
    pillow_heif.from_pillow(halves).save(path, exif=exif.tobytes())
    assert {".heic", ".heif"} <= set(EXTENSIONS)
    content = path.read_bytes()
    (tmp_path / "named.jpg").write_bytes(content)
    for file in (path, io.BytesIO(content), tmp_path / "named.jpg"):
        found = read_pixels(file)
        np.testing.assert_allclose(found[:12], np.full((12, 32, 3), (10, 20, 30)), atol=6)
        np.testing.assert_allclose(found[20:], np.full((12, 32, 3), (200, 100, 50)), atol=6)
    for damaged in (content[:-1], content[:200]):
        with pytest.raises(DataError):
            read_pixels(io.BytesIO(damaged))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # the variable changes it
    monkeypatch.setenv("CIFARNET_MAX_PIXELS", "1500")
    with pytest.raises(SizeError, match=r"1600 pixels"):
        read_pixels(path)
