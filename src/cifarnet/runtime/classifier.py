"""The classifier for apps: images in, predictions out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from itertools import count, islice
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import CALIBRATED_NAME, LOGITS_NAME, PROBABILITIES_NAME, Coverage, Prediction
from cifarnet.errors import DataError, ModelError, UsageError

from .files import Found, find_images
from .inputs import as_batch, is_batch, read_file
from .session import open_model

if TYPE_CHECKING:  # arrays need no Pillow, and a single image no pool of threads
    from PIL import Image

    File = str | os.PathLike[str] | bytes | bytearray | memoryview
    Pixels = NDArray[np.uint8]

LARGEST_CALL = 64
"""Images that go through the model at once: what they need stays in the processor's cache. 256 are 12 % slower."""
FILES_PER_TASK = 32
"""At most so many files of a stream are decoded and classified by one thread at a time; the first tasks are smaller."""
TASKS_PER_WORKER = 3
"""One under way, the others waiting for a thread or for whoever listens."""
SMALL_BYTES = 8192
"""Mean size of files up to which decoding them takes Python longer than it takes the decoder."""
_decoding = Lock()
"""Held while small files are decoded. Decoding them is Python's work for the most part, which one thread at a time can
do: two that try wait for each other longer than they work. While one decodes, the others are in the model."""
MAX_WORKERS = 8
"""Threads of a stream: each may hold a picture of a quarter of a gigabyte."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file of a stream: a prediction, or the error that kept it from one."""

    path: Path
    prediction: Prediction | None = None
    error: DataError | None = None


