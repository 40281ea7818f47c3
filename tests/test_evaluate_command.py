"""`cifarnet evaluate` of model files, without a framework: correct metrics, or one error line."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from cifarnet.cli.display import WIDEST
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import load_dataset
from cifarnet.run.origin import DataRecord
from tests.records import RUNNING
from tests.runtime import models

COLORS = {"red": (200, 10, 10), "green": (10, 200, 10), "blue": (10, 10, 200)}
ORIGIN = {"train": {"seed": 0}, "data": {"name": "photos", "fingerprint": "0" * 64}}


@pytest.fixture
def evaluate(typed):
    """Return a function that runs ``cifarnet evaluate`` and returns exit code, stdout and the lines of stderr."""

    def evaluate(*arguments):
        code, stdout, stderr = typed("evaluate", *arguments)
        return code, stdout, stderr.splitlines()

    return evaluate


@pytest.fixture
def fails(evaluate):
    """Return a function that runs ``cifarnet evaluate``, expects an error, and returns it."""

    def fails(*arguments):
        code, stdout, lines = evaluate(*arguments)
        assert (code, stdout) == (1, ""), lines
        assert lines[-1].startswith("error: ")
        return lines[-1].removeprefix("error: ")

    return fails


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(models.content())
    return path


def write_model(path, **changes):
    path.write_bytes(models.content(contract=models.contract(**changes)))
    return path


def paint(folder, **pictures):
    """Write images: for each class a folder with one image per named color."""
    for label, colors in pictures.items():
        (folder / label).mkdir(parents=True)
        for index, color in enumerate(colors):
            Image.fromarray(np.full((40, 40, 3), COLORS[color], np.uint8)).save(folder / label / f"{index}.png")
    return folder


def test_metrics_on_a_folder_of_images(evaluate, model, tmp_path):
    images = paint(tmp_path / "images", red=["red", "red"], green=["green", "blue"], blue=["blue"])
    shutil.copy(images / "red" / "0.png", images)
    code, shown, stdout = evaluate(model, "--images", images)
    assert (code, stdout[0], len(stdout)) == (0, "decoding", 3)
    assert "note: 1 image beside the class folders has no class and is left out" in stdout
    assert shown.splitlines()[0] == f"{model} on onnxruntime: 5 images of 3 classes"
    assert "80.00%   (95% CI: 37.55% to 96.38%)" in shown
    assert shown.splitlines()[-2].split() == ["most", "confident", "errors", "predicted", "confidence", "file"]
    assert shown.splitlines()[-1].split()[-1] == "green/1.png"
    document = json.loads(evaluate(model, "--images", images, "--json")[1])
    assert [each["file"] for each in document["evaluation"]["confident_errors"]] == ["green/1.png"]
    assert (document["engine"], document["evaluation"]["confusion"]) == (
        "onnxruntime",
        [[2, 0, 0], [0, 1, 1], [0, 0, 1]],
    )


def test_a_class_without_images_is_named_and_its_metrics_omitted(evaluate, model, tmp_path):
    code, shown, stdout = evaluate(model, "--images", paint(tmp_path / "images", red=["red"], blue=["green"]))
    assert code == 0
    assert "no images of green: metrics that need them are omitted" in stdout
    assert "nan" not in shown.lower()
    green = next(line.split() for line in shown.splitlines() if line.startswith("green"))
    assert green[:3] == ["green", "0", "0.0%"]
    assert green[-1] == "0.0%"


def test_one_image_alone_has_a_wide_interval_and_the_temperature_of_a_file_is_used(evaluate, tmp_path):
    (tmp_path / "calibrated.onnx").write_bytes(models.calibrated(temperature=2.0))
    shown = evaluate(tmp_path / "calibrated.onnx", "--images", paint(tmp_path / "images", red=["red"]))[1]
    assert "100.00%   (95% CI: 20.65% to 100.00%)" in shown
    assert "confidence at temperature 2 " in shown


def test_two_models_are_compared_on_the_same_images(evaluate, model, tmp_path):
    nodes = models.weights(-1 / 16)  # takes the color that there is least of
    (tmp_path / "other.onnx").write_bytes(models.content(models.graph(tensors=[nodes])))
    images = paint(tmp_path / "images", red=["red"] * 4, green=["green"] * 4)
    code, shown, _ = evaluate(model, tmp_path / "other.onnx", "--images", images)
    assert code == 0
    assert "-100.00 percentage points of accuracy" in shown
    assert ": significant at the 5% level" in shown
    assert shown.splitlines()[-1].split()[-1] == "green/3.png"
    document = json.loads(evaluate(model, model, "--images", images, "--json")[1])
    assert (document["comparison"]["agreement"], document["comparison"]["p_value"]) == (1.0, 1.0)


# Evaluated images


@pytest.fixture
def photos(tmp_path):
    """A folder of class folders without a test folder."""
    for shade in range(12):
        for at, label in enumerate(models.LABELS):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            pixels = np.full((32, 32, 3), 10 + shade, np.uint8)
            pixels[..., at] = 200
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{shade:02}.bmp")
    return tmp_path / "photos"


def by_name(path, **training):
    path.write_bytes(models.by_name(**training))
    return path


def trained_on(dataset, **seed):
    """Return the training metadata of a file trained on ``dataset``."""
    facts = {name: getattr(dataset, name) for name in ("name", "fingerprint", "split_by", "split_seed")}
    return {"train": {"seed": 3} | seed, "data": facts}


def write_run(tmp_path, dataset, **data):
    """Write the record of a run on ``dataset``, with an empty weights file."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    model, train = ModelConfig(classes=3), TrainConfig(seed=3)
    record = RUNNING | {"model": model.to_json(), "train": train.to_json()}
    (folder / "run.json").write_text(json.dumps(record | {"data": DataRecord.of(dataset).to_json() | data}))
    (folder / "best.weights.h5").touch()
    return folder


