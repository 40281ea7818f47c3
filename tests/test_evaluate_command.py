"""`cifarnet evaluate` of model files, without a framework: honest figures, or one line that says what is wrong."""

import json

import numpy as np
import pytest
from onnx import numpy_helper
from PIL import Image

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import load_dataset
from cifarnet.run.job import Job
from cifarnet.run.record import DataRecord
from tests.records import RUNNING
from tests.runtime import models

COLOURS = {"red": (200, 10, 10), "green": (10, 200, 10), "blue": (10, 10, 200)}
ORIGIN = {"train": {"seed": 0}, "data": {"name": "photos", "fingerprint": "0" * 64}}


@pytest.fixture
def evaluate(typed):
    """Return a function that runs ``cifarnet evaluate`` and returns exit code, stdout and the lines of stderr."""

    def evaluate(*arguments):
        code, said, talk = typed("evaluate", *arguments)
        return code, said, talk.splitlines()

    return evaluate


@pytest.fixture
def fails(evaluate):
    """Return a function that runs ``cifarnet evaluate``, which must fail by the book, and returns the reason."""

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
    """Write pictures: for each class its folder with one picture per colour that is named."""
    for label, colours in pictures.items():
        (folder / label).mkdir(parents=True)
        for index, colour in enumerate(colours):
            Image.fromarray(np.full((40, 40, 3), COLOURS[colour], np.uint8)).save(folder / label / f"{index}.png")
    return folder


def test_the_figures_of_a_folder_of_images(evaluate, model, tmp_path):
    images = paint(tmp_path / "images", red=["red", "red"], green=["green", "blue"], blue=["blue"])
    code, told, said = evaluate(model, "--images", images)
    assert (code, said[0], len(said)) == (0, "decoding", 2)
    assert told.splitlines()[0] == f"{model} on onnxruntime: 5 images of 3 classes"
    assert "80.00%   (95% CI: 37.55% to 96.38%)" in told
    document = json.loads(evaluate(model, "--images", images, "--json")[1])
    assert (document["engine"], document["evaluation"]["confusion"]) == (
        "onnxruntime",
        [[2, 0, 0], [0, 1, 1], [0, 0, 1]],
    )


def test_a_class_without_images_is_named_and_its_figures_are_left_out(evaluate, model, tmp_path):
    code, told, said = evaluate(model, "--images", paint(tmp_path / "images", red=["red"], blue=["green"]))
    assert code == 0
    assert "no images of green: metrics that need them are omitted" in said
    assert "nan" not in told.lower()
    green = next(line.split() for line in told.splitlines() if line.startswith("green"))
    assert green[:3] == ["green", "0", "0.0%"]
    assert green[-1] == "0.0%"


def test_one_image_alone_has_a_wide_interval(evaluate, model, tmp_path):
    code, told, _ = evaluate(model, "--images", paint(tmp_path / "images", red=["red"]))
    assert code == 0
    assert "100.00%   (95% CI: 20.65% to 100.00%)" in told


def test_a_file_with_a_temperature_is_told_with_it(evaluate, tmp_path):
    calibrated = tmp_path / "calibrated.onnx"
    calibrated.write_bytes(models.calibrated(temperature=2.0))
    told = evaluate(calibrated, "--images", paint(tmp_path / "images", red=["red"]))[1]
    assert "confidence at temperature 2 " in told


def test_two_models_are_compared_on_the_same_images(evaluate, model, tmp_path):
    nodes = models.weights(-1 / 16)  # takes the colour that there is least of
    (tmp_path / "other.onnx").write_bytes(models.content(models.graph(tensors=[nodes])))
    images = paint(tmp_path / "images", red=["red"] * 4, green=["green"] * 4)
    code, told, _ = evaluate(model, tmp_path / "other.onnx", "--images", images)
    assert code == 0
    assert "-100.00 percentage points of accuracy" in told
    assert ": significant at the 5% level" in told
    document = json.loads(evaluate(model, model, "--images", images, "--json")[1])
    assert (document["comparison"]["agreement"], document["comparison"]["p_value"]) == (1.0, 1.0)


# Which images are scored


@pytest.fixture
def photos(tmp_path):
    """A folder of class folders without a test part, of which some images become one."""
    for shade in range(12):
        for at, label in enumerate(models.LABELS):
            (tmp_path / "photos" / label).mkdir(parents=True, exist_ok=True)
            pixels = np.full((32, 32, 3), 10 + shade, np.uint8)
            pixels[..., at] = 200
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{shade:02}.bmp")
    return tmp_path / "photos"


