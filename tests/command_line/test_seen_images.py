"""Training images of a model are recognized by their pixels, and never evaluated as new ones."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.data import load_dataset
from cifarnet.dataset import Dataset
from cifarnet.errors import ConfigError, RunError
from cifarnet.evaluation.reproduce import reproduce
from cifarnet.export.export_run import export_run
from cifarnet.model.network import build_model
from cifarnet.model.weights import save_weights
from cifarnet.recipes import Recipe
from cifarnet.run.exported import run_beside
from cifarnet.run.folder import Run
from cifarnet.runtime import read_model
from cifarnet.training.begin import begin
from cifarnet.training.warm_start import warm_start_from
from tests.photos import make_noise
from tests.records import document, put

JOB = Recipe(
    name="seed",
    model=ModelConfig(filters=(4,), dense_units=(8,), classes=2),
    train=TrainConfig(validation_fraction=0.3),
)


def begun(source, root, *, seed=0, warm_start=None, size=32):
    """Create a run with weights, as if it had been trained."""
    job = JOB.changed({"seed": seed}).sized((size, size, 3))
    dataset = source if isinstance(source, Dataset) else load_dataset(source, seed=seed, image_size=size)
    run = begin(job, dataset, root, warm_start=warm_start)
    save_weights(build_model(job.model), run.best_weights, 1)
    put(run, document(run) | {"status": "finished", "best_epoch": 1, "why_stopped": "epochs", "epochs": 1})
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with ``photos`` and a run that began with them, with an exported model."""
    folder = tmp_path_factory.mktemp("whole")
    run = begun(make_noise(folder / "photos"), folder / "runs")
    export_run(run, load_dataset(folder / "photos"))
    return folder


@pytest.fixture
def trained(whole, tmp_path):
    """Return that run, in a copy of the folder to work in."""
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True, symlinks=True)
    run = Run(tmp_path / "runs" / (tmp_path / "runs" / "latest").readlink())
    record = document(run)
    put(run, record | {"data": record["data"] | {"source": str(tmp_path / "photos")}})
    return run


