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
    """What a file has to hold against the trained model. The defaults are those of float32."""

    probability: float | None = 1e-5
    """Largest difference of a probability; nothing where fewer bits make a difference as such meaningless. Measured for
    float32: 2e-6 and less (the README's table)."""
    margin: float | None = 1e-4
    """Where the two best probabilities differ by more than this, the class has to be the same; nothing where it may
    change."""
    accuracy_drop: float = 0.0
    """Largest loss of accuracy, as a fraction of the test set."""
    equal_accuracy: bool = True
    """Whether the number of right answers has to be the same, so that none may be gained either."""

    def to_json(self) -> dict[str, Any]:
        """Return the bars that there are."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of the file with the trained model."""

    name: str
    images: int
    probability_difference: float
    """Largest, absolute; NaN where either side is not finite."""
    logit_difference: float
    changed_classes: int
    """Images whose class differs, those within the margin left out."""
    first_offender: int | None
    """Index, among the images of this check, of the first one past a bar."""


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
    for check in checks:
        _require_no_offender(check, bars)
    _require_accuracy(reference[:, 0], whole[:, 0], test.labels, bars)
    return Parity(
        images=len(test),
        trained_accuracy=score(reference[:, 0], test.labels).accuracy,
        accuracy=score(whole[:, 0], test.labels).accuracy,
        checks=tuple(checks),
    )


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
    changed = _changed(expected[:, 1], found[:, 1], bars.margin or 0.0)
    # Not `>`: a difference that is no number is past every bar.
    offends = ~(probabilities <= (bars.probability if bars.probability is not None else np.inf))
    offenders = np.flatnonzero(offends | (changed if bars.margin is not None else False))
    return Check(
        name=name,
        images=len(expected),
        probability_difference=float(probabilities.max()),
        logit_difference=float(logits.max()),
        changed_classes=int(changed.sum()),
        first_offender=int(offenders[0]) if len(offenders) else None,
    )


def _changed(expected: NDArray[np.float32], found: NDArray[np.float32], margin: float) -> NDArray[np.bool_]:
    """Return which images (n,) change their class though the two best probabilities are ``margin`` apart."""
    best = np.sort(expected, axis=1)
    changed: NDArray[np.bool_] = (best[:, -1] - best[:, -2] > margin) & (
        expected.argmax(axis=1) != found.argmax(axis=1)
    )
    return changed


def _require_no_offender(check: Check, bars: Bars) -> None:
    if check.first_offender is not None:
        wanted = [] if bars.probability is None else [f"{bars.probability:g} at most"]
        wanted += [] if bars.margin is None else ["no changed class"]
        raise ParityError(
            f"{check.name}: a probability differs by {check.probability_difference:.2g} and {check.changed_classes} of "
            f"{check.images} images change their class, image {check.first_offender} first; expected "
            f"{' and '.join(wanted) or 'numbers'}: no file was written, the trained model stands"
        )


def _require_accuracy(
    expected: NDArray[np.float32], found: NDArray[np.float32], labels: NDArray[np.int32], bars: Bars
) -> None:
    was_right, is_right = expected.argmax(axis=1) == labels, found.argmax(axis=1) == labels
    drop = was_right.mean() - is_right.mean()
    if drop > bars.accuracy_drop or (bars.equal_accuracy and was_right.sum() != is_right.sum()):
        wanted = "the same" if bars.equal_accuracy else f"at most {100 * bars.accuracy_drop:g} points less"
        raise ParityError(
            f"the file has an accuracy of {100 * is_right.mean():.2f} %, the trained model of "
            f"{100 * was_right.mean():.2f} %, image {np.flatnonzero(was_right != is_right)[0]} differs first; expected "
            f"{wanted}: no file was written, the trained model stands"
        )
