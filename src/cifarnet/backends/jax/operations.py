"""Operations of the network and the optimizer."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from cifarnet.backends.microbatches import current_precision, divided
from cifarnet.backends.protocol import AdamStep

PATCH_BYTES = 12 * 2**20
"""Maximum size of the patches, in bytes, up to which a CPU convolution is a matrix product; XLA's is faster beyond it.

Milliseconds for value and gradients of 30 images, matrix product against XLA, AMD EPYC, two cores: 3.5 against 6.4 at
3 MB (32x32, 3 to 64 channels), 5.3 against 6.9 at 4 MB (8x8, 64 to 128), 7.4 against 8.4 at 9 MB (16x16, 32 to 64), but
9.0 against 6.0 at 18 MB (32x32, 16 to 16) and 94 against 36 at 35 MB (16x16, 128 to 128).
"""


IMAGES_PER_CONVOLUTION = 16
"""Images per call of XLA's CPU convolution; with more it no longer fits in the cache.

Milliseconds for value and gradients of 256 images, in calls of this size against one call, AMD EPYC, two cores: 80
against 307 (15x15, 48 to 128 channels), 195 against 736 (15x15, 64 to 256); without the gradient of the images, 78
against 342 (31x31, 24 to 48).
"""


def conv2d(images: jax.Array, kernel: jax.Array, padding: str, bias: jax.Array | None = None) -> jax.Array:
    """Convolve (n, h, w, c) with (k, k, c, filters) at stride 1 and add ``bias``; padding ``same`` or ``valid``."""
    images, kernel = _rounded(images), _rounded(kernel)
    is_symbol = not isinstance(images.shape[0], int)  # Keras infers shapes with a symbolic number of images
    if is_symbol or jax.default_backend() != "cpu":
        features = _conv2d(images, kernel, padding)
    elif 4 * math.prod(images.shape) * math.prod(kernel.shape[:2]) <= PATCH_BYTES:
        features = _conv2d_as_matrix_product(images, kernel, padding)
    else:
        features = _conv2d_in_calls(images, kernel, padding)
    features = _rounded(features)
    return features if bias is None else features + bias


def _rounded(values: jax.Array) -> jax.Array:
    """Round ``values`` and their gradient to the current precision. They stay float32.

    XLA's CPU convolutions are not faster in bfloat16.
    """
    if current_precision() == "float32":
        return values
    bfloat16 = jnp.finfo(jnp.bfloat16)
    return jax.lax.reduce_precision(values, bfloat16.nexp, bfloat16.nmant)


def _conv2d(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), padding.upper(), dimension_numbers=dimensions)


def _conv2d_in_calls(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    calls = divided(images.shape[0], math.ceil(images.shape[0] / IMAGES_PER_CONVOLUTION))
    return jnp.concatenate([_conv2d(images[slice(*rows)], kernel, padding) for rows in calls])


def _conv2d_as_matrix_product(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    size, _, channels, filters = kernel.shape
    if padding == "same":
        images = jnp.pad(images, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    count, height, width = images.shape[0], images.shape[1] - size + 1, images.shape[2] - size + 1
    shifted = [images[:, i : i + height, j : j + width, :] for i in range(size) for j in range(size)]
    patches = jnp.concatenate(shifted, axis=-1).reshape(count * height * width, size * size * channels)
    return (patches @ kernel.reshape(-1, filters)).reshape(count, height, width, filters)


def max_pool2d(images: jax.Array) -> jax.Array:
    """Return the maximum of each 2x2 window of (n, h, w, c); an odd last row or column is dropped."""
    count, height, width, channels = images.shape
    images = images[:, : height // 2 * 2, : width // 2 * 2, :]
    windows = images.reshape(count, height // 2, 2, width // 2, 2, channels)
    top, bottom = (_first_maximum(windows[:, :, i, :, 0], windows[:, :, i, :, 1]) for i in (0, 1))
    return _first_maximum(top, bottom)


def _first_maximum(first: jax.Array, second: jax.Array) -> jax.Array:
    # Not jnp.maximum, which divides the gradient of a tie; the other frameworks give it to the first value.
    return jnp.where(first >= second, first, second)


def batch_norm(images: jax.Array, offset: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalize (n, h, w, c) over all but the last axis; see ``Adapter``."""
    mean = jnp.mean(images, (0, 1, 2))
    variance = jnp.mean(jnp.square(images - mean), (0, 1, 2))
    return (images - mean) * jax.lax.rsqrt(variance + epsilon) + offset, mean, variance


def apply_adam(
    step: AdamStep,
    variables: Sequence[Any],
    momentums: Sequence[Any],
    velocities: Sequence[Any],
    gradients: Sequence[jax.Array],
) -> None:
    """Take one step of Adam; see ``Adapter``."""
    count = step.count.astype(jnp.float32)
    scale = step.learning_rate * jnp.sqrt(1 - step.beta_2**count) / (1 - step.beta_1**count)
    decay = 1 - step.learning_rate * step.weight_decay
    for variable, first, second, gradient in zip(variables, momentums, velocities, gradients, strict=True):
        m = first.value + (gradient - first.value) * (1 - step.beta_1)
        v = second.value + (jnp.square(gradient) - second.value) * (1 - step.beta_2)
        first.assign(m)
        second.assign(v)
        value = variable.value * decay if gradient.ndim > 1 else variable.value
        variable.assign(value - m * scale / (jnp.sqrt(v) + step.epsilon))
