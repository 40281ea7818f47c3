"""``Classifier``: predictions of an exported model for images, files and folders."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from threading import Event, Lock
from typing import IO, TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from cifarnet import pretrained
from cifarnet.arguments import described, instance, require
from cifarnet.contract import CALIBRATED_NAME, LOGITS_NAME, PROBABILITIES_NAME, Coverage, Shape
from cifarnet.errors import DataError, ModelError, UsageError
from cifarnet.system import images_at_once

from .files import ALL, Found, find_images
from .inputs import as_batch, is_batch, read_file
from .prediction import Outcome, Prediction
from .session import open_model

if TYPE_CHECKING:  # arrays do not need Pillow
    from PIL import Image

    File = str | os.PathLike[str] | bytes | bytearray | memoryview
    Pixels = NDArray[np.uint8]

LARGEST_CALL = 64
"""Images of 32x32 pixels, fewer if they are larger, in a call: activations fit the CPU cache. 256 is 12% slower."""
FILES_PER_TASK = LARGEST_CALL
"""Maximum files per task of a stream; the first tasks are smaller."""
TASKS_PER_WORKER = 3
"""Tasks in flight per worker thread."""
SMALL_BYTES = 8192
"""Mean file size up to which decoding is dominated by Python rather than by the decoder."""
_decoding = Lock()
"""Held while small files are decoded. Because of the GIL, two threads that decode them at once are slower than one; the
others run the model meanwhile."""
MAX_WORKERS = 8
"""Maximum threads of a stream, since each may hold an image of a quarter of a gigabyte."""


PATH_OR_FILE = instance(
    str | os.PathLike, "a model file: its path (a run has it as run.model), its bytes or a file opened with 'rb'"
)


class Classifier:
    """Image classifier that runs an exported model; thread-safe.

    ``model`` is a file written by ``cifarnet export``: its path, its bytes or a file opened in binary mode; by default
    the bundled CIFAR-10 classifier. ``threads`` is the number of threads per call, at most one per core; 0 means one
    per core. One is fastest for a single image, because the network is small. Raises ``ModelError`` if the file was not
    written by cifarnet, was altered or is newer than this package, and ``UsageError`` for other arguments.

    A classifier can be pickled; the pickle contains the model file.
    """

    def __init__(self, model: File | IO[bytes] = pretrained.MODEL, *, threads: int = 1) -> None:
        if isinstance(model, str) and not model:  # Path("") is the working directory
            raise ModelError("the model's path is empty; expected an ONNX file: is the variable set?")
        self._model = open_model(_source(model), threads=threads)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the model's outputs."""
        return self._model.contract.labels

    @property
    def image_shape(self) -> Shape:
        """Height, width and channels of the images that the model takes; others are resized."""
        return self._model.contract.image_shape

    @property
    def contract(self) -> dict[str, Any]:
        """Metadata of the file: labels, input, preprocessing, calibration, training, parity check."""
        return self._model.contract.document

    @property
    def temperature(self) -> float | None:
        """Temperature of the calibrated probabilities, above 0, or None if the file has none."""
        return self._model.contract.temperature

    @property
    def abstention(self) -> Coverage | None:
        """Threshold for selective prediction with its coverage and accuracy on the validation split, or None.

        The threshold has the largest coverage that reached the target accuracy.
        """
        return self._model.contract.abstention

    @overload
    def __call__(self, images: File | IO[bytes] | Image.Image) -> Prediction: ...
    @overload
    def __call__(self, images: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...
    @overload
    def __call__(self, images: Pixels) -> Any: ...
    def __call__(self, images: Any) -> Any:
        """Classify one image or a batch.

        One image is a uint8 array (h, w, 3), RGB, 0-255; an image file: its path, its bytes or a file opened in binary
        mode; or a Pillow image. A batch is an array (n, h, w, 3), or a list or tuple of images of any sizes. Returns a
        ``Prediction`` for one image and a list of them for a batch.

        An image of another size is cropped to its center square and resized. Grayscale images, (h, w) or (h, w, 1), are
        converted to RGB; transparent ones, (h, w, 4), are blended over white; CMYK is converted without color profiles;
        16-bit channels keep the high byte, animations the first frame; the EXIF orientation is applied.

        Raises ``DataError`` for anything else: other dtypes, pixels scaled to 0-1, channels first, an empty batch, and
        files that are damaged, too large (over 89 million pixels) or not images.
        """
        predictions = self._predictions(images)
        return predictions if is_batch(images) else predictions[0]

    def probabilities(self, images: Any) -> NDArray[np.float32]:
        """Return the probability of each class, float32 (n, classes), 0 to 1, in the order of ``labels``.

        Accepts the same images as a call; one image is a batch of one.
        """
        return self._outputs(images, PROBABILITIES_NAME)[0]

    def calibrated(self, images: Any) -> NDArray[np.float32]:
        """Return the calibrated probability of each class, float32 (n, classes), 0 to 1, in the order of ``labels``.

        Temperature scaling fitted on the validation split: about 80% of the predictions with a confidence of 0.8 are
        correct. Accepts the same images as a call; one image is a batch of one. Raises ``ModelError`` if the file has
        no temperature.
        """
        if CALIBRATED_NAME not in self._model.outputs:
            raise ModelError(
                "the model has no calibrated probabilities; expected a file with a temperature: export the run again"
            )
        return self._outputs(images, CALIBRATED_NAME)[0]

    def logits(self, images: Any) -> NDArray[np.float32]:
        """Return the model's logits, float32 (n, classes), in the order of ``labels``.

        Accepts the same images as a call; one image is a batch of one.
        """
        return self._outputs(images, LOGITS_NAME)[0]

    def stream(
        self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], *, shard: tuple[int, int] = ALL
    ) -> Iterator[Outcome]:
        """Classify any number of image files, of which only a few are in memory at a time.

        ``paths`` is one or several paths of files and folders; folders are searched recursively in sorted order. Files
        are decoded in threads while the model runs. Yields an ``Outcome`` per file, in order; that of a file that
        cannot be used, or of a folder without images, has an error, and the stream continues. ``shard`` is the index of
        a shard, counted from 0, and the number of shards: only the files of that shard are classified. Every file is in
        exactly one shard, which depends only on its path relative to the given folder, or on the given path of a file.

        Raises ``UsageError`` if ``paths`` are not paths, and for an invalid shard; an exception while iterating over
        ``paths`` is raised after the outcomes of the files before it.

        A forked process may open a new stream, but not continue its parent's.
        """
        return self._stream(find_images(_several(paths), shard))

    def _stream(self, images: Iterator[Found]) -> Iterator[Outcome]:
        from concurrent.futures import Future, ThreadPoolExecutor

        failures: list[Exception] = []
        found = _before_failure(images, failures)
        workers = min(os.cpu_count() or 1, MAX_WORKERS)
        pool, waiting, closed = ThreadPoolExecutor(workers), deque[Future[list[Outcome]]](), Event()
        try:
            for some in _growing(found):
                waiting.append(pool.submit(self._outcomes, some, closed))
                while waiting and (waiting[0].done() or len(waiting) == TASKS_PER_WORKER * workers):
                    yield from waiting.popleft().result()
            for task in waiting:
                yield from task.result()
            if failures:
                raise failures[0]
        finally:  # a consumer that stops waits for at most one file per thread
            closed.set()
            pool.shutdown(cancel_futures=True)

    def _outcomes(self, files: list[Found], closed: Event) -> list[Outcome]:
        """Decode and classify files in one thread; stop early once the stream is closed."""
        with _decoding if _are_small(files) else nullcontext():
            decoded = [self._decoded(each) for each in files if not closed.is_set()]
        if closed.is_set():
            return []
        images = [pixels for pixels in decoded if not isinstance(pixels, DataError)]
        predictions = iter(self._predictions(np.stack(images)) if images else [])
        return [
            Outcome(file.path, error=pixels)
            if isinstance(pixels, DataError)
            else Outcome(file.path, prediction=next(predictions))
            for file, pixels in zip(files, decoded, strict=True)
        ]

    def _decoded(self, file: Found) -> Pixels | DataError:
        try:
            return file.error or read_file(file.path, self.image_shape)
        except DataError as error:
            return error

    def _outputs(self, images: Any, *outputs: str) -> list[NDArray[np.float32]]:
        batch = as_batch(images, self.image_shape)
        size = self._largest_call
        if len(batch) <= size:
            results = self._model.run(batch, outputs)
        else:
            parts = (self._model.run(batch[at : at + size], outputs) for at in range(0, len(batch), size))
            results = [np.concatenate(each) for each in zip(*parts, strict=True)]
        if not all(map(_are_finite, results)):
            raise ModelError("the model returns numbers that are not finite: train and export it again")
        return results

    def _predictions(self, images: Any) -> list[Prediction]:
        probabilities, *others = self._outputs(images, *self._prediction_outputs)
        best, labels = probabilities.argmax(axis=1).tolist(), self.labels  # the first of equal ones
        return [
            Prediction(labels, index, probabilities[row], *[each[row] for each in others])
            for row, index in enumerate(best)
        ]

    @cached_property
    def _prediction_outputs(self) -> tuple[str, ...]:
        return tuple(name for name in (PROBABILITIES_NAME, CALIBRATED_NAME) if name in self._model.outputs)

    @cached_property
    def _largest_call(self) -> int:
        return images_at_once(LARGEST_CALL, self.image_shape)


