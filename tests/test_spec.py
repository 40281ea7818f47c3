"""Values passed between the stages refuse invalid input, and a dataset is identified by its fingerprint."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cifarnet.dataset import Dataset, Split
from cifarnet.errors import DataError


def split(count: int = 4, *, seed: int = 0) -> Split:
    images = np.random.default_rng(seed).integers(0, 256, (count, 2, 2, 3), np.uint8)
    return Split(images, (np.arange(count) % 3).astype(np.int32))


@pytest.fixture
def dataset():
    return Dataset(name="tiny", train=split(6, seed=1), test=split(3, seed=2), labels=("cat", "dog", "eel"))


def test_images_that_are_not_rgb_bytes_and_labels_that_are_not_one_int32_per_image_are_refused():
    whole = np.zeros((4, 2, 2, 3), np.uint8)
    for images in (whole.astype(np.float32), whole[0], np.zeros((4, 3, 2, 2), np.uint8), whole.repeat(2, axis=3)):
        found = re.escape(f"images have dtype {images.dtype} and shape {images.shape}; expected uint8")
        with pytest.raises(DataError, match=found):
            Split(images, np.zeros(len(images), np.int32))
    for labels in (np.zeros(3, np.int32), np.zeros((4, 1), np.int32), np.zeros(4, np.int64)):
        found = re.escape(f"labels have dtype {labels.dtype} and shape {labels.shape}; expected int32 (4,)")
        with pytest.raises(DataError, match=found):
            Split(whole, labels)


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ((), "0 class; expected at least 2.*"),
        (("cat",), "1 class; expected at least 2.*"),
        # As a folder's name becomes one where its bytes are no UTF-8; the fingerprint, and every file, needs text.
        (("cat", "\udce9t", "eel"), "a class '.*udce9t'; expected a name in valid UTF-8: rename the class.*"),
        (("cat", "", "eel"), "a class ''; expected text that is not empty: rename the class"),
        (("cat", "dog", "cat"), "two classes 'cat'; expected different names: rename one"),
        (
            ("café", "cafe\u0301", "eel"),
            "the classes 'caf\\\\xe9' and 'cafe\\\\u0301', which look alike; expected .*: rename one",
        ),
        (("cat", "eel", "\u00a0cat"), "the classes 'cat' and '\\\\xa0cat', which look alike; expected .*: rename one"),
    ],
)
def test_class_names_that_no_model_file_could_carry_are_refused(dataset, labels, found):
    with pytest.raises(DataError, match=f"^tiny has {found}$"):
        replace(dataset, labels=labels)


def test_what_no_run_could_use_is_refused(dataset):
    larger = Split(np.zeros((3, 4, 4, 3), np.uint8), np.arange(3, dtype=np.int32))
    for changes, found in (
        ({"labels": "cde"}, "the class names of tiny are 'cde'; expected a list of names"),
        ({"labels": {"cat", "dog", "eel"}}, "the class names of tiny are of type set; expected a list of names"),
        ({"name": None}, "the name of the dataset is None; expected text: pass a str"),
        ({"name": Path("tiny")}, "the name of the dataset is .*Path.*; expected text: pass a str"),
        ({"test": larger}, "expected one shape"),
    ):
        with pytest.raises(DataError, match=found):
            replace(dataset, **changes)
    for part in ("train", "test"):
        found = getattr(dataset, part)
        for label in (-1, 3):
            labels = np.append(found.labels[1:], label).astype(np.int32)
            with pytest.raises(DataError, match=r"^tiny has labels -?\d to \d; expected 0 to 2"):
                replace(dataset, **{part: replace(found, labels=labels)})


def test_datasets_can_be_compared_and_kept_in_a_set(dataset):
    other = replace(dataset)
    assert (dataset == dataset, dataset == other) == (True, False)  # noqa: PLR0124  # which once raised
    assert dataset.train != other.test
    assert len({dataset, other, dataset.train, other.train}) == 3


def test_one_changed_pixel_label_place_or_class_name_changes_the_fingerprint(dataset):
    others = [replace(dataset, labels=("cat", "dog", "eels")), replace(dataset, labels=("dog", "cat", "eel"))]
    others.append(replace(dataset, train=dataset.test, test=dataset.train))
    for name in ("train", "test"):
        part = getattr(dataset, name)
        images, labels = part.images.copy(), part.labels.copy()
        images[-1, 1, 1, 2] ^= 1
        labels[0] += 1
        changed = (Split(images, part.labels), Split(part.images, labels), Split(part.images[::-1], part.labels[::-1]))
        others += [replace(dataset, **{name: each}) for each in changed]
    assert len({dataset.fingerprint, *(each.fingerprint for each in others)}) == 1 + len(others)


def test_the_same_pixels_have_the_same_fingerprint_however_they_lie_in_memory(dataset):
    assert isinstance(replace(dataset, labels=list(dataset.labels)).labels, tuple)
    strided = Split(np.asfortranarray(dataset.train.images), np.repeat(dataset.train.labels, 2)[::2])
    assert not strided.images.flags.c_contiguous
    assert replace(dataset, train=strided, name="renamed").fingerprint == dataset.fingerprint
