"""Dropout masks are the same bits everywhere, and bfloat16 rounds what it is said to round."""

import importlib

import keras
import numpy as np
import pytest
from keras import ops

from cifarnet.backends import Plan, Steps, Sums, adapter
from cifarnet.backends.microbatches import MicroBatch, calling_on
from cifarnet.model.layers import Conv2D, Dropout, dropout_mask

RNG = np.random.default_rng(0)


def numpy_mask(shape, rate, seed, stream, step):
    """The mask, written again in numpy's wrapping uint32 arithmetic."""

    def mix(value, key):
        value = (value * np.uint32(0x9E3779B9) + key).astype(np.uint32)
        value = (value ^ (value >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        value = (value ^ (value >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return value ^ (value >> np.uint32(16))

    key = mix(np.array([stream], np.uint32), mix(np.array([step], np.uint32), np.array([seed], np.uint32)))
    elements = np.arange(shape[0] * shape[1], dtype=np.uint32).reshape(shape)
    return (mix(elements, key) >> np.uint32(8)) >= round(rate * 2**24)


def mask(shape, rate, seed, stream, step):
    step = ops.convert_to_tensor(np.array(step, np.int32))
    return ops.convert_to_numpy(dropout_mask(shape, rate, seed, stream, step)).astype(bool)


@pytest.mark.parametrize(("seed", "stream", "step"), [(0, 1, 0), (7, 3, 1167), (2**31 - 1, 2, 2**31 - 1)])
def test_dropout_masks_are_those_of_numpy_bit_for_bit(seed, stream, step):
    np.testing.assert_array_equal(
        mask((30, 512), 0.4, seed, stream, step), numpy_mask((30, 512), 0.4, seed, stream, step)
    )


@pytest.mark.parametrize("rate", [0.1, 0.9])
def test_dropout_keeps_its_share_and_the_mean(rate):
    layer = Dropout(rate, seed=3, stream=1)
    kept = ops.convert_to_numpy(layer(np.ones((200, 500), np.float32), training=True))
    assert set(np.unique(kept)) == {np.float32(0), np.float32(1 / (1 - rate))}
    deviation = np.sqrt(rate / (1 - rate) / kept.size)
    assert abs(kept.mean() - 1) < 5 * deviation


def test_dropout_is_nothing_outside_training_and_moves_on_within_it():
    layer = Dropout(0.5, seed=3, stream=1)
    ones = np.ones((4, 8), np.float32)
    np.testing.assert_array_equal(ops.convert_to_numpy(layer(ones, training=False)), ones)
    first, second = (ops.convert_to_numpy(layer(ones, training=True)) for _ in range(2))
    assert (first != second).any()


def bfloat16(values):
    """``values`` with 8 significant bits, to even where two are as near."""
    bits = np.asarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)).view(np.float32)


RUNNING = importlib.import_module(f"cifarnet.backends.{keras.config.backend()}")


@pytest.fixture(params={RUNNING.CAN_MULTIPLY_BFLOAT16, False} if hasattr(RUNNING, "CAN_MULTIPLY_BFLOAT16") else [None])
def processor(request, monkeypatch):
    """This one, and one without instructions for bfloat16; JAX takes all alike."""
    if request.param is not None:
        monkeypatch.setattr(RUNNING, "CAN_MULTIPLY_BFLOAT16", request.param)


def products(images, kernel, precision):
    """The convolution of what training would multiply in ``precision``."""
    with calling_on(MicroBatch(0, len(images)), precision):
        return ops.convert_to_numpy(adapter().conv2d(*map(ops.convert_to_tensor, (images, kernel)), "valid"))


@pytest.mark.usefixtures("processor")
def test_a_convolution_in_bfloat16_rounds_what_it_multiplies_and_what_it_gives():
    images, kernel = RNG.standard_normal((2, 9, 9, 8), np.float32), RNG.standard_normal((3, 3, 8, 6), np.float32)
    found, unrounded = (products(images, kernel, precision) for precision in ("bfloat16", "float32"))
    expected = products(bfloat16(images), bfloat16(kernel), "float32")
    np.testing.assert_array_equal(found, bfloat16(found))
    np.testing.assert_allclose(found, expected, rtol=2**-8, atol=1e-5)  # half a unit of the last of 8 bits
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(unrounded, expected, rtol=2**-8, atol=1e-5)


@pytest.mark.usefixtures("processor")
def test_gradients_in_bfloat16_are_rounded_and_so_is_what_they_are_multiplied_by():
    weighing = RNG.standard_normal((4, 6), np.float32)
    images = RNG.integers(0, 256, (1, 4, 4, 4, 3), dtype=np.uint8)
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    features = Conv2D(6, 3, use_bias=False, name="conv")(keras.layers.Rescaling(np.pi / 255)(inputs))
    network = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(features))

    def objective(outputs, labels, weights):
        total = ops.sum(outputs * ops.take(ops.convert_to_tensor(weighing), labels, axis=0))
        return Sums(total, total)

    def kernel_gradient(precision):
        optimizer = keras.optimizers.SGD(1.0)
        optimizer.build(network.trainable_variables)
        engine = adapter().compile(network, optimizer, objective, Plan(ghost_batch=4, precision=precision))
        engine.restore(engine.state() | {"model/conv/kernel": np.zeros((3, 3, 3, 6), np.float32)})
        engine.train(
            Steps(images, np.arange(4, dtype=np.int32)[None], np.ones((1, 4), np.float32), np.ones(1, np.float32))
        )
        return -engine.state()["model/conv/kernel"]

    pixels = bfloat16(images[0] * np.float32(np.pi / 255))
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (2, 2), axis=(1, 2))
    arriving = bfloat16(weighing / (4 * 4))  # images, places: dividing by powers of two is exact
    expected = np.einsum("nijcyx,nf->ijcf", windows.astype(np.float64), arriving)
    found = kernel_gradient("bfloat16")
    np.testing.assert_array_equal(found, bfloat16(found))
    np.testing.assert_allclose(found, expected, rtol=2**-8, atol=1e-6)
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(kernel_gradient("float32"), expected, rtol=2**-8, atol=1e-6)


def test_the_mask_of_a_part_is_that_of_its_rows_in_the_batch():
    layer, ones = Dropout(0.5, seed=3, stream=1), np.ones((12, 40), np.float32)
    parts = [MicroBatch(0, 5), MicroBatch(5, 12)]
    layer(ones)
    for step in range(2):
        whole = numpy_mask((12, 40), 0.5, 3, 1, step)
        for part in parts:
            layer.step.assign(step)
            with calling_on(part):
                dropped = ops.convert_to_numpy(layer(ones[part.first : part.stop], training=True))
            np.testing.assert_array_equal(dropped > 0, whole[part.first : part.stop])
            assert int(layer.step.value) == step + 1
