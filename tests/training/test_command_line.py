"""`cifarnet train` and the commands after it, the first in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
from PIL import Image

from cifarnet.apps.doctor import time_backend

TINY = {"filters": [4], "dense_units": [8], "epochs": 1}
SHORT = ("train", "--data", "synthetic", "--recipe", "tiny.json")


def cifarnet(*arguments, folder, **environment):
    """Run a command that can print nothing but ASCII."""
    environment = {"PYTHONIOENCODING": "ascii", **environment}
    command = [sys.executable, "-m", "cifarnet", *map(str, arguments)]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )


def write_recipe(folder):
    (folder / "tiny.json").write_text(json.dumps({"recipe": "seed", "settings": TINY}))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder in which one short run was trained, and what the command said."""
    folder = tmp_path_factory.mktemp("person")
    write_recipe(folder)
    return folder, cifarnet(*SHORT, "--json", folder=folder)


def test_train_leaves_a_run_and_says_what_to_type_next(trained):
    folder, done = trained
    assert done.returncode == 0, done.stderr
    run = (folder / "runs" / "latest").resolve()
    assert {path.name for path in run.iterdir()} >= {"run.json", "history.csv", "best.weights.h5", "curves.png"}
    assert "test accuracy" in done.stderr
    assert f"cifarnet export runs/{run.name} --onnx" in done.stderr
    assert "Traceback" not in done.stderr


def test_json_is_the_only_thing_on_stdout(trained):
    folder, done = trained
    document = json.loads(done.stdout)
    assert document["backend"] == os.environ.get("KERAS_BACKEND", "jax")
    assert document == json.loads((folder / "runs" / "latest" / "run.json").read_text()) | {"run": document["run"]}


@pytest.fixture
def here(typed, monkeypatch):
    """Return a function that runs a command in this process, in a folder."""

    def here(*arguments, folder):
        monkeypatch.chdir(folder)
        return SimpleNamespace(**dict(zip(("returncode", "stdout", "stderr"), typed(*arguments), strict=True)))

    return here


@pytest.fixture
def scored(here):
    """Return a function that scores by `evaluate --json`, and returns what a run's record has of its test images."""

    def scored(folder, *arguments):
        found = json.loads(here("evaluate", *arguments, "--json", folder=folder).stdout)["evaluation"]
        return {key: found[key] for key in ("loss", "accuracy", "images")}

    return scored


def test_evaluate_repeats_the_recorded_score(trained, scored):
    folder, done = trained
    assert scored(folder) == scored(folder, "--data", "synthetic") == json.loads(done.stdout)["metrics"]["test"]


def test_a_file_exported_with_tta_scores_as_the_run_does_with_it(trained, tmp_path, here, scored):
    folder, done = trained
    assert here("export", "--tta", "6", "--output", tmp_path / "both.onnx", folder=folder).returncode == 0
    averaged, plain = scored(folder, "--tta", "6"), json.loads(done.stdout)["metrics"]["test"]["loss"]
    assert scored(folder, tmp_path / "both.onnx")["loss"] == pytest.approx(averaged["loss"], rel=1e-5)
    assert plain != pytest.approx(averaged["loss"], rel=1e-5)
    assert scored(folder, "--tta", "6", tmp_path / "both.onnx") == scored(folder, tmp_path / "both.onnx")
    assert json.loads(here("evaluate", tmp_path / "both.onnx", "--json", folder=folder).stdout)["views"] == 6
    assert " with 2-view TTA on " in here("evaluate", "latest", "--tta", "2", folder=folder).stdout
    refused = here("evaluate", tmp_path / "both.onnx", "--tta", "2", folder=folder)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "both.onnx averages 6 views itself; expected --tta 6, or none: correct it" in refused.stderr


