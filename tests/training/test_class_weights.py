"""Class weights multiply the loss in the same way on every backend, and resume is exact with them."""

import numpy as np
import pytest
from keras import ops

from cifarnet.dataset import Dataset
from cifarnet.training.optimizer import class_weights_of, objective
from cifarnet.training.train import resume
from tests.small_runs import SMALL_JOB, assert_same_results, finished, stop_after, with_training

UNEQUAL = with_training(SMALL_JOB.changed({"classes": 3}), epochs=2)
BALANCED = with_training(UNEQUAL, class_weights="balanced")


@pytest.fixture(scope="module")
def unequal():
    """Three classes of 120, 30 and 10 training images."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3, dtype=np.int32), (120, 30, 10))
    images = rng.integers(0, 256, (len(labels), 32, 32, 3), np.uint8)
    test = (rng.integers(0, 256, (9, 32, 32, 3), np.uint8), np.arange(9) % 3)
    return Dataset.from_arrays((images, labels), test, ["many", "some", "few"])


def test_the_loss_of_an_image_is_multiplied_by_the_weight_of_its_class():
    rng = np.random.default_rng(1)
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2], np.int32)
    logits = rng.normal(size=(9, 3)).astype(np.float32)
    padding = np.array([1] * 8 + [0], np.float32)
    weights = class_weights_of(BALANCED, labels)
    np.testing.assert_allclose(weights, [9 / (3 * 6), 9 / (3 * 2), 9 / 3])
    assert class_weights_of(UNEQUAL, labels) is None
    tensors = [ops.convert_to_tensor(each) for each in (logits, labels, padding)]
    weighted, plain = (objective(*tensors, class_weights=each) for each in (weights, None))
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(9), labels]
    np.testing.assert_allclose(ops.convert_to_numpy(weighted.loss), (losses * weights[labels] * padding).sum(), 1e-5)
    np.testing.assert_allclose(ops.convert_to_numpy(plain.loss), (losses * padding).sum(), 1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(weighted.correct), ops.convert_to_numpy(plain.correct))


def test_a_weighted_training_is_resumed_exactly_and_is_not_the_plain_one(unequal, tmp_path):
    whole, _ = finished(BALANCED, unequal, tmp_path)
    plain, _ = finished(UNEQUAL, unequal, tmp_path)
    broken, record = finished(BALANCED, unequal, tmp_path, stop=stop_after(2))
    assert record["status"] == "interrupted"
    assert resume(broken, unequal).record.train.class_weights == "balanced"
    assert_same_results(broken, whole)
    assert plain.read_history() != whole.read_history()
