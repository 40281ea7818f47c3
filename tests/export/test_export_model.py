"""Export of Keras models that this package did not build."""

import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import cifarnet
from cifarnet.data.class_folders import open_labeled_images
from cifarnet.errors import CifarnetError, DataError, ModelError, ParityError, RunError, UsageError
from cifarnet.evaluation.scoring import softmax
from cifarnet.evaluation.target import file_target, open_images
from cifarnet.export import export_model as exporting
from cifarnet.export.writer import write_graph
from cifarnet.run.exported import require_own_export

layers = keras.layers
SHAPE = (12, 10, 3)
NAMES = ["red", "green", "blue"]


def images(count: int, seed: int = 0):
    """Return noise images with one brighter channel, and the index of that channel."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    pixels = rng.integers(0, 200, (count, *SHAPE))
    pixels[np.arange(count), :, :, labels] += 40
    return pixels.astype(np.uint8), labels


def classifier(*last, seed: int = 0):
    keras.utils.set_random_seed(seed)
    first = [keras.Input(SHAPE), layers.Rescaling(1 / 255), layers.Conv2D(6, 3, strides=2, activation="silu")]
    return keras.Sequential([*first, layers.GlobalAveragePooling2D(), *last])


@pytest.fixture(scope="module")
def model():
    trained = classifier(layers.Dense(3, activation="softmax"))
    trained.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    trained.fit(*images(600, seed=1), epochs=6, batch_size=30, verbose=0)
    return trained


def test_the_file_classifies_as_keras_does_and_describes_itself(model, tmp_path):
    pixels, labels = images(90)
    exported = cifarnet.export_model(model, tmp_path / "model.onnx", pixels, labels, class_names=NAMES)
    assert exported.parity.accuracy > 0.6
    opened = cifarnet.Classifier(exported.path)
    np.testing.assert_allclose(opened.probabilities(pixels), model.predict(pixels, verbose=0), rtol=0, atol=1e-5)
    assert (opened.labels, opened.temperature, opened(pixels[0]).confidence) == (tuple(NAMES), None, None)
    assert opened.contract["proof"]["images"] == 90
    assert set(opened.contract["outputs"]) == {"logits", "probabilities"}
    assert json.loads((tmp_path / "model.parity.json").read_text())["sha256"] == exported.sha256
    assert json.loads((tmp_path / "model.json").read_text()) == opened.contract


def test_with_validation_images_the_file_has_calibrated_probabilities(model, tmp_path):
    path = tmp_path / "model.onnx"
    cifarnet.export_model(model, path, *images(90), class_names=NAMES, validation=images(200, seed=2))
    opened = cifarnet.Classifier(path)
    assert opened.contract["calibration"]["images"] == 200
    assert opened.temperature != 1
    pixels = images(5)[0]
    expected = softmax(opened.logits(pixels), opened.temperature)
    np.testing.assert_allclose(opened.calibrated(pixels), expected, rtol=0, atol=1e-6)


def test_a_model_of_logits_is_compared_by_them_too(tmp_path):
    model = classifier(layers.Dense(3))
    exported = cifarnet.export_model(
        model, tmp_path / "model.onnx", *images(20), class_names=NAMES, validation=images(60, seed=2)
    )
    assert all(check.logit_difference < 1e-4 for check in exported.parity.checks)
    assert all(check.calibrated_difference < 1e-5 for check in exported.parity.checks)


def test_one_sigmoid_becomes_two_classes_and_labels_may_be_a_column(tmp_path):
    model = classifier(layers.Dense(1, activation="sigmoid"))
    pixels, labels = images(20)
    path = tmp_path / "model.onnx"
    cifarnet.export_model(model, path, pixels, (labels > 0)[:, None].astype("uint8"), class_names=["no", "yes"])
    second = model.predict(pixels, verbose=0)
    expected = np.concatenate([1 - second, second], axis=1)
    np.testing.assert_allclose(cifarnet.Classifier(path).probabilities(pixels), expected, rtol=0, atol=1e-6)


def test_a_file_of_another_network_is_refused_and_an_earlier_export_stays(model, tmp_path, monkeypatch):
    path, other = tmp_path / "model.onnx", classifier(layers.Dense(3, activation="softmax"), seed=1)
    before = cifarnet.export_model(model, path, *images(20), class_names=NAMES).sha256
    monkeypatch.setattr(exporting, "write_graph", lambda _, **settings: write_graph(other, **settings))
    with pytest.raises(ParityError, match="no file was written"):
        cifarnet.export_model(model, path, *images(20), class_names=NAMES)
    assert cifarnet.Classifier(path).contract["labels"] == NAMES
    assert json.loads((tmp_path / "model.parity.json").read_text())["sha256"] == before
    assert len(list(tmp_path.iterdir())) == 4  # with the lock


SCALED = images(8)[0] / 255


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"images": SCALED}, DataError, "the images are float64 (8, 12, 10, 3); expected a uint8 array (n, 12, 10, 3)"),
        ({"images": images(8)[0][:, :10]}, DataError, "the images are uint8 (8, 10, 10, 3)"),
        ({"images": images(8)[0].tolist()}, DataError, "the images are list"),
        ({"images": images(8)[0][:0], "labels": []}, DataError, "the images are uint8 (0, 12, 10, 3)"),
        ({"labels": [0, 1]}, DataError, "expected integers (8,), one for each image"),
        ({"labels": [0.0] * 8}, DataError, "the labels are float64 (8,)"),
        ({"labels": [3] * 8}, DataError, "the labels are 3 to 3; expected 0 to 2"),
        ({"class_names": ["red", "green"], "labels": [0] * 8}, ModelError, "the model has 3 classes; expected 2"),
        ({"class_names": ["red", "red", "blue"]}, DataError, "class_names has two classes 'red'"),
        (
            {"class_names": {"red", "green", "blue"}},
            DataError,
            "class_names is of type set; expected a list of names in the",
        ),
        ({"class_names": {"red": 2, "green": 0, "blue": 1}}, DataError, "class_names is of type dict; expected a list"),
        ({"class_names": "rgb"}, DataError, "class_names is 'rgb'; expected a list"),
        ({"class_names": None}, DataError, "class_names is None; expected a list"),
        ({"labels": [[0], [1, 2]]}, DataError, "expected integers (8,), one for each image"),
        ({"validation": 5}, DataError, "validation is not a pair"),
        ({"validation": images(8)}, DataError, "8 of the 8 test images are validation images too"),
        ({"path": "model.txt"}, UsageError, "expected a name that ends in .onnx"),
        ({"path": "two\0parts.onnx"}, UsageError, "expected the path of a file: give another name"),
        ({"validation": (SCALED, [0] * 8)}, DataError, "expected a uint8 array"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line_before_anything_is_written(
    model, tmp_path, monkeypatch, changes, kind, message
):
    monkeypatch.chdir(tmp_path)
    pixels, labels = images(8)
    settings = {"path": "model.onnx", "images": pixels, "labels": labels, "class_names": NAMES} | changes
    with pytest.raises(kind, match=re.escape(message)) as error:
        cifarnet.export_model(model, **settings)
    assert isinstance(error.value, CifarnetError)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*"))


def test_the_model_of_a_run_is_not_replaced(model, run, tmp_path):
    with pytest.raises(UsageError, match="a run folder, whose model is that of the run; expected another folder"):
        cifarnet.export_model(model, run.model, *images(8), class_names=NAMES)
    path = cifarnet.export_model(model, tmp_path / "mine.onnx", *images(8), class_names=NAMES).path
    shutil.copy(path, run.model)
    with pytest.raises(RunError, match="is not the export of a run: it does not name its training"):
        require_own_export(run)


def test_a_file_without_training_data_is_evaluated_on_images_of_its_size(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels, labels = images(30)
    cifarnet.export_model(model, "mine.onnx", pixels, labels, class_names=NAMES)
    target = file_target(Path("mine.onnx"))
    with pytest.raises(DataError, match=r"mine\.onnx does not name its training data, like every file of export_model"):
        open_images(target, None)
    for index, image in enumerate(pixels):
        folder = tmp_path / "photos" / NAMES[labels[index]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    dataset = open_labeled_images("photos", target.labels, shape=target.image_shape)
    assert dataset.test.images.shape == (30, *SHAPE)
    expected = (model.predict(pixels, verbose=0).argmax(axis=1) == labels).mean()
    assert target.evaluate(dataset.test).accuracy == pytest.approx(expected)
    with pytest.raises(
        DataError, match=r"images of shape \(32, 32, 3\); expected \(.*the input of mine\.onnx: .*--images"
    ):
        open_images(target, "photos")


def test_early_stopping_is_that_of_the_recipe():
    callback = cifarnet.early_stopping()
    assert (callback.monitor, callback.min_delta, callback.patience) == ("val_loss", 1e-3, 20)
    assert callback.restore_best_weights
