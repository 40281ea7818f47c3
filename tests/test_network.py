"""The network of a recipe is the one in its specification."""
# ruff: noqa: E402  # the framework is chosen before Keras is imported

import numpy as np
import pytest

from cifarnet.backends import choose

choose()

import keras

from cifarnet.config import ModelConfig
from cifarnet.model.network import build_model, logits_of
from cifarnet.model.weights import get_weights
from cifarnet.recipes import RECIPES, recipe


@pytest.mark.parametrize("name", RECIPES)
def test_the_learned_values_of_every_recipe_are_counted(name):
    model = build_model(recipe(name).model)
    assert recipe(name).model.parameters == sum(np.prod(each.shape) for each in model.trainable_variables)


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


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(classes=2, filters=(4, 4, 4, 4), dense_units=(8, 8), convolutions_per_block=2),
        ModelConfig(padding="valid", filters=(4, 4, 4), kernel_size=3),
        ModelConfig(classes=101, image_shape=(48, 40, 3), filters=(4, 4), pixel_range="unit", initializer="he_normal"),
    ],
)
def test_the_same_builder_takes_other_widths_blocks_classes_and_sizes(config):
    model = build_model(config)
    assert model.output_shape == logits_of(model).output_shape == (None, config.classes)
    assert tuple(model.get_layer(f"pool_{len(config.filters)}").output.shape[1:]) == config.feature_shape