def test_a_file_is_evaluated_on_its_test_split_also_one_of_an_earlier_version(evaluate, photos, tmp_path):
    """Its split has another seed than the training."""
    dataset = load_dataset(photos, seed=8)
    model = by_name(tmp_path / "model.onnx", **trained_on(dataset))
    code, stdout, _ = evaluate(model, "--data", photos, "--json")
    assert (code, json.loads(stdout)["data"]) == (
        0,
        {
            "source": str(photos),
            "name": "photos",
            "fingerprint": dataset.fingerprint,
            "images": len(dataset.test),
            "same_as_run": True,
            "unseen": True,
        },
    )
    dataset = load_dataset(photos, seed=3, split_by="position")  # as an earlier version divided it
    shown = {"train": {"seed": 3}, "data": {"name": "photos", "fingerprint": dataset.fingerprint}}
    code, stdout, _ = evaluate(by_name(tmp_path / "earlier.onnx", **shown), "--data", photos, "--json")
    assert (code, json.loads(stdout)["data"]["same_as_run"]) == (0, True)


def test_changed_images_and_a_second_model_trained_on_another_split_are_refused(fails, photos, tmp_path):
    folder = write_run(tmp_path, load_dataset(photos, seed=8))
    model = by_name(tmp_path / "model.onnx", **trained_on(load_dataset(photos, seed=9)))
    assert f" test images of photos are training images of {folder}" in fails(model, folder, "--data", photos)
    message = fails(folder, model, "--data", photos)
    assert message.startswith(f"{model} was trained on another split of photos, perhaps on these test images")
    (photos / "red" / "00.bmp").unlink()
    message = fails(folder)
    assert message.startswith(f"photos has changed since {folder} was trained: its fingerprint is ")
    assert message.endswith("restore it, or name the images to evaluate on with --data, or others with --images")


def test_named_other_images_are_evaluated_with_a_note_that_names_the_model(evaluate, photos, tmp_path):
    earlier = by_name(tmp_path / "earlier.onnx", **trained_on(load_dataset(photos)))
    (photos / "red" / "00.bmp").unlink()
    model = by_name(tmp_path / "model.onnx", **trained_on(load_dataset(photos)))
    note = f"photos is not the dataset that {earlier} was trained on, or has changed since"
    for models_given in ([earlier], [model, earlier]):
        code, stdout, stderr = evaluate(*models_given, "--data", photos, "--json")
        shown = json.loads(stdout)["data"]
        assert (code, shown["source"], shown["same_as_run"]) == (0, str(photos), False)
        assert note in stderr
    images = paint(tmp_path / "new", red=["red", "red"], blue=["blue"])
    shown = json.loads(evaluate(model, "--images", images, "--json")[1])["data"]
    assert (shown["source"], shown["name"], shown["images"], shown["same_as_run"]) == (str(images), "new", 3, False)


# Errors


