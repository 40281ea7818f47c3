"""Every kind of image becomes the same pixels as in training, or an error that says what to pass."""

import errno
import io
import os
import re
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from cifarnet.errors import DataError
from cifarnet.preprocessing import pixels
from tests.lfs import POINTER
from tests.runtime.conftest import COLOURS


@pytest.fixture
def refuses(classifier):
    """Return a function that hands images over, which must be refused, and returns the reason."""

    def refuses(images):
        with pytest.raises(DataError) as info:
            classifier(images)
        assert "\n" not in str(info.value)
        return str(info.value)

    return refuses


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


# Arrays that are refused


def test_float_images(refuses, painted):
    message = refuses(painted("red").astype(np.float32))
    assert message == ("the images have dtype float32; expected uint8, the pixels 0-255: pass them as they were read")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("several", [False, True])
def test_images_that_are_scaled_already(refuses, painted, dtype, several):
    scaled = (painted("red") / 255).astype(dtype)
    message = "your images are in 0–1: pass the 0–255 pixels, as uint8; scaling is part of the model"  # noqa: RUF001
    assert refuses(np.stack([scaled, scaled]) if several else scaled) == message


@pytest.mark.parametrize("value", [-1, np.nan, np.inf, 1.5])
def test_floats_outside_of_0_to_1_are_not_said_to_be_scaled(refuses, painted, value):
    image = (painted("red") / 255).astype(np.float32)
    image[0, 0, 0] = value
    assert refuses(image).startswith("the images have dtype float32; expected uint8")


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64", "object", "<U3"])
def test_other_dtypes(refuses, painted, dtype):
    image = painted("red").astype(dtype)
    assert refuses(image).startswith(f"the images have dtype {image.dtype}; expected uint8, the pixels 0-255: pass")


def test_an_array_of_16_bits_is_told_its_high_bytes(refuses, classifier, painted):
    deep = painted("green").astype(np.uint16) * 257
    message = refuses(deep)
    assert message.endswith("expected uint8, the pixels 0-255: pass their high bytes, (images >> 8).astype('uint8')")
    assert classifier((deep >> 8).astype("uint8")).label == "green"


@pytest.mark.parametrize(
    ("shape", "transpose"), [((3, 32, 32), (1, 2, 0)), ((5, 3, 32, 32), (0, 2, 3, 1)), ((1, 28, 28), (1, 2, 0))]
)
def test_channels_first(refuses, classifier, shape, transpose):
    images = np.zeros(shape, np.uint8)
    assert refuses(images) == (
        f"the images have shape {shape}, channels first; expected channels last: pass images.transpose{transpose}"
    )
    classifier(images.transpose(transpose))


@pytest.mark.parametrize("shape", [(), (3072,), (32, 32, 2), (7, 32, 32), (2, 32, 32, 5), (1, 1, 32, 32, 3)])
def test_shapes_without_a_meaning(refuses, shape):
    message = refuses(np.zeros(shape, np.uint8))
    assert message.startswith(f"the images have shape {shape}; expected (h, w), (h, w, 3) or (h, w, 4) for one")


@pytest.mark.parametrize("empty", [[], (), np.zeros((0, 32, 32, 3), np.uint8), np.zeros((0, 9, 9, 3), np.uint8)])
def test_empty_batches(refuses, empty):
    assert refuses(empty) == "the batch has 0 images; expected at least 1: leave the call out"


@pytest.mark.parametrize("shape", [(0, 32, 3), (32, 0, 3), (0, 0), (2, 0, 32, 3)])
def test_images_without_pixels(refuses, shape):
    assert "expected at least one pixel: pass a whole image" in refuses(np.zeros(shape, np.uint8))


# Other things that are refused


@pytest.mark.parametrize(
    ("thing", "found"),
    [
        (None, "None"),
        (7, "7"),
        (1.5, "1.5"),
        ({"image": 1}, "of type dict"),
        ({1}, "of type set"),
        (range(3), "of type range"),
        (object(), "of type object"),
        (io.StringIO("text"), "of type StringIO"),
    ],
)
def test_things_that_are_no_images(refuses, thing, found):
    assert refuses(thing) == (
        f"an image is {found}; expected a uint8 array, a path, bytes, a file opened with 'rb' or a Pillow image: "
        "convert it"
    )