def by_name(path, **training):
    """Write a model that tells the colours apart, its classes in the order of their names, as folders are."""
    order = sorted(range(3), key=lambda label: models.LABELS[label])
    weights = numpy_helper.from_array(np.ascontiguousarray(np.eye(3, dtype=np.float32)[:, order] / 16), "weights")
    contract = models.contract(labels=sorted(models.LABELS), training=training)
    path.write_bytes(models.content(models.graph(tensors=[weights]), contract))
    return path


def trained_on(dataset, **seed):
    """Return what a file tells of its training on ``dataset``."""
    facts = {name: getattr(dataset, name) for name in ("name", "fingerprint", "split_by", "split_seed")}
    return {"train": {"seed": 3} | seed, "data": facts}


def write_run(tmp_path, dataset, **data):
    """Write the record of a run on ``dataset``, whose weights nobody gets to read."""
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    model, train = ModelConfig(classes=3), TrainConfig(seed=3)
    job = Job(recipe="seed", model=model, train=train)
    record = RUNNING | {"model": model.to_json(), "train": train.to_json()}
    (folder / "run.json").write_text(json.dumps(record | {"data": DataRecord.of(job, dataset).to_json() | data}))
    (folder / "best.weights.h5").touch()
    return folder


def test_a_file_is_scored_on_the_test_part_that_its_training_left_out(evaluate, photos, tmp_path):
    """Whatever the seed of the training: the library divides a folder before anybody tells it that seed."""
    dataset = load_dataset(photos, seed=8)
    model = by_name(tmp_path / "model.onnx", **trained_on(dataset))
    code, said, _ = evaluate(model, "--data", photos, "--json")
    assert (code, json.loads(said)["data"]) == (
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


def test_a_file_of_an_earlier_version_is_scored_on_the_test_part_of_that_version(evaluate, photos, tmp_path):
    dataset = load_dataset(photos, seed=3, split_by="position")
    told = {"train": {"seed": 3}, "data": {"name": "photos", "fingerprint": dataset.fingerprint}}
    code, said, _ = evaluate(by_name(tmp_path / "model.onnx", **told), "--data", photos, "--json")
    assert (code, json.loads(said)["data"]["same_as_run"]) == (0, True)


def test_images_that_changed_since_the_training_are_refused(fails, photos, tmp_path):
    folder = write_run(tmp_path, load_dataset(photos, seed=8))
    (photos / "red" / "00.bmp").unlink()
    message = fails(folder)
    assert message.startswith(f"photos has changed since {folder} was trained: its fingerprint is ")
    assert message.endswith("restore it, or name the images to evaluate on with --data, or others with --images")


def test_a_second_model_that_was_trained_on_another_division_of_the_folder_is_refused(fails, photos, tmp_path):
    folder = write_run(tmp_path, load_dataset(photos, seed=8))
    model = by_name(tmp_path / "model.onnx", **trained_on(load_dataset(photos, seed=9)))
    assert f" test images of photos are training images of {folder}" in fails(model, folder, "--data", photos)
    message = fails(folder, model, "--data", photos)
    assert message.startswith(f"{model} was trained on another split of photos, perhaps on these test images")


def test_the_note_about_other_images_names_the_model_that_was_trained_on_others(evaluate, photos, tmp_path):
    earlier = by_name(tmp_path / "earlier.onnx", **trained_on(load_dataset(photos)))
    (photos / "red" / "00.bmp").unlink()
    model = by_name(tmp_path / "model.onnx", **trained_on(load_dataset(photos)))
    code, _, talk = evaluate(model, earlier, "--data", photos)
    assert code == 0
    assert f"photos is not, or no longer, what {earlier} was trained on" in talk


def test_other_images_that_were_named_are_scored_and_told_to_be_others(evaluate, photos, tmp_path):
    model = by_name(tmp_path / "model.onnx", **trained_on(load_dataset(photos)))
    (photos / "red" / "00.bmp").unlink()
    code, said, talk = evaluate(model, "--data", photos, "--json")
    told = json.loads(said)["data"]
    assert (code, told["source"], told["same_as_run"]) == (0, str(photos), False)
    assert f"photos is not, or no longer, what {model} was trained on" in talk
    images = paint(tmp_path / "new", red=["red", "red"], blue=["blue"])
    told = json.loads(evaluate(model, "--images", images, "--json")[1])["data"]
    assert (told["source"], told["name"], told["images"], told["same_as_run"]) == (str(images), "new", 3, False)
    told = json.loads(evaluate(model, model, "--images", images, "--json")[1])["data"]
    assert (told["images"], told["same_as_run"]) == (3, False)


# What is refused


def test_models_of_other_classes_are_not_compared(fails, model, tmp_path):
    other = write_model(tmp_path / "other.onnx", labels=["red", "green", "violet"])
    message = fails(model, other, "--images", paint(tmp_path / "images", red=["red"]))
    assert f"{other} has the classes red, green, violet; expected red, green, blue as {model}" in message


def test_folders_that_are_no_class_of_the_model(fails, model, tmp_path):
    (tmp_path / "images" / "violet").mkdir(parents=True)
    assert "has the class folders violet; expected some of red, green, blue" in fails(
        model, "--images", tmp_path / "images"
    )


def test_a_folder_without_images(fails, model, tmp_path):
    (tmp_path / "images" / "red").mkdir(parents=True)
    assert "has no images in class folders" in fails(model, "--images", tmp_path / "images")


def test_a_folder_that_is_missing(fails, model, tmp_path):
    assert "is no folder; expected one with a subfolder" in fails(model, "--images", tmp_path / "nowhere")


def test_a_file_that_does_not_tell_what_it_was_trained_on(fails, model):
    assert "does not name its training data" in fails(model)


@pytest.mark.parametrize("seed", ["x", 1.5, [1], True, -1, None])
def test_a_file_with_a_seed_that_is_none(fails, tmp_path, seed):
    told = write_model(tmp_path / "odd.onnx", training=ORIGIN | {"train": {"seed": seed}})
    assert "does not name its training data" in fails(told, "--data", "synthetic")


def test_a_file_that_was_trained_on_images_that_are_elsewhere(fails, tmp_path):
    model = write_model(tmp_path / "model.onnx", training=ORIGIN)
    assert "the model was trained on photos, which is not known here; expected --data with its place" in fails(model)


def test_data_of_other_classes_than_the_model(fails, tmp_path):
    model = write_model(tmp_path / "model.onnx", training=ORIGIN)
    assert "has the classes horizontal stripes" in fails(model, "--data", "synthetic")


def test_more_models_than_two(fails, model):
    assert fails(model, model, model) == "3 models were given; expected one, or two to compare: leave some out"


def test_two_kinds_of_images_at_once(fails, model):
    assert "--data and --images were both given" in fails(model, "--data", "synthetic", "--images", "x")


def test_a_backend_for_a_file_that_needs_none(fails, model):
    assert "runs in onnxruntime; expected no --backend" in fails(model, "--backend", "jax")


def test_a_model_file_that_is_missing(fails, tmp_path):
    assert "cannot be read (No such file or directory)" in fails(tmp_path / "never.onnx")


def test_models_of_other_data_are_compared_on_images_that_are_named_alone(fails, tmp_path):
    first = write_model(tmp_path / "a.onnx", training=ORIGIN)
    other = ORIGIN | {"data": {"name": "photos", "fingerprint": "1" * 64}}
    second = write_model(tmp_path / "b.onnx", training=other)
    assert "was trained on other images than" in fails(first, second)


ODD = ("a" * 250, 'with, "quotes" and it\'s', "two\nlines \x1b[2J \u202eleft")
"""Class names that are long, or that would break a table's lines."""


def test_class_names_are_shortened_and_escaped_in_every_table(evaluate, tmp_path):
    model = write_model(tmp_path / "odd.onnx", labels=list(ODD))
    photos = tmp_path / "photos"
    for index, label in enumerate(ODD):
        (photos / label).mkdir(parents=True)
        wrong = [*COLOURS.values()][index - 1]
        Image.fromarray(np.full((40, 40, 3), wrong, np.uint8)).save(photos / label / "0.png")
    for models_ in ((model,), (model, model)):
        code, said, _ = evaluate(*models_, "--images", photos)
        assert code == 0
        assert all(line.isprintable() for line in said.splitlines())
        assert max(map(len, said.splitlines())) < 2 * 40 + 60
    code, said, _ = evaluate(model, "--images", photos)
    assert f"{'a' * 39}…  " in said
    assert 'with, "quotes" and it\'s  ' in said
    assert r"two\nlines \x1b[2J \u202eleft  " in said


def test_a_class_without_images_is_named_in_short(evaluate, tmp_path):
    model = write_model(tmp_path / "odd.onnx", labels=["red", "green", "b" * 250])
    _, _, talk = evaluate(model, "--images", paint(tmp_path / "photos", red=["red"], green=["green"]))
    assert talk[-2] == f"no images of {'b' * 39}…: metrics that need them are omitted"
