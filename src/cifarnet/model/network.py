"""The definition of the network, and its initial weights."""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import keras
import numpy as np
from numpy.typing import NDArray

from cifarnet.arguments import instance, takes, whole_number
from cifarnet.backends import adapter, default_settings
from cifarnet.config import ModelConfig
from cifarnet.system import images_at_once

from .layers import BatchNormalization, Conv2D, ConvolutionAndPooling, Dropout, MaxPooling2D
from .weights import named_variables, set_weights

WHITENING = "whiten"
"""Name of the fixed whitening convolution."""
WHITENING_EPSILON = 5e-4
"""Added to the eigenvalues so that noise is not amplified; the mean square of pixels is about 0.25."""
WHITENING_BATCH = 250
"""Number of images of 32x32 pixels, fewer if they are larger, whose patches are in memory at a time."""
WEIGHTS_STREAM = 0x77
"""Separates the random stream of the initial weights from all others with the same seed."""

PIXEL_SCALES = {"unit": (1 / 255, 0.0), "signed": (2 / 255, -1.0)}
"""Factor and offset that scale pixels 0-255 to each ``ModelConfig.pixel_range``."""


@takes(
    config=instance(ModelConfig, "a ModelConfig: pass cifarnet.ModelConfig(...) or the model of a recipe"),
    seed=whole_number(0, "a whole number, 0 or more"),
)
@default_settings()
def build_model(config: ModelConfig, *, seed: int = 0) -> keras.Model:
    """Build the network with its initial weights.

    The model maps images (n, height, width, 3), pixels 0-255, to probabilities float32 (n, classes). The initial
    weights depend only on ``config`` and ``seed`` and have the same bits on every framework.
    """
    adapter()  # configures the framework, before the first variable
    images = keras.Input(config.image_shape, dtype="uint8", name="images")
    scale, offset = PIXEL_SCALES[config.pixel_range]
    features = keras.layers.Rescaling(scale, offset, name="rescale")(images)
    if config.whitening:
        features = Conv2D(
            config.whitened_channels,
            config.whitening,
            activation="relu",
            use_bias=False,
            trainable=False,
            name=WHITENING,
        )(features)
    for block in range(1, len(config.filters) + 1):
        features = _block(features, config, block)
    features = FLATTENING[config.global_pooling]()(features)
    for index, units in enumerate(config.dense_units, start=1):
        features = keras.layers.Dense(units, activation="relu", name=f"dense_{index}")(features)
        features = Dropout(config.dropout, seed=seed, stream=index, name=f"dropout_{index}")(features)
    logits = keras.layers.Dense(config.classes, name="logits")(features)
    model = keras.Model(images, keras.layers.Softmax(name="probabilities")(logits), name="cifarnet")
    set_weights(model, initial_weights(model, config, seed))
    return model


FLATTENING: dict[str, Callable[[], keras.layers.Layer]] = {
    "none": partial(keras.layers.Flatten, name="flatten"),
    "average": partial(keras.layers.GlobalAveragePooling2D, name="global_pool"),
    "max": partial(keras.layers.GlobalMaxPooling2D, name="global_pool"),
}
"""Layer that turns the last block's features into a vector, by ``ModelConfig.global_pooling``."""


def _block(features: keras.KerasTensor, config: ModelConfig, block: int) -> keras.KerasTensor:
    pooled = 1 if config.pooling == "first" else config.convolutions_per_block
    for repeat in range(1, config.convolutions_per_block + 1):
        name = f"{block}" if config.convolutions_per_block == 1 else f"{block}_{repeat}"
        convolution = Conv2D(
            config.filters[block - 1],
            config.kernel_size,
            padding=config.padding,
            activation="linear" if config.ghost_batch else "relu",
            use_bias=not config.ghost_batch,
            name=f"conv_{name}",
        )
        features = convolution(features)
        if repeat == pooled:
            features = MaxPooling2D(2, name=f"pool_{block}")(features)
        if config.ghost_batch:
            features = BatchNormalization(name=f"norm_{name}")(features)
            features = keras.layers.ReLU(name=f"relu_{name}")(features)
    return features


