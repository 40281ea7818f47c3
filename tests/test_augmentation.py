"""A view of an image depends on seed, epoch and image, and on nothing else."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from cifarnet.config import TrainConfig
from cifarnet.data.augmentation import GRAY, Augmentation

COUNT = 60
IMAGES = np.random.default_rng(3).integers(0, 256, (COUNT, 9, 7, 3), np.uint8)
EVERYWHERE = np.arange(COUNT)
DIGESTS = {"alternating": "3f6a6f3c27646dc3", "random": "38fb7c0b11e1e86b"}
"""Digests of views of one image."""
BOTH = TrainConfig(flip="alternating", translation=2, cutout=3, seed=5)
FLIP = replace(BOTH, translation=0, cutout=0)
CROP = replace(BOTH, flip="none", cutout=0)
CUTOUT = replace(BOTH, flip="none", translation=0)


def views(config, epoch, positions=EVERYWHERE):
    return Augmentation(config, COUNT, epoch)(IMAGES[positions], positions)


def is_flipped(config, epoch):
    found = views(config, epoch)
    flipped = (found == IMAGES[:, :, ::-1]).all(axis=(1, 2, 3))
    np.testing.assert_array_equal(found[~flipped], IMAGES[~flipped])
    return flipped


def test_without_augmentation_the_images_stay_as_they_are():
    np.testing.assert_array_equal(views(TrainConfig(), 1), IMAGES, strict=True)


@pytest.mark.parametrize("config", [BOTH, replace(BOTH, flip="random")], ids=["alternating", "random"])
def test_a_view_is_the_same_whatever_batch_it_is_in(config):
    whole = views(config, 4)
    chosen = np.random.default_rng(0).permutation(COUNT)[:20]
    np.testing.assert_array_equal(views(config, 4, chosen), whole[chosen], strict=True)
    np.testing.assert_array_equal(views(config, 4, chosen[7:8]), whole[chosen[7:8]])


def test_another_seed_kind_of_flip_or_epoch_gives_other_views():
    for other in (replace(BOTH, seed=6), replace(BOTH, flip="random")):
        assert (views(other, 4) != views(BOTH, 4)).any()
    assert (views(BOTH, 5) != views(BOTH, 4)).any()


def test_alternating_flips_flip_each_image_in_every_other_epoch():
    first = is_flipped(FLIP, 1)
    assert 0.3 < first.mean() < 0.7
    np.testing.assert_array_equal(is_flipped(FLIP, 2), ~first)
    np.testing.assert_array_equal(is_flipped(FLIP, 3), first)


def test_random_flips_are_drawn_anew_in_each_epoch():
    drawn = np.stack([is_flipped(replace(FLIP, flip="random"), epoch) for epoch in range(1, 9)])
    assert 0.4 < drawn.mean() < 0.6
    assert not (drawn[1:] == ~drawn[:-1]).all()


def crops_in(image, view):
    """Return the offsets at which the view is a part of the image."""
    return [
        (top, left)
        for top in range(5)
        for left in range(5)
        if np.array_equal(image[top : top + 9, left : left + 7], view)
    ]


def test_crops_reflect_at_the_edge_and_every_crop_occurs():
    margins = ((0, 0), (2, 2), (2, 2), (0, 0))
    padded = np.pad(IMAGES, margins, mode="reflect")
    found = [crops_in(*pair) for epoch in range(1, 9) for pair in zip(padded, views(CROP, epoch), strict=True)]
    assert {len(each) for each in found} == {1}
    assert len({each[0] for each in found}) == 25
    # The same check refuses a margin that is not reflected.
    assert any(not crops_in(*pair) for pair in zip(np.pad(IMAGES, margins), views(CROP, 1), strict=True))


def cuts(config, epoch):
    """Where each image was cut: the first and last row and column, all of which is gray and nothing else changed."""
    found = []
    for image, view in zip(IMAGES, views(config, epoch), strict=True):
        rows, columns = np.nonzero((view != image).any(axis=-1))
        expected = image.copy()
        if len(rows):
            expected[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = GRAY
            found.append((rows.min(), rows.max(), columns.min(), columns.max()))
        np.testing.assert_array_equal(view, expected)
    assert len(found) == COUNT
    return found


@pytest.mark.parametrize("size", [1, 4])
def test_a_square_is_cut_out_of_each_image_and_every_place_occurs(size):
    config = replace(CUTOUT, cutout=size)
    found = {cut for epoch in range(1, 31) for cut in cuts(config, epoch)}
    assert {bottom - top + 1 for top, bottom, left, right in found if top > 0 and bottom < 8} == {size}
    assert {right - left + 1 for top, bottom, left, right in found if left > 0 and right < 6} == {size}
    seen = np.zeros(IMAGES.shape[1:3], bool)
    for top, bottom, left, right in found:
        seen[top : bottom + 1, left : right + 1] = True
    assert seen.all()


def test_the_draws_stay_the_same_from_version_to_version():
    # Resuming and repeating a run of an earlier version rest on it.
    images = np.zeros((COUNT, 9, 7, 3), np.uint8)
    images += np.arange(9 * 7 * 3, dtype=np.uint8).reshape(9, 7, 3)
    for flip, digest in DIGESTS.items():
        seen = Augmentation(replace(BOTH, flip=flip), COUNT, 4)(images, EVERYWHERE)
        assert hashlib.sha256(seen.tobytes()).hexdigest()[:16] == digest
