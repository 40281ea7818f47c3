"""The proof that a model file says what the trained model says: the whole test set, and inputs of the extreme kind."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import Split
from cifarnet.errors import ParityError
from cifarnet.evaluation.scoring import predict, score, softmax, with_tta
from cifarnet.runtime import open_model

Heads = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Images (n, h, w, 3) to float32 (n, heads, classes): logits, then probabilities, and of a file the calibrated ones."""

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
    calibrated: float | None = 1e-5
    """The same of a calibrated probability; the trained model's are its logits' softmax at the temperature. Measured:
    2e-6 and less."""
    heads: float = 1e-5
    """Largest difference of either from the softmax of the file's own logits, whatever those were computed in.
    Measured: 3e-7 and less in float32, float16 and int8."""
    margin: float | None = 1e-4
    """Where the two best probabilities differ by more than this, the class has to be the same; nothing where it may
    change."""
    accuracy_drop: float = 0.0
    """Largest loss of accuracy, as a fraction of the test set."""
    equal_accuracy: bool = True
    """Whether the number of right answers has to be the same, so that none may be gained either."""

    def at(self, temperature: float) -> "Bars":
        """Return the bars of a file with this temperature, above 0: below 1 it magnifies how its logits are rounded."""
        factor = max(1.0, 1.0 / temperature)
        calibrated = None if self.calibrated is None else self.calibrated * factor
        return replace(self, calibrated=calibrated, heads=self.heads * factor)

    def images_lost(self, images: int) -> int:
        """Return how many of ``images`` fewer may be right; the fraction counts as it is written in decimals."""
        return math.floor(Fraction(str(self.accuracy_drop)) * images)

    def to_json(self) -> dict[str, Any]:
        """Return the bars that there are."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of the file with the trained model."""

    name: str
    images: int
    probability_difference: float
    """Largest of ``probabilities``, absolute; NaN where either side is not finite."""
    calibrated_difference: float
    """Largest of ``calibrated``."""
    head_difference: float
    """Largest of either, from the softmax of the file's own logits."""
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


