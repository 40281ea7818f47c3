"""Training images are recognized by their pixels alone."""

import numpy as np

from cifarnet.run.folder import Run
from cifarnet.training.seen import count_seen, digests, seen_by, write_seen

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), np.uint8)


def test_an_image_with_one_other_pixel_is_another_one():
    seen = digests(IMAGES)
    other = IMAGES.copy()
    other[3, 31, 31, 2] ^= 1
    assert (count_seen(IMAGES, seen), count_seen(other, seen)) == (20, 19)


def test_each_copy_counts_and_the_order_in_memory_does_not():
    again = np.asfortranarray(IMAGES[[4, 4, 7]])
    assert count_seen(again, digests(IMAGES[4:])) == 3
    assert count_seen(IMAGES[:0], digests(IMAGES)) == 0


def test_the_digests_are_the_same_numbers_everywhere():
    np.testing.assert_array_equal(digests(np.zeros((1, 2, 2, 3), np.uint8)), [0x15EC_7BF0_B507_32B4])


def test_each_digest_is_kept_once_in_a_plain_array_that_numpy_reads(tmp_path):
    for images in (IMAGES[[5, 2, 5]], IMAGES[:0]):
        write_seen(Run(tmp_path), digests(images))
        kept = seen_by(Run(tmp_path))
        np.testing.assert_array_equal(kept, np.unique(digests(images)))
        np.testing.assert_array_equal(np.load(tmp_path / "seen.npy", allow_pickle=False), kept)
        assert kept.dtype == np.uint64
