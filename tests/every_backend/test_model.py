"""The network starts from the same bits everywhere; its whitening and its softmax are those of numpy."""

import hashlib

import keras
import numpy as np

from cifarnet.config import ModelConfig
from cifarnet.model.network import build_model, predictor, whiten
from cifarnet.model.weights import get_weights

SMALL = ModelConfig(filters=(4, 8), dense_units=(16,), classes=3)
GOLDEN_DIGEST = "e5c8fbbefd3b3c839c66a1404c22783d31f4ba4f8966a86cfd35f8be0447f336"


def digest(weights):
    return hashlib.sha256(b"".join(weights[path].tobytes() for path in sorted(weights))).hexdigest()


def test_initial_weights_are_these_bits_on_every_framework():
    # From numpy alone; a change here makes every published figure another one.
    assert digest(get_weights(build_model(SMALL, seed=5))) == GOLDEN_DIGEST
    assert digest(get_weights(build_model(SMALL, seed=6))) != GOLDEN_DIGEST


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