def _are_finite(values: NDArray[np.float32]) -> bool:
    # Cheaper than isfinite. It overflows only for values above about 1e18, which are then checked one by one.
    return math.isfinite(np.vdot(values, values)) or bool(np.isfinite(values).all())


def _renew_lock() -> None:
    global _decoding  # noqa: PLW0603  # a thread that does not exist in the child may hold the old one
    _decoding = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _are_small(files: list[Found]) -> bool:
    try:
        return sum(file.path.stat().st_size for file in files) <= SMALL_BYTES * len(files)
    except (OSError, ValueError):  # decoding raises a better error
        return False


def _source(model: Any) -> Path | bytes:
    """Return a path, or the content of a model file, which may be an open file."""
    content = model.read() if hasattr(model, "read") else model
    if isinstance(content, bytes | bytearray | memoryview):
        return bytes(content)
    require("model", model, PATH_OR_FILE)
    return Path(model)


def _several(paths: Any) -> Iterable[str | os.PathLike[str]]:
    if isinstance(paths, str | os.PathLike):
        return [paths]
    if isinstance(paths, bytes | bytearray | memoryview) or not isinstance(paths, Iterable):
        raise UsageError(
            f"the image paths are {described(paths)}; expected a path or several: images in memory go to the "
            "classifier itself"
        )
    return paths


def _before_failure(found: Iterator[Found], failures: list[Exception]) -> Iterator[Found]:
    """Yield from ``found`` until it raises, and append the exception to ``failures``."""
    try:
        yield from found
    except Exception as error:  # noqa: BLE001  # raised again by the caller
        failures.append(error)


def _growing(found: Iterator[Found]) -> Iterator[list[Found]]:
    """Divide files into tasks of 1, 1, 2, 2, 4, 4, ... for low latency and even load with few files."""
    for doubled in count():
        size = min(2 ** (doubled // 2), FILES_PER_TASK)
        if not (some := list(islice(found, size))):
            return
        yield some
