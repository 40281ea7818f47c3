"""The defaults are the recipe `seed`, and recipes are adapted to few and to larger images."""

from dataclasses import replace

import pytest

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import synthetic
from cifarnet.errors import ConfigError
from cifarnet.recipes import RECIPES, recipe, recipe_and_settings


def test_the_recipe_seed_is_the_specified_one_and_the_default():
    model, train = recipe("seed").model, recipe("seed").train
    assert (model, train) == (ModelConfig(), TrainConfig())
    assert (model.image_shape, model.classes) == ((32, 32, 3), 10)
    assert model.filters == (32, 64, 128)
    assert len(model.dense_units) == 3
    assert (train.optimizer, train.batch_size, train.epochs, train.patience) == ("adam", 30, 1000, 20)
    assert train.validation_fraction == 0.3


def test_an_unknown_recipe_or_setting_is_refused_with_the_known_names():
    with pytest.raises(ConfigError, match=r"'sead'; expected one of .*seed"):
        recipe("sead")
    with pytest.raises(ConfigError, match="there is no setting named colour; expected one of"):
        RECIPES["fast"].changed({"colour": 1, "epochs": 2})


@pytest.mark.parametrize(
    ("images", "given", "batch_size", "epochs", "patience"),
    [
        (45_000, (), 512, 10, 20),
        (8_192, (), 512, 25, 25),
        (8_191, (), 256, 25, 25),
        (4, (), 64, 100, 100),
        (540, ("batch_size",), 512, 100, 100),
        (45_000, ("batch_size",), 512, 10, 20),
        (540, ("epochs",), 64, 10, 20),
        (540, ("epochs", "batch_size"), 512, 10, 20),
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
    # One that early stopping ends is left alone.
    for each in (RECIPES["seed"], RECIPES["fast"].changed({"schedule": "constant", "epochs": 300})):
        assert each.adapted_to(12) == each


# Larger images


@pytest.mark.parametrize("name", RECIPES)
def test_the_last_feature_map_is_3_to_8_pixels_high_whatever_the_size_of_the_images(name):
    for size in (*range(32, 130), 191, 192, 255, 256):
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
        (256, (64, 256, 256, 256, 256, 256), 64, 32, 96),
    ],
)
def test_larger_images_get_more_blocks_smaller_batches_and_as_much_augmentation_unless_they_were_given(
    size, filters, batch_size, translation, cutout
):
    found = RECIPES["strong"].sized((size, size, 3))
    assert found.model == replace(RECIPES["strong"].model, image_shape=(size, size, 3), filters=filters)
    changes = {"batch_size": batch_size, "translation": translation, "cutout": cutout}
    assert found.train == replace(RECIPES["strong"].train, **changes)
    given = {"batch_size": 100, "translation": 3}
    found = RECIPES["strong"].changed(given).sized((size, size, 3), given)
    assert found.train == replace(RECIPES["strong"].train, **changes | given)


def test_a_recipe_is_sized_from_its_own_size_on():
    for name in RECIPES:
        for sizes in ((64, 96), (48, 64), (64, 256)):
            step, again = ((size, size, 3) for size in sizes)
            assert RECIPES[name].sized(step).sized(again) == RECIPES[name].sized(again)


def test_smaller_images_change_the_shape_alone_and_a_small_batch_is_not_made_smaller():
    assert RECIPES["fast"].sized((28, 40, 3)) == RECIPES["fast"].changed({"image_shape": (28, 40, 3)})
    larger = RECIPES["seed"].sized((64, 64, 3))
    assert larger.sized((32, 32, 3)) == larger.changed({"image_shape": (32, 32, 3)})
    assert RECIPES["seed"].sized((256, 256, 3)).train == RECIPES["seed"].train


def test_a_recipe_file_changes_a_recipe(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text('{"recipe": "fast", "settings": {"learning_rate": 1, "filters": [8, 8], "flip": "none"}}')
    found, settings = recipe_and_settings(str(path))
    assert settings == {"learning_rate": 1, "filters": [8, 8], "flip": "none"}
    assert found == recipe("fast").changed({"learning_rate": 1.0, "filters": (8, 8), "flip": "none"})
    assert recipe_and_settings("strong") == (recipe("strong"), {})
    assert recipe_and_settings(str(path.rename(tmp_path / "mine.JSON"))) == (found, settings)


def test_what_the_images_determine_is_refused_in_a_recipe_that_contradicts_them(typed, tmp_path, monkeypatch):
    dataset, seed = synthetic(train=60, test=20), recipe("seed")
    classes = "classes is 7; expected 10, as synthetic has: leave it out"
    shape = (
        r"image_shape is \(64, 64, 3\); expected \(32, 32, 3\), as synthetic has: leave it out, or resize the "
        r"images of a folder \(--image-size, in Python image_size=\)"
    )
    for settings, message in (({"classes": 7}, classes), ({"image_shape": [64, 64, 3], "classes": 10}, shape)):
        with pytest.raises(ConfigError, match=f"^{message}$"):
            seed.changed(settings).for_dataset(dataset, settings)
        assert seed.changed(settings).for_dataset(dataset).model.classes == 10  # not given: of the recipe itself
    agreeing = {"classes": 10, "image_shape": [32, 32, 3]}
    assert seed.changed(agreeing).for_dataset(dataset, agreeing) == seed.for_dataset(dataset)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.json"
    path.write_text('{"recipe": "seed", "settings": {"classes": 7}}')
    for command in ("train", "tune"):
        code, stdout, stderr = typed(command, "--data", "synthetic", "--recipe", path, "--max-minutes", "0")
        assert (code, stdout, stderr.splitlines()[-1]) == (1, "", f"error: {classes}")
        assert f"recipe {path} (seed with classes 7), data synthetic" in stderr or command == "tune"


UNUSABLE = r" cannot be used \({}\); expected a recipe such as \{{"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, UNUSABLE.format("No such file or directory")),
        (b"", UNUSABLE.format("Expecting value: .*")),
        (b"\xff\x00", UNUSABLE.format(".*")),
        (b"[" * 100_000, UNUSABLE.format(".*")),
        (b"[]", UNUSABLE.format(".*")),
        (b'{"recipe": "fast"}', UNUSABLE.format("it has no 'settings'")),
        (b'{"recipe": "fast", "settings": 3}', UNUSABLE.format(".*")),
        (b'{"recipe": "fast", "settings": {}, "seed": 1}', UNUSABLE.format("it also has seed")),
        (b'{"recipe": ["fast"], "settings": {}}', r": there is no recipe named \['fast'\]"),
        (b'{"recipe": "fast", "settings": {"rate": 1}}', r": there is no setting named rate; expected one of"),
        (b'{"recipe": "fast", "settings": {"learning_rate": NaN}}', r": learning_rate is nan; expected"),
        (b'{"recipe": "fast", "settings": {"flip": {}}}', r": flip is \{\}; expected one of"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused_in_a_line_that_names_it(tmp_path, content, why):
    path = tmp_path / "mine.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"^{path}{why}") as info:
        recipe_and_settings(str(path))
    assert "\n" not in str(info.value)
