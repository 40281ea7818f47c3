"""The layers of the network: Keras layers that compute with the adapter, and a reproducible dropout."""

from typing import Any

import keras
import numpy as np
from keras import ops

from cifarnet.backends import adapter, current_micro_batch

GOLDEN_RATIO = 0x9E3779B9
"""2**32 divided by the golden ratio: the multiplier of Knuth's multiplicative hash."""
MURMUR_MIX = (0x85EBCA6B, 0xC2B2AE35)
"""Multipliers of the 32-bit finalizer of MurmurHash3 (Appleby, public domain)."""
DROPOUT_BITS = 24
"""Number of bits of the hash that are compared with the rate; a float32 has the same precision."""


class Conv2D(keras.layers.Conv2D):  # type: ignore[misc]  # Keras ships no types
    """``keras.layers.Conv2D`` at stride 1, in the fastest implementation for the current framework."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolve (n, h, w, c) with (k, k, c, filters). Overrides Keras' hook."""
        return adapter().conv2d(inputs, ops.convert_to_tensor(kernel), self.padding)


class MaxPooling2D(keras.layers.MaxPooling2D):  # type: ignore[misc]  # Keras ships no types
    """``keras.layers.MaxPooling2D`` of 2x2 windows, in the fastest implementation for the current framework."""

    def call(self, inputs: Any) -> Any:
        """Return (n, h // 2, w // 2, c)."""
        return adapter().max_pool2d(inputs)


class ConvolutionAndPooling(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """A fused ``Conv2D`` with bias and ReLU and ``MaxPooling2D``: same variables, values and gradients, less work.

    Bias and ReLU do not change which value of a window is the largest, so they are applied after pooling. The gradient
    of the bias is then a sum over the pooled values only.
    """

    @staticmethod
    def can_join(layer: Any, following: Any) -> bool:
        """Return whether the two layers can be fused into this one."""
        is_convolution = isinstance(layer, Conv2D) and layer.use_bias and layer.activation is keras.activations.relu
        return is_convolution and isinstance(following, MaxPooling2D)

    def __init__(self, convolution: Conv2D, *, name: str) -> None:
        super().__init__(name=name)
        self.convolution = convolution

    def call(self, inputs: Any) -> Any:
        """Return (n, h // 2, w // 2, filters)."""
        bias = ops.convert_to_tensor(self.convolution.bias)
        constant = ops.stop_gradient(bias)
        features = adapter().conv2d(
            inputs, ops.convert_to_tensor(self.convolution.kernel), self.convolution.padding, constant
        )
        # The added term is exactly zero and only has a gradient.
        return self.convolution.activation(adapter().max_pool2d(features) + (bias - constant))


class BatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]  # Keras ships no types
    """``keras.layers.BatchNormalization`` without a scale, in the fastest implementation for the current framework.

    In training it normalizes over the micro-batch that it is called on. Without a scale it is monotonically increasing,
    so max-pooling may come before it instead of after it.
    """

    MOMENTUM = 0.9
    """Momentum of the moving averages, 0 to 1. Keras' 0.99 is too slow for training runs of a few hundred steps."""
    EPSILON = 1e-5
    """Added to the variance; the default of torch's layers."""

    def __init__(self, *, name: str) -> None:
        super().__init__(scale=False, momentum=self.MOMENTUM, epsilon=self.EPSILON, name=name)

    def call(self, inputs: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002  # Keras passes it by name
        """Normalize ``inputs`` (n, h, w, c): each channel gets mean ``beta`` and variance 1."""
        if not training:
            return super().call(inputs, training=False)
        features, *moments = adapter().batch_norm(inputs, ops.convert_to_tensor(self.beta), self.epsilon)
        for average, moment in zip((self.moving_mean, self.moving_variance), moments, strict=True):
            average.assign(average * self.momentum + moment * (1 - self.momentum))
        return features


class Dropout(keras.layers.Layer):  # type: ignore[misc]  # Keras ships no types
    """Dropout whose mask is a pure function of seed, stream, training step and element.

    The mask has the same bits on every framework and after resuming: the only state is the number of training steps.
    Kept inputs are divided by ``1 - rate`` (Srivastava et al. 2014, inverted form).
    """

    def __init__(self, rate: float, *, seed: int, stream: int, name: str | None = None) -> None:
        super().__init__(name=name)
        self.rate, self.seed, self.stream = rate, seed, stream

    def build(self, input_shape: Any) -> None:
        """Create the step counter, an int32 scalar."""
        self.step = self.add_weight(shape=(), initializer="zeros", dtype="int32", trainable=False, name="step")

    def call(self, inputs: Any, training: bool = False) -> Any:  # noqa: FBT001, FBT002  # Keras passes it by name
        """Return ``inputs`` (n, units), masked and scaled if ``training``."""
        if not training or self.rate == 0:
            return inputs
        micro_batch = current_micro_batch(ops.shape(inputs)[0])
        mask = dropout_mask(ops.shape(inputs), self.rate, self.seed, self.stream, self.step.value, micro_batch.first)
        self.step.assign(self.step + 1)
        return inputs * (ops.cast(mask, inputs.dtype) * (1.0 / (1.0 - self.rate)))

    def save_own_variables(self, store: Any) -> None:
        """Save nothing: the step counter belongs to a checkpoint, not to a weights file."""

    def load_own_variables(self, store: Any) -> None:
        """Load nothing; see ``save_own_variables``."""


def dropout_mask(shape: tuple[Any, int], rate: float, seed: int, stream: int, step: Any, first_row: int = 0) -> Any:
    """Return the mask of kept elements, bool (n, units), for one layer (``stream``) at one training step.

    ``first_row`` is the position in the batch of the first row.
    """
    key = _hash32(_int32(stream), _hash32(step, _int32(seed)))
    rows = ops.reshape(ops.arange(shape[0], dtype="int32") + first_row, (-1, 1)) * shape[1]
    elements = rows + ops.reshape(ops.arange(shape[1], dtype="int32"), (1, -1))
    threshold = min(round(rate * 2**DROPOUT_BITS) << (32 - DROPOUT_BITS), 2**32 - 1)
    # Subtracting 2**31 on both sides turns an unsigned comparison into a signed one.
    return _hash32(elements, key) + _int32(2**31) >= threshold - 2**31


def _hash32(value: Any, seed: Any) -> Any:
    """Mix int32 ``value`` with int32 ``seed``: a Weyl step, then MurmurHash3's finalizer."""
    value = value * _int32(GOLDEN_RATIO) + seed
    for shift, multiplier in zip((16, 13), MURMUR_MIX, strict=True):
        value = ops.bitwise_xor(value, _shift_right(value, shift)) * _int32(multiplier)
    return ops.bitwise_xor(value, _shift_right(value, 16))


def _shift_right(value: Any, count: int) -> Any:
    # int32 shifts copy the sign bit on all three frameworks; the mask makes the shift logical.
    return ops.bitwise_and(ops.right_shift(value, count), (1 << (32 - count)) - 1)


def _int32(value: int) -> Any:
    return ops.convert_to_tensor(np.array(value, np.uint32).view(np.int32), dtype="int32")
