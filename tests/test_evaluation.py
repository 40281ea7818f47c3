"""Loss and accuracy: correct on worked examples, independent of batching, and low for a wrong predictor."""

import math

import numpy as np
import pytest

from cifarnet.data import synthetic
from cifarnet.dataset import Split
from cifarnet.errors import CifarnetError, DataError, UsageError
from cifarnet.evaluation.scoring import EVALUATION_BATCH, Score, evaluate, predict, score, softmax
from cifarnet.runtime import Classifier

CLASSES = 5


def split(count: int) -> Split:
    rng = np.random.default_rng(count)
    images = rng.integers(0, 256, (count, 4, 4, 3), np.uint8)
    return Split(images, rng.integers(0, CLASSES, count, np.int32))


def logits_of(images):
    """Compute logits that depend on all pixels of an image and on no other image."""
    weights = np.random.default_rng(0).normal(size=(images[0].size, CLASSES)).astype(np.float32)
    # An explicit sum, because a matrix product may round differently for another number of rows.
    return (images.reshape(len(images), -1, 1) * weights / 300).sum(axis=1, dtype=np.float32)


def cross_entropy(logits, labels):
    """The textbook's formula, one image at a time: -log(exp(x[label]) / sum(exp(x)))."""
    rows = zip(logits.astype(np.float64), labels, strict=True)
    return sum(math.log(sum(math.exp(x - row[label]) for x in row)) for row, label in rows) / len(labels)


def test_a_worked_example():
    logits = np.log(np.array([[1, 3], [1, 3], [3, 1], [4, 4]], np.float32))  # softmax 1/4 3/4, ..., 1/2 1/2
    found = score(logits, np.array([1, 0, 0, 0], np.int32))
    assert (found.accuracy, found.images) == (0.75, 4)
    np.testing.assert_allclose(found.loss, -math.log(0.75 * 0.25 * 0.75 * 0.5) / 4, rtol=1e-6)  # logits are float32


def test_a_score_agrees_with_the_textbook_formula():
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 4, (200, CLASSES)).astype(np.float32)
    labels = rng.integers(0, CLASSES, 200, np.int32)
    # Both sum in float64, in another order.
    np.testing.assert_allclose(score(logits, labels).loss, cross_entropy(logits, labels), rtol=1e-12)


def test_extreme_logits_give_a_finite_and_exact_loss():
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0]], np.float32)
    assert score(logits, np.array([1, 0], np.int32)) == Score(loss=1e4, accuracy=0.5, images=2)
    largest = np.finfo(np.float32).max
    assert score(np.array([[largest, -largest]], np.float32), np.array([1], np.int32)).loss == 2 * float(largest)


def test_a_common_offset_of_the_logits_changes_nothing():
    logits, labels = np.array([[0, 1, 2], [3, 0, 0]], np.float32), np.array([2, 1], np.int32)
    assert score(logits + 4096, labels) == score(logits, labels)


def test_nan_logits_give_a_nan_loss():
    assert math.isnan(score(np.array([[math.nan, 0]], np.float32), np.array([1], np.int32)).loss)


def test_the_logits_are_unchanged():
    logits = np.array([[1, 2], [3, 4]], np.float32)
    score(logits, np.array([0, 1], np.int32))
    np.testing.assert_array_equal(logits, [[1, 2], [3, 4]])


@pytest.mark.parametrize(
    "count", [1, EVALUATION_BATCH - 1, EVALUATION_BATCH, EVALUATION_BATCH + 1, 2 * EVALUATION_BATCH + 50]
)
def test_batches_and_their_padding_change_no_result(count):
    part = split(count)
    np.testing.assert_array_equal(predict(logits_of, part.images), logits_of(part.images))
    assert evaluate(logits_of, part) == score(logits_of(part.images), part.labels)


def test_every_batch_has_the_same_shape():
    seen = []

    def watched(images):
        seen.append((images.shape, images.dtype))
        return logits_of(images)

    evaluate(watched, split(2 * EVALUATION_BATCH + 1))
    assert seen == [((EVALUATION_BATCH, 4, 4, 3), np.uint8)] * 3