def test_a_run_goes_on_from_the_convolutions_of_another(trained, tmp_path, here):
    folder, _ = trained
    for name, shade in (("dark", 40), ("light", 200)):
        (tmp_path / name).mkdir()
        for index in range(10):
            Image.new("RGB", (32, 32), (shade + index, shade, shade)).save(tmp_path / name / f"{index}.png")
    origin = (folder / "runs" / "latest").resolve().name
    own = ("train", "--data", tmp_path, "--runs", "own", "--epochs", "1", "--json")
    done = here(*own, "--from", f"runs/{origin}", folder=folder)
    assert done.returncode == 0, done.stderr
    run = json.loads(done.stdout)
    assert f"starting from the convolutions of {origin}" in done.stderr.splitlines()
    assert (run["recipe"], run["data"]["labels"]) == ("seed", ["dark", "light"])
    assert (run["warm_start"]["run"], len(run["warm_start"]["weights_sha256"])) == (origin, 64)
    record = folder / run["run"] / "run.json"
    record.write_text(record.read_text().replace('"recipe": "seed"', '"recipe": "unknown here"'))
    again = here(*own, "--from", "own/latest", folder=folder)
    assert again.returncode == 0, again.stderr
    assert (json.loads(again.stdout)["recipe"], json.loads(again.stdout)["train"]) == ("unknown here", run["train"])
    for refused, words in (
        (("--from", f"runs/{origin}", "--recipe", "fast"), "--recipe is fast; expected seed, the recipe of "),
        (("--from", "x", "--resume", "latest", "--workers", "2"), "error: --from and --resume were both given"),
        (("--from", "nowhere"), "nowhere does not exist; expected"),
        (("--from", "own/latest", "--seed", "1"), "validation and test images were trained on by"),
        (("--recipe", "fast", "--dropout", "0.5"), "--dropout is 0.5, but the network has no hidden dense layers"),
    ):
        done = here(*own, *refused, folder=folder)
        assert (done.returncode, done.stdout) in ((1, ""), (2, "")), done.stderr
        assert words in done.stderr


def test_out_of_time_in_the_first_epoch_is_not_a_loss_that_is_no_number(trained, here):
    done = here(*SHORT, "--runs", "out of time", "--max-minutes", "0", folder=trained[0])
    assert (done.returncode, "No epoch has finished yet, so there are no best weights." in done.stderr) == (0, True)


def test_to_go_on_from_a_run_the_images_are_to_be_named(trained, here):
    done = here("train", "--from", "latest", folder=trained[0])
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "error: --from was given without --data; expected the images to train on: add --data\n"


def test_a_run_and_its_file_are_scored_by_one_ruler_and_compared(trained, tmp_path, here, scored):
    folder, done = trained
    file = tmp_path / "model.onnx"
    assert here("export", "--onnx", "--output", file, folder=folder).returncode == 0
    assert scored(folder, file)["accuracy"] == json.loads(done.stdout)["metrics"]["test"]["accuracy"]
    both = json.loads(here("evaluate", "latest", file, "--json", folder=folder).stdout)
    assert (both["comparison"]["agreement"], both["comparison"]["p_value"]) == (1.0, 1.0)
    text = here("evaluate", folder=folder).stdout.replace(f"{folder}/", "")
    assert "at temperature" in text  # of the run's record
    assert max(map(len, text.splitlines()[:2])) < 120


def test_export_writes_the_file_that_inspect_describes(trained, here):
    folder, _ = trained
    done = here("export", "--onnx", "--fp16", "--json", folder=folder)
    exported, smaller = json.loads(done.stdout)
    assert (smaller["precision"], len(smaller["latencies"])) == ("float16", 2)
    assert exported["path"].endswith("/model.onnx")
    described = json.loads(here("inspect", exported["path"], "--json", folder=folder).stdout)
    assert described["sha256"] == exported["sha256"]
    text = here("inspect", exported["path"], folder=folder).stdout
    assert "total per image" in text
    assert "parity check" in text


def test_ctrl_c_ends_after_the_batch_with_everything_saved(tmp_path):
    write_recipe(tmp_path)
    command = [sys.executable, "-m", "cifarnet", *SHORT, "--epochs", "1000", "--patience", "999"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.split()[:1] == ["1"]:  # the line of the first finished epoch
                break
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert "cifarnet train --resume runs/" in said
    record = json.loads((tmp_path / "runs" / "latest" / "run.json").read_text())
    assert record["status"] == "interrupted"
    assert record["metrics"]["test"]["images"] == 500


def test_the_doctor_times_a_backend_in_a_process_of_its_own():
    timing = time_backend("torch")
    assert timing.failure == ""
    assert timing.images_per_s > 0
    assert timing.devices