def keras_heads(model: keras.Model, *, flip: bool = False) -> Heads:
    """Return logits and probabilities of the trained model, as it computes them itself.

    With ``flip`` the logits are the mean over an image and its mirror image, the probabilities the softmax of that.
    """
    both = keras.Model(model.inputs[0], [model.get_layer("logits").output, model.outputs[0]], name="cifarnet_heads")

    def heads(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.stack([np.asarray(head, np.float32) for head in both.predict_on_batch(images)], axis=1)

    def flipped_heads(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = with_tta(lambda images: heads(images)[:, 0])(images)
        return np.stack([logits, softmax(logits, 1.0).astype(np.float32)], axis=1)

    return flipped_heads if flip else heads


def file_heads(content: bytes, *, optimised: bool) -> Heads:
    """Return logits, probabilities and calibrated probabilities of a model file in onnxruntime."""
    opened = open_model(content, threads=0, optimised=optimised)
    return lambda images: np.stack(opened.run(images), axis=1)


def prove(trained: Heads, content: bytes, test: Split, bars: Bars, temperature: float) -> Parity:
    """Compare a model file with the trained model and return what was measured.

    What is calibrated is compared with the softmax of the trained model's logits divided by ``temperature``.
    Raises ``ParityError`` with the figures and the first offending image where a bar is not held.
    """
    contenders = {word: file_heads(content, optimised=word == "optimised") for word in ("optimised", "plain")}
    reference = predict(trained, test.images, WHOLE_BATCH)
    whole = predict(contenders["optimised"], test.images, WHOLE_BATCH)
    compare = partial(_compare, bars=bars.at(temperature), temperature=temperature)
    checks = [compare("test set, optimised", reference, whole)]
    checks += [
        compare(f"{name}, {word}", expected, predict(heads, images, size))
        for name, images, size, expected in _parts(trained, test)
        for word, heads in contenders.items()
    ]
    for check in checks:
        _require_no_offender(check, bars.at(temperature))
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


def _compare(
    name: str, expected: NDArray[np.float32], found: NDArray[np.float32], bars: Bars, temperature: float
) -> Check:
    logits, probabilities = (_distance(expected[:, head], found[:, head]) for head in (0, 1))
    calibrated = _distance(_softmax(expected[:, 0], temperature), found[:, 2])
    own = [_distance(_softmax(found[:, 0], each), found[:, head]) for head, each in ((1, 1.0), (2, temperature))]
    heads, changed = np.maximum(*own), _changed(expected[:, 1], found[:, 1], bars.margin or 0.0)
    pairs = ((probabilities, bars.probability), (calibrated, bars.calibrated), (heads, bars.heads))
    offends = np.any([_is_past(differences, bar) for differences, bar in pairs], axis=0)
    offenders = np.flatnonzero(offends | (changed if bars.margin is not None else False))
    return Check(
        name=name,
        images=len(expected),
        probability_difference=float(probabilities.max()),
        calibrated_difference=float(calibrated.max()),
        head_difference=float(heads.max()),
        logit_difference=float(logits.max()),
        changed_classes=int(changed.sum()),
        first_offender=int(offenders[0]) if len(offenders) else None,
    )


def _distance(expected: NDArray[Any], found: NDArray[Any]) -> NDArray[Any]:
    """Return how far each row (n, classes) is from the other at most (n,)."""
    farthest: NDArray[Any] = np.abs(expected - found).max(axis=1)
    return farthest


def _softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # what is infinite becomes no number, and that is past every bar
        return softmax(logits, temperature)


def _is_past(differences: NDArray[Any], bar: float | None) -> NDArray[np.bool_]:
    # Not `>`: a difference that is no number is past every bar.
    past: NDArray[np.bool_] = ~(differences <= (np.inf if bar is None else bar))
    return past


def _changed(expected: NDArray[np.float32], found: NDArray[np.float32], margin: float) -> NDArray[np.bool_]:
    """Return which images (n,) change their class though the two best probabilities are ``margin`` apart."""
    best = np.sort(expected, axis=1)
    changed: NDArray[np.bool_] = (best[:, -1] - best[:, -2] > margin) & (
        expected.argmax(axis=1) != found.argmax(axis=1)
    )
    return changed


def _require_no_offender(check: Check, bars: Bars) -> None:
    if check.first_offender is not None:
        wanted = [] if bars.probability is None else [f"{bars.probability:.2g} and {bars.calibrated:.2g} at most"]
        wanted += [f"{bars.heads:.2g} from its own logits"] + ([] if bars.margin is None else ["no changed class"])
        raise ParityError(
            f"{check.name}: a probability differs by {check.probability_difference:.2g}, a calibrated one by "
            f"{check.calibrated_difference:.2g}, either from its own logits by {check.head_difference:.2g}, and "
            f"{check.changed_classes} of {check.images} images change their class, image {check.first_offender} first; "
            f"expected {', '.join(wanted)}: no file was written, the trained model stands"
        )


def _require_accuracy(
    expected: NDArray[np.float32], found: NDArray[np.float32], labels: NDArray[np.int32], bars: Bars
) -> None:
    was_right, is_right = expected.argmax(axis=1) == labels, found.argmax(axis=1) == labels
    lost = int(was_right.sum()) - int(is_right.sum())
    if lost > bars.images_lost(len(labels)) or (bars.equal_accuracy and lost):
        wanted = "the same" if bars.equal_accuracy else f"at most {100 * bars.accuracy_drop:g} points less"
        raise ParityError(
            f"the file has an accuracy of {100 * is_right.mean():.2f} %, the trained model of "
            f"{100 * was_right.mean():.2f} %, image {np.flatnonzero(was_right != is_right)[0]} differs first; expected "
            f"{wanted}: no file was written, the trained model stands"
        )
