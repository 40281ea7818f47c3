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
from cifarnet.spec import Prediction

from .files import Found, find_images
from .inputs import as_batch, is_batch, read_file
from .session import open_model

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
        self._model = open_model(model if isinstance(model, bytes) else Path(model), threads=threads)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the model's outputs."""
        return self._model.labels

    @property
    def contract(self) -> dict[str, Any]:
        """What the file says of itself: labels, input, resize recipe, training, proof."""
        return self._model.contract

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
        predictions = self._predictions(self.probabilities(images))
        return predictions if is_batch(images) else predictions[0]

    def probabilities(self, images: Any) -> NDArray[np.float32]:
        """Return the probability of each class, float32 (n, classes), 0 to 1, in the order of ``labels``.

        Takes and refuses what a call does; one image is a batch of one.
        """
        return self._run(images)[1]

    def logits(self, images: Any) -> NDArray[np.float32]:
        """Return the model's logits, float32 (n, classes), in the order of ``labels``.

        Takes and refuses what a call does; one image is a batch of one.
        """
        return self._run(images)[0]

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
        predictions = iter(self._predictions(self.probabilities(np.stack(images))) if images else [])
        for path, pixels in decoded:
            if isinstance(pixels, DataError):
                yield Outcome(path, error=pixels)
            else:
                yield Outcome(path, prediction=next(predictions))

    def _run(self, images: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        batch = as_batch(images, self._model.image_shape)
        parts = [self._model.run(batch[at : at + LARGEST_CALL]) for at in range(0, len(batch), LARGEST_CALL)]
        logits, probabilities = (np.concatenate(outputs) for outputs in zip(*parts, strict=True))
        if not np.isfinite(probabilities).all():
            raise ModelError("the model answers with numbers that are not finite: train and export it anew")
        return logits, probabilities

    def _predictions(self, probabilities: NDArray[np.float32]) -> list[Prediction]:
        """Return a prediction per row; of equal probabilities, the class that comes first in the file leads."""
        orders = np.argsort(-probabilities, axis=1, kind="stable")
        return [
            Prediction(tuple((self.labels[index], float(row[index])) for index in order))
            for row, order in zip(probabilities, orders, strict=True)
        ]
