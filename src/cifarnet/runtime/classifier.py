"""The classifier for apps: images in, predictions out."""

import os
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import DataError
from cifarnet.spec import Prediction

from .inputs import as_batch, is_batch, read_file
from .session import open_model

LARGEST_CALL = 256
"""Images that go through the model at once: more would only take memory."""
STREAM_BATCH = 64
"""Files that are decoded together, and then classified together, when they come as a stream."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file of a stream: a prediction, or the error that kept it from one."""

    path: Path
    prediction: Prediction | None = None
    error: DataError | None = None


class Classifier:
    """An exported model, ready to classify.

    ``model`` is the path or the content of a file from ``cifarnet export``. ``threads`` is the number of threads that
    one call uses, 0 for one per core: the network is so small that one is fastest for a single image, and several
    calls may run at once from threads of the app. Raises ``ModelError`` when the file is not one of ours, was altered,
    or is newer than this package.
    """

    def __init__(self, model: str | Path | bytes, *, threads: int = 1) -> None:
        self._model = open_model(model if isinstance(model, bytes) else Path(model), threads=threads)

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names in the order of the model's outputs."""
        return self._model.labels

    @property
    def contract(self) -> dict[str, Any]:
        """What the file says of itself: labels, input, resize recipe, training, proof."""
        return self._model.contract

    def __call__(self, images: Any) -> Any:
        """Classify one image or several.

        One image is a uint8 array (h, w, 3), RGB, 0-255, or (h, w) grey or (h, w, 4) with alpha; the path or the bytes
        of an image file; or a Pillow image. Several are an array (n, h, w, 3), or a list or tuple of the former. An
        image of another size is brought to the model's by the recipe in the file. Returns a ``Prediction`` for one and
        a list of them for several. Raises ``DataError`` for anything else.
        """
        predictions = [self._prediction(row) for row in self.probabilities(images)]
        return predictions if is_batch(images) else predictions[0]

    def probabilities(self, images: Any) -> NDArray[np.float32]:
        """Return the probability of each class, float32 (n, classes), 0 to 1, in the order of ``labels``."""
        return self._run(images)[1]

    def logits(self, images: Any) -> NDArray[np.float32]:
        """Return the model's logits, float32 (n, classes), in the order of ``labels``."""
        return self._run(images)[0]

    def stream(self, paths: Iterable[str | Path]) -> Iterator[Outcome]:
        """Classify image files one after the other, in constant memory however many there are.

        Files are decoded by a thread per core while the model runs. Yields an ``Outcome`` per file, in order; one that
        cannot be used does not end the stream.
        """
        remaining = iter(paths)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            waiting: deque[list[tuple[Path, Future[Any]]]] = deque()
            while True:
                while len(waiting) < 2 and (chunk := [Path(path) for path in islice(remaining, STREAM_BATCH)]):
                    waiting.append([(path, pool.submit(self._decode, path)) for path in chunk])
                if not waiting:
                    return
                yield from self._outcomes([(path, future.result()) for path, future in waiting.popleft()])

    def _decode(self, path: Path) -> NDArray[np.uint8] | DataError:
        try:
            return read_file(path, self._model.image_shape)
        except DataError as error:
            return error

    def _outcomes(self, decoded: list[tuple[Path, NDArray[np.uint8] | DataError]]) -> Iterator[Outcome]:
        images = [pixels for _, pixels in decoded if not isinstance(pixels, DataError)]
        predictions = iter(self(np.stack(images)) if images else [])
        for path, pixels in decoded:
            if isinstance(pixels, DataError):
                yield Outcome(path, error=pixels)
            else:
                yield Outcome(path, prediction=next(predictions))

    def _run(self, images: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        batch = as_batch(images, self._model.image_shape)
        parts = [self._model.run(batch[at : at + LARGEST_CALL]) for at in range(0, len(batch), LARGEST_CALL)]
        logits, probabilities = (np.concatenate(outputs) for outputs in zip(*parts, strict=True))
        return logits, probabilities

    def _prediction(self, probabilities: NDArray[np.float32]) -> Prediction:
        order = np.argsort(-probabilities, kind="stable")
        return Prediction(tuple((self.labels[index], float(probabilities[index])) for index in order))
