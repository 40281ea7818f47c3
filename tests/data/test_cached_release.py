"""The cache is opened only when every file has its size, and verified byte for byte."""

from pathlib import Path

import numpy as np
import pytest

from cifarnet.data import cache_folder, cache_state, load_dataset, verify
from cifarnet.data.cifar10_cache import open_cache, write_cache
from cifarnet.data.official_files import read_release
from cifarnet.errors import DataError, IntegrityError


@pytest.fixture
def filled(tiny, tmp_path):
    for name, data in tiny.files.items():
        (tmp_path / name).write_bytes(data)
    write_cache(read_release(tmp_path, tiny.release), tmp_path / "tiny")
    return tmp_path


def test_verify_returns_every_file_or_names_the_one_in_which_a_byte_changed(tiny, filled, tmp_path):
    seen = []
    assert verify(filled, lambda *report: seen.append(report), release=tiny.release) == tiny.release.files
    assert seen[-1][1] == seen[-1][2] == 3 * tiny.release.file_bytes
    images = np.load(filled / "tiny" / "train-images.npy")
    images[25, 0, 0, 0] ^= 1
    np.save(filled / "tiny" / "train-images.npy", images)
    with pytest.raises(IntegrityError, match=r"data_batch_2\.bin was altered.*--force"):
        verify(filled, release=tiny.release)
    with pytest.raises(DataError, match=r"no tiny in .*: run `cifarnet data fetch`"):
        verify(tmp_path / "empty", release=tiny.release)


@pytest.mark.parametrize(
    "array",
    [np.zeros((20, 32, 32, 3), np.float32), np.zeros((19, 32, 32, 3), np.uint8), np.array([None]), 0, 128, 3000],
    ids=["dtype", "shape", "objects", "empty", "header", "truncated"],
)
def test_a_truncated_file_and_an_array_of_another_kind_are_refused_with_the_way_out(tiny, filled, array):
    path = filled / "tiny" / "test-images.npy"
    if isinstance(array, int):
        path.write_bytes(path.read_bytes()[:array])
    else:
        np.save(path, array)
    with pytest.raises(IntegrityError, match=r"test-images\.npy is damaged.*--force"):
        open_cache(filled, release=tiny.release)


def test_the_opened_images_are_read_only_and_a_missing_file_means_not_present(tiny, filled):
    assert cache_state(filled, release=tiny.release).present
    with pytest.raises(ValueError, match="read-only"):
        open_cache(filled, release=tiny.release).train.images[0] = 0
    (filled / "tiny" / "test-labels.npy").unlink()
    state = cache_state(filled, release=tiny.release)
    assert not state.present
    assert state.path == filled / "tiny"
    assert state.size_bytes > 0


def test_a_cache_with_an_altered_pixel_is_not_opened(tmp_path):
    """All of its pixels are black, in files of the right shapes with holes instead of data."""
    (tmp_path / "cifar10").mkdir()
    for part, count in (("train", 50_000), ("test", 10_000)):
        for name, dtype, shape in (("images", np.uint8, (count, 32, 32, 3)), ("labels", np.int32, (count,))):
            path = tmp_path / "cifar10" / f"{part}-{name}.npy"
            np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    with pytest.raises(
        IntegrityError, match=r"cifar10 has the fingerprint \w{12}; expected 5dbb2c57cc9d: run .*--force"
    ):
        load_dataset("cifar10", cache=tmp_path)


def test_the_variable_wins_over_the_folder_of_the_system(monkeypatch, tmp_path):
    monkeypatch.setenv("CIFARNET_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.setenv("CIFARNET_CACHE", "")
    assert cache_folder().name == "cifarnet"
    assert cache_folder() != Path()


def test_the_cache_holds_the_images_that_everyone_means(real_images):
    assert (len(real_images.train), len(real_images.test)) == (50_000, 10_000)
    assert real_images.train.labels[:10].tolist() == [6, 9, 9, 4, 1, 1, 2, 7, 8, 3]
    assert real_images.test.labels[:10].tolist() == [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]
    np.testing.assert_array_equal(np.bincount(real_images.train.labels), np.full(10, 5000))
