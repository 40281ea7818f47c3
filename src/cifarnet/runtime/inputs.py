"""Whatever an app hands over becomes the batch that the model takes, or an error that says what to hand over."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import DataError

CHANNELS = (1, 3, 4)
"""Last sizes of an array that holds grey, RGB or RGBA pixels."""


def is_batch(images: Any) -> bool:
    """Tell whether ``images`` stands for several: an array of four dimensions, or a list or tuple."""
    return (
        images.ndim == 4
        if isinstance(images, np.ndarray)
        else isinstance(images, Sequence | list | tuple) and (not isinstance(images, str | bytes))
    )


def as_batch(images: Any, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return uint8 (n, h, w, 3) of the model's ``shape``. Raises ``DataError`` for what cannot be one."""
    if isinstance(images, np.ndarray):
        return _from_array(images, shape)
    if is_batch(images):
        if not len(images):
            raise DataError("the batch has 0 images; expected at least 1: leave the call out")
        return np.stack([_from_picture(image, shape) for image in images])
    return _from_picture(images, shape)[None]


def _from_array(images: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    _require_pixels(images)
    _require_channels_last(images)
    if images.ndim < 4:
        return _fitted(images, shape)[None]
    if not len(images):
        raise DataError("the batch has 0 images; expected at least 1: leave the call out")
    if images.shape[1:] == shape:
        batch: NDArray[np.uint8] = images
        return batch
    return np.stack([_fitted(image, shape) for image in images])


def _require_pixels(images: NDArray[Any]) -> None:
    if images.dtype == np.uint8:
        return
    if np.issubdtype(images.dtype, np.floating) and images.size and np.nanmax(images) <= 1:
        raise DataError("your images are in 0-1: pass the 0-255 pixels, as uint8; scaling is part of the model")
    raise DataError(f"the images have dtype {images.dtype}; expected uint8: pass the 0-255 pixels as they were read")


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


def _fitted(image: NDArray[np.uint8], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return one image (h, w), (h, w, 1), (h, w, 3) or (h, w, 4) in the model's size, by the file's recipe."""
    if image.shape == shape:
        fitting: NDArray[np.uint8] = image
        return fitting
    if 0 in image.shape:
        raise DataError(f"the image has shape {image.shape}; expected at least one pixel: pass a whole image")
    from PIL import Image

    is_grey = image.ndim == 3 and image.shape[-1] == 1
    return _from_picture(Image.fromarray(image[:, :, 0] if is_grey else image), shape)


def _from_picture(image: Any, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    if isinstance(image, np.ndarray):
        if image.ndim == 4:
            raise DataError(f"an image of the list has shape {image.shape}; expected one image: pass the batch itself")
        only: NDArray[np.uint8] = _from_array(image, shape)[0]
        return only
    from PIL import Image

    from cifarnet.pictures import pixels

    if isinstance(image, Image.Image):
        try:
            return pixels(image, shape)
        except (ValueError, OSError, SyntaxError) as error:  # a picture is decoded when it is first looked at
            raise DataError(
                f"the picture cannot be used ({error}): pass one in a mode that Pillow can make RGB"
            ) from error
    if isinstance(image, str | Path | bytes):
        return read_file(image, shape)
    raise DataError(
        f"an image is a {type(image).__name__}; expected a uint8 array, a path, bytes or a Pillow image: convert it"
    )


def read_file(image: str | Path | bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Decode one image file, given by its path or as its bytes. Raises ``DataError`` that names it."""
    from cifarnet.pictures import read_pixels

    name = "the image" if isinstance(image, bytes) else str(image)
    if not isinstance(image, bytes) and Path(image).is_dir():
        raise DataError(f"{name} is a folder; expected an image: iterate over it with Classifier.stream")
    try:
        return read_pixels(io.BytesIO(image) if isinstance(image, bytes) else Path(image), shape)
    except DataError as error:
        raise DataError(f"{name} cannot be used ({error}); expected a whole image file: replace it") from error