def test_models_of_other_classes_or_sizes_are_not_compared(fails, model, tmp_path):
    other, images = tmp_path / "other.onnx", paint(tmp_path / "images", red=["red"])
    write_model(other, labels=["red", "green", "violet"])
    message = f"{other} has the classes red, green, violet; expected red, green, blue as {model}"
    assert message in fails(model, other, "--images", images)
    other.write_bytes(models.sized(64))
    message = f"{other} takes images of shape (64, 64, 3); expected (32, 32, 3) as {model}: evaluate each"
    assert message in fails(model, other, "--images", images)


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("images/violet", "has the class folders violet; expected some of red, green, blue"),
        ("images/red", "has no images in class folders"),
        ("elsewhere", "is not a folder; expected one with a subfolder"),
    ],
)
def test_a_folder_without_the_images_of_a_class_is_refused(fails, model, tmp_path, folder, message):
    (tmp_path / folder).mkdir(parents=True)
    assert message in fails(model, "--images", tmp_path / "images")


def test_the_classifier_of_the_package_is_evaluated_and_inspected_by_its_name(typed, tmp_path):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    Image.new("RGB", (32, 32), "red").save(tmp_path / "photos" / "cat" / "1.png")
    code, stdout, _ = typed("evaluate", "pretrained", "--images", tmp_path / "photos", "--json")
    assert (code, json.loads(stdout)["model"]) == (0, "pretrained")
    assert typed("inspect", "pretrained")[0] == 0
    assert (
        "pretrained runs in onnxruntime; expected no --backend"
        in typed("evaluate", "pretrained", "--backend", "jax")[2]
    )


@pytest.mark.parametrize("command", ["evaluate", "robustness"])
def test_a_file_that_does_not_name_its_training_data_is_evaluated_on_other_images(typed, tmp_path, command):
    model = write_model(tmp_path / "model.onnx", labels=["blue", "green", "red"])
    for models_given in ([model], [model, model][: 1 + (command == "evaluate")]):
        code, stdout, stderr = typed(command, *models_given)
        assert (code, stdout) == (1, "")
        assert "like every file of export_model; expected images to evaluate on: name them with --data" in stderr
    for part in ("train", "test"):
        paint(tmp_path / "photos" / part, red=["red"], green=["green"], blue=["blue"])
    code, stdout, stderr = typed(command, model, "--data", tmp_path / "photos", "--json")
    assert (code, json.loads(stdout)["data"]["unseen"], "no longer" in stderr) == (0, None, False)


def test_a_file_trained_on_images_at_an_unknown_location_or_of_other_classes_or_beside_one_of_others(fails, tmp_path):
    model = write_model(tmp_path / "model.onnx", training=ORIGIN)
    for seed in ("x", True, -1):
        odd = write_model(tmp_path / "odd.onnx", training=ORIGIN | {"train": {"seed": seed}})
        assert "does not name its training data" in fails(odd, "--data", "synthetic")
    message = "the model was trained on photos, whose location is unknown; expected --data with its location"
    assert message in fails(model)
    assert "has the classes horizontal stripes" in fails(model, "--data", "synthetic")
    other = ORIGIN | {"data": {"name": "photos", "fingerprint": "1" * 64}}
    assert "was trained on other images than" in fails(model, write_model(tmp_path / "b.onnx", training=other))


def test_arguments_that_do_not_fit_together(fails, model):
    assert fails(model, model, model) == "3 models were given; expected one, or two to compare: leave some out"
    assert "--data and --images were both given" in fails(model, "--data", "synthetic", "--images", "x")
    assert "runs in onnxruntime; expected no --backend" in fails(model, "--backend", "jax")


ODD = ("a" * 250, 'with, "quotes" and it\'s', "two\nlines \x1b[2J \u202eleft")
"""Class names that are long, or that would break a table's lines."""


def test_class_names_are_shortened_and_escaped_in_every_table(evaluate, tmp_path):
    model = write_model(tmp_path / "odd.onnx", labels=list(ODD))
    photos = tmp_path / "photos"
    for index, label in enumerate(ODD):
        (photos / label).mkdir(parents=True)
        wrong = [*COLORS.values()][index - 1]
        Image.fromarray(np.full((40, 40, 3), wrong, np.uint8)).save(photos / label / "0.png")
    for models_ in ((model,), (model, model)):
        code, stdout, _ = evaluate(*models_, "--images", photos)
        assert code == 0
        assert all(line.isprintable() for line in stdout.splitlines())
        assert max(map(len, stdout.splitlines())) < 2 * 40 + 20 + WIDEST  # names of files are complete
    code, stdout, _ = evaluate(model, "--images", photos)
    assert f"{'a' * 39}…  " in stdout
    assert 'with, "quotes" and it\'s  ' in stdout
    assert r"two\nlines \x1b[2J \u202eleft  " in stdout
