"""The proof that a model file says what the trained model says: the whole test set, and inputs of the extreme kind."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cifarnet.errors import ParityError
from cifarnet.evaluation import predict, score
from cifarnet.runtime import open_model
from cifarnet.spec import Split

Heads = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images (n, h, w, 3) to float32 (n, 2, classes): logits, then probabilities."""

WHOLE_BATCH = 256
"""Images per call for the whole test set."""
PART_BATCHES = (1, 7, 30)
"""Other batch sizes, each on this many batches of the test set."""
PART_CALLS = 40
NOISE_IMAGES, HOT_PIXELS = 32, 32
"""Extreme inputs beside an all-0 and an all-255 image."""


@dataclass(frozen=True, kw_only=True)
class Bars:
    """What a file has to hold against the trained model. A changed accuracy is never let through where it is exact."""

    probability: float = 1e-5
    """Largest difference of a probability. Measured for float32: 5e-7 and less on three frameworks."""
    margin: float = 1e-4
    """Where the two best probabilities differ by more than this, the class has to be the same."""
    accuracy_drop: float = 0.0
    """Largest loss of accuracy, as a fraction of the test set; with 0 the number of right answers is the same."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of the file with the trained model."""

    name: str
    images: int
    probability_difference: float
    """Largest, absolute; NaN where either side is not finite."""
    logit_difference: float
    changed_classes: int
    """Images whose class differs though the margin is above the bar."""
    worst_image: int
    """Index of the image with the largest difference, among those of this check."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """What was measured by the gate."""

    images: int
    """Test images scored."""
    trained_accuracy: float
    """Of the trained model, fraction."""
    accuracy: float
    """Of the file in onnxruntime, fraction."""
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        return asdict(self)


def keras_heads(model: keras.Model) -> Heads:
    """Return logits and probabilities of the trained model, as it computes them itself."""
    both = keras.Model(model.inputs[0], [model.get_layer("logits").output, model.outputs[0]], name="cifarnet_heads")
    return lambda images: np.stack([np.asarray(head, np.float32) for head in both.predict_on_batch(images)], axis=1)


def file_heads(content: bytes, *, optimised: bool) -> Heads:
    """Return logits and probabilities of a model file in onnxruntime."""
    opened = open_model(content, threads=0, optimised=optimised)
    return lambda images: np.stack(opened.run(images), axis=1)


def prove(trained: Heads, content: bytes, test: Split, bars: Bars) -> Parity:
    """Compare a model file with the trained model and return what was measured.

    Raises ``ParityError`` with the figures and the first offending image where a bar is not held.
    """
    contenders = {word: file_heads(content, optimised=word == "optimised") for word in ("optimised", "plain")}
    reference = predict(trained, test.images, WHOLE_BATCH)
    whole = predict(contenders["optimised"], test.images, WHOLE_BATCH)
    checks = [_compare("test set, optimised", reference, whole, bars)]
    checks += [
        _compare(f"{name}, {word}", expected, predict(heads, images, size), bars)
        for name, images, size, expected in _parts(trained, test)
        for word, heads in contenders.items()
    ]
    parity = Parity(
        images=len(test),
        trained_accuracy=score(reference[:, 0], test.labels).accuracy,
        accuracy=score(whole[:, 0], test.labels).accuracy,
        checks=tuple(checks),
    )
    _require_held(parity, bars)
    return parity


def _parts(trained: Heads, test: Split) -> Iterator[tuple[str, NDArray[np.uint8], int, NDArray[np.float32]]]:
    """Yield name, images, batch size and the trained model's answers of each check beside the whole test set."""
    for size in PART_BATCHES:
        images = test.images[: size * PART_CALLS]
        yield f"batches of {size}", images, size, predict(trained, images, size)
    images = test.images[: WHOLE_BATCH * 4]
    yield f"batches of {WHOLE_BATCH}", images, WHOLE_BATCH, predict(trained, images, WHOLE_BATCH)
    images = extreme_images(test.images.shape[1:])
    yield "extreme inputs", images, size, predict(trained, images, size)  # no size that is new to a compiler


def extreme_images(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return images uint8 (n, h, w, c) of all 0, all 255, noise, and single hot pixels, always the same ones."""
    rng = np.random.Generator(np.random.PCG64(0))
    flat = np.stack([np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)])
    noise = rng.integers(0, 256, (NOISE_IMAGES, *shape), np.uint8)
    hot = np.zeros((HOT_PIXELS, int(np.prod(shape))), np.uint8)
    hot[np.arange(HOT_PIXELS), rng.integers(0, hot.shape[1], HOT_PIXELS)] = 255
    return np.concatenate([flat, noise, hot.reshape(-1, *shape)])


def _compare(name: str, expected: NDArray[np.float32], found: NDArray[np.float32], bars: Bars) -> Check:
    logits, probabilities = (np.abs(expected[:, head] - found[:, head]).max(axis=1) for head in (0, 1))
    best = np.sort(expected[:, 1], axis=1)
    is_clear = best[:, -1] - best[:, -2] > bars.margin
    changed = is_clear & (expected[:, 1].argmax(axis=1) != found[:, 1].argmax(axis=1))
    return Check(
        name=name,
        images=len(expected),
        probability_difference=float(probabilities.max()),
        logit_difference=float(logits.max()),
        changed_classes=int(changed.sum()),
        worst_image=int(np.nan_to_num(probabilities, nan=np.inf).argmax()),
    )


def _require_held(parity: Parity, bars: Bars) -> None:
    for check in parity.checks:
        is_close = check.probability_difference <= bars.probability  # False for NaN
        if not is_close or (check.changed_classes and not bars.accuracy_drop):
            raise ParityError(
                f"{check.name}: a probability differs by {check.probability_difference:.2g} (image "
                f"{check.worst_image}) and {check.changed_classes} of {check.images} images change their class; "
                f"expected at most {bars.probability:g} and none: nothing was written, the trained model stands"
            )
    drop = parity.trained_accuracy - parity.accuracy
    is_equal = round(drop * parity.images) == 0
    if not (is_equal or (bars.accuracy_drop and drop <= bars.accuracy_drop)):
        raise ParityError(
            f"the file has an accuracy of {100 * parity.accuracy:.2f} %, the trained model "
            f"{100 * parity.trained_accuracy:.2f} %; expected a drop of at most {100 * bars.accuracy_drop:g} points: "
            "nothing was written, the trained model stands"
        )
