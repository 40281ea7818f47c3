"""Training, resuming and reading results from Python give the same as the commands."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifarnet.backends import choose

choose()

import keras  # noqa: E402  # after the backend is chosen

import cifarnet  # noqa: E402
from cifarnet import pretrained  # noqa: E402
from cifarnet.data import synthetic  # noqa: E402
from cifarnet.errors import ConfigError, DataError  # noqa: E402
from tests.records import document  # noqa: E402

MODEL = cifarnet.ModelConfig(filters=(4,), dense_units=(8,), classes=3)
TRAIN = cifarnet.TrainConfig(epochs=2)
RNG = np.random.default_rng(0)


def arrays(count):
    """Return images and labels as `keras.datasets` does."""
    return RNG.integers(0, 256, (count, 16, 16, 3), np.uint8), (np.arange(count) % 3)[:, None]


@pytest.fixture(scope="module")
def dataset():
    return cifarnet.Dataset.from_arrays(arrays(60), arrays(12), ["a", "b", "c"])


def small_train(dataset, runs, **changes):
    model = replace(MODEL, image_shape=dataset.train.images.shape[1:])
    return cifarnet.train(dataset, "seed", runs=runs, model_config=model, train_config=TRAIN, **changes)


class Epochs(cifarnet.Observer):
    """Overrides what it wants to know."""

    seen = ()

    def on_epoch(self, record, progress):
        self.seen += (record.epoch,)


def test_a_training_prints_nothing_and_is_continued_where_it_stopped(dataset, tmp_path, capfd):
    run, observer = small_train(dataset, tmp_path, stop=lambda: True), Epochs()
    assert (run.record.status, run.record.why_stopped) == ("interrupted", "interrupted")
    assert cifarnet.resume(run, dataset, observer=observer) == run
    assert observer.seen == (1, 2)
    assert (run.record.status, run.record.epochs) == ("finished", 2)
    probabilities = np.asarray(run.load_model().predict(dataset.test.images, verbose=0))
    accuracy = np.mean(probabilities.argmax(axis=1) == dataset.test.labels)
    np.testing.assert_allclose(run.record.metrics.test.accuracy, accuracy)
    assert capfd.readouterr() == ("", "")


def test_the_example_trains_on_every_class_of_a_sorted_folder_and_exports(tmp_path, monkeypatch, capsys):
    for label in ("cat", "dog", "emu"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index, image in enumerate(arrays(20)[0]):
            Image.fromarray(image).save(tmp_path / "photos" / label / f"{index}.bmp")
    fitted, fit = {}, keras.Model.fit

    def watched(*given, **options):
        fitted.update(options, y=given[2])
        return fit(*given, **options)

    monkeypatch.setattr(keras.Model, "fit", watched)
    arguments = ["--data", tmp_path / "photos", "--epochs", 1, "--output", tmp_path / "model.onnx"]
    monkeypatch.setattr(sys, "argv", ["keras_fit.py", *map(str, arguments)])
    runpy.run_path(str(Path(__file__).parents[1] / "examples" / "keras_fit.py"))
    trained = int(len(fitted["y"]) * (1 - fitted["validation_split"]))  # as Keras divides
    assert set(fitted["y"][:trained]) == set(fitted["y"][trained:]) == {0, 1, 2}
    assert "model.onnx: test accuracy" in capsys.readouterr().out
    assert {each.name for each in tmp_path.iterdir()} >= {"model.onnx", "model.json", "model.parity.json"}


def test_a_training_from_a_run_has_its_recipe_its_seed_and_its_validation_split(dataset, tmp_path):
    settings = {"model_config": replace(MODEL, image_shape=(16, 16, 3)), "train_config": replace(TRAIN, seed=3)}
    origin = cifarnet.train(dataset, "seed", runs=tmp_path, **settings)
    with pytest.raises(ConfigError, match="the recipe is fast; expected seed, the recipe of "):
        cifarnet.train(dataset, runs=tmp_path, warm_start=origin)
    run = cifarnet.train(dataset, "seed", runs=tmp_path, warm_start=origin, max_minutes=0)
    assert (run.record.model, run.record.train) == (origin.record.model, cifarnet.TrainConfig(seed=3))
    assert run.record.hold_out == origin.record.hold_out
    assert run.record.warm_start.run == origin.path.name


def test_a_recipe_is_adapted_to_the_images_as_the_command_does(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cifarnet.training.train.resume", lambda run, *_, **__: run)
    run = cifarnet.train(cifarnet.load_dataset("synthetic"), "fast")
    assert typed("train", "--recipe", "fast", "--data", "synthetic")[0] == 0
    by_command = cifarnet.find_run(tmp_path / "runs")
    assert by_command.path.name != run.path.name
    for name in ("model", "train", "data", "hold_out", "recipe"):
        assert document(run)[name] == document(by_command)[name]
    assert run.record.train.batch_size < cifarnet.recipe("fast").train.batch_size


def test_a_dataset_without_test_images_is_refused_before_the_run_begins(tmp_path):
    untested = cifarnet.Dataset.from_arrays(arrays(60), arrays(0), ["a", "b", "c"])
    with pytest.raises(DataError, match="arrays has no test images; expected some"):
        small_train(untested, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_numbers_of_numpy_and_texts_for_paths_are_accepted(tmp_path):
    dataset = cifarnet.load_dataset("synthetic", seed=np.int64(3))
    train = cifarnet.TrainConfig(epochs=np.int64(1), seed=np.int64(3), learning_rate=np.float32(0.001))
    model = cifarnet.ModelConfig(filters=(np.int32(4),), dense_units=(np.uint8(8),))
    run = cifarnet.train(dataset, "seed", runs=str(tmp_path), model_config=model, train_config=train)
    assert (run.record.data.split_seed, run.record.train.seed) == (3, 3)
    exported = cifarnet.export_run(cifarnet.Run(str(run.path)), dataset, output=str(tmp_path / "model.onnx"))
    assert exported.path == tmp_path / "model.onnx"


def test_given_settings_are_used_as_they_are_whatever_the_recipe(dataset, tmp_path):
    fast = cifarnet.recipe("fast")
    model = replace(fast.model, filters=(4,), image_shape=(16, 16, 3), classes=3)
    run = cifarnet.train(dataset, "seed", runs=tmp_path, model_config=model, train_config=fast.train, max_minutes=0)
    assert run.record.settings == replace(fast, name="seed", model=model)
    assert cifarnet.find_run(str(tmp_path)) == run


def test_validation_images_that_are_copies_of_training_images_are_counted(tmp_path, dataset):
    images = dataset.train.images.copy()
    images[30:60] = images[:30]  # of the same classes
    copies = cifarnet.Dataset.from_arrays((images, dataset.train.labels), arrays(12), list("abc"))
    run = small_train(copies, tmp_path, max_minutes=0)
    assert 0 < run.record.hold_out.copies <= run.record.hold_out.validation
    assert "copies" not in document(small_train(dataset, tmp_path, max_minutes=0))["hold_out"]


def test_the_command_says_how_many_copies_there_are(typed, tmp_path, monkeypatch):
    monkeypatch.setattr("cifarnet.training.train.resume", lambda run, *_, **__: run)
    for part, label, number in ((part, label, n) for part in ("train", "test") for label in "ab" for n in range(10)):
        folder = tmp_path / "photos" / part / label
        folder.mkdir(parents=True, exist_ok=True)
        color = (len(part), ord(label), number // 2 if part == "train" else number)
        Image.new("RGB", (32, 32), color).save(folder / f"{number}.png")
    _, _, talk = typed("train", "--data", tmp_path / "photos", "--runs", tmp_path / "runs")
    copies = cifarnet.find_run(tmp_path / "runs").record.hold_out.copies
    assert f"note: {copies} validation images have the pixels of training images" in talk


def test_lists_become_arrays_and_arrays_of_another_kind_are_refused():
    images, labels = arrays(6)
    dataset = cifarnet.Dataset.from_arrays((list(images), labels.tolist()), (images, labels), list("abc"))
    np.testing.assert_array_equal(dataset.train.images, images)
    for train in (
        (images / 255, labels),
        (images[..., 0], labels),
        (images, labels / 2),
        (images, labels + 2**32),
        (images, labels[:5]),
    ):
        with pytest.raises(DataError, match="; expected "):
            cifarnet.Dataset.from_arrays(train, (images, labels), list("abc"))
    with pytest.raises(DataError, match="labels 0 to 2; expected 0 to 1"):
        cifarnet.Dataset.from_arrays((images, labels), (images, labels), ["a", "b"])


def test_a_dataset_of_arrays_is_the_one_of_its_splits():
    whole = synthetic(train=60, test=20)
    train, test = (whole.train.images, whole.train.labels), (whole.test.images, whole.test.labels.astype(np.uint8))
    assert cifarnet.Dataset.from_arrays(train, test, whole.labels).fingerprint == whole.fingerprint


def test_a_dataset_whose_fingerprint_is_known_is_not_changed_in_place(dataset):
    for part in (dataset.train, dataset.test, cifarnet.load_dataset("synthetic").test):
        for array in (part.images, part.labels):
            with pytest.raises(ValueError, match="read-only"):
                array[:] = 0


def test_the_order_of_arrays_in_memory_does_not_matter(dataset, tmp_path):
    def fortran(part):
        return np.asfortranarray(part.images), part.labels

    other = cifarnet.Dataset.from_arrays(fortran(dataset.train), fortran(dataset.test), list(dataset.labels))
    assert small_train(other, tmp_path).record.weights_sha256 == small_train(dataset, tmp_path).record.weights_sha256


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    return small_train(dataset, tmp_path_factory.mktemp("runs"), max_minutes=0)


MISTAKES = {
    "dataset is 'synthetic'; expected a Dataset: pass": lambda _: cifarnet.train("synthetic"),
    "recipe is of type Recipe; expected the name": lambda _: cifarnet.train(DATASET, cifarnet.recipe("seed")),
    "runs is ''; expected a path": lambda _: cifarnet.train(DATASET, runs=""),
    "train_config is of type dict; expected a TrainConfig": lambda _: cifarnet.train(DATASET, train_config={}),
    "stop is True; expected a function": lambda _: cifarnet.train(DATASET, stop=True),
    "max_minutes is '3'; expected a number of minutes": lambda _: cifarnet.train(DATASET, max_minutes="3"),
    "max_minutes is nan; expected": lambda _: cifarnet.train(DATASET, max_minutes=float("nan")),
    "max_minutes is -1; expected": lambda run: cifarnet.resume(run, DATASET, max_minutes=-1),
    "keep_test_images is 'yes'; expected True": lambda _: cifarnet.train(DATASET, keep_test_images="yes"),
    r"observer is of type function; expected a cifarnet\.Observer": lambda _: cifarnet.train(DATASET, observer=arrays),
    "observer is the class Observer; expected": lambda _: cifarnet.train(DATASET, observer=cifarnet.Observer),
    "warm_start is 'latest'; expected a Run": lambda _: cifarnet.train(DATASET, warm_start="latest"),
    "run is 'latest'; expected a Run: pass": lambda _: cifarnet.resume("latest", DATASET),
    "run is of type Dataset; expected a Run": lambda run: cifarnet.resume(DATASET, run),
    "run is of type .*Path; expected a Run": lambda run: cifarnet.export_run(run.path),
    "dataset is 'cifar10'; expected a Dataset": lambda run: cifarnet.export_run(run, "cifar10"),
    "max_drop is '1'; expected a fraction": lambda run: cifarnet.export_run(run, max_drop="1"),
    "views is True; expected 1, 2 or 6": lambda run: cifarnet.export_run(run, views=True),
    "path is None; expected a path": lambda _: cifarnet.export_model(None, None, [], [], class_names=[]),
    "path is of type Run; expected a path": cifarnet.import_weights,
    "model is None; expected a model file": lambda _: cifarnet.Classifier(None),
    "model is of type Run; expected a model file": cifarnet.Classifier,
    "threads is '2'; expected 1 to": lambda _: cifarnet.Classifier(threads="2"),
    "top is 1.5; expected 1 to 10": lambda _: cifarnet.Classifier()(PHOTO).top(1.5),
    "top is True; expected 1 to 10": lambda _: cifarnet.Classifier()(PHOTO).top(True),
    "seed is True; expected a whole number from 0": lambda _: cifarnet.load_dataset("synthetic", seed=True),
    "seed is 2147483648; expected a whole number": lambda _: cifarnet.load_dataset("synthetic", seed=2**31),
    "split_by is 'random'; expected one of": lambda _: cifarnet.load_dataset("synthetic", split_by="random"),
    "the source is ''; expected `cifar10`": lambda _: cifarnet.load_dataset(""),
    "the source is 3; expected `cifar10`": lambda _: cifarnet.load_dataset(3),
    "the source is of type ndarray; expected": lambda _: cifarnet.load_dataset(PHOTO),
    "progress is True; expected a function": lambda _: cifarnet.load_dataset("synthetic", progress=True),
    "train is of type ndarray; expected a pair": lambda _: cifarnet.Dataset.from_arrays(PHOTO, PHOTO, ["a", "b"]),
    "a split is of type tuple; expected a Split": lambda _: cifarnet.Dataset("a", (PHOTO, 1), (PHOTO, 1), ["a", "b"]),
    "root is None; expected a path": lambda _: cifarnet.find_run(None),
    "name is of type Run; expected a path": lambda run: cifarnet.find_run("runs", run),
    "the path of a run is ''; expected a path": lambda _: cifarnet.Run(""),
    r"there is no recipe named \['seed'\]; expected": lambda _: cifarnet.recipe(["seed"]),
    "settings is None; expected settings by name": lambda _: cifarnet.recipe("seed").changed(None),
    "there is no setting named 1, rate; expected": lambda _: cifarnet.recipe("seed").changed({1: 2, "rate": 3}),
    "dataset is 'x'; expected a Dataset: pass": lambda _: cifarnet.recipe("seed").for_dataset("x"),
    "given is 'epochs'; expected the names": lambda _: cifarnet.recipe("seed").for_dataset(DATASET, "epochs"),
    "image_shape is 64; expected": lambda _: cifarnet.recipe("seed").sized(64),
    "images is 0; expected a number": lambda _: cifarnet.recipe("fast").adapted_to(0),
    "train is None; expected a TrainConfig": lambda _: cifarnet.Recipe(name="mine", model=MODEL, train=None),
    "document is None; expected the fields": lambda _: cifarnet.TrainConfig.from_json(None),
    "config is of type dict; expected a ModelConfig": lambda _: cifarnet.build_model({}),
    "seed is -1; expected a whole number": lambda _: cifarnet.build_model(MODEL, seed=-1),
    "patience is '3'; expected a number of epochs": lambda _: cifarnet.early_stopping(patience="3"),
    "the images are of different sizes": lambda _: cifarnet.Dataset.from_arrays(
        ([PHOTO, PHOTO[1:]], [0, 1]), ([PHOTO], [0]), ["a", "b"]
    ),
}
DATASET = cifarnet.Dataset.from_arrays(arrays(60), arrays(12), ["a", "b", "c"])
PHOTO = np.zeros((32, 32, 3), np.uint8)


@pytest.mark.parametrize("message", MISTAKES)
def test_an_argument_of_the_wrong_type_is_a_one_line_error_and_nothing_is_written(message, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(cifarnet.CifarnetError, match=f"^{message}") as refused:
        MISTAKES[message](run)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_a_missing_argument_is_pythons_own_error():
    with pytest.raises(TypeError, match=r"build_model\(\) missing 1 required positional argument: 'config'"):
        cifarnet.build_model()


def test_a_classifier_accepts_numpy_numbers():
    prediction = cifarnet.Classifier(threads=np.int64(2))(PHOTO)
    assert prediction.top(np.int64(2)) == prediction.top(2)


def test_a_model_may_be_an_open_file():
    path = pretrained.MODEL
    with path.open("rb") as file:
        assert cifarnet.Classifier(file)(PHOTO) == cifarnet.Classifier(bytearray(path.read_bytes()))(PHOTO)


def test_a_run_with_its_test_images_is_exported_without_its_dataset(dataset, tmp_path):
    with pytest.raises(DataError, match="expected --data with its location, in Python dataset="):
        cifarnet.export_run(small_train(dataset, tmp_path))
    run = small_train(dataset, tmp_path, keep_test_images=True)
    assert cifarnet.export_run(run).parity.images == len(dataset.test)


def test_a_run_of_a_relative_path_stays_the_same_in_another_folder(dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = small_train(dataset, "runs", max_minutes=0)
    found, named = cifarnet.find_run("runs"), cifarnet.Run(f"runs/{run.path.name}")
    assert str(run) == f"runs/{run.path.name}"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert run == found == named
    assert str(run) == str(run.path)
    cifarnet.resume(run, dataset)
    assert cifarnet.export_run(run, dataset).path == run.model
