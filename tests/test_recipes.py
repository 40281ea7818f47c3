"""The defaults are the recipe `seed`, and recipes are adapted to few and to larger images."""

from dataclasses import replace

import pytest

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import synthetic
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


# Larger images


@pytest.mark.parametrize("name", RECIPES)
def test_the_last_feature_map_is_3_to_8_pixels_high_whatever_the_size_of_the_images(name):
    for size in range(32, 257):
        model = replace(RECIPES[name].sized((size, size, 3)).model, global_pooling="none")
        height, width, channels = model.feature_shape
        assert height == width
        assert 3 <= height <= 8, size
        assert channels == RECIPES[name].model.filters[-1]


@pytest.mark.parametrize(
    ("size", "filters", "batch_size", "translation", "cutout"),
    [
        (32, (64, 256, 256), 512, 4, 12),
        (48, (64, 256, 256), 512, 6, 18),
        (64, (64, 256, 256, 256), 256, 8, 24),
        (96, (64, 256, 256, 256), 256, 12, 36),
        (128, (64, 256, 256, 256, 256), 128, 16, 48),
        (256, (64, 256, 256, 256, 256, 256), 64, 32, 96),
    ],
)
def test_larger_images_get_more_blocks_smaller_batches_and_as_much_augmentation(
    size, filters, batch_size, translation, cutout
):
    found = RECIPES["strong"].sized((size, size, 3))
    assert found.model == replace(RECIPES["strong"].model, image_shape=(size, size, 3), filters=filters)
    changes = {"batch_size": batch_size, "translation": translation, "cutout": cutout}
    assert found.train == replace(RECIPES["strong"].train, **changes)


def test_a_recipe_is_sized_from_its_own_size_on():
    for name in RECIPES:
        for sizes in ((64, 96), (48, 64), (64, 256)):
            step, again = ((size, size, 3) for size in sizes)
            assert RECIPES[name].sized(step).sized(again) == RECIPES[name].sized(again)


def test_smaller_images_change_the_shape_alone():
    assert RECIPES["fast"].sized((28, 40, 3)) == RECIPES["fast"].changed({"image_shape": (28, 40, 3)})
    larger = RECIPES["seed"].sized((64, 64, 3))
    assert larger.sized((32, 32, 3)) == larger.changed({"image_shape": (32, 32, 3)})


def test_settings_that_were_given_are_those_of_the_larger_images():
    given = {"batch_size": 100, "translation": 3}
    found = RECIPES["strong"].changed(given).sized((128, 128, 3), given)
    assert (found.train.batch_size, found.train.translation, found.train.cutout) == (100, 3, 48)


def test_a_small_batch_is_not_made_smaller_for_larger_images():
    assert RECIPES["seed"].sized((256, 256, 3)).train == RECIPES["seed"].train


def test_a_recipe_file_changes_a_recipe(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"recipe": "fast", "settings": {"learning_rate": 1, "filters": [8, 8], "flip": "none"}}')
    found, settings = recipe_and_settings(str(path))
    assert settings == {"learning_rate": 1, "filters": [8, 8], "flip": "none"}
    assert found == recipe("fast").changed({"learning_rate": 1.0, "filters": (8, 8), "flip": "none"})
    assert recipe_and_settings("strong") == (recipe("strong"), {})
    assert recipe_and_settings(str(path.rename(tmp_path / "mine.JSON"))) == (found, settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"classes": 7}, "classes is 7; expected 10, as synthetic has: leave it out"),
        (
            {"image_shape": [64, 64, 3], "classes": 10},
            r"image_shape is \(64, 64, 3\); expected \(32, 32, 3\), as synthetic has: leave it out, or resize the "
            r"images of a folder \(--image-size, in Python image_size=\)",
        ),
    ],
)
def test_what_the_images_determine_is_refused_in_a_recipe_that_contradicts_them(settings, message):
    dataset = synthetic(train=60, test=20)
    with pytest.raises(ConfigError, match=f"^{message}$"):
        recipe("seed").changed(settings).for_dataset(dataset, settings)
    agreeing = {"classes": 10, "image_shape": [32, 32, 3]}
    assert recipe("seed").changed(agreeing).for_dataset(dataset, agreeing) == recipe("seed").for_dataset(dataset)
    assert recipe("seed").changed(settings).for_dataset(dataset).model.classes == 10  # not given: of the recipe itself


def test_a_command_refuses_a_recipe_file_that_contradicts_the_images(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.json"
    path.write_text('{"recipe": "seed", "settings": {"classes": 7}}')
    for command, limit in (("train", "--max-minutes"), ("tune", "--max-minutes")):
        code, stdout, stderr = typed(command, "--data", "synthetic", "--recipe", path, limit, "0")
        assert (code, stdout) == (1, "")
        assert f"recipe {path} (seed with classes 7), data synthetic" in stderr or command == "tune"
        assert stderr.splitlines()[-1] == "error: classes is 7; expected 10, as synthetic has: leave it out"


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