def test_a_split_without_images_is_refused():
    with pytest.raises(DataError, match=r"there are 0 images to score; expected at least 1"):
        evaluate(logits_of, split(0))


def perfect_predictor(part):
    """A predictor that looks up the label of every image of ``part``."""
    known = {image.tobytes(): np.eye(CLASSES, dtype=np.float32)[label] * 9 for image, label in zip_of(part)}
    nothing = np.zeros(CLASSES, np.float32)
    return lambda images: np.stack([known.get(image.tobytes(), nothing) for image in images])


def zip_of(part):
    return zip(part.images, part.labels, strict=True)


def test_a_perfect_predictor_scores_1_and_wrong_ones_do_not():
    part = split(230)
    right = perfect_predictor(part)
    best = evaluate(right, part)
    assert best.accuracy == 1
    for wrong in (
        lambda images: right(images)[:, ::-1],  # classes in another order
        lambda images: np.roll(right(images), 1, axis=0),  # logits of the neighboring image
        lambda images: right(images[:, ::-1]),  # images upside down
        lambda images: -right(images),
    ):
        found = evaluate(wrong, part)
        assert found.accuracy < 0.5
        assert found.loss > best.loss + 1


@pytest.mark.parametrize("shape", [(CLASSES - 1,), (), (2, CLASSES)])
def test_a_predictor_of_another_shape_is_refused(shape):
    part = split(20)
    with pytest.raises(DataError, match=rf"returns the shape \(20,.*expected \(20, {CLASSES}\) or more columns"):
        evaluate(lambda images: np.zeros((len(images), *shape), np.float32), part)


def test_probabilities_have_the_score_of_their_logits():
    part = split(20)
    logits = np.random.default_rng(0).normal(size=(20, CLASSES)).astype(np.float32)

    def padded(rows):
        return lambda images: np.resize(rows, (len(images), CLASSES))

    plain, found = evaluate(padded(logits), part), evaluate(padded(softmax(logits)), part)
    assert found.accuracy == plain.accuracy
    np.testing.assert_allclose(found.loss, plain.loss, rtol=1e-6)
    certain = evaluate(padded(np.eye(CLASSES, dtype=np.float32)), part)
    assert np.isfinite(certain.loss)


@pytest.mark.parametrize(
    ("predictor", "message"),
    [
        ("model.onnx", "predictor is 'model.onnx'; expected a Keras model, a Classifier, or a function"),
        (None, "predictor is None; expected"),
        (lambda _: "cat", "the result of the predictor is 'cat', not an array"),
        (lambda _: [[1.0], [1.0, 2.0]], "the result of the predictor is of type list, not an array"),
    ],
)
def test_what_is_no_predictor_is_refused(predictor, message):
    with pytest.raises(CifarnetError, match=message):
        evaluate(predictor, split(20))


def test_a_dataset_in_place_of_its_test_split_is_refused():
    dataset = synthetic(train=20, test=10)
    with pytest.raises(UsageError, match=r"split is of type Dataset; expected a Split, such as dataset\.test"):
        evaluate(lambda images: np.zeros((len(images), 10), np.float32), dataset)


def test_a_classifier_is_evaluated_by_its_logits():
    classifier, test = Classifier(), synthetic(train=20, test=10).test
    assert evaluate(classifier, test) == evaluate(classifier.logits, test)


@pytest.mark.parametrize(("side", "size"), [(16, 256), (32, 256), (64, 64), (96, 28), (256, 4), (1024, 1)])
def test_a_batch_of_larger_images_has_no_more_pixels(side, size):
    seen = []

    def watched(images):
        seen.append(len(images))
        return np.zeros((len(images), CLASSES), np.float32)

    predict(watched, np.zeros((2, side, side, 3), np.uint8))
    assert seen == [size] * (2 if size == 1 else 1)
