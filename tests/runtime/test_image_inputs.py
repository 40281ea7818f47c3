"""Every kind of image becomes the same pixels as in training, or an error that says what to pass."""

import errno
import io
import os
import re
import warnings

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from cifarnet import preprocessing
from cifarnet.errors import DataError
from cifarnet.preprocessing import pixels, read_pixels
from tests.lfs import POINTER
from tests.png import png_bytes

NOISE = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (64, 64, 3), np.uint8)


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


def test_float_images_outside_of_0_to_1(refuses, painted):
    image = painted("red").astype(np.float32)
    message = "the images have dtype float32; expected uint8, the pixels 0-255: pass them as they were read"
    assert refuses(image) == message
    for value in (-1, np.nan, 1.5):
        image = (painted("red") / 255).astype(np.float32)
        image[0, 0, 0] = value
        assert refuses(image) == message


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_images_that_are_scaled_already(refuses, painted, dtype):
    scaled = (painted("red") / 255).astype(dtype)
    message = "your images are in 0–1: pass the 0–255 pixels, as uint8; scaling is part of the model"  # noqa: RUF001
    for images in (scaled, np.stack([scaled, scaled])):
        assert refuses(images) == message


def test_other_dtypes_those_of_16_bits_with_their_high_bytes(refuses, classifier, painted):
    for dtype in ("int64", "bool", "object"):
        message = refuses(painted("red").astype(dtype))
        assert message.startswith(f"the images have dtype {dtype}; expected uint8, the pixels 0-255: pass")
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


def test_batches_without_images_images_without_pixels_and_shapes_without_a_meaning(refuses):
    for empty in ([], np.zeros((0, 32, 32, 3), np.uint8), np.zeros((0, 9, 9, 3), np.uint8)):
        assert refuses(empty) == "the batch has 0 images; expected at least 1: leave the call out"
    for shape in ((0, 32, 3), (32, 0, 3), (2, 0, 32, 3)):
        assert "expected at least one pixel: pass a whole image" in refuses(np.zeros(shape, np.uint8))
    assert "0x5 pixels; expected at least one" in refuses(Image.new("RGB", (0, 5)))
    for shape in ((), (32, 32, 2), (7, 32, 32), (1, 1, 32, 32, 3)):
        message = refuses(np.zeros(shape, np.uint8))
        assert message.startswith(f"the images have shape {shape}; expected (h, w), (h, w, 3) or (h, w, 4) for one")


# Other things that are refused


@pytest.mark.parametrize(
    ("thing", "found"),
    [
        (None, "None"),
        (7, "7"),
        ({"image": 1}, "of type dict"),
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


def test_a_path_without_a_file_a_folder_and_a_pipe_which_does_not_keep_the_app_waiting(refuses, tmp_path):
    message = "no.png cannot be read (No such file or directory); expected an image file: check the path"
    assert refuses(tmp_path / "no.png") == f"{tmp_path}/{message}"
    said = refuses("a\0b")  # the reason is Python's, and its words change
    assert said.startswith("a\0b cannot be read (")
    assert "embedded null" in said
    assert said.endswith("; expected an image file: check the path")
    message = f"{tmp_path} is a folder; expected an image: iterate over Classifier.stream(folder)"
    assert refuses(tmp_path) == refuses(str(tmp_path)) == message
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    message = "is no regular file; expected an image file: pass its bytes, on the command line by -"
    assert refuses(pipe) == f"{pipe} {message}"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files(refuses, tmp_path, kind):
    whole = encoded(Image.fromarray(NOISE), kind)
    (tmp_path / "cut").write_bytes(whole[: len(whole) // 2])
    message = refuses(tmp_path / "cut")
    assert re.fullmatch(r".*/cut cannot be used \(.+\); expected a whole image: replace it or leave it out", message)
    assert refuses(whole[: len(whole) // 2]).startswith("the image cannot be used (")
    if kind == "PNG":
        with Image.open(tmp_path / "cut") as lazy:
            assert refuses(lazy).startswith("the image cannot be used (image file is truncated")


def test_a_heic_photo_without_its_extra_is_refused_with_the_install_command(refuses, tmp_path, monkeypatch):
    monkeypatch.setattr(preprocessing, "_READS_HEIC", False)
    monkeypatch.setattr(preprocessing, "EXTENSIONS", (".png",))
    path = tmp_path / "photo.HEIC"
    pillow_heif.from_pillow(Image.fromarray(NOISE)).save(path)
    expected = 'expected the extra [heic] for this format: pip install ".[heic]" in your clone of cifarnet'
    assert refuses(path) == f"{path} cannot be used (no image in a known format); {expected}"


def test_bytes_that_are_no_image_and_too_many_open_files_which_are_not_blamed_on_it(refuses, monkeypatch):
    for junk in (b"", b"\0" * 100, b"<svg/>"):
        message = (
            "the image cannot be used (no image in a known format); expected a whole image: replace it or leave it out"
        )
        assert refuses(junk) == message

    def refuse(*_, **__):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(Image, "open", refuse)
    assert refuses(b"any").startswith("the image cannot be read (Too many open files): an error of the system, not")


def test_a_git_lfs_pointer_in_place_of_an_image_is_named(refuses, tmp_path):
    (tmp_path / "a.png").write_bytes(POINTER)
    reason = "cannot be used (it is a Git LFS pointer: fetch the file itself with `git lfs pull`)"
    assert refuses(tmp_path / "a.png").startswith(f"{tmp_path}/a.png {reason}")
    assert refuses(POINTER).startswith(f"the image {reason}")


def test_bombs_are_refused_where_warnings_are_ignored(refuses):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        message = refuses(png_bytes(10_000, 10_000, b""))
    assert message == (
        "the image is too large (10000x10000 pixels); expected at most 89,478,485 pixels: scale it down or raise "
        "CIFARNET_MAX_PIXELS"
    )


# What is converted


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


@pytest.mark.parametrize("mode", ["RGB", "LA", "P", "CMYK"])
def test_images_of_every_mode_and_form_go_through_the_recipe_of_training(classifier, tmp_path, mode):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    image = np.random.Generator(np.random.PCG64(2)).integers(0, 256, (75, 51, 3), np.uint8)
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.fromarray(image).convert(mode).save(path, exif=exif)
    expected = classifier.logits(read_pixels(path))
    with Image.open(path) as opened:
        np.testing.assert_array_equal(classifier.logits(opened), expected)
    for form in (path.read_bytes(), [path]):
        np.testing.assert_array_equal(classifier.logits(form), expected)
    if mode == "RGB":
        expected = classifier.logits(pixels(Image.fromarray(image)))
        for form in (image, image[None], [image]):
            np.testing.assert_array_equal(classifier.logits(form), expected)
        assert not np.array_equal(classifier.logits(image[:32, :32]), expected)