class Classifier:
    """An exported model, ready to classify; one may be used by many threads at once.

    ``model`` is the path or the content of a file from ``cifarnet export``. ``threads`` is the number of threads that
    one call uses, 0 for one per core: the network is so small that one is fastest for a single image, and several
    calls may run at once from threads of the app. Raises ``ModelError`` when the file is not one of ours, was altered,
    or is newer than this package, and ``UsageError`` for a number of threads that cannot be.

    A classifier can be pickled, for worker processes for example; the copy carries the content of the model file.
    """

    def __init__(self, model: str | os.PathLike[str] | bytes, *, threads: int = 1) -> None:
        if model == "":  # to Path this is the working folder
            raise ModelError("the model's path is empty; expected an ONNX file: is the variable set?")
        self._model = open_model(model if isinstance(model, bytes) else Path(model), threads=threads)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the model's outputs."""
        return self._model.labels

    @property
    def contract(self) -> dict[str, Any]:
        """What the file says of itself: labels, input, resize recipe, calibration, training, proof."""
        return self._model.contract

    @property
    def temperature(self) -> float | None:
        """What the logits are divided by to be calibrated, above 0; None of a file without one."""
        calibration = self.contract.get("calibration")
        return None if calibration is None else float(calibration["temperature"])

    @property
    def abstention(self) -> Coverage | None:
        """From which confidence on to answer, and how well that went on held-out images; None where the file has none.

        The file names the threshold that answers most of those whose answers are right often enough.
        """
        found = (self.contract.get("calibration") or {}).get("abstention")
        return found and Coverage(**{key: float(found[key]) for key in ("threshold", "coverage", "accuracy")})

    @overload
    def __call__(self, images: File | Image.Image) -> Prediction: ...
    @overload
    def __call__(self, images: list[Any] | tuple[Any, ...]) -> list[Prediction]: ...
    @overload
    def __call__(self, images: Pixels) -> Any: ...
    def __call__(self, images: Any) -> Any:
        """Classify one image or several.

        One image is a uint8 array (h, w, 3), RGB, 0-255; the path or the bytes of an image file; or a Pillow image.
        Several are an array (n, h, w, 3), or a list or tuple of the former, of any sizes. Returns a ``Prediction`` for
        one and a list of them for several: of an array, its number of dimensions decides.

        An image of another size is cropped to its centre square and scaled, as the recipe in the file has it. Grey
        images, (h, w) or (h, w, 1), get three equal channels; transparent ones, (h, w, 4), are laid on white; CMYK
        becomes RGB, without colour profiles; of 16 bits the high byte counts, of an animation the first frame; a
        photograph is turned upright by its EXIF tag.

        Raises ``DataError`` for anything else: other dtypes, pixels scaled to 0-1, channels first, an empty batch,
        a file that is damaged, too large (over 89 million pixels) or no image.
        """
        predictions = self._predictions(images)
        return predictions if is_batch(images) else predictions[0]

    def probabilities(self, images: Any) -> NDArray[np.float32]:
        """Return the probability of each class, float32 (n, classes), 0 to 1, in the order of ``labels``.

        Takes and refuses what a call does; one image is a batch of one.
        """
        return self._answers(images, PROBABILITIES_NAME)[0]

    def calibrated(self, images: Any) -> NDArray[np.float32]:
        """Return the calibrated probability of each class, float32 (n, classes), 0 to 1, in the order of ``labels``.

        It is the softmax of the logits divided by the temperature that fits held-out images best, so that of the
        answers with 0.8 about 80 in 100 are right. Takes and refuses what a call does; one image is a batch of one.
        Raises ``ModelError`` where the file has no temperature.
        """
        if not self._is_calibrated:
            raise ModelError(
                "the model has no calibrated probabilities; expected a file with a temperature: export the run anew"
            )
        return self._answers(images, CALIBRATED_NAME)[0]

    def logits(self, images: Any) -> NDArray[np.float32]:
        """Return the model's logits, float32 (n, classes), in the order of ``labels``.

        Takes and refuses what a call does; one image is a batch of one.
        """
        return self._answers(images, LOGITS_NAME)[0]

    def stream(self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Iterator[Outcome]:
        """Classify image files one after the other, in constant memory however many there are.

        ``paths`` is one path or several, of files and of folders; those are searched at any depth, in sorted order,
        while the stream goes on. Files are decoded by threads while the model runs. Yields an ``Outcome`` per file, in
        order; one that cannot be used, a folder without images too, does not end the stream. Raises ``UsageError`` when
        ``paths`` is nothing of the kind; what its iteration raises is raised after the last file found before.

        A process that is forked while a stream is open may open one of its own, but not go on with that one.
        """
        return self._stream(find_images(_several(paths)))

    def _stream(self, images: Iterator[Found]) -> Iterator[Outcome]:
        from concurrent.futures import Future, ThreadPoolExecutor

        failures: list[Exception] = []
        found = _before_failure(images, failures)
        workers = min(os.cpu_count() or 1, MAX_WORKERS)
        pool, waiting, left = ThreadPoolExecutor(workers), deque[Future[list[Outcome]]](), Event()
        try:
            for some in _growing(found):
                waiting.append(pool.submit(self._outcomes, some, left))
                while waiting and (waiting[0].done() or len(waiting) == TASKS_PER_WORKER * workers):
                    yield from waiting.popleft().result()
            for task in waiting:
                yield from task.result()
            if failures:
                raise failures[0]
        finally:  # whoever stops listening waits for the file under way at most
            left.set()
            pool.shutdown(cancel_futures=True)

    def _outcomes(self, files: list[Found], left: Event) -> list[Outcome]:
        """Decode files and classify them, in one thread; once nobody listens, nothing is worth the time."""
        with _decoding if _are_small(files) else nullcontext():
            decoded = [self._decoded(each) for each in files if not left.is_set()]
        if left.is_set():
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
            return file.error or read_file(file.path, self._model.image_shape)
        except DataError as error:
            return error

    @cached_property
    def _is_calibrated(self) -> bool:
        return CALIBRATED_NAME in self._model.outputs

    def _answers(self, images: Any, *outputs: str) -> list[NDArray[np.float32]]:
        """Return what the model says of the images, of each of ``outputs`` float32 (n, classes)."""
        batch = as_batch(images, self._model.image_shape)
        if len(batch) <= LARGEST_CALL:
            answers = self._model.run(batch, outputs)
        else:
            starts = range(0, len(batch), LARGEST_CALL)
            parts = [self._model.run(batch[at : at + LARGEST_CALL], outputs) for at in starts]
            answers = [np.concatenate(each) for each in zip(*parts, strict=True)]
        if not all(np.isfinite(each).all() for each in answers):
            raise ModelError("the model answers with numbers that are not finite: train and export it anew")
        return answers

    def _predictions(self, images: Any) -> list[Prediction]:
        """Return a prediction per image; of equal probabilities, the class that comes first in the file leads."""
        names = (PROBABILITIES_NAME, CALIBRATED_NAME) if self._is_calibrated else (PROBABILITIES_NAME,)
        probabilities, *calibrated = self._answers(images, *names)
        orders = np.argsort(-probabilities, axis=1, kind="stable").tolist()
        certain = calibrated[0].tolist() if calibrated else [None] * len(orders)
        return [
            Prediction(tuple((self.labels[index], row[index]) for index in order), sure and sure[order[0]])
            for row, order, sure in zip(probabilities.tolist(), orders, certain, strict=True)
        ]


def _renew_lock() -> None:
    global _decoding  # noqa: PLW0603  # a thread of the parent may hold the old one, and is not there in the child
    _decoding = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def _are_small(files: list[Found]) -> bool:
    try:
        return sum(file.path.stat().st_size for file in files) <= SMALL_BYTES * len(files)
    except (OSError, ValueError):  # decoding will say what is wrong
        return False


def _several(paths: Any) -> Iterable[str | os.PathLike[str]]:
    if isinstance(paths, str | os.PathLike):
        return [paths]
    if isinstance(paths, bytes | bytearray | memoryview) or not isinstance(paths, Iterable):
        raise UsageError(
            f"the image paths are a {type(paths).__name__}; expected a path or several: images in memory go to the "
            "classifier itself"
        )
    return paths


def _before_failure(found: Iterator[Found], failures: list[Exception]) -> Iterator[Found]:
    """Yield what is found until that fails, and put into ``failures`` what it then raises."""
    try:
        yield from found
    except Exception as error:  # noqa: BLE001  # raised again by whoever reads `failures`
        failures.append(error)


def _growing(found: Iterator[Found]) -> Iterator[list[Found]]:
    """Divide files into tasks of 1, 1, 2, 2, 4, 4 and so on: answers come soon, few files occupy all cores."""
    for doubled in count():
        size = min(2 ** (doubled // 2), FILES_PER_TASK)
        if not (some := list(islice(found, size))):
            return
        yield some
