"""The classifier for apps: images in, predictions out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import DataError, ModelError
from cifarnet.spec import Abstention, Prediction

from .files import Found, find_images
from .inputs import as_batch, is_batch, read_file
from .session import Answers, open_model

if TYPE_CHECKING:  # arrays need no Pillow, and a single image no pool of threads
    from concurrent.futures import Future

    from PIL import Image

    File = str | os.PathLike[str] | bytes | bytearray | memoryview
    Pixels = NDArray[np.uint8]

LARGEST_CALL = 256
"""Images that go through the model at once: more would only take memory."""
STREAM_BATCH = 64
"""Files of a stream that are decoded together, and then classified together."""
MAX_DECODERS = 8
"""Threads that decode the files of a stream: each may hold a picture of a quarter of a gigabyte."""


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
    def abstention(self) -> Abstention | None:
        """From which confidence on to answer, and how well that went on held-out images; None where the file has none.

        The file names the threshold that answers most of those whose answers are right often enough.
        """
        found = (self.contract.get("calibration") or {}).get("abstention")
        return found and Abstention(**{key: float(found[key]) for key in ("threshold", "coverage", "accuracy")})

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
        predictions = self._predictions(self._run(images))
        return predictions if is_batch(images) else predictions[0]

    def probabilities(self, images: Any) -> NDArray[np.float32]:
        """Return the probability of each class, float32 (n, classes), 0 to 1, in the order of ``labels``.

        Takes and refuses what a call does; one image is a batch of one.
        """
        return self._run(images).probabilities

    def calibrated(self, images: Any) -> NDArray[np.float32]:
        """Return the calibrated probability of each class, float32 (n, classes), 0 to 1, in the order of ``labels``.

        It is the softmax of the logits divided by the temperature that fits held-out images best, so that of the
        answers with 0.8 about 80 in 100 are right. Takes and refuses what a call does; one image is a batch of one.
        Raises ``ModelError`` where the file has no temperature.
        """
        calibrated = self._run(images).calibrated
        if calibrated is None:
            raise ModelError(
                "the model has no calibrated probabilities; expected a file with a temperature: export the run anew"
            )
        return calibrated

    def logits(self, images: Any) -> NDArray[np.float32]:
        """Return the model's logits, float32 (n, classes), in the order of ``labels``.

        Takes and refuses what a call does; one image is a batch of one.
        """
        return self._run(images).logits

    def stream(self, paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> Iterator[Outcome]:
        """Classify image files one after the other, in constant memory however many there are.

        ``paths`` is one path or several, of files and of folders; those are searched at any depth, in sorted order,
        while the stream goes on. Files are decoded by threads while the model runs. Yields an ``Outcome`` per file, in
        order; one that cannot be used, a folder without images too, does not end the stream.
        """
        from concurrent.futures import ThreadPoolExecutor

        found = find_images([paths] if isinstance(paths, str | os.PathLike) else paths)
        pool = ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_DECODERS))
        waiting: deque[list[tuple[Path, Future[Pixels | DataError]]]] = deque()
        try:
            while chunk := list(islice(found, STREAM_BATCH)):
                waiting.append([(each.path, pool.submit(self._decode, each)) for each in chunk])
                if len(waiting) > 1:
                    yield from self._outcomes(waiting.popleft())
            for last in waiting:
                yield from self._outcomes(last)
        finally:  # whoever stops listening does not wait for what is left
            pool.shutdown(cancel_futures=True)

    def _decode(self, found: Found) -> Pixels | DataError:
        try:
            return found.error or read_file(found.path, self._model.image_shape)
        except DataError as error:
            return error

    def _outcomes(self, chunk: list[tuple[Path, Future[Pixels | DataError]]]) -> Iterator[Outcome]:
        decoded = [(path, future.result()) for path, future in chunk]
        images = [pixels for _, pixels in decoded if not isinstance(pixels, DataError)]
        predictions = iter(self._predictions(self._run(np.stack(images))) if images else [])
        for path, pixels in decoded:
            if isinstance(pixels, DataError):
                yield Outcome(path, error=pixels)
            else:
                yield Outcome(path, prediction=next(predictions))

    def _run(self, images: Any) -> Answers:
        batch = as_batch(images, self._model.image_shape)
        parts = [self._model.run(batch[at : at + LARGEST_CALL]) for at in range(0, len(batch), LARGEST_CALL)]
        answers = parts[0] if len(parts) == 1 else _joined(parts)
        if not all(each is None or np.isfinite(each).all() for each in answers[1:]):
            raise ModelError("the model answers with numbers that are not finite: train and export it anew")
        return answers

    def _predictions(self, answers: Answers) -> list[Prediction]:
        """Return a prediction per row; of equal probabilities, the class that comes first in the file leads."""
        orders = np.argsort(-answers.probabilities, axis=1, kind="stable")
        confidences = [None] * len(orders) if answers.calibrated is None else answers.calibrated
        return [
            Prediction(
                tuple((self.labels[index], float(row[index])) for index in order),
                None if confidence is None else float(confidence[order[0]]),
            )
            for row, order, confidence in zip(answers.probabilities, orders, confidences, strict=True)
        ]


def _joined(parts: list[Answers]) -> Answers:
    logits, probabilities, calibrated = zip(*parts, strict=True)
    is_calibrated = calibrated[0] is not None
    return Answers(
        np.concatenate(logits), np.concatenate(probabilities), np.concatenate(calibrated) if is_calibrated else None
    )
