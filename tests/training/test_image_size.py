"""Images of a folder in another size than 32x32: every command takes it from the run or from the model file."""

import json

import numpy as np
import pytest

from cifarnet import pretrained
from cifarnet.backends import choose
from cifarnet.data import load_dataset, synthetic
from cifarnet.dataset import Dataset
from cifarnet.errors import ConfigError
from cifarnet.evaluation.target import require_unseen, run_target
from cifarnet.model.network import build_model
from cifarnet.model.weights import get_weights, load_features
from cifarnet.recipes import recipe
from cifarnet.run.folder import Run
from cifarnet.runtime import Classifier
from cifarnet.training.begin import begin
from cifarnet.training.import_weights import import_weights
from cifarnet.training.same_data import same_hold_out
from cifarnet.training.train import initial_model, resume
from cifarnet.training.warm_start import recipe_of, warm_start_from
from tests.photos import make_photos
from tests.small_runs import SMALL_JOB, finished, stop_after

TINY = SMALL_JOB.changed({"filters": (4, 6), "dense_units": (8,), "epochs": 2, "schedule_epochs": 2})


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of photos of 100x100 pixels, with a test split."""
    return make_photos(tmp_path_factory.mktemp("photos"), train=12, test=3, side=100)


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run on images of 96x96 pixels that was interrupted in its first epoch and resumed."""
    folder, dataset = tmp_path_factory.mktemp("sized"), load_dataset(photos, image_size=96)
    run = begin(TINY.for_dataset(dataset), dataset, folder / "runs")
    resume(run, dataset, stop=stop_after(1))
    assert run.record.status == "interrupted"
    return resume(run, run.record.origin.load_dataset())


def test_the_network_and_the_record_have_the_size(trained):
    assert trained.record.model.image_shape == (96, 96, 3)
    assert trained.record.model.filters == (4, 6, 6)
    assert json.loads((trained.path / "run.json").read_text())["data"]["image_size"] == 96
    assert (trained.record.status, trained.record.epochs) == ("finished", 2)


def test_every_command_takes_the_size_from_the_run(trained, photos, typed, monkeypatch):
    run = trained
    monkeypatch.chdir(run.path.parent.parent)
    image = next((photos / "test" / "red").iterdir())
    for command in (
        ("export", "--int8", "--max-drop", "1"),
        ("export", "--onnx", "--tta", "6"),
        ("evaluate",),
        ("evaluate", "--tta", "2", "--images", photos / "test"),
        ("evaluate", run.model, "--data", photos),
        ("robustness",),
        ("report",),
        ("inspect", run.model),
        ("predict", image),
        ("predict", run.path / "model.int8.onnx", image),
        ("reproduce",),
    ):
        code, stdout, stderr = typed(*command)
        assert (code, "Traceback" in stderr) == (0, False), (command, stdout, stderr)
    classifier = Classifier(run.model)
    assert classifier.contract["input"]["shape"] == ["batch", 96, 96, 3]
    assert classifier.contract["training"]["data"]["image_size"] == 96
    card = (run.path / "MODELCARD.md").read_text()
    assert "RGB images of 96 × 96 pixels" in card  # noqa: RUF001
    assert "--image-size 96" in (run.path / "report.html").read_text()


def test_resume_refuses_another_size_than_that_of_the_run(photos, runs, typed):
    dataset = load_dataset(photos, image_size=64)
    run = begin(TINY.for_dataset(dataset), dataset, runs)
    message = "error: image-size is 32; expected 64 as when the run began: leave it out, or start a new run without"
    assert message in typed("train", "--resume", run, "--image-size", 32)[2]
    assert typed("train", "--resume", run, "--image-size", 64)[0] == 0