def whiten(model: keras.Model, config: ModelConfig, images: NDArray[np.uint8]) -> None:
    """Set the whitening convolution of ``model`` from patches of ``images``, uint8 (n, h, w, 3).

    The filters are the eigenvectors of the patches' uncentered second moment, each divided by the square root of its
    eigenvalue, and their negatives, because ReLU follows (Jordan 2024; with ZCA by Page 2019). The pixels should have a
    mean near zero, as with ``signed``. A few thousand images are enough.
    """
    size, (scale, offset) = config.whitening, PIXEL_SCALES[config.pixel_range]
    windows = np.lib.stride_tricks.sliding_window_view(images, (size, size), axis=(1, 2))  # (n, h, w, c, size, size)
    at_once = images_at_once(WHITENING_BATCH, images.shape[1:])
    moment = np.zeros((math.prod(windows.shape[3:]),) * 2)
    for batch in np.array_split(windows, math.ceil(len(windows) / at_once)):
        patches = batch.transpose(0, 1, 2, 4, 5, 3).reshape(-1, len(moment)) * scale + offset
        moment += patches.T @ patches
    moment /= math.prod(windows.shape[:3])
    eigenvalues, eigenvectors = np.linalg.eigh(moment)
    filters = eigenvectors / np.sqrt(eigenvalues + WHITENING_EPSILON)
    kernel = np.concatenate([filters, -filters], axis=1).reshape(size, size, -1, 2 * len(moment))
    model.get_layer(WHITENING).kernel.assign(kernel.astype(np.float32))


@default_settings()
def logits_of(model: keras.Model) -> keras.Model:
    """Return ``model`` without the softmax: a model with the same weights from images to logits float32 (n, classes).

    Training and evaluation use it because the cross-entropy of logits is more exact than that of probabilities, which
    the frameworks also round differently. Convolution and max-pooling layers are fused where possible.
    """
    features, layers = model.inputs[0], pairwise([*model.layers[1:-1], None])
    for layer, following in layers:
        if ConvolutionAndPooling.can_join(layer, following):
            features = ConvolutionAndPooling(layer, name=f"{layer.name}_{following.name}")(features)
            next(layers)  # the pooling layer is part of it
        else:
            features = layer(features)
    return keras.Model(model.inputs[0], features, name="cifarnet_logits")


def predictor(model: keras.Model) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """Return a function from images uint8 (n, h, w, 3), 0-255, to logits float32 (n, classes), in inference mode."""
    return adapter().predictor(logits_of(model))


def initial_weights(model: keras.Model, config: ModelConfig, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return float32 weights by variable path: random kernels (``config.initializer``), biases 0, variances 1.

    A whitening convolution is initialized to the values of a patch and their negatives.
    """
    weights = {}
    for index, variable in enumerate(model.trainable_variables):
        rng = np.random.Generator(np.random.PCG64([seed, WEIGHTS_STREAM, index]))
        weights[variable.path] = _draw(rng, tuple(variable.shape), config.initializer)
    for path, variable in named_variables(model):
        if path not in weights:
            weights[path] = _fixed(path, tuple(variable.shape))
    return weights


def _fixed(path: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    if len(shape) > 1:
        identity = np.eye(math.prod(shape[:-1]), dtype=np.float32)
        return np.concatenate([identity, -identity], axis=1).reshape(shape)
    return np.full(shape, path.endswith("/moving_variance"), np.float32)


def _draw(rng: np.random.Generator, shape: tuple[int, ...], initializer: str) -> NDArray[np.float32]:
    if len(shape) == 1:
        return np.zeros(shape, np.float32)
    fan_in, fan_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
    # He et al. 2015, section 2.2; Glorot and Bengio 2010, equation 12; not truncated.
    variance = 2 / (fan_in + fan_out) if initializer == "glorot_normal" else 2 / fan_in
    return (rng.standard_normal(shape) * math.sqrt(variance)).astype(np.float32)
