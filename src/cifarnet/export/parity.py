"""Parity check: compare a model file with the trained model on the test set and on extreme inputs."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from cifarnet.contract import american
from cifarnet.dataset import Split
from cifarnet.errors import ParityError
from cifarnet.evaluation.scoring import evaluation_batch, predict, score, softmax, with_tta
from cifarnet.runtime import open_model

from .tolerances import Tolerances
from .writer import returns_logits

OutputFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Maps images (n, h, w, 3) to float32 (n, outputs, classes).

The outputs of a file are its logits, probabilities and maybe calibrated ones. Those of a trained model are its
probabilities, and before them its logits if it has them.
"""

PART_BATCHES = (1, 7, 30)
"""Batch sizes besides that for the whole test set, each checked on ``PART_CALLS`` batches of the test set."""
PART_CALLS = 40
CAUSES = (
    "usually the model lacks a keras.layers.Rescaling for pixels 0-255, so that its values and their rounding are "
    "large, or computes in less than float32, or at random in inference"
)
"""Advice for a float32 file; a wrong conversion would be a fault of this package."""
REMEDY = "this network loses too much in fewer bits: export float32"
NOISE_IMAGES, HOT_PIXELS = 32, 32
"""Number of extreme inputs in addition to an all-0 and an all-255 image."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One comparison of the file with the trained model."""

    name: str
    images: int
    probability_difference: float
    """Largest absolute difference of ``probabilities``; NaN if either side is not finite."""
    calibrated_difference: float | None
    """Largest absolute difference of ``calibrated``, or None if there is no calibrated output to compare."""
    head_difference: float
    """Largest absolute difference of either from the softmax of the file's own logits."""
    logit_difference: float | None
    """Largest absolute difference of ``logits``, or None if the trained model has only probabilities."""
    changed_classes: int
    """Images whose predicted class differs, except near ties within the margin."""
    first_offender: int | None
    """Index of the first mismatch among the images of this check, or None."""


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Result of a parity check."""

    images: int
    """Number of test images."""
    trained_accuracy: float
    """Accuracy of the trained model, 0 to 1."""
    accuracy: float
    """Accuracy of the file in onnxruntime, 0 to 1."""
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return asdict(self)


def keras_outputs(model: keras.Model, views: int = 1) -> OutputFunction:
    """Return a function that computes logits and probabilities with the trained model.

    It applies test-time augmentation if there are several ``views``.
    """
    both = keras.Model(model.inputs[0], [model.get_layer("logits").output, model.outputs[0]], name="cifarnet_outputs")

    def heads(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.stack([np.asarray(head, np.float32) for head in both.predict_on_batch(images)], axis=1)

    def averaged_heads(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = with_tta(lambda images: heads(images)[:, 0], views)(images)
        return np.stack([logits, softmax(logits, 1.0).astype(np.float32)], axis=1)

    return averaged_heads if views > 1 else heads


def model_outputs(model: keras.Model, classes: int) -> OutputFunction:
    """Return a function that computes what ``model`` returns as probabilities, after logits if it returns these.

    Values (n, 1) are probabilities of the second of two classes.
    """
    is_logits = returns_logits(model)

    def outputs(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = np.asarray(model.predict_on_batch(images), np.float32)
        if found.shape[1] == 1 and classes == 2:
            found = np.concatenate([1 - found, found], axis=1)
        heads = [found, softmax(found).astype(np.float32)] if is_logits else [found]
        return np.stack(heads, axis=1)

    return outputs


def onnx_outputs(content: bytes, *, optimized: bool) -> OutputFunction:
    """Return a function that computes the three outputs of a model file in onnxruntime."""
    opened = open_model(content, threads=0, optimized=optimized)
    return lambda images: np.stack(opened.run(images), axis=1)


def check_parity(
    trained: OutputFunction, content: bytes, test: Split, tolerances: Tolerances, temperature: float | None
) -> Parity:
    """Compare a model file with the trained model and return the differences.

    ``calibrated`` is compared with the softmax of the logits divided by ``temperature``, those of the trained model if
    it returns them; with None the file has no such output. Raises ``ParityError`` with the differences and the first
    mismatch if a tolerance is exceeded.
    """
    files = {word: onnx_outputs(content, optimized=word == "optimised") for word in ("optimised", "plain")}
    reference = predict(trained, test.images)
    whole = predict(files["optimised"], test.images)
    compare = partial(_compare, tolerances=tolerances.at(temperature), temperature=temperature)
    checks = [compare("test set, optimised", reference, whole)]
    checks += [
        compare(f"{name}, {word}", expected, predict(heads, images, size))
        for name, images, size, expected in _parts(trained, test)
        for word, heads in files.items()
    ]
    for check in checks:
        _require_no_mismatch(check, tolerances.at(temperature))
    _require_accuracy(reference[:, 0], whole[:, 0], test.labels, tolerances)
    return Parity(
        images=len(test),
        trained_accuracy=score(reference[:, 0], test.labels).accuracy,
        accuracy=score(whole[:, 0], test.labels).accuracy,
        checks=tuple(checks),
    )


def _parts(trained: OutputFunction, test: Split) -> Iterator[tuple[str, NDArray[np.uint8], int, NDArray[np.float32]]]:
    """Yield name, images, batch size and trained outputs of each check besides the one on the whole test set."""
    for size in PART_BATCHES:
        images = test.images[: size * PART_CALLS]
        yield f"batches of {size}", images, size, predict(trained, images, size)
    shape = test.images.shape[1:]
    size = evaluation_batch(shape)
    images = test.images[: size * 4]
    yield f"batches of {size}", images, size, predict(trained, images, size)
    images = extreme_images(shape)
    yield "extreme inputs", images, size, predict(trained, images, size)  # a batch size that is compiled already


def extreme_images(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Return fixed images uint8 (n, h, w, c): all 0, all 255, noise, and single hot pixels."""
    rng = np.random.Generator(np.random.PCG64(0))
    flat = np.stack([np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)])
    noise = rng.integers(0, 256, (NOISE_IMAGES, *shape), np.uint8)
    hot = np.zeros((HOT_PIXELS, int(np.prod(shape))), np.uint8)
    hot[np.arange(HOT_PIXELS), rng.integers(0, hot.shape[1], HOT_PIXELS)] = 255
    return np.concatenate([flat, noise, hot.reshape(-1, *shape)])