def resaved(folder, copy):
    """Copy a folder with the same pixels under other names, in files with other bytes."""
    for path in sorted(folder.rglob("*.png")):
        (copy / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(path).save(copy / path.parent.name / f"copy of {path.stem}.bmp")
    return copy


def moved(folder, place):
    folder.rename(place)
    return place


def linked(folder, link):
    link.symlink_to(folder)
    return link


def copied(folder, copy):
    return Path(shutil.copytree(folder, copy))


def last_line(run, *arguments):
    code, stdout, stderr = run(*arguments)
    assert (code, stdout) == (1, ""), stderr
    return stderr[-1]


FILE = "runs/latest/model.onnx"


@pytest.mark.parametrize(("model", "again"), [("latest", resaved), (FILE, linked)])
def test_a_folder_with_training_images_is_not_evaluated(run, trained, tmp_path, model, again):
    known = len(load_dataset(tmp_path / "photos").train)
    other = again(tmp_path / "photos", tmp_path / "other")
    message = last_line(run, "evaluate", model, "--images", other)
    assert f"error: {known} of the 30 test images of {other.resolve().name} are training images of " in message
    assert message.endswith("name a folder of others")


@pytest.mark.parametrize(("model", "command"), [(FILE, "evaluate"), ("latest", "robustness")])
def test_a_copy_with_another_split_is_not_evaluated(run, trained, tmp_path, model, command):
    other = resaved(tmp_path / "photos", tmp_path / "other")
    test = len(load_dataset(other).test)
    assert f" of the {test} test images of other are training images of " in last_line(
        run, command, model, "--data", other
    )


@pytest.mark.parametrize(("model", "again"), [("latest", moved), (FILE, copied)])
def test_the_test_split_is_evaluated_at_any_location(run, trained, tmp_path, model, again):
    other = again(tmp_path / "photos", tmp_path / "other")
    code, stdout, stderr = run("evaluate", model, "--data", other, "--json")
    assert code == 0, stderr
    shown = json.loads(stdout)["data"]
    assert (shown["same_as_run"], shown["unseen"]) == (True, True)


def test_added_images_do_not_change_the_test_split(run, trained, tmp_path):
    extra = make_noise(tmp_path / "more", seed=1) / "cat" / "0.png"
    extra.rename(tmp_path / "photos" / "cat" / "new.png")
    code, stdout, stderr = run("evaluate", FILE, "--data", "photos", "--json")
    assert code == 0, stderr
    shown = json.loads(stdout)["data"]
    assert (shown["same_as_run"], shown["unseen"]) == (False, True)


def test_the_training_images_of_a_model_file_alone_are_unknown(run, trained, tmp_path):
    shutil.copy(trained.model, tmp_path / "alone.onnx")
    code, stdout, stderr = run("evaluate", "alone.onnx", "--images", "photos", "--json")
    assert (code, json.loads(stdout)["data"]["unseen"]) == (0, None)
    assert "note: the training images of alone.onnx are unknown; metrics on them would be too optimistic" in stderr
    (tmp_path / "photos" / "cat" / "0.png").unlink()
    code, stdout, stderr = run("robustness", "alone.onnx", "--data", "photos", "--json")
    assert (code, json.loads(stdout)["data"]["unseen"]) == (0, None)
    assert "note: the training images of alone.onnx are unknown; metrics on them would be too optimistic" in stderr


def test_a_model_file_in_the_folder_of_another_run_does_not_belong_to_it(run, trained, tmp_path):
    other = begun(make_noise(tmp_path / "others", seed=1), tmp_path / "runs")
    shutil.copy(trained.model, other.path / "model.onnx")
    message = last_line(run, "evaluate", other.path / "model.onnx")
    assert "the model was trained on photos, whose location is unknown" in message


def test_a_run_of_an_earlier_version_is_checked_with_its_own_images(run, trained, tmp_path):
    (trained.path / "seen.npy").unlink()
    other = resaved(tmp_path / "photos", tmp_path / "other")
    assert "are training images of" in last_line(run, "evaluate", "--images", other)
    (tmp_path / "photos" / "cat" / "0.png").unlink()
    code, stdout, stderr = run("evaluate", "--images", other, "--json")
    assert (code, json.loads(stdout)["data"]["unseen"]) == (0, None)
    assert stderr[-1].startswith("note: the training images of ")


def test_a_damaged_list_of_images_is_refused(run, trained, tmp_path):
    for content in (b"", np.zeros(3).tobytes()):
        (trained.path / "seen.npy").write_bytes(content)
        message = last_line(run, "evaluate", "--images", tmp_path / "photos")
        assert f"runs/{trained.path.name}/seen.npy is damaged" in message


# A training that starts from another


@pytest.mark.parametrize("again", [resaved, moved])
def test_no_training_image_of_the_weights_is_held_out(run, trained, tmp_path, again):
    other = again(tmp_path / "photos", tmp_path / "other")
    message = last_line(run, "train", "--data", other, "--from", "latest", "--seed", "5")
    assert "validation and test images were trained on by " in message
    assert message.endswith(
        "the images of that run with its split_seed, seed and validation_fraction, or train from scratch"
    )
    assert [path.name for path in (tmp_path / "runs").glob("2*")] == [trained.path.name]


def test_the_images_are_divided_as_for_the_run_to_start_from(run, trained, tmp_path):
    """The run ``other`` has another seed than its test split, as the second run of ``cifarnet compare --seeds 2``."""
    other = begun(load_dataset(tmp_path / "photos", seed=0), tmp_path / "runs", seed=1)
    code, _, stderr = run("train", "--data", "photos", "--from", other.path, "--max-minutes", "0", "--json")
    assert code == 0, stderr
    record = document(Run(tmp_path / "runs" / "latest"))
    assert (record["seed"], record["data"]["split_seed"]) == (1, 0)
    assert record["data"]["fingerprint"] == document(other)["data"]["fingerprint"]


def test_a_grown_folder_is_refused_with_the_reason_and_what_to_do(run, trained, tmp_path):
    extra = make_noise(tmp_path / "more", seed=1) / "cat" / "0.png"
    extra.rename(tmp_path / "photos" / "cat" / "00.png")
    message = last_line(run, "train", "--data", "photos", "--from", "latest")
    assert "adding images to its folder changes its validation split" in message
    assert "use a folder of new images" in message


def test_the_same_split_is_allowed_at_any_location(trained, tmp_path):
    (tmp_path / "photos").rename(tmp_path / "other")
    dataset = load_dataset(tmp_path / "other")
    first = begun(dataset, tmp_path / "runs", warm_start=warm_start_from(trained))
    begun(dataset, tmp_path / "runs", warm_start=warm_start_from(first))


def test_test_images_with_the_pixels_of_training_images_are_named(run, tmp_path):
    for part in ("train", "test"):
        make_noise(tmp_path / "split" / part)
    message = last_line(run, "train", "--data", "split")
    assert "error: 30 of the 30 test images of split have the pixels of training images: test/cat/0.png, " in message
    assert message.endswith("remove them or their copies")


def test_a_folder_beside_the_splits_is_noted_as_not_used(run, tmp_path):
    for seed, part in enumerate(("train", "test", "dev")):
        make_noise(tmp_path / "split" / part, seed)
    code, _, stderr = run("train", "--data", "split", "--max-minutes", "0")
    assert code == 0
    assert any("recipe fast, data split" in line for line in stderr)  # the default for images of your own
    assert any(line.startswith("note: dev/ is not used: images are read from train/, test/") for line in stderr)


def test_training_images_are_passed_on_through_two_warm_starts(trained, tmp_path):
    between = begun(make_noise(tmp_path / "others", seed=1), tmp_path / "runs", warm_start=warm_start_from(trained))
    other = resaved(tmp_path / "photos", tmp_path / "other")
    with pytest.raises(ConfigError, match=rf"were trained on by {between.path.name} or a run before it; exp"):
        begun(other, tmp_path / "runs", seed=5, warm_start=warm_start_from(between))
    begun(make_noise(tmp_path / "third", seed=2), tmp_path / "runs", warm_start=warm_start_from(between))


def test_training_images_are_recognized_through_a_run_of_another_size(trained, tmp_path):
    place, others = tmp_path / "runs", make_noise(tmp_path / "others", seed=1)
    between = begun(others, place, warm_start=warm_start_from(trained), size=64)
    assert between.record.warm_start.other_shapes == ((32, 32, 3),)
    other = resaved(tmp_path / "photos", tmp_path / "other")
    for size in (32, 64, 96):
        with pytest.raises(ConfigError, match=rf"were trained on by {between.path.name} or a run before it; exp"):
            begun(other, place, seed=5, warm_start=warm_start_from(between), size=size)
    last = begun(make_noise(tmp_path / "third", seed=2), place, warm_start=warm_start_from(between))
    assert last.record.warm_start.other_shapes == ((64, 64, 3),)


def test_weights_of_an_earlier_version_are_noted_as_unknown(run, trained):
    seen = [{"source": "/s", "data": "d", "hold_out": "h", "seed": 0, "validation_fraction": 0.1}]
    started = {"warm_start": {"run": "earlier", "weights_sha256": "0" * 64, "seen": seen}}
    put(trained, document(trained) | started)
    trained.seen.unlink()
    code, stdout, stderr = run("evaluate", "latest", "--json")
    assert (code, json.loads(stdout)["data"]["unseen"]) == (0, None)
    assert "are unknown; metrics on them would be too optimistic" in stderr[-1]
    code, _, stderr = run("train", "--data", "photos", "--from", "latest", "--validation-fraction", "0.5")
    note = f"note: the training images of {trained.path.name} are unknown; metrics on them would be too optimistic"
    assert (code, note in stderr) == (1, True)
    assert "validation and test images were trained on by" in stderr[-1]  # as their fingerprint tells


def test_a_warm_start_from_unknown_images_writes_no_incomplete_list(trained, tmp_path):
    trained.seen.unlink()
    (tmp_path / "photos").rename(tmp_path / "gone")
    later = begun(make_noise(tmp_path / "others", seed=1), tmp_path / "runs", warm_start=warm_start_from(trained))
    assert not later.seen.exists()
    assert warm_start_from(later).seen is None


# Moved images, and folders of runs


@pytest.mark.parametrize(
    "command", [("evaluate",), ("evaluate", "runs/latest/model.onnx"), ("report",), ("robustness",), ("export",)]
)
def test_errors_about_moved_or_changed_images_name_the_option(run, trained, tmp_path, command):
    (tmp_path / "photos" / "cat" / "0.png").unlink()
    changed = last_line(run, *command)
    (tmp_path / "photos").rename(tmp_path / "elsewhere")
    missing = last_line(run, *command)
    assert f"the model was trained on {tmp_path / 'photos'}, which was not found; expected --data with its " in missing
    for message in (changed, missing):
        assert "--data" in message
        assert ("--images" in message) == (command[0] == "evaluate")


@pytest.mark.parametrize("runs", [".", "../link/cat/runs"])
def test_no_run_is_created_inside_the_images(run, tmp_path, monkeypatch, runs):
    photos = make_noise(tmp_path / "photos")
    (tmp_path / "link").symlink_to("photos")
    monkeypatch.chdir(photos)
    before = sorted(photos.rglob("*"))
    message = last_line(run, "train", "--data", ".", "--runs", runs, "--epochs", "1")
    assert message.endswith(
        f"inside the images in {photos}; expected another folder: name one (--runs, in Python runs=)"
    )
    assert sorted(photos.rglob("*")) == before


def test_no_model_is_written_inside_the_images(run, trained, tmp_path):
    before = sorted((tmp_path / "photos").rglob("*"))
    message = last_line(run, "export", "--output", "photos/deploy/model.onnx")
    assert "inside the images in" in message
    assert sorted((tmp_path / "photos").rglob("*")) == before
    moved(tmp_path / "photos", tmp_path / "elsewhere")
    message = last_line(run, "export", "--data", "elsewhere", "--output", "elsewhere/deploy/model.onnx")
    assert "inside the images in" in message
    assert not (tmp_path / "elsewhere" / "deploy").exists()


def test_no_repetition_is_created_inside_the_images(trained, tmp_path):
    photos = tmp_path / "photos"
    with pytest.raises(
        RunError, match=rf"inside the images in {photos}; expected another folder: name one \(--output\)"
    ):
        reproduce(trained, load_dataset(photos), photos / "again", None)
    assert not (photos / "again").exists()


def test_a_run_is_resumed_where_its_images_are_now(run, tmp_path):
    make_noise(tmp_path / "photos")
    arguments = ("--recipe", "seed", "--epochs", "1", "--batch-size", "8", "--validation-fraction", "0.3")
    assert run("train", "--data", "photos", "--max-minutes", "0", *arguments)[0] == 0
    moved(tmp_path / "photos", tmp_path / "elsewhere")
    message = last_line(run, "train", "--resume", "latest")
    assert f"the model was trained on {tmp_path / 'photos'}, which was not found; expected --data with its " in message
    make_noise(tmp_path / "others", seed=1)
    assert "as when the run began: restore" in last_line(run, "train", "--resume", "latest", "--data", "others")
    code, _, stderr = run("train", "--resume", "latest", "--data", "elsewhere")
    record = document(Run(tmp_path / "runs" / "latest"))
    assert (code, record["status"], record["data"]["source"]) == (0, "finished", str(tmp_path / "elsewhere")), stderr


def test_a_run_with_other_classes_in_its_record_is_not_exported(run, trained, tmp_path):
    record = json.loads((trained.path / "run.json").read_text())
    record["data"]["labels"].reverse()
    (trained.path / "run.json").write_text(json.dumps(record))
    message = last_line(run, "export", "--output", "other.onnx")
    assert message.startswith("error: run.json has the classes ")
    assert not (tmp_path / "other.onnx").exists()


def test_the_export_of_a_warm_start_is_not_that_of_another_run(trained):
    contract = read_model(trained.model)[1]
    assert run_beside(trained.model, contract) == trained
    other = {"run": "an earlier one", "weights_sha256": "0" * 64}
    contract = contract.changed(training=contract.document["training"] | {"warm_start": other})
    assert run_beside(trained.model, contract) is None
