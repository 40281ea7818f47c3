"""Compiled sums over many rows match numpy in float64: one jaxlib was wrong from 32,769 rows on."""

import keras
import numpy as np
import pytest
from keras import ops

from cifarnet.backends import Plan, Steps, Sums, adapter
from cifarnet.model.layers import BatchNormalization, Conv2D
from cifarnet.model.weights import get_weights
from cifarnet.training.optimizer import objective

RNG = np.random.default_rng(11)
SHAPES = {32_768: (128, 16, 16), 32_769: (331, 9, 11), 65_537: (65_537, 1, 1)}
"""Images, height and width by the number of rows that a convolution makes of them."""
STEP_SIZE = 2.0**20
"""Learning rate of gradient descent at which the change of the weights is the gradient, within rounding."""
TOLERANCE = 1e-4
"""Relative to the largest element: 3e-6 is the most that was measured, 8e-3 what the wrong sums were off."""


def gradients_of(network, images, labels, to_minimise, ghost_batch):
    """Return the sums of a step, the gradients by path, and the moving averages after it."""
    optimizer = keras.optimizers.SGD(STEP_SIZE)
    optimizer.build(network.trainable_variables)
    engine = adapter().compile(network, optimizer, to_minimise, Plan(ghost_batch))
    before = get_weights(network)
    weights, rates = np.ones((1, len(images)), np.float32), np.array([STEP_SIZE], np.float32)
    (sums,) = engine.train(Steps(images[None], labels[None], weights, rates))
    after = {path.removeprefix("model/"): value for path, value in engine.state().items()}
    return sums, {path: (before[path] - after[path]) / np.float32(STEP_SIZE) for path in before}, after


def assert_near(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("rows", SHAPES)
def test_convolution_and_batch_normalisation_of_many_rows_are_those_of_numpy(rows):
    count, height, width = SHAPES[rows]
    images = RNG.integers(0, 256, (count, height, width, 3), np.uint8)
    kernel = RNG.standard_normal((3, 3, 3, 3), np.float32)
    inputs = keras.Input(images.shape[1:], dtype="uint8")
    features = Conv2D(3, 3, padding="same", use_bias=False, name="conv")(keras.layers.Rescaling(1 / 128, -1.0)(inputs))
    network = keras.Model(inputs, BatchNormalization(name="norm")(features))
    network.get_layer("conv").kernel.assign(kernel)

    def cubes(outputs, labels, weights):
        return Sums(ops.sum(outputs**3) / rows, ops.sum(ops.square(outputs)))

    sums, gradients, after = gradients_of(network, images, np.zeros(count, np.int32), cubes, count)
    padded = np.pad(images / 128 - 1.0, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=0.0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(rows, 27)
    features = patches @ kernel.reshape(27, 3).astype(np.float64)
    mean, variance = features.mean(axis=0), features.var(axis=0)
    outputs = (features - mean) / np.sqrt(variance + 1e-5)
    arriving = 3 * outputs**2 / rows / count  # the engine divides by the number of images
    centred = arriving - arriving.mean(axis=0) - outputs * (arriving * outputs).mean(axis=0)
    expected = patches.T @ (centred / np.sqrt(variance + 1e-5))
    assert_near(gradients["conv/kernel"].reshape(27, 3), expected)
    assert_near(gradients["norm/beta"], arriving.sum(axis=0))
    assert_near(after["norm/moving_mean"], 0.1 * mean)
    assert_near(after["norm/moving_variance"], 0.9 + 0.1 * variance)
    assert_near(float(sums.correct), (outputs**2).sum())
    with pytest.raises(AssertionError):
        assert_near(1.008 * gradients["conv/kernel"].reshape(27, 3), expected)


@pytest.mark.parametrize(("count", "ghost_batch"), [(32_769, 32_769), (1, 0), (65, 0)])
def test_the_loss_of_many_or_an_odd_number_of_images_is_that_of_numpy(count, ghost_batch):
    images, labels = RNG.integers(0, 256, (count, 1, 1, 3), np.uint8), RNG.integers(0, 3, count, np.int32)
    kernel = RNG.standard_normal((3, 3), np.float32)
    inputs = keras.Input((1, 1, 3), dtype="uint8")
    pixels = keras.layers.Flatten()(keras.layers.Rescaling(1 / 128, -1.0)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(3, name="logits")(pixels))
    network.get_layer("logits").kernel.assign(kernel)
    sums, gradients, _ = gradients_of(network, images, labels, objective, ghost_batch)
    pixels = images.reshape(count, 3) / 128 - 1.0
    logits = pixels @ kernel.astype(np.float64)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[np.arange(count), labels]).sum()
    surplus = (probabilities - np.eye(3)[labels]) / count
    assert_near(float(sums.loss), loss)
    assert float(sums.correct) == (logits.argmax(axis=1) == labels).sum()
    assert_near(gradients["logits/kernel"], pixels.T @ surplus)
    assert_near(gradients["logits/bias"], surplus.sum(axis=0))
    with pytest.raises(AssertionError):
        assert_near(1.008 * float(sums.loss), loss)
