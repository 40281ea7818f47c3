"""The synthetic set is the same everywhere, and neither trivial nor impossible to learn."""

import numpy as np
import pytest

from cifarnet.data import load_dataset, synthetic
from cifarnet.errors import ConfigError


def test_the_images_are_the_same_on_every_machine():
    assert (
        synthetic(train=40, test=20).fingerprint == "2407665142d5a12a4f48008fafd3d4c456a300def26025962aa8a9b6d7176a95"
    )


def test_the_classes_are_even_and_named():
    dataset = load_dataset("synthetic")
    np.testing.assert_array_equal(np.bincount(dataset.train.labels), [200] * 10)
    np.testing.assert_array_equal(np.bincount(dataset.test.labels), [50] * 10)
    assert dataset.labels[0] == "horizontal stripes"
    assert len(set(dataset.labels)) == 10
    assert load_dataset("synthetic", seed=1).fingerprint != dataset.fingerprint


def test_training_and_test_images_differ():
    dataset = synthetic(train=100, test=100)
    assert not (dataset.train.images == dataset.test.images).all(axis=(1, 2, 3)).any()


def test_colors_alone_do_not_tell_the_classes():
    dataset = synthetic()
    means = np.array([dataset.train.images[dataset.train.labels == label].mean() for label in range(10)])
    # the classes' mean brightness lies closer together than single images of one class do
    assert np.ptp(means) < dataset.train.images[dataset.train.labels == 0].mean(axis=(1, 2, 3)).std()


@pytest.mark.parametrize("arguments", [{"classes": 1}, {"classes": 11}, {"train": 9}, {"test": 0}, {"seed": -1}])
def test_arguments_outside_their_range_are_refused(arguments):
    with pytest.raises(ConfigError, match="expected 2 to 10 classes, an image per class"):
        synthetic(**arguments)
