"""Operations of the network and the optimizer."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from cifarnet.backends.microbatches import current_precision
from cifarnet.backends.protocol import AdamStep
from cifarnet.config import Precision

PATCH_BYTES = 12 * 2**20
"""Maximum size of the patches, in bytes, up to which a CPU convolution is a matrix product; XLA's is faster beyond it.

Milliseconds for value and gradients of 30 images, matrix product against XLA, AMD EPYC, two cores: 3.5 against 6.4 at
3 MB (32x32, 3 to 64 channels), 5.3 against 6.9 at 4 MB (8x8, 64 to 128), 7.4 against 8.4 at 9 MB (16x16, 32 to 64), but
9.0 against 6.0 at 18 MB (32x32, 16 to 16) and 94 against 36 at 35 MB (16x16, 128 to 128).
"""


IMAGES_PER_CHUNK = 16
"""Images that a larger CPU convolution takes at a time, so that what it computes stays in the cache.

Images per second in training, with the closed-form gradient of batch normalization, against XLA's convolutions of 16
images at a time, AMD EPYC, two cores: 568 against 497 in the recipe ``fast``, 187 against 147 in ``strong``; without
AVX-512 and its bfloat16 instructions, 509 against 410 in ``fast``.
"""


def conv2d(images: jax.Array, kernel: jax.Array, padding: str, bias: jax.Array | None = None) -> jax.Array:
    is_symbol = not isinstance(images.shape[0], int)  # Keras infers shapes with a symbolic number of images
    if is_symbol or jax.default_backend() != "cpu":
        features = _rounded(_conv2d(_rounded(images), _rounded(kernel), padding))
    elif 4 * math.prod(images.shape) * math.prod(kernel.shape[:2]) <= PATCH_BYTES:
        features = _rounded(_conv2d_as_matrix_product(_rounded(images), _rounded(kernel), padding))
    else:
        margin = kernel.shape[0] // 2 if padding == "same" else 0
        features = _conv2d_by_rows(images, kernel, margin, current_precision())
    return features if bias is None else features + bias


def _rounded(values: jax.Array) -> jax.Array:
    """Round ``values`` and their gradient to the current precision. They stay float32."""
    if current_precision() == "float32":
        return values
    bfloat16 = jnp.finfo(jnp.bfloat16)
    return jax.lax.reduce_precision(values, bfloat16.nexp, bfloat16.nmant)


def _conv2d(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    dimensions = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(images, kernel, (1, 1), padding.upper(), dimension_numbers=dimensions)


def _conv2d_as_matrix_product(images: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    size, _, channels, filters = kernel.shape
    if padding == "same":
        images = jnp.pad(images, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
    count, height, width = images.shape[0], images.shape[1] - size + 1, images.shape[2] - size + 1
    shifted = [images[:, i : i + height, j : j + width, :] for i in range(size) for j in range(size)]
    patches = jnp.concatenate(shifted, axis=-1).reshape(count * height * width, size * size * channels)
    return (patches @ kernel.reshape(-1, filters)).reshape(count, height, width, filters)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv2d_by_rows(images: jax.Array, kernel: jax.Array, margin: int, dtype: Precision) -> jax.Array:
    """Convolve as one matrix product for each row of the kernel, some images at a time.

    ``margin`` rows and columns of zeros are added on each side. Operands and results, also those of the gradients, are
    rounded to ``dtype``; sums are float32.
    """
    rows = kernel.astype(dtype).reshape(len(kernel), -1, kernel.shape[-1])

    def convolved(chunk: jax.Array) -> jax.Array:
        shifted = _rows(chunk, len(kernel), margin, dtype)
        features = sum(_product(each, row) for each, row in zip(shifted, rows, strict=True))
        return features.astype(dtype).astype(jnp.float32)

    whole, *rest = _chunks(images)
    features = jax.lax.map(convolved, whole).reshape(-1, *jax.eval_shape(convolved, images).shape[1:])
    return jnp.concatenate([features, *map(convolved, rest)]) if rest else features


def _convolved(images: jax.Array, kernel: jax.Array, margin: int, dtype: Precision) -> tuple[jax.Array, Any]:
    return _conv2d_by_rows(images, kernel, margin, dtype), (images, kernel)


def _gradients(margin: int, dtype: Precision, inputs: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    images, kernel = inputs
    turned = jnp.flip(kernel, (0, 1)).swapaxes(2, 3)

    def of_kernel(images: jax.Array, gradient: jax.Array) -> jax.Array:
        columns = gradient.astype(dtype).astype(jnp.float32).reshape(-1, gradient.shape[-1])
        shifted = _rows(images.astype(dtype), len(kernel), margin, "float32")  # bfloat16 would not be faster here
        return jnp.stack([each.reshape(len(columns), -1).T @ columns for each in shifted])

    (whole, *rest), (whole_gradient, *rest_gradient) = _chunks(images), _chunks(gradient)
    total = jnp.zeros((len(kernel), math.prod(kernel.shape[1:3]), kernel.shape[3]))
    total, _ = jax.lax.scan(lambda total, chunk: (total + of_kernel(*chunk), None), total, (whole, whole_gradient))
    total = sum(map(of_kernel, rest, rest_gradient), total).reshape(kernel.shape)
    of_images = _conv2d_by_rows(gradient, turned, len(kernel) - 1 - margin, dtype)
    return of_images, total.astype(dtype).astype(jnp.float32)


_conv2d_by_rows.defvjp(_convolved, _gradients)


def _chunks(images: jax.Array) -> list[jax.Array]:
    """Return chunks of images (chunks, ``IMAGES_PER_CHUNK``, h, w, c) and the images that are left over, if any."""
    count = len(images) // IMAGES_PER_CHUNK
    whole, rest = images[: count * IMAGES_PER_CHUNK], images[count * IMAGES_PER_CHUNK :]
    return [whole.reshape(count, IMAGES_PER_CHUNK, *images.shape[1:]), *([rest] if len(rest) else [])]


def _rows(images: jax.Array, size: int, margin: int, dtype: Precision) -> list[jax.Array]:
    """Return what each row of a kernel is multiplied by, (n, h, w, size * c): ``size`` neighbors side by side."""
    padded = jnp.pad(images.astype(dtype), ((0, 0), (margin, margin), (margin, margin), (0, 0)))
    height, width = padded.shape[1] - size + 1, padded.shape[2] - size + 1
    neighbors = jnp.concatenate([padded[:, :, j : j + width] for j in range(size)], axis=-1)
    return [neighbors[:, i : i + height] for i in range(size)]


def _product(images: jax.Array, matrix: jax.Array) -> jax.Array:
    product = jnp.dot(images.reshape(-1, len(matrix)), matrix, preferred_element_type=jnp.float32)
    return product.reshape(*images.shape[:-1], -1)


def max_pool2d(images: jax.Array) -> jax.Array:
    count, height, width, channels = images.shape
    images = images[:, : height // 2 * 2, : width // 2 * 2, :]
    windows = images.reshape(count, height // 2, 2, width // 2, 2, channels)
    top, bottom = (_first_maximum(windows[:, :, i, :, 0], windows[:, :, i, :, 1]) for i in (0, 1))
    return _first_maximum(top, bottom)


def _first_maximum(first: jax.Array, second: jax.Array) -> jax.Array:
    # Not jnp.maximum, which divides the gradient of a tie; the other frameworks give it to the first value.
    return jnp.where(first >= second, first, second)


def batch_norm(images: jax.Array, offset: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    mean, variance = _moments(jax.lax.stop_gradient(images))
    return _normalized(images, epsilon) + offset, mean, variance


def _moments(images: jax.Array) -> tuple[jax.Array, jax.Array]:
    mean = jnp.mean(images, (0, 1, 2))
    return mean, jnp.mean(jnp.square(images - mean), (0, 1, 2))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _normalized(images: jax.Array, epsilon: float) -> jax.Array:
    mean, variance = _moments(images)
    return (images - mean) * jax.lax.rsqrt(variance + epsilon)


def _normalization(images: jax.Array, epsilon: float) -> tuple[jax.Array, jax.Array]:
    return _normalized(images, epsilon), images


def _normalization_gradient(epsilon: float, images: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
    """Return the gradient of the images in closed form, with fewer sums than automatic differentiation."""
    mean, variance = _moments(images)
    scale = jax.lax.rsqrt(variance + epsilon)
    normalized = (images - mean) * scale
    shared = jnp.mean(gradient, (0, 1, 2)) + normalized * jnp.mean(gradient * normalized, (0, 1, 2))
    return ((gradient - shared) * scale,)


_normalized.defvjp(_normalization, _normalization_gradient)


def apply_adam(step: AdamStep, rows: Sequence[tuple[Any, Any, Any, jax.Array]]) -> None:
    count = step.count.astype(jnp.float32)
    scale = step.learning_rate * jnp.sqrt(1 - step.beta_2**count) / (1 - step.beta_1**count)
    decay = 1 - step.learning_rate * step.weight_decay
    for variable, first, second, gradient in rows:
        m = first.value + (gradient - first.value) * (1 - step.beta_1)
        v = second.value + (jnp.square(gradient) - second.value) * (1 - step.beta_2)
        first.assign(m)
        second.assign(v)
        value = variable.value * decay if gradient.ndim > 1 else variable.value
        variable.assign(value - m * scale / (jnp.sqrt(v) + step.epsilon))
