"""Weights are read as arrays only, completely or not at all."""
# ruff: noqa: E402  # the framework is chosen before Keras is imported

import tempfile
from dataclasses import replace

import h5py
import numpy as np
import pytest

from cifarnet.backends import choose

choose()

from cifarnet.config import ModelConfig
from cifarnet.contract import EPOCH_ATTRIBUTE
from cifarnet.errors import ModelError, RunError
from cifarnet.model.network import build_model
from cifarnet.model.weights import get_weights, load_features, load_weights, save_weights, set_weights
from tests.lfs import POINTER

SMALL = ModelConfig(filters=(4, 8), dense_units=(16,), classes=3)


def assert_same_weights(model, expected):
    for path, array in expected.items():
        np.testing.assert_array_equal(get_weights(model)[path], array)


def test_weights_survive_the_file_bit_for_bit_with_their_epoch_and_keras_reads_it_too(tmp_path):
    saved, path = build_model(SMALL, seed=1), tmp_path / "best.weights.h5"
    by_us, by_keras = build_model(SMALL, seed=2), build_model(SMALL, seed=2)
    save_weights(saved, path)
    assert load_weights(by_us, path) is None  # as an earlier version wrote it
    save_weights(saved, path, 7)
    assert load_weights(by_us, path) == 7
    by_keras.load_weights(path)
    for each in (by_us, by_keras):
        assert_same_weights(each, get_weights(saved))
    assert [each.name for each in tmp_path.iterdir()] == ["best.weights.h5"]


def test_features_are_taken_from_another_network_and_the_dense_layers_left(tmp_path):
    other = build_model(SMALL, seed=8)
    save_weights(other, tmp_path / "other.weights.h5")
    model = build_model(replace(SMALL, classes=5), seed=1)
    before, origin = get_weights(model), get_weights(other)
    load_features(model, tmp_path / "other.weights.h5")
    for path, array in get_weights(model).items():
        np.testing.assert_array_equal(array, (before if path.startswith(("dense", "logits")) else origin)[path])
    with pytest.raises(ModelError, match=r"conv_2/kernel is float32 .* expected float32"):
        load_features(build_model(replace(SMALL, filters=(4, 9))), tmp_path / "other.weights.h5")


@pytest.mark.parametrize("epoch", [0, -1, 1.5, "seven", [1, 2]])
def test_a_weights_file_with_a_damaged_epoch_is_refused(tmp_path, epoch):
    model, path = build_model(SMALL), tmp_path / "best.weights.h5"
    save_weights(model, path, 7)
    with h5py.File(path, "r+") as file:
        file.attrs[EPOCH_ATTRIBUTE] = epoch
    with pytest.raises(ModelError, match=r"could not be read .the epoch is .*; expected Keras weights"):
        load_weights(model, path)


def test_weights_for_which_there_is_no_temporary_folder_are_an_error_of_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(RunError, match=r"best\.weights\.h5 could not be written to a temporary folder .*set TMPDIR"):
        save_weights(build_model(SMALL), tmp_path / "best.weights.h5")


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path):
    other = build_model(replace(SMALL, filters=(4, 16)))
    save_weights(other, tmp_path / "best.weights.h5")
    model = build_model(SMALL, seed=1)
    before = get_weights(model)
    with pytest.raises(ModelError, match=r"conv_2/kernel is float32 \(3, 3, 4, 16\); expected float32 \(3, 3, 4, 8\)"):
        load_weights(model, tmp_path / "best.weights.h5")
    assert_same_weights(model, before)


def spoil_truncate(path):
    path.write_bytes(path.read_bytes()[:1000])


def spoil_external_link(path):
    with h5py.File(path, "a") as file:
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars/0"] = h5py.ExternalLink("/etc/passwd", "/x")


def spoil_huge_shape(path):
    with h5py.File(path, "a") as file:
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars"].create_dataset("0", shape=(2**20, 2**20, 2**10), dtype="f4", chunks=(64, 64, 64))


def spoil_double_precision(path):
    with h5py.File(path, "a") as file:
        kernel = file["layers/conv2d/vars/0"][()]
        del file["layers/conv2d/vars/0"]
        file["layers/conv2d/vars/0"] = kernel.astype(np.float64)


def spoil_missing_layer(path):
    with h5py.File(path, "a") as file:
        del file["layers/conv2d"]


@pytest.mark.parametrize(
    "spoil",
    [spoil_truncate, spoil_external_link, spoil_huge_shape, spoil_double_precision, spoil_missing_layer],
)
def test_a_spoilt_weights_file_is_refused(tmp_path, spoil):
    model = build_model(SMALL)
    path = tmp_path / "best.weights.h5"
    save_weights(model, path)
    spoil(path)
    with pytest.raises(ModelError):
        load_weights(model, path)


def test_a_git_lfs_pointer_in_place_of_weights_is_named(tmp_path):
    path = tmp_path / "best.weights.h5"
    path.write_bytes(POINTER)
    with pytest.raises(ModelError, match=r"it is a Git LFS pointer: fetch the file itself with `git lfs pull`"):
        load_weights(build_model(SMALL), path)


def test_set_weights_refuses_a_missing_array():
    model = build_model(SMALL)
    weights = get_weights(model)
    weights.pop("conv_1/bias")
    with pytest.raises(ModelError, match="expected"):
        set_weights(model, weights)