def test_an_open_file_is_read(classifier, painted):
    file = io.BytesIO()
    Image.fromarray(painted("red")).save(file, "png")
    for opened in (file, io.BufferedReader(io.BytesIO(file.getvalue()))):
        opened.seek(0)
        assert classifier(opened) == classifier(file.getvalue())


def test_a_bad_image_of_a_list_is_counted(refuses, painted):
    assert refuses([painted("red"), 7]).startswith("image 1 of the batch of 2: an image is 7; expected")
    assert refuses([painted("red"), painted("red")[None]]) == (
        "image 1 of the batch of 2: it has shape (1, 32, 32, 3); expected one image: pass the batch itself"
    )
    assert refuses([[[1, 2, 3]]]).startswith("image 0 of the batch of 1: an image is of type list; expected")


def test_a_path_without_a_file(refuses, tmp_path):
    message = "no.png cannot be read (No such file or directory); expected an image file: check the path"
    assert refuses(tmp_path / "no.png") == f"{tmp_path}/{message}"
    said = refuses("a\0b")  # the reason is Python's, and its words change
    assert said.startswith("a\0b cannot be read (")
    assert "embedded null" in said
    assert said.endswith("; expected an image file: check the path")


def test_a_folder_is_told_the_way_to_stream(refuses, photos):
    message = f"{photos} is a folder; expected an image: iterate over Classifier.stream(folder)"
    assert refuses(photos) == refuses(str(photos)) == message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_does_not_keep_the_app_waiting(refuses, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    message = (
        f"{tmp_path / 'pipe.png'} is no regular file; expected an image file: pass its bytes, on the command line by -"
    )
    assert refuses(tmp_path / "pipe.png") == message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files(refuses, tmp_path, kind):
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (64, 64, 3), np.uint8)
    whole = encoded(Image.fromarray(noise), kind)
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    message = refuses(tmp_path / "cut")
    assert re.fullmatch(r".*/cut cannot be used \(.+\); expected a whole image file: replace it", message)
    assert refuses(whole[: len(whole) // 2]).startswith("the image cannot be used (")


@pytest.mark.parametrize("junk", [b"", b"\0" * 100, b"no image", b"<svg/>"])
def test_bytes_that_are_no_image(refuses, junk):
    message = "the image cannot be used (no image in a known format); expected a whole image file: replace it"
    assert refuses(junk) == message


def test_too_many_open_files_are_not_blamed_on_the_image(refuses, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Image, "open", refuse)
    assert refuses(b"any").startswith("the image cannot be read (Too many open files): an error of the system, not")


def test_a_git_lfs_pointer_in_place_of_an_image_is_named(refuses, tmp_path):
    (tmp_path / "a.png").write_bytes(POINTER)
    reason = "cannot be used (it is a Git LFS pointer: fetch the file itself with `git lfs pull`)"
    assert refuses(tmp_path / "a.png").startswith(f"{tmp_path}/a.png {reason}")
    assert refuses(POINTER).startswith(f"the image {reason}")


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says it is a square of many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_000, 20_000])  # Pillow by itself only warns of the first
def test_bombs(refuses, side):
    assert "decompression bomb" in refuses(bomb(side))


def test_bombs_are_refused_where_warnings_are_ignored(refuses):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        message = refuses(bomb(10_000))
    assert message == (
        "the image is too large (10000x10000 pixels); expected at most 89,478,485 pixels: scale it down or raise "
        "CIFARNET_MAX_PIXELS"
    )


def test_floating_point_pictures(refuses):
    message = "the image cannot be used (pixels of mode F, whose range is not defined; expected 8 or 16 bits); expected"
    assert refuses(Image.new("F", (32, 32))).startswith(message)


