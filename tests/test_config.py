"""A configuration refuses invalid values when it is created, and survives JSON unchanged."""

import json
import math
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.errors import ConfigError
from cifarnet.recipes import RECIPES

MODEL_NONSENSE = {
    "image_shape": (
        "(height, width, 3), since images are RGB",
        [(32, 32), (32, 32, 1), (32, 32, 0), (32.0, 32, 3), (True, 32, 3), [32, 32, 3]],
    ),
    "classes": ("a whole number from 2 to 10,000", [1, 10_001, -5, 2.0, True, "10"]),
    "pixel_range": ("one of unit, signed", ["bytes", "", None]),
    "whitening": ("a whole number from 0 to 4", [-1, 5, 2.0, True]),
    "filters": ("one positive width per block", [(), (0,), (32, -1), (32.0,), (True,), [32], None]),
    "convolutions_per_block": ("a whole number from 1 to 8", [0, 9, 1.5, True]),
    "pooling": ("one of last, first", ["middle", None]),
    "ghost_batch": ("0, or 2 or more images", [1, -2, 64.0, True, None]),
    "global_pooling": ("one of none, average, max", ["mean", None]),
    "kernel_size": ("1, 3, 5, 7, 9 or 11", [0, -1, 2, 12, 13, 3.0, True]),
    "padding": ("one of same, valid", ["SAME", "full", None]),
    "dense_units": ("one positive width per dense layer", [(0,), (512, 0), [512], 512]),
    "dropout": ("a fraction from 0 up to but not including 1", [-0.1, 1, 1.5, math.nan, math.inf]),
    "initializer": ("one of he_normal, glorot_normal", ["zeros", None]),
}
"""By field: what the message says is expected, and values that are not."""

TRAIN_NONSENSE = {
    "optimizer": ("one of adam, adamw, muon, nadam, rmsprop, sgd", ["Adam", "lion", None]),
    "learning_rate": ("a finite number above 0", [True, "1e-3", None, 0, -1e-3, math.nan, math.inf]),
    "schedule": ("one of constant, cosine, linear", ["step", None]),
    "schedule_epochs": ("a whole number from 0 to 2,147,483,647", [-1, 1.5, True]),
    "floor_fraction": ("a fraction from 0 to 1", [-0.01, 1.01, math.nan]),
    "warmup_epochs": ("a finite number, 0 or more", ["0.25", None, -0.25, math.nan, math.inf]),
    "weight_decay": ("a finite number, 0 or more", [-0.1, math.nan, math.inf]),
    "label_smoothing": ("a fraction from 0 up to but not including 1", [-0.1, 1, math.nan]),
    "class_weights": ("one of none, balanced", ["Balanced", None]),
    "flip": ("one of none, random, alternating", ["yes", True, None]),
    "translation": ("a whole number from 0 to 2,147,483,647", [-1, 2.0, True]),
    "cutout": ("a whole number from 0 to 2,147,483,647", [-1, 8.0, True]),
    "precision": ("one of float32, bfloat16", ["float16", "bf16", None]),
    "batch_size": ("a whole number from 1 to 2,147,483,647", [0, -30, 30.0, True, "30"]),
    "epochs": ("a whole number from 1 to 2,147,483,647", [0, 2.0, True]),
    "patience": ("a whole number from 1 to 2,147,483,647", [0, math.inf, True]),
    "min_delta": ("a finite number, 0 or more", [-1e-9, math.nan, math.inf]),
    "validation_fraction": ("a fraction above 0 and below 1", [0, 1, -0.3, math.nan]),
    "seed": ("a whole number from 0 to 2,147,483,647", [-1, 2**31, 0.0, True]),
}

NONSENSE = [
    pytest.param(kind, field, *rule, id=f"{kind.__name__}.{field}")
    for kind, table in ((ModelConfig, MODEL_NONSENSE), (TrainConfig, TRAIN_NONSENSE))
    for field, rule in table.items()
]

MODEL_EXTREMES = {
    "classes": [2, 10_000],
    "convolutions_per_block": [1, 8],
    "kernel_size": [1, 11],
    "dropout": [0, 0.999],
    "filters": [(1,), (8,) * 5],
    "dense_units": [(), (1,)],
    "whitening": [0, 4],
    "ghost_batch": [0, 2],
}
"""Values at the very edge, which are no nonsense."""

TRAIN_EXTREMES = {
    "learning_rate": [5e-324, 1e308],
    "floor_fraction": [0, 1],
    "warmup_epochs": [0, 1e6],
    "weight_decay": [0],
    "label_smoothing": [0, 0.999],
    "translation": [0],
    "cutout": [0, 2**31 - 1],
    "min_delta": [0],
    "seed": [0, 2**31 - 1],
    "epochs": [1],
    "patience": [1],
    "batch_size": [1],
    "schedule_epochs": [0, 1],
    "validation_fraction": [1e-9, 0.999],
}

UNUSUAL = [
    ModelConfig(),
    ModelConfig(image_shape=(65, 48, 3), classes=2, filters=(7,), dense_units=(3,), padding="valid", dropout=0.1 + 0.2),
    TrainConfig(),
    RECIPES["fast"].model,
    RECIPES["fast"].train,
    TrainConfig(class_weights="balanced"),
    TrainConfig(optimizer="sgd", learning_rate=1 / 3, schedule="constant", min_delta=5e-324, seed=2**31 - 1),
]


