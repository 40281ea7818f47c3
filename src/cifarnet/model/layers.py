"""The layers of the network: stock Keras ones with the adapter's arithmetic, and a dropout that can be replayed."""

from typing import Any

import keras
import numpy as np
from keras import ops

from cifarnet.backends import adapter, current_part

GOLDEN_RATIO = 0x9E3779B9
"""2**32 divided by the golden ratio: the increment of Knuth's multiplicative hash."""
MURMUR_MIX = (0x85EBCA6B, 0xC2B2AE35)
"""Multipliers of the 32-bit finaliser of MurmurHash3 (Appleby, public domain)."""
DROPOUT_BITS = 24
"""Bits of the hash that are compared with the rate: the precision of a float32."""


class Conv2D(keras.layers.Conv2D):  # type: ignore[misc]  # Keras ships no types
    """``keras.layers.Conv2D`` at stride 1, computed in the way that is fastest on the running framework."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve (n, h, w, c) with (k, k, c, filters); the hook that Keras offers for it."""
        return adapter().conv2d(inputs, ops.convert_to_tensor(kernel), self.padding)


class MaxPooling2D(keras.layers.MaxPooling2D):  # type: ignore[misc]  # Keras ships no types
    """``keras.layers.MaxPooling2D`` of 2x2 windows, computed in the way that is fastest on the running framework."""

    def call(self, inputs: Any) -> Any:
        """Return (n, h // 2, w // 2, c)."""
        return adapter().max_pool2d(inputs)


class ConvolutionAndPooling(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A ``Conv2D`` with ReLU and the ``MaxPooling2D`` after it as one: same variables, same values, less work.

    ReLU changes nothing about which of a window is the largest, so it need see only that one. The gradient of the bias
    is what reaches these, and is summed over them, not over all: values and gradients are those of the two layers.
    """

    @staticmethod
    def can_join(layer: Any, following: Any) -> bool:
        """Return whether the two layers are what this one computes as one."""
        is_convolution = isinstance(layer, Conv2D) and layer.use_bias and layer.activation is keras.activations.relu
        return is_convolution and isinstance(following, MaxPooling2D)

    def __init__(self, convolution: Conv2D, *, name: str) -> None:
        super().__init__(name=name)
        self.convolution = convolution

    def call(self, inputs: Any) -> Any:
        """Return (n, h // 2, w // 2, filters)."""
        bias = ops.convert_to_tensor(self.convolution.bias)
        unmoved = ops.stop_gradient(bias)
        features = adapter().conv2d(
            inputs, ops.convert_to_tensor(self.convolution.kernel), self.convolution.padding, unmoved
        )
        # Zero is added, exactly; it is there for its gradient.
        return self.convolution.activation(adapter().max_pool2d(features) + (bias - unmoved))


class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras ships no types
    """``keras.layers.BatchNormalization`` without a scale, computed in the way that is fastest on the framework.

    In training it normalises what it is called on, which is a part of a batch. Without a scale it is increasing, so
    that the largest of a window stays the largest: a pooling may stand before it instead of after.
    """

    MOMENTUM = 0.9
    """Part of a moving average that a step keeps. Trainings of a few hundred steps need less than Keras' 0.99."""
    EPSILON = 1e-5
    """Added to a variance; the one that torch's layers have, by hand."""

    def __init__(self, *, name: str) -> None:
        super().__init__(scale=False, momentum=self.MOMENTUM, epsilon=self.EPSILON, name=name)

    def call(self, inputs: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002  # Keras passes it by name
        """Return ``inputs`` (n, h, w, c), each channel with mean ``beta`` and variance 1 over all but the last axis."""
        if not training:
            return super().call(inputs, training=False)
        features, *moments = adapter().batch_norm(inputs, ops.convert_to_tensor(self.beta), self.epsilon)
        for average, found in zip((self.moving_mean, self.moving_variance), moments, strict=True):
            average.assign(average * self.momentum + found * (1 - self.momentum))
        return features


class Dropout(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Zero a fraction of the inputs in training, by a mask that is a pure function of seed, stream, step and element.

    The same mask comes out on every framework, bit for bit, and again after a resume: the only state is the number
    of training steps taken. Kept inputs are divided by ``1 - rate`` (Srivastava et al. 2014, inverted form).
    """

    def __init__(self, rate: float, *, seed: int, stream: int, name: str | None = None) -> None:
        super().__init__(name=name)
        self.rate, self.seed, self.stream = rate, seed, stream

    def build(self, input_shape: Any) -> None:
        """Create the step counter, an int32 scalar."""
        self.step = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False, name="step")

    def call(self, inputs: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002  # Keras passes it by name
        """Return ``inputs`` (n, units), masked and scaled when ``training``."""
        if not training or self.rate == 0:
            return inputs
        part = current_part(ops.shape(inputs)[0])
        mask = dropout_mask(ops.shape(inputs), self.rate, self.seed, self.stream, self.step.value, part.first)
        self.step.assign(self.step + 1)
        return inputs * (ops.cast(mask, inputs.dtype) * (1.0 / (1.0 - self.rate)))

    def save_own_variables(self, store: Any) -> None:
        """Save nothing: a weights file holds what was learned, not how far a run has got."""

    def load_own_variables(self, store: Any) -> None:
        """Load nothing, as ``save_own_variables``."""


def dropout_mask(shape: tuple[Any, int], rate: float, seed: int, stream: int, step: Any, first_row: int = 0) -> Any:
    """Return the boolean mask (n, units) of kept elements for one layer (``stream``) at one training step.

    It is that of the rows from ``first_row`` on of a batch.
    """
    key = _hash32(_int32(stream), _hash32(step, _int32(seed)))
    rows = ops.reshape(ops.arange(shape[0], dtype="int32") + first_row, (-1, 1)) * shape[1]
    elements = rows + ops.reshape(ops.arange(shape[1], dtype="int32"), (1, -1))
    threshold = min(round(rate * 2**DROPOUT_BITS) << (32 - DROPOUT_BITS), 2**32 - 1)
    # Taken from both sides, 2**31 turns the comparison of unsigned numbers into one of signed ones.
    return _hash32(elements, key) + _int32(2**31) >= threshold - 2**31


def _hash32(value: Any, seed: Any) -> Any:
    """Mix int32 ``value`` with int32 ``seed``: a Weyl step, then MurmurHash3's finaliser."""
    value = value * _int32(GOLDEN_RATIO) + seed
    for shift, multiplier in zip((16, 13), MURMUR_MIX, strict=True):
        value = ops.bitwise_xor(value, _shift_right(value, shift)) * _int32(multiplier)
    return ops.bitwise_xor(value, _shift_right(value, 16))


def _shift_right(value: Any, count: int) -> Any:
    # int32 shifts copy the sign bit on all three frameworks; the mask makes the shift a logical one.
    return ops.bitwise_and(ops.right_shift(value, count), (1 << (32 - count)) - 1)


def _int32(value: int) -> Any:
    return ops.convert_to_tensor(np.array(value, np.uint32).view(np.int32), dtype="int32")