def test_a_picture_whose_file_turns_out_to_be_cut(refuses):
    noise = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (64, 64, 3), np.uint8)
    lazy = Image.open(io.BytesIO(encoded(Image.fromarray(noise))[:3000]))
    assert refuses(lazy).startswith("the image cannot be used (image file is truncated")


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_pillow_images_without_pixels_are_refused(refuses, size):
    told = f"{size[0]}x{size[1]} pixels; expected at least one"
    assert told in refuses(Image.new("RGB", size))


# What is converted


def turned(image: np.ndarray) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    return encoded(Image.fromarray(image), exif=exif)


@pytest.mark.parametrize(
    ("image", "color"),
    [
        (Image.new("L", (32, 32), 77), (77, 77, 77)),
        (Image.new("RGBA", (32, 32), (200, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (32, 32), (200, 0, 0, 255)), (200, 0, 0)),
        (Image.new("LA", (32, 32), (0, 127)), (128, 128, 128)),
        (Image.new("RGB", (32, 32), (9, 80, 7)).quantize(4), (9, 80, 7)),
        (Image.fromarray(np.full((32, 32), 0x80FF, np.uint16)), (128, 128, 128)),
    ],
    ids=["gray", "transparent", "opaque", "gray-alpha", "palette", "16-bit"],
)
def test_every_mode_is_seen_as_rgb(classifier, tmp_path, image, color):
    image.save(tmp_path / "image.png")
    expected = classifier.logits(np.full((32, 32, 3), color, np.uint8))
    for form in (image, tmp_path / "image.png", (tmp_path / "image.png").read_bytes()):
        np.testing.assert_array_equal(classifier.logits(form), expected)


def test_cmyk_is_seen_as_rgb(classifier, tmp_path):
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(tmp_path / "print.tif")
    red = np.full((32, 32, 3), (255, 0, 0), np.uint8)
    np.testing.assert_array_equal(classifier.logits(tmp_path / "print.tif"), classifier.logits(red))


def test_the_first_frame_of_an_animation_counts(classifier, tmp_path):
    frames = [Image.new("RGB", (32, 32), color) for color in COLOURS.values()]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert classifier(tmp_path / "a.gif").label == "red"


def test_a_turned_photograph_is_seen_upright(classifier):
    wide = np.zeros((32, 96, 3), np.uint8)
    wide[:, :32], wide[:, 32:64], wide[:, 64:] = COLOURS["red"], COLOURS["green"], COLOURS["blue"]
    wide[:16, 32:64] = COLOURS["blue"]
    upright = pixels(Image.fromarray(np.ascontiguousarray(np.rot90(wide, -1))))
    np.testing.assert_array_equal(classifier.logits(turned(wide)), classifier.logits(upright))


@pytest.mark.parametrize("size", [(32, 32), (50, 20)])
def test_arrays_of_grey_and_of_alpha_are_converted(classifier, size):
    grey = np.random.Generator(np.random.PCG64(1)).integers(0, 256, size, np.uint8)
    expected = classifier.logits(np.repeat(grey[:, :, None], 3, axis=2))
    np.testing.assert_array_equal(classifier.logits(grey), expected)
    np.testing.assert_array_equal(classifier.logits(grey[:, :, None]), expected)
    np.testing.assert_array_equal(classifier.logits(np.stack([grey[:, :, None]] * 2))[1:], expected)
    opaque = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
    np.testing.assert_array_equal(classifier.logits(opaque), expected)
    clear = np.dstack([grey, grey, grey, np.zeros_like(grey)])
    np.testing.assert_array_equal(classifier.logits(clear[None]), classifier.logits(np.full((9, 9, 3), 255, np.uint8)))


def test_other_sizes_go_through_the_recipe_of_training(classifier):
    image = np.random.Generator(np.random.PCG64(2)).integers(0, 256, (75, 51, 3), np.uint8)
    expected = classifier.logits(pixels(Image.fromarray(image)))
    for form in (image, image[None], [image], Image.fromarray(image), encoded(Image.fromarray(image))):
        np.testing.assert_array_equal(classifier.logits(form), expected)
    assert not np.array_equal(classifier.logits(image[:32, :32]), expected)
