"""Values passed between the stages refuse invalid input, and a dataset is identified by its fingerprint."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cifarnet.dataset import CIFAR10_LABELS, Dataset, Split
from cifarnet.errors import DataError


def split(count: int = 4, *, seed: int = 0) -> Split:
    images = np.random.default_rng(seed).integers(0, 256, (count, 2, 2, 3), np.uint8)
    return Split(images, (np.arange(count) % 3).astype(np.int32))


@pytest.fixture
def dataset():
    return Dataset(name="tiny", train=split(6, seed=1), test=split(3, seed=2), labels=("cat", "dog", "eel"))


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((4, 2, 2, 3), np.float32),
        np.zeros((4, 2, 2, 3), np.int8),
        np.zeros((2, 2, 3), np.uint8),
        np.zeros((4, 3, 2, 2), np.uint8),
        np.zeros((4, 2, 2, 4), np.uint8),
    ],
    ids=["floats", "signed", "one image", "channels first", "alpha"],
)
def test_images_that_are_not_rgb_bytes_are_refused(images):
    found = re.escape(f"images have dtype {images.dtype} and shape {images.shape}; expected uint8")
    with pytest.raises(DataError, match=found):
        Split(images, np.zeros(len(images), np.int32))


@pytest.mark.parametrize(
    "labels",
    [np.zeros(3, np.int32), np.zeros(5, np.int32), np.zeros((4, 1), np.int32), np.zeros(4, np.int64), np.zeros(4)],
    ids=["too few", "too many", "a column", "wide", "floats"],
)
def test_labels_that_are_not_one_int32_per_image_are_refused(labels):
    found = re.escape(f"labels have dtype {labels.dtype} and shape {labels.shape}; expected int32 (4,)")
    with pytest.raises(DataError, match=found):
        Split(np.zeros((4, 2, 2, 3), np.uint8), labels)


def test_a_split_is_as_long_as_its_images():
    assert [len(split(count)) for count in (0, 1, 5)] == [0, 1, 5]


@pytest.mark.parametrize("labels", [(), ("cat",)])
def test_fewer_than_two_classes_are_refused(labels):
    with pytest.raises(DataError, match=rf"^tiny has {len(labels)} class; expected at least 2"):
        Dataset(name="tiny", train=split(0), test=split(0), labels=labels)


def test_a_class_name_that_is_no_text_is_refused(dataset):
    """As a folder's name becomes one where its bytes are no UTF-8; the fingerprint, and every file, needs text."""
    found = re.escape("tiny has a class '\\udce9t\\udce9'; expected a name in valid UTF-8: rename the class")
    with pytest.raises(DataError, match=f"^{found}"):
        replace(dataset, labels=("cat", "\udce9t\udce9", "eel"))


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        (("cat", "", "eel"), "a class ''; expected text that is not empty: rename the class"),
        (("cat", "dog", "cat"), "two classes 'cat'; expected different names: rename one"),
        (
            ("café", "cafe\u0301", "eel"),
            "the classes 'caf\\\\xe9' and 'cafe\\\\u0301', which look alike; expected .*: rename one",
        ),
        (("cat", "cat ", "eel"), "the classes 'cat' and 'cat ', which look alike; expected .*: rename one"),
        (("cat", "eel", "\u00a0cat"), "the classes 'cat' and '\\\\xa0cat', which look alike; expected .*: rename one"),
    ],
)
def test_class_names_that_no_model_file_could_carry_are_refused(dataset, labels, found):
    with pytest.raises(DataError, match=f"^tiny has {found}$"):
        replace(dataset, labels=labels)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"labels": "cde"}, "the class names of tiny are 'cde'; expected a list of names"),
        ({"name": None}, "the name of the dataset is None; expected text: pass a str"),
        ({"name": Path("tiny")}, "the name of the dataset is .*Path.*; expected text: pass a str"),
        ({"test": Split(np.zeros((3, 4, 4, 3), np.uint8), np.arange(3, dtype=np.int32))}, "expected one shape"),
    ],
)
def test_what_no_run_could_use_is_refused(dataset, changes, found):
    with pytest.raises(DataError, match=found):
        replace(dataset, **changes)


def test_class_names_in_a_list_are_kept_as_a_tuple(dataset):
    assert replace(dataset, labels=list(dataset.labels)).labels == dataset.labels


def test_datasets_can_be_compared_and_kept_in_a_set(dataset):
    other = replace(dataset)
    assert (dataset == dataset, dataset == other) == (True, False)  # noqa: PLR0124  # which once raised
    assert dataset.train != other.test
    assert len({dataset, other, dataset.train, other.train}) == 3


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_without_a_name_is_refused_in_either_split(dataset, part, label):
    found = getattr(dataset, part)
    labels = found.labels.copy()
    labels[-1] = label
    with pytest.raises(DataError, match=r"^tiny has labels -?\d to \d; expected 0 to 2"):
        replace(dataset, **{part: replace(found, labels=labels)})


def test_a_split_without_images_is_no_reason_to_refuse_a_dataset(dataset):
    assert len(replace(dataset, test=split(0)).test) == 0


def changed_pixel(part: Split) -> Split:
    images = part.images.copy()
    images[-1, 1, 1, 2] ^= 1
    return Split(images, part.labels)


def changed_label(part: Split) -> Split:
    labels = part.labels.copy()
    labels[0] += 1
    return Split(part.images, labels)


def reversed_order(part: Split) -> Split:
    return Split(part.images[::-1], part.labels[::-1])


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("change", [changed_pixel, changed_label, reversed_order])
def test_one_changed_pixel_label_or_place_changes_the_fingerprint(dataset, part, change):
    other = replace(dataset, **{part: change(getattr(dataset, part))})
    assert other.fingerprint != dataset.fingerprint


@pytest.mark.parametrize("labels", [("cat", "dog", "eels"), ("dog", "cat", "eel"), ("cat", "dog", "eel", "fox")])
def test_other_class_names_change_the_fingerprint(dataset, labels):
    assert replace(dataset, labels=labels).fingerprint != dataset.fingerprint


def test_swapping_the_splits_changes_the_fingerprint(dataset):
    assert replace(dataset, train=dataset.test, test=dataset.train).fingerprint != dataset.fingerprint


def test_the_same_pixels_have_the_same_fingerprint_however_they_lie_in_memory(dataset):
    strided = Split(np.asfortranarray(dataset.train.images), np.repeat(dataset.train.labels, 2)[::2])
    assert not strided.images.flags.c_contiguous
    assert replace(dataset, train=strided, name="renamed").fingerprint == dataset.fingerprint


def test_cifar10_has_its_ten_classes_in_the_official_order():
    assert len(set(CIFAR10_LABELS)) == 10
    assert list(CIFAR10_LABELS) == sorted(CIFAR10_LABELS)  # the official order happens to be the alphabet's


@pytest.mark.parametrize("names", [{"a", "b"}, {"b": 1, "a": 0}, "ab"])
def test_class_names_without_an_order_are_refused(names):
    images, labels = np.zeros((2, 4, 4, 3), np.uint8), np.array([0, 1])
    with pytest.raises(
        DataError, match=r"the class names of arrays are (of type set|of type dict|'ab'); expected a list of names"
    ):
        Dataset.from_arrays((images, labels), (images, labels), names)
