"""Plain PNG files are decoded without opening them in Pillow, and have the pixels that Pillow reads."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image

from cifarnet import png
from cifarnet.errors import DataError
from cifarnet.preprocessing import read_pixels

SHAPE = (32, 48, 3)


def encoded(image, **options):
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    return file.getvalue()


@pytest.fixture(params=range(3))
def pixels(request):
    """Return noise, a gradient and one color: each makes the encoder choose other filters."""
    noise = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    gradient = np.add.outer(np.add.outer(np.arange(32), np.arange(48)), np.arange(3)).astype(np.uint8)
    return (noise, gradient, np.full(SHAPE, 7, np.uint8))[request.param]


def test_a_plain_file_has_the_pixels_that_pillow_wrote_which_may_be_in_several_chunks(pixels):
    for level in (0, 9):
        content = encoded(Image.fromarray(pixels), compress_level=level)
        np.testing.assert_array_equal(png.plain_pixels(content, SHAPE), pixels)
    data = content[41 : content.index(b"IEND") - 8]
    chunks = [data[at : at + 50] for at in range(0, len(data), 50)]
    divided = content[:33] + b"".join(png._chunk(b"IDAT" + each) for each in chunks) + png._chunk(b"IEND")
    np.testing.assert_array_equal(png.plain_pixels(divided, SHAPE), pixels)


def test_other_files_are_left_to_pillow(pixels):
    image = Image.fromarray(pixels)
    exif = Image.Exif()
    exif[0x0112] = 6  # the orientation
    others = {
        "another size": encoded(image.crop((0, 0, 32, 32))),
        "turned": encoded(image, exif=exif),
        "a transparent color": encoded(image, transparency=(7, 7, 7)),
        "gray": encoded(image.convert("L")),
        "with a palette": encoded(image.quantize(4)),
        "with an alpha channel": encoded(image.convert("RGBA")),
        "JPEG": b"\xff\xd8\xff",
        "empty": b"",
    }
    assert {name for name, content in others.items() if png.plain_pixels(content, SHAPE) is not None} == set()


def test_a_file_that_is_damaged_or_cut_anywhere_is_left_to_pillow(pixels):
    content = encoded(Image.fromarray(pixels))
    for place in range(len(content)):
        assert png.plain_pixels(content[:place], SHAPE) is None
        changed = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        assert png.plain_pixels(changed, SHAPE) is None


@pytest.mark.parametrize("data", [b"", b"no zlib", zlib.compress(b"\0" * 100)], ids=["none", "damaged", "too few"])
def test_pixels_that_cannot_be_decoded_are_an_error(data, tmp_path):
    content = encoded(Image.new("RGB", (48, 32)))[:33] + png._chunk(b"IDAT" + data) + png._chunk(b"IEND")
    assert png.plain_pixels(content, SHAPE) is None
    (tmp_path / "image.png").write_bytes(content)
    with pytest.raises(DataError):
        read_pixels(tmp_path / "image.png", SHAPE)


def test_a_plain_file_is_decoded_without_opening_it_in_pillow(pixels, tmp_path, monkeypatch):
    (tmp_path / "image.png").write_bytes(encoded(Image.fromarray(pixels)))
    monkeypatch.setattr(Image, "open", None)
    np.testing.assert_array_equal(read_pixels(tmp_path / "image.png", SHAPE), pixels)