@pytest.mark.parametrize(("kind", "field", "expected", "values"), NONSENSE)
def test_nonsense_is_refused_by_its_name_with_what_came_and_what_was_expected(kind, field, expected, values):
    for value in values:
        with pytest.raises(ConfigError) as refusal:
            kind(**{field: value})
        assert str(refusal.value) == f"{field} is {value!r}; expected {expected}"


def test_every_field_has_its_nonsense():
    assert set(MODEL_NONSENSE) == {field.name for field in fields(ModelConfig)}
    assert set(TRAIN_NONSENSE) == {field.name for field in fields(TrainConfig)}


def test_the_edge_of_a_range_belongs_to_it():
    for kind, table in ((ModelConfig, MODEL_EXTREMES), (TrainConfig, TRAIN_EXTREMES)):
        for field, values in table.items():
            for value in values:
                assert getattr(kind(**{field: value}), field) == value


def test_a_configuration_cannot_change_and_takes_no_positions():
    with pytest.raises(FrozenInstanceError):
        TrainConfig().seed = 1
    with pytest.raises(TypeError):
        ModelConfig((32, 32, 3))


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({}, (4, 4, 128)),
        ({"padding": "valid"}, (2, 2, 128)),
        ({"padding": "valid", "convolutions_per_block": 2, "filters": (16, 24)}, (5, 5, 24)),
        ({"image_shape": (33, 17, 3)}, (4, 2, 128)),
        ({"whitening": 2}, (3, 3, 128)),
        ({"global_pooling": "max"}, (1, 1, 128)),
        ({"padding": "valid", "convolutions_per_block": 2, "pooling": "first", "filters": (8, 8)}, (3, 3, 8)),
    ],
)
def test_the_feature_shape_follows_from_image_blocks_and_padding(changes, shape):
    assert ModelConfig(**changes).feature_shape == shape


def test_a_network_that_shrinks_its_images_to_nothing_is_refused():
    message = r"^filters is \(.*\); expected fewer blocks or no whitening: \(\d+, \d+, 3\) images"
    for changes in (
        {"filters": (8,) * 6},
        {"image_shape": (64, 7, 3)},
        {"padding": "valid", "kernel_size": 11},
        {"image_shape": (32, 1, 3), "whitening": 4, "global_pooling": "max"},
    ):
        with pytest.raises(ConfigError, match=message):
            ModelConfig(**changes)


@pytest.mark.parametrize("config", UNUSUAL)
def test_json_and_back_loses_nothing_and_a_changed_value_is_another_configuration(config):
    document = json.loads(json.dumps(config.to_json(), allow_nan=False))
    assert type(config).from_json(document) == config
    name = "dropout" if isinstance(config, ModelConfig) else "learning_rate"
    assert type(config).from_json(document | {name: 0.25}) == replace(config, **{name: 0.25}) != config


@pytest.mark.parametrize("kind", [ModelConfig, TrainConfig])
def test_missing_and_unknown_fields_are_refused_and_a_whole_number_serves_as_a_fraction(kind):
    document = kind().to_json()
    with pytest.raises(ConfigError, match=r"'colour'.*expected \["):
        kind.from_json(document | {"colour": "red"})
    for name in document:
        others = {other: value for other, value in document.items() if other != name}
        if name in kind.ADDED:
            assert kind.from_json(others) == kind()
        else:
            with pytest.raises(ConfigError, match=f"expected .*'{name}'"):
                kind.from_json(others)
    rate = TrainConfig.from_json(TrainConfig().to_json() | {"learning_rate": 1}).learning_rate
    assert (rate, type(rate)) == (1.0, float)


@pytest.mark.parametrize(
    ("kind", "field", "values"),
    [
        (ModelConfig, "classes", [True, 10.0, "10"]),
        (ModelConfig, "dropout", ["0.5", False, 1]),  # the last one out of its range
        (ModelConfig, "padding", [1, None, ["same"]]),
        (ModelConfig, "filters", [32, "32", [32, True], [32, 64.0], {"32": 64}]),
        (ModelConfig, "image_shape", [None]),
        (TrainConfig, "learning_rate", [True, "1e-3", None, [0.3]]),
    ],
)
def test_json_of_another_type_or_range_is_refused(kind, field, values):
    for value in values:
        with pytest.raises(ConfigError, match=f"^{field} is "):
            kind.from_json(kind().to_json() | {field: value})


def test_parameters_are_counted():
    # One convolution of 1x1 over 3 channels, 4x4 halved to 2x2, then 8 -> 3 -> 2.
    config = ModelConfig(image_shape=(4, 4, 3), classes=2, filters=(2,), kernel_size=1, dense_units=(3,))
    assert config.parameters == (3 + 1) * 2 + (8 + 1) * 3 + (3 + 1) * 2
    # Two of 3x3 without padding: 8x8 to 4x4, halved to 2x2.
    valid = {"convolutions_per_block": 2, "padding": "valid"}
    config = ModelConfig(image_shape=(8, 8, 3), classes=2, filters=(5,), dense_units=(3,), **valid)
    assert config.parameters == (27 + 1) * 5 + (45 + 1) * 5 + (20 + 1) * 3 + (3 + 1) * 2
