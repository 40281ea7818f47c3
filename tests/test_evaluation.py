"""Loss and accuracy: correct on worked examples, independent of batching, and low for a wrong predictor."""

import math

import ml_dtypes
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


def test_a_worked_example():
    logits = np.log(np.array([[1, 3], [1, 3], [3, 1], [4, 4]], np.float32))  # softmax 1/4 3/4, ..., 1/2 1/2
    before = logits.copy()
    found = score(logits, np.array([1, 0, 0, 0], np.int32))
    assert (found.accuracy, found.images) == (0.75, 4)
    np.testing.assert_allclose(found.loss, -math.log(0.75 * 0.25 * 0.75 * 0.5) / 4, rtol=1e-6)  # logits are float32
    np.testing.assert_array_equal(logits, before)


def test_extreme_logits_give_a_finite_and_exact_loss_and_nan_gives_nan():
    logits = np.array([[1e4, -1e4, 0], [1e4, -1e4, 0]], np.float32)
    assert score(logits, np.array([1, 0], np.int32)) == Score(loss=1e4, accuracy=0.5, images=2)
    largest = np.finfo(np.float32).max
    assert score(np.array([[largest, -largest]], np.float32), np.array([1], np.int32)).loss == 2 * float(largest)
    assert math.isnan(score(np.array([[math.nan, 0]], np.float32), np.array([1], np.int32)).loss)


def test_batches_and_their_padding_change_no_result():
    for count in (1, EVALUATION_BATCH, 2 * EVALUATION_BATCH + 50):
        part = split(count)
        np.testing.assert_array_equal(predict(logits_of, part.images), logits_of(part.images))
        assert evaluate(logits_of, part) == score(logits_of(part.images), part.labels)


def perfect_predictor(part):
    """A predictor that looks up the label of every image of ``part``."""
    known = {
        image.tobytes(): np.eye(CLASSES, dtype=np.float32)[label] * 9
        for image, label in zip(part.images, part.labels, strict=True)
    }
    nothing = np.zeros(CLASSES, np.float32)
    return lambda images: np.stack([known.get(image.tobytes(), nothing) for image in images])


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


def test_a_predictor_of_another_shape_is_refused():
    for shape in ((CLASSES - 1,), (), (2, CLASSES)):
        with pytest.raises(DataError, match=rf"returns the shape \(20,.*expected \(20, {CLASSES}\) or more columns"):
            evaluate(lambda images, shape=shape: np.zeros((len(images), *shape), np.float32), split(20))


def test_probabilities_have_the_score_of_their_logits_by_which_a_classifier_is_evaluated():
    part = split(20)
    logits = np.random.default_rng(0).normal(size=(20, CLASSES)).astype(np.float32)

    def padded(rows):
        return lambda images: np.resize(rows, (len(images), CLASSES))

    plain, found = evaluate(padded(logits), part), evaluate(padded(softmax(logits)), part)
    assert found.accuracy == plain.accuracy
    np.testing.assert_allclose(found.loss, plain.loss, rtol=1e-6)
    for half, rounding in ((np.float16, 1e-3), (ml_dtypes.bfloat16, 1e-2)):  # as a Keras model in mixed precision
        np.testing.assert_allclose(evaluate(padded(softmax(logits).astype(half)), part).loss, plain.loss, rtol=rounding)
    classifier, test = Classifier(), synthetic(train=20, test=10).test
    assert evaluate(classifier, test) == evaluate(classifier.logits, test)
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


def test_a_dataset_in_place_of_its_test_split_and_a_split_without_images_are_refused():
    with pytest.raises(UsageError, match=r"split is of type Dataset; expected a Split, such as dataset\.test"):
        evaluate(logits_of, synthetic(train=20, test=10))
    with pytest.raises(DataError, match=r"there are 0 images to score; expected at least 1"):
        evaluate(logits_of, split(0))


@pytest.mark.parametrize(("side", "size"), [(4, EVALUATION_BATCH), (16, 256), (96, 28), (1024, 1)])
def test_every_batch_has_the_same_shape_and_one_of_larger_images_no_more_pixels(side, size):
    seen = []

    def watched(images):
        seen.append((images.shape, images.dtype))
        return np.zeros((len(images), CLASSES), np.float32)

    count = 2 * EVALUATION_BATCH + 1 if side == 4 else 2
    predict(watched, np.zeros((count, side, side, 3), np.uint8))
    assert seen == [((size, side, side, 3), np.uint8)] * -(-count // size)
