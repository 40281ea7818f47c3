"""The network matches its specification, starts from the same bits everywhere, and saves and loads weights."""

import hashlib

import keras
import numpy as np
import pytest

from cifarnet.config import ModelConfig
from cifarnet.model.network import build_model, get_weights, load_weights, logits_of, predictor, save_weights, whiten
from cifarnet.recipes import recipe

SMALL = ModelConfig(filters=(4, 8), dense_units=(16,), classes=3)


def digest(weights):
    return hashlib.sha256(b"".join(weights[path].tobytes() for path in sorted(weights))).hexdigest()


def test_the_recipe_seed_is_the_specified_network():
    layers = build_model(recipe("seed").model).layers
    assert [type(layer).__name__ for layer in layers] == [
        *("InputLayer", "Rescaling"),
        *("Conv2D", "MaxPooling2D") * 3,
        "Flatten",
        *("Dense", "Dropout") * 3,
        *("Dense", "Softmax"),
    ]
    convolutions = [layer for layer in layers if isinstance(layer, keras.layers.Conv2D)]
    assert [(layer.filters, layer.kernel_size, layer.activation.__name__) for layer in convolutions] == [
        (32, (3, 3), "relu"),
        (64, (3, 3), "relu"),
        (128, (3, 3), "relu"),
    ]


def test_initial_weights_are_these_bits_on_every_framework():
    # From numpy alone; a change here makes every published figure another one.
    assert digest(get_weights(build_model(SMALL, seed=5))) == GOLDEN_DIGEST
    assert digest(get_weights(build_model(SMALL, seed=6))) != GOLDEN_DIGEST


GOLDEN_DIGEST = "e5c8fbbefd3b3c839c66a1404c22783d31f4ba4f8966a86cfd35f8be0447f336"


def test_the_recipe_fast_is_normalised_and_ends_in_one_value_per_filter():
    model = build_model(recipe("fast").model)
    block = ("Conv2D", "MaxPooling2D", "BatchNormalization", "ReLU", "Conv2D", "BatchNormalization", "ReLU")
    assert [type(layer).__name__ for layer in model.layers] == [
        *("InputLayer", "Rescaling", "Conv2D"),
        *block * 3,
        *("GlobalAveragePooling2D", "Dense", "Softmax"),
    ]
    trained = {variable.path for variable in model.trainable_variables}
    assert "whiten/kernel" in get_weights(model)
    assert "whiten/kernel" not in trained
    assert {path.split("/")[1] for path in trained} == {"kernel", "beta", "bias"}


def whitened(model, images):
    """What the whitening convolution finds, one row per patch, as a matrix of second moments."""
    convolution = model.get_layer("whiten")
    scaled = keras.ops.cast(images, "float32") * (2 / 255) - 1
    found = keras.ops.conv(scaled, convolution.kernel, padding="valid", data_format="channels_last")
    rows = keras.ops.convert_to_numpy(found).reshape(-1, convolution.filters)
    return rows.T @ rows / len(rows)


def test_whitening_makes_the_values_of_a_patch_uncorrelated_and_of_one_size():
    config = ModelConfig(whitening=2, filters=(4,), dense_units=(8,))
    rng = np.random.default_rng(0)
    images = np.repeat(rng.integers(0, 256, (300, 16, 16, 3), np.uint8), 2, axis=1).repeat(
        2, axis=2
    )  # neighbours alike
    model = build_model(config)
    assert np.abs(whitened(model, images)[:12, :12] - np.eye(12)).max() > 0.2
    whiten(model, config, images)
    half = np.eye(12)
    expected = np.block([[half, -half], [-half, half]])
    # What is added to the variances takes a little from each.
    np.testing.assert_allclose(whitened(model, images), expected, rtol=0, atol=0.02)


def test_probabilities_are_the_softmax_of_the_logits():
    model = build_model(SMALL)
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    logits = predictor(model)(images).astype(np.float64)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # float32 softmax: a few units in the last place of a number up to 1.
    np.testing.assert_allclose(model.predict_on_batch(images), expected, atol=1e-6)
    assert logits_of(model).output_shape == (None, 3)


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(classes=2, filters=(4,), dense_units=(8,)),
        ModelConfig(classes=101, filters=(4, 4, 4, 4), dense_units=(8, 8), convolutions_per_block=2),
        ModelConfig(padding="valid", filters=(4, 4, 4), kernel_size=3),
        ModelConfig(image_shape=(48, 40, 3), filters=(4, 4), pixel_range="unit", initializer="he_normal"),
    ],
)
def test_the_same_builder_takes_other_widths_blocks_classes_and_sizes(config):
    model = build_model(config)
    images = np.zeros((2, *config.image_shape), np.uint8)
    assert model.predict_on_batch(images).shape == (2, config.classes)
    assert tuple(model.get_layer(f"pool_{len(config.filters)}").output.shape[1:]) == config.feature_shape


def test_weights_survive_the_file_bit_for_bit(tmp_path):
    saved, loaded = build_model(SMALL, seed=1), build_model(SMALL, seed=2)
    save_weights(saved, tmp_path / "best.weights.h5")
    load_weights(loaded, tmp_path / "best.weights.h5")
    for path, array in get_weights(saved).items():
        np.testing.assert_array_equal(get_weights(loaded)[path], array)
    assert [path.name for path in tmp_path.iterdir()] == ["best.weights.h5"]


def test_keras_itself_reads_the_file(tmp_path):
    saved, loaded = build_model(SMALL, seed=1), build_model(SMALL, seed=2)
    save_weights(saved, tmp_path / "best.weights.h5")
    loaded.load_weights(tmp_path / "best.weights.h5")
    assert digest(get_weights(loaded)) == digest(get_weights(saved))


def test_a_weights_file_tells_its_epoch_and_keras_loads_it_all_the_same(tmp_path):
    saved, path = build_model(SMALL, seed=1), tmp_path / "best.weights.h5"
    save_weights(saved, path)
    assert load_weights(build_model(SMALL), path) is None  # as an earlier version wrote it
    save_weights(saved, path, 7)
    assert load_weights(build_model(SMALL), path) == 7
    loaded = build_model(SMALL, seed=2)
    loaded.load_weights(path)
    for name, array in get_weights(saved).items():
        np.testing.assert_array_equal(get_weights(loaded)[name], array)
