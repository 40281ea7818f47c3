"""The defaults are the recipe `seed`, as it is specified, and few images get a schedule that they can be learned in."""

import pytest

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.errors import ConfigError
from cifarnet.recipes import RECIPES, recipe, recipe_and_settings


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


def test_a_recipe_file_changes_a_recipe(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"recipe": "fast", "settings": {"learning_rate": 1, "filters": [8, 8], "flip": "none"}}')
    found, settings = recipe_and_settings(str(path))
    assert settings == {"learning_rate": 1, "filters": [8, 8], "flip": "none"}
    assert found == recipe("fast").changed({"learning_rate": 1.0, "filters": (8, 8), "flip": "none"})
    assert recipe_and_settings("strong") == (recipe("strong"), {})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, r"cannot be used \(No such file or directory\); expected a recipe such as \{"),
        (b"", r"cannot be used \(Expecting value: .*\); expected a recipe such as \{"),
        (b"\xff\x00", r"cannot be used \(.*\); expected a recipe such as \{"),
        (b"[" * 100_000, r"cannot be used \(.*\); expected a recipe such as \{"),
        (b"[]", r"cannot be used \(.*\); expected a recipe such as \{"),
        (b"3", r"cannot be used \(.*\); expected a recipe such as \{"),
        (b'{"recipe": "fast"}', r"cannot be used \(it has no 'settings'\); expected a recipe such as \{"),
        (b'{"recipe": "fast", "settings": 3}', r"cannot be used \(.*\); expected a recipe such as \{"),
        (b'{"recipe": ["fast"], "settings": {}}', r": there is no recipe named \['fast'\]"),
        (b'{"recipe": "fast", "settings": {}, "seed": 1}', r"cannot be used \(it also has seed\); expected a recipe"),
        (b'{"recipe": "sead", "settings": {}}', r": there is no recipe named 'sead'"),
        (b'{"recipe": "fast", "settings": {"rate": 1}}', r": there is no setting named rate; expected one of"),
        (b'{"recipe": "fast", "settings": {"filters": "8"}}', r": filters is '8'; expected one positive width"),
        (b'{"recipe": "fast", "settings": {"learning_rate": NaN}}', r": learning_rate is nan; expected"),
        (b'{"recipe": "fast", "settings": {"flip": {}}}', r": flip is \{\}; expected one of"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_a_line_that_names_it(tmp_path, content, why):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{path}{' ' if why[0] != ':' else ''}{why}") as info:
        recipe_and_settings(str(path))
    assert "\n" not in str(info.value)