def _compare(
    name: str,
    expected: NDArray[np.float32],
    found: NDArray[np.float32],
    tolerances: Tolerances,
    temperature: float | None,
) -> Check:
    logits, probabilities = found[:, 0], found[:, 1]
    has_logits = expected.shape[1] > 1
    differences = {"probability": _distance(expected[:, -1], probabilities)}
    heads = [_distance(_softmax(logits, 1.0), probabilities)]
    if temperature is not None:
        heads.append(_distance(_softmax(logits, temperature), found[:, 2]))
        if has_logits:
            differences["calibrated"] = _distance(_softmax(expected[:, 0], temperature), found[:, 2])
    differences["heads"] = np.max(heads, axis=0)
    changed = _changed(expected[:, -1], probabilities, tolerances.margin or 0.0)
    exceeds = np.any([_exceeds(each, getattr(tolerances, key)) for key, each in differences.items()], axis=0)
    mismatches = np.flatnonzero(exceeds | (changed if tolerances.margin is not None else False))
    return Check(
        name=name,
        images=len(expected),
        probability_difference=float(differences["probability"].max()),
        calibrated_difference=float(differences["calibrated"].max()) if "calibrated" in differences else None,
        head_difference=float(differences["heads"].max()),
        logit_difference=float(_distance(expected[:, 0], logits).max()) if has_logits else None,
        changed_classes=int(changed.sum()),
        first_offender=int(mismatches[0]) if len(mismatches) else None,
    )


def _distance(expected: NDArray[Any], found: NDArray[Any]) -> NDArray[Any]:
    """Return the largest absolute difference of each row, (n,), of arrays (n, classes)."""
    return np.abs(expected - found).max(axis=1)


def _softmax(logits: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # infinite logits become NaN, which exceeds every tolerance
        return softmax(logits, temperature)


def _exceeds(differences: NDArray[Any], tolerance: float | None) -> NDArray[np.bool_]:
    # Not `>`: NaN exceeds every tolerance.
    return ~(differences <= (np.inf if tolerance is None else tolerance))


def _changed(expected: NDArray[np.float32], found: NDArray[np.float32], margin: float) -> NDArray[np.bool_]:
    """Return which images (n,) have another predicted class although their top-2 margin exceeds ``margin``."""
    best = np.sort(expected, axis=1)
    return (best[:, -1] - best[:, -2] > margin) & (expected.argmax(axis=1) != found.argmax(axis=1))


def _require_no_mismatch(check: Check, tolerances: Tolerances) -> None:
    if check.first_offender is None:
        return
    rows = (
        ("probabilities differ by {}", check.probability_difference, tolerances.probability),
        ("calibrated probabilities differ by {}", check.calibrated_difference, tolerances.calibrated),
        (
            "probabilities differ from the softmax of the file's own logits by {}",
            check.head_difference,
            tolerances.heads,
        ),
    )
    # Not `>`: NaN exceeds every tolerance.
    found = [
        f"{text.format(f'{value:.2g}')}, expected at most {limit:.2g}"
        for text, value, limit in rows
        if value is not None and limit is not None and not value <= limit
    ]
    if check.changed_classes and tolerances.margin is not None:
        found.append(f"{check.changed_classes} of {check.images} predictions change, expected none")
    raise ParityError(
        f"the file and the trained model do not agree ({american(check.name)}, first on image {check.first_offender}): "
        f"{'; '.join(found)}; {CAUSES if tolerances.margin is not None else REMEDY}: no file was written"
    )


def _require_accuracy(
    expected: NDArray[np.float32], found: NDArray[np.float32], labels: NDArray[np.int32], tolerances: Tolerances
) -> None:
    before, after = (outputs.argmax(axis=1) == labels for outputs in (expected, found))
    lost = int(before.sum()) - int(after.sum())
    allowed = Fraction(str(tolerances.accuracy_drop)) * len(labels)  # exactly that of the decimal fraction
    if lost > allowed or (tolerances.equal_accuracy and lost):
        wanted = "the same" if tolerances.equal_accuracy else f"at most {100 * tolerances.accuracy_drop:g} points less"
        remedy = CAUSES if tolerances.equal_accuracy else f"{REMEDY}, or allow more (--max-drop, in Python max_drop=)"
        raise ParityError(
            f"the file has an accuracy of {100 * after.mean():.2f}%, the trained model {100 * before.mean():.2f}%, "
            f"first different on image {np.flatnonzero(before != after)[0]}; expected {wanted}; {remedy}: no file was "
            "written"
        )
