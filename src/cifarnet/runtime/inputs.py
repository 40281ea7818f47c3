"""Convert images of any supported kind to the batch that the model takes."""

import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.arguments import described
from cifarnet.contract import Shape
from cifarnet.errors import DataError, SizeError, reason

CHANNELS = (1, 3, 4)
"""Channels of grayscale, RGB and RGBA arrays."""


def is_batch(images: Any) -> bool:
    """Return whether ``images`` is a batch: a four-dimensional array, a list or a tuple."""
    return images.ndim == 4 if isinstance(images, np.ndarray) else isinstance(images, list | tuple)


def as_batch(images: Any, shape: Shape) -> NDArray[np.uint8]:
    """Return a batch uint8 (n, h, w, 3), RGB, 0-255, of the model's ``shape``. Raises ``DataError`` for other input."""
    if isinstance(images, np.ndarray):
        return _from_array(images, shape)
    if is_batch(images):
        return _from_list(images, shape)
    return _from_image(images, shape)[None]


def _from_list(images: Sequence[Any], shape: Shape) -> NDArray[np.uint8]:
    if not len(images):
        raise DataError("the batch has 0 images; expected at least 1: leave the call out")
    fitted = []
    for index, image in enumerate(images):
        try:
            fitted.append(_from_image(image, shape))
        except DataError as error:
            raise DataError(f"image {index} of the batch of {len(images)}: {error}") from error
    return np.stack(fitted)


def _from_array(images: NDArray[Any], shape: Shape) -> NDArray[np.uint8]:
    _require_pixels(images)
    _require_channels_last(images)
    if images.ndim < 4:
        return _fitted(images, shape)[None]
    if images.shape[1:] == shape and len(images):
        return images
    return _from_list(images, shape)  # type: ignore[arg-type]  # an array has length and items too


def _require_pixels(images: NDArray[Any]) -> None:
    if images.dtype == np.uint8:
        return
    is_float = np.issubdtype(images.dtype, np.floating)
    if is_float and images.size and images.min() >= 0 and images.max() <= 1:
        raise DataError(
            "your images are in 0–1: pass the 0–255 pixels, as uint8; "  # noqa: RUF001  # ranges
            "scaling is part of the model"
        )
    advice = (
        "their high bytes, (images >> 8).astype('uint8')" if images.dtype == np.uint16 else "them as they were read"
    )
    raise DataError(f"the images have dtype {images.dtype}; expected uint8, the pixels 0-255: pass {advice}")


def _require_channels_last(images: NDArray[Any]) -> None:
    last = images.shape[-1] if images.ndim in (3, 4) else 0
    if last in CHANNELS or images.ndim == 2:
        return
    if images.ndim in (3, 4) and images.shape[-3] in CHANNELS:
        axes = (1, 2, 0) if images.ndim == 3 else (0, 2, 3, 1)
        raise DataError(
            f"the images have shape {images.shape}, channels first; expected channels last: pass images.transpose{axes}"
        )
    raise DataError(
        f"the images have shape {images.shape}; expected (h, w), (h, w, 3) or (h, w, 4) for one, "
        "(n, h, w, 3) for several: reshape them"
    )


def _fitted(image: NDArray[np.uint8], shape: Shape) -> NDArray[np.uint8]:
    """Preprocess one image (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) to the model's size."""
    if image.shape == shape:
        return image
    if 0 in image.shape:
        raise DataError(f"the image has shape {image.shape}; expected at least one pixel: pass a whole image")
    from PIL import Image

    is_gray = image.ndim == 3 and image.shape[-1] == 1
    return _from_image(Image.fromarray(image[:, :, 0] if is_gray else image), shape)


def _from_image(image: Any, shape: Shape) -> NDArray[np.uint8]:
    if isinstance(image, np.ndarray):
        if image.ndim == 4:
            raise DataError(f"it has shape {image.shape}; expected one image: pass the batch itself")
        return _from_array(image, shape)[0]
    if isinstance(image, str | os.PathLike | bytes | bytearray | memoryview):
        return read_file(image, shape)
    from PIL import Image

    if isinstance(image, Image.Image):
        return _from_pillow(image, shape)
    content = image.read() if hasattr(image, "read") else None
    if isinstance(content, bytes):
        return read_file(content, shape)
    raise DataError(
        f"an image is {described(image)}; expected a uint8 array, a path, bytes, a file opened with 'rb' or a Pillow "
        "image: convert it"
    )


def _from_pillow(image: Any, shape: Shape) -> NDArray[np.uint8]:
    from cifarnet.preprocessing import pixels

    try:
        return pixels(image, shape)
    except Exception as error:  # Pillow decodes lazily, and its decoders raise nearly anything
        raise DataError(
            f"the image cannot be used ({reason(error)}); expected whole 8- or 16-bit pixels: convert it"
        ) from error


def read_file(image: str | os.PathLike[str] | bytes | bytearray | memoryview, shape: Shape) -> NDArray[np.uint8]:
    """Decode an image file, given as a path or as bytes, and preprocess it to uint8 of ``shape``, RGB, 0-255.

    Raises ``DataError`` if it cannot be used.
    """
    from cifarnet.preprocessing import LIMIT_VARIABLE, SYSTEM_ADVICE, max_pixels, read_pixels

    if isinstance(image, str | os.PathLike):
        path = image if isinstance(image, Path) else Path(image)
        _require_file(path)
        source: Path | io.BytesIO = path
        name: object = path
    else:
        source, name = io.BytesIO(image), "the image"
    try:
        return read_pixels(source, shape)
    except SizeError as error:
        raise SizeError(
            f"{name} is too large ({error}); expected at most {max_pixels():,} pixels: scale it down or raise "
            f"{LIMIT_VARIABLE}"
        ) from error
    except DataError as error:
        raise DataError(f"{name} cannot be used ({error}); expected {_expected(source)}") from error
    except OSError as error:
        raise DataError(f"{name} cannot be read ({reason(error)}): {SYSTEM_ADVICE}") from error


def _expected(source: Path | io.BytesIO) -> str:
    """Return the expected file and what to do, the end of the message about a file that cannot be used."""
    from cifarnet.preprocessing import EXTENSIONS, HEIC_EXTENSIONS

    extension = source.suffix.lower() if isinstance(source, Path) else ""
    if extension in HEIC_EXTENSIONS and extension not in EXTENSIONS:
        from cifarnet.backends import install_line

        return f"the extra [heic] for this format: {install_line('heic')}"
    return "a whole image: replace it or leave it out"


def _require_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise DataError(f"{path} cannot be read ({reason(error)}); expected an image file: check the path") from error
    if stat.S_ISDIR(mode):
        raise DataError(f"{path} is a folder; expected an image: iterate over Classifier.stream(folder)")
    if not stat.S_ISREG(mode):  # reading a pipe or a device may never end
        raise DataError(f"{path} is no regular file; expected an image file: pass its bytes, on the command line by -")