def test_train_prints_the_settings_adapted_to_the_size(photos, typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--data", photos, "--image-size", 64, "--recipe", "fast", "--max-minutes", 0)
    code, _, stderr = typed("train", *options, "--precision", "float32", "--batch-size", 16)
    assert code == 0, stderr
    assert "images of 64x64 pixels: filters (48, 128, 128) -> (48, 128, 128, 128), translation 2 -> 4" in stderr


# Fine-tuning


@pytest.fixture(scope="module")
def smaller(photos, tmp_path_factory):
    """A finished run on the same photos in 32x32."""
    dataset = load_dataset(photos)
    run = begin(TINY.for_dataset(dataset), dataset, tmp_path_factory.mktemp("smaller"))
    return resume(run, dataset)


def test_fine_tuning_at_another_size_keeps_the_convolutions_and_adds_a_block(smaller, photos, runs):
    dataset = load_dataset(photos, image_size=64)
    run = begin(recipe_of(smaller).for_dataset(dataset), dataset, runs, warm_start=warm_start_from(smaller))
    assert run.record.model.filters == (4, 6, 6)
    model = build_model(run.record.model)
    before = get_weights(model)
    load_features(model, run.start_weights)
    origin, found = get_weights(smaller.load_model()), get_weights(model)
    for name in ("conv_1/kernel", "conv_2/kernel", "conv_2/bias"):
        np.testing.assert_array_equal(found[name], origin[name])
    np.testing.assert_array_equal(found["conv_3/kernel"], before["conv_3/kernel"])


def test_the_recipe_of_a_run_has_the_pixels_of_its_size(photos, runs):
    dataset = load_dataset(photos, image_size=64)
    settings = recipe("strong").for_dataset(dataset)
    again = recipe_of(begin(settings, dataset, runs)).for_dataset(dataset)
    assert (again.train.translation, again.train.cutout) == (8, 24)
    assert again == settings


def test_training_images_of_the_earlier_run_are_recognized_in_its_size(smaller, photos, runs):
    dataset = load_dataset(photos, image_size=64)
    settings = recipe_of(smaller).for_dataset(dataset).changed({"seed": 1})
    with pytest.raises(ConfigError, match=r"\d+ of the \d+ validation and test images were trained on by"):
        begin(settings, dataset, runs, warm_start=warm_start_from(smaller))


def test_after_fine_tuning_at_another_size_it_is_unknown_whether_other_images_are_new(smaller, photos, runs, tmp_path):
    dataset = load_dataset(photos, image_size=64)
    settings = recipe_of(smaller).for_dataset(dataset, ("epochs",)).changed({"epochs": 1})
    run, _ = finished(settings, dataset, runs, warm_start=warm_start_from(smaller))
    later, _ = finished(settings, dataset, runs, warm_start=warm_start_from(run))
    other = load_dataset(make_photos(tmp_path / "other", train=4, test=2, side=90), image_size=64)
    for each in (run, later):
        target = run_target(each, choose())
        assert require_unseen(target, dataset, None) is True
        assert require_unseen(target, other, "other") is None
    found = load_dataset(tmp_path / "other")
    assert require_unseen(run_target(smaller, choose()), found, "other") is True


def test_arrays_of_another_size_are_refused_since_they_cannot_be_compared(smaller, runs):
    arrays = synthetic(train=30, test=10, classes=3)
    parts = ((np.repeat(np.repeat(part.images, 2, 1), 2, 2), part.labels) for part in (arrays.train, arrays.test))
    dataset = Dataset.from_arrays(*parts, ["red", "green", "blue"])
    settings = recipe_of(smaller).for_dataset(dataset)
    with pytest.raises(ConfigError, match=r"has images of shape \(64, 64, 3\); expected \(32, 32, 3\) as"):
        begin(settings, dataset, runs, warm_start=warm_start_from(smaller))


def test_from_keeps_the_size_of_the_run_and_says_which_blocks_are_new(trained, smaller, photos, typed, tmp_path):
    options = ("train", "--data", photos, "--max-minutes", 0, "--runs", tmp_path)
    code, _, stderr = typed(*options, "--from", trained)
    assert code == 0, stderr
    assert Run((tmp_path / "latest").resolve()).record.data.image_size == 96
    assert "blocks" not in stderr
    code, _, stderr = typed(*options, "--from", smaller, "--image-size", 96)
    assert code == 0, stderr
    assert f"note: {smaller.path.name} has 2 blocks: those after them start untrained" in stderr


def test_the_bundled_classifier_is_fine_tuned_at_another_size(photos, runs):
    dataset = load_dataset(photos, image_size=64)
    origin = Run(pretrained.FOLDER)
    settings = recipe_of(origin).for_dataset(dataset)
    assert settings.train.translation == 2 * recipe("strong").train.translation
    run = begin(settings, dataset, runs, warm_start=warm_start_from(origin))
    model = build_model(settings.model)
    load_features(model, run.start_weights)
    _, imported = import_weights(pretrained.MODEL)
    parts = same_hold_out(run.record, dataset)
    found, before = get_weights(model), get_weights(initial_model(settings, dataset.train, parts))
    for name, array in found.items():
        if name.endswith("/kernel") and name in imported and name.startswith("conv"):
            np.testing.assert_array_equal(array, imported[name])
        elif "_4_" in name:
            np.testing.assert_array_equal(array, before[name])
