"""The defaults are the recipe `seed`, as it is specified, and few images get a schedule that they can be learned in."""

import pytest

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.errors import ConfigError
from cifarnet.recipes import RECIPES, recipe


def test_the_defaults_are_the_recipe_seed():
    assert recipe("seed") is RECIPES["seed"]
    assert (recipe("seed").model, recipe("seed").train) == (ModelConfig(), TrainConfig())


def test_the_recipe_seed_is_the_specified_one():
    model, train = recipe("seed").model, recipe("seed").train
    assert (model.image_shape, model.classes) == ((32, 32, 3), 10)
    assert model.filters == (32, 64, 128)
    assert len(model.dense_units) == 3
    assert (train.optimizer, train.batch_size, train.epochs, train.patience) == ("adam", 30, 1000, 20)
    assert train.validation_fraction == 0.3


def test_an_unknown_recipe_is_refused_with_the_known_names():
    with pytest.raises(ConfigError, match=r"'sead'; expected one of .*seed"):
        recipe("sead")


@pytest.mark.parametrize(
    ("images", "given", "batch_size", "epochs", "patience"),
    [
        (45_000, (), 512, 10, 20),
        (20_000, (), 512, 10, 20),
        (8_192, (), 512, 25, 25),
        (8_191, (), 256, 25, 25),
        (540, (), 64, 100, 100),
        (4, (), 64, 100, 100),
        (540, ("batch_size",), 512, 100, 100),
        (45_000, ("batch_size",), 512, 10, 20),
        (540, ("epochs",), 64, 10, 20),
        (540, ("epochs", "batch_size"), 512, 10, 20),
        (540, ("patience",), 64, 100, 20),
    ],
)
def test_few_images_are_trained_on_in_smaller_batches_for_more_epochs(images, given, batch_size, epochs, patience):
    found = RECIPES["fast"].adapted_to(images, given)
    changes = {"batch_size": batch_size, "epochs": epochs, "patience": patience}
    assert found == RECIPES["fast"].changed(changes)


def test_early_stopping_does_not_end_a_schedule_before_the_learning_rate_came_down():
    longer = RECIPES["fast"].changed({"epochs": 50})
    assert longer.adapted_to(45_000, ("epochs",)) == longer.changed({"patience": 50})
    assert longer.adapted_to(45_000, ("epochs", "patience")) == longer
    for each in RECIPES.values():
        assert each.adapted_to(45_000) == each


def test_a_setting_that_there_is_none_of_is_refused():
    with pytest.raises(ConfigError, match="there is no setting named colour; expected one of"):
        RECIPES["fast"].changed({"colour": 1, "epochs": 2})


def test_a_recipe_that_early_stopping_ends_is_left_alone():
    constant = RECIPES["fast"].changed({"schedule": "constant", "epochs": 300})
    for each in (RECIPES["seed"], constant):
        assert each.adapted_to(12) == each
