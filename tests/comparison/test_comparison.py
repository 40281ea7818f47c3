"""`cifarnet compare` trains the same job on each backend, one after the other, and measures the differences."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.records import document

from cifarnet.backends import NAMES
from cifarnet.cli.compare import _print_result
from cifarnet.data import hold_out, load_dataset
from cifarnet.errors import BackendError, RunError, UsageError
from cifarnet.evaluation.comparison.charts import agreement_matrix, draw_comparison
from cifarnet.evaluation.comparison.compare import (
    Comparison,
    Pair,
    Plan,
    ScoreWithInterval,
    Training,
    _create,
    gradient_difference,
)
from cifarnet.evaluation.comparison.process import train_in_child
from cifarnet.evaluation.significance import Interval
from cifarnet.recipes import RECIPES
from cifarnet.run.folder import EpochRecord, Run
from cifarnet.runtime import open_model
from cifarnet.system import RESULT

FIRST_LOSS_ATOL = 4e-6
"""Nats; 5e-7 was measured, and another seed differs by tenths."""
GRADIENT_BOUND = 1e-4
"""Relative; 2e-6 was measured on CIFAR-10. It may be 4e-3 if two pixels of a pooling window differ by rounding alone,
which noise images avoid; another seed gives about 1."""


PLAN = Plan(backends=("jax", "torch"), epochs=2, source="synthetic", seeds=2)


def test_each_backend_trains_on_the_same_split_in_its_own_run(compared):
    assert [each["backend"] for each in compared.document["trainings"]] == list(NAMES)
    for backend in NAMES:
        record = document(Run(compared.run(backend)))
        assert (record["backend"], record["status"], record["epochs"]) == (backend, "finished", 1)
        assert record["train"]["schedule_epochs"] == 9  # the recipe's own
    assert len({document(Run(compared.run(backend)))["hold_out"]["fingerprint"] for backend in NAMES}) == 1


def assert_alike(pair):
    """The check itself: the first step of two frameworks is the same within rounding."""
    assert pair["first_loss_difference"] <= FIRST_LOSS_ATOL
    assert pair["gradient_difference"] <= GRADIENT_BOUND


def test_first_losses_and_gradients_agree_within_rounding(compared):
    assert [(pair["first"], pair["second"]) for pair in compared.document["pairs"]] == list(combinations(NAMES, 2))
    for pair in compared.document["pairs"]:
        assert_alike(pair)
        assert pair["curve_difference"] >= 0
        for name in ("first_loss_difference", "gradient_difference"):
            with pytest.raises(AssertionError):
                assert_alike(pair | {name: 1e-2})  # as of another seed


def test_accuracies_are_those_of_the_run_records_and_lie_in_their_intervals(compared):
    for each in compared.document["trainings"]:
        record = document(Run(compared.run(each["backend"])))
        assert each["test"]["images"] == 18
        assert each["validation"]["images"] == record["hold_out"]["validation"]
        for part in ("test", "validation"):
            assert each[part]["accuracy"] == record["metrics"][part]["accuracy"]
            assert each[part]["interval"]["low"] <= each[part]["accuracy"] <= each[part]["interval"]["high"]


def test_agreement_equals_that_of_the_exported_files(compared, photos):
    images = load_dataset(photos).test.images
    classes = {name: open_model(compared.run(name) / "model.onnx").logits(images).argmax(axis=1) for name in NAMES}
    for each in compared.document["trainings"]:
        assert each["file_agreement"] == 1
        assert each["file_difference"] <= 1e-4
    for pair in compared.document["pairs"]:
        assert pair["agreement"] == np.mean(classes[pair["first"]] == classes[pair["second"]])


def test_time_and_memory_are_those_of_the_training_process(compared):
    for each in compared.document["trainings"]:
        assert each["seconds_per_epoch"] == document(Run(compared.run(each["backend"])))["seconds_per_epoch"]
        assert 1e8 < each["peak_memory_bytes"] < 1e11  # a framework takes hundreds of megabytes
        assert each["devices"]


def test_the_folder_contains_the_same_document_a_figure_and_the_runs(compared):
    assert json.loads((compared.folder / "comparison.json").read_text()) == compared.document
    with Image.open(compared.folder / "comparison.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500
    assert {path.name for path in compared.folder.iterdir()} == {"comparison.json", "comparison.png", "runs"}
    assert "small.json (seed with filters [8, 8, 8], dense units [16])" in compared.stderr
    assert ": up to epoch 1 on a schedule of 9 epochs, in batches of 30" in compared.stderr
    assert "Results are in found" in compared.stderr


# Errors and interruption


@pytest.fixture
def fails(typed, monkeypatch, tmp_path):
    """Return a function that runs ``cifarnet compare``, expects one error line, and returns it."""
    monkeypatch.chdir(tmp_path)

    def fails(*arguments):
        code, stdout, stderr = typed("compare", *arguments)
        lines = stderr.splitlines()
        assert (code, stdout) == (1, "")
        assert [line.startswith("error: ") for line in lines].count(True) == 1
        assert lines[-1].startswith("error: ")
        return lines[-1]

    return fails


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["jax"], "the backends to compare are jax; expected two or more of jax, torch, tensorflow"),
        (["jax", "mxnet"], "the backend 'mxnet' is not supported; expected one of jax, torch, tensorflow"),
        (["--whole", "--epochs", "3"], "--whole and --epochs 3 contradict each other"),
        (["--data", "nowhere"], "nowhere is no such file or folder"),
        (["--data", "synthetic", "--recipe", "sede"], "there is no recipe named 'sede'"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_is_written(fails, tmp_path, arguments, sentence):
    assert sentence in fails(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_framework_is_refused_with_the_install_command(fails, monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torch" else object())
    assert 'torch is not installed; expected for the backend torch: pip install ".[torch]"' in fails("jax", "torch")
    assert list(tmp_path.iterdir()) == []


def test_without_any_framework_the_install_command_is_printed(fails, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in NAMES else object())
    assert fails().startswith("error: the backends to compare are none; expected two or more of jax, torch, tensorflow")


def test_a_folder_that_is_not_empty_is_refused_and_unchanged(fails, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    line = fails("--data", "synthetic", "--output", "full")
    assert "full holds mine.txt already; expected a new or an empty folder" in line
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert "mine.txt cannot be used" in fails("--data", "synthetic", "--output", "full/mine.txt")


@pytest.mark.parametrize(
    ("torch", "reason"),
    [
        ("raise ImportError('half installed')", "ImportError: half installed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "ended by SIGTERM"),
    ],
    ids=["error", "signal"],
)
def test_a_failed_process_is_reported_with_its_last_line_or_signal(monkeypatch, tmp_path, torch, reason):
    # A module that shadows torch: it is found, but importing it fails.
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "torch.py").write_text(torch)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "path"), os.environ.get("PYTHONPATH", "")]))
    dataset = load_dataset("synthetic")
    job = PLAN.settings(dataset, seed=0)
    with pytest.raises(Exception, match=rf"^training on torch with seed 0 failed \({reason}\)"):
        train_in_child("torch", job, dataset, tmp_path / "runs", tmp_path / "arrays.npz", print)
    assert not (tmp_path / "runs").exists()


def test_a_training_has_the_test_split_size_and_left_out_files_of_the_comparison_and_refuses_changed_images(
    photos, small, tmp_path, typed, monkeypatch
):
    folder, seen = tmp_path / "photos", []  # without a test folder
    shutil.copytree(photos / "train", folder)
    (folder / "red" / "broken.png").write_text("no image")
    monkeypatch.setattr("cifarnet.evaluation.comparison.compare.compare_backends", lambda *given: seen.append(given))
    monkeypatch.setattr("cifarnet.cli.compare._print_result", lambda _: None)
    options = ("--data", folder, "--recipe", small, "--image-size", "48", "--skip-broken")
    code, _, stderr = typed("compare", "jax", "torch", *options)
    assert code == 0, stderr
    assert "note: 1 file that cannot be read is left out: red/broken.png (no image" in stderr
    ((plan, dataset, *_),) = seen
    assert dataset.train.images.shape[1:] == (48, 48, 3)
    job = plan.settings(dataset, seed=1)

    def train():
        return train_in_child("torch", job, dataset, tmp_path / "runs", tmp_path / "arrays.npz", lambda *_: None)

    record = Run(Path(train()["run"])).record
    assert (record.seed, record.data.split_seed) == (1, 0)
    assert (record.data.fingerprint, record.data.skipped, record.data.image_size) == (dataset.fingerprint, 1, 48)
    (folder / "red" / "0.png").unlink()
    with pytest.raises(BackendError, match=r"the images have the fingerprint .*; expected .* as when the run began"):
        train()


def test_lines_printed_by_a_framework_are_not_parsed_as_results(monkeypatch, tmp_path):
    epoch = {"epoch": 1, "learning_rate": 0.1, "train_loss": 1.0, "train_accuracy": 0.5}
    epoch |= {"validation_loss": 1.0, "validation_accuracy": 0.5}
    lines = ["{a framework talks}", RESULT + json.dumps({"epoch": epoch, "seconds": 2.0}), '{"epoch": 2}']
    lines += [RESULT + json.dumps({"run": "r"}), '{"devices": "GPU"}', "{}"]
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\nprint({os.linesep.join(lines)!r})")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    dataset, seen = load_dataset("synthetic"), []
    folders = tmp_path / "runs", tmp_path / "arrays.npz"
    found = train_in_child("torch", PLAN.settings(dataset, 0), dataset, *folders, lambda *given: seen.append(given))
    assert (found, seen) == ({"run": "r"}, [("torch", 0, EpochRecord(**epoch), 2.0)])


def wait_until_free(run, limit_s=30):
    """Wait until the process that trains ``run`` has ended."""
    end = time.monotonic() + limit_s
    while True:
        try:
            with run.locked():
                return
        except RunError:
            assert time.monotonic() < end
            time.sleep(0.1)


def test_ctrl_c_also_ends_the_training_process(photos, small, tmp_path):
    program = (  # a suite in the background passes on that SIGINT is ignored
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from cifarnet.cli import main; main()"
    )
    options = ("--data", photos, "--recipe", small, "--epochs", "100000")
    command = [sys.executable, "-c", program, "compare", "torch", "jax", *options]
    with subprocess.Popen([*map(str, command)], cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.split()[:3] == ["torch", "0", "1"]:  # the line of the first finished epoch
                break
        process.send_signal(signal.SIGINT)  # only to this process; a terminal would send it to both
        stderr = process.stderr.read()
    assert (process.returncode, stderr.splitlines()[-1]) == (130, "interrupted")
    (run,) = tmp_path.glob("comparisons/*/runs/2*")
    wait_until_free(Run(run))
    assert document(Run(run))["status"] == "running"
    assert not list(tmp_path.glob("comparisons/*/comparison.*"))


# Results


def test_a_gradient_difference_is_relative_to_the_largest_element_of_its_array():
    ours = {"small": np.array([1e-3, 2e-3], np.float32), "large": np.array([100.0], np.float32)}
    np.testing.assert_allclose(gradient_difference(ours, ours | {"small": np.array([1e-3, 2.2e-3])}), 0.1, rtol=1e-4)
    np.testing.assert_allclose(gradient_difference(ours, ours | {"large": np.array([101.0])}), 0.01)
    assert gradient_difference(ours, ours) == 0
    nothing = {"small": np.zeros(2), "large": np.zeros(1)}
    assert gradient_difference(nothing, nothing) == 0
    assert gradient_difference(ours, nothing) == np.inf


def score(accuracy):
    return ScoreWithInterval(loss=1.0, accuracy=accuracy, interval=Interval(0.0, 1.0), images=1000)


def training(backend, seed, accuracy):
    rows = tuple(EpochRecord(epoch, 1e-3, 2 / epoch, 0.3, 1.9 / epoch, 0.4) for epoch in (1, 2))
    measured = score(accuracy)
    return Training(
        backend=backend,
        seed=seed,
        run=f"runs/{backend}-{seed}",
        first_loss=2.3,
        history=rows,
        best_epoch=2,
        validation=measured,
        test=measured,
        seconds_per_epoch=10.0 + seed,
        peak_memory_bytes=None if backend == "jax" else 100 + seed,
        devices=("cpu",),
        file_sha256="",
        file_agreement=0.9 + seed / 10,
        file_difference=0.0,
    )


@pytest.fixture
def two_seeds():
    trainings = tuple(training(backend, seed, 0.7) for seed in (0, 1) for backend in ("jax", "torch"))
    pairs = tuple(
        Pair(
            first="jax",
            second="torch",
            seed=seed,
            first_loss_difference=0.0,
            gradient_difference=0.0,
            curve_difference=0.0,
            agreement=agreement,
            agreement_interval=Interval(0.0, 1.0),
            accuracy_difference=0.0,
            difference_interval=Interval(-1.0, 1.0),
            p_value=1.0,
        )
        for seed, agreement in enumerate((0.5, 0.7))
    )
    return Comparison(
        plan=PLAN,
        data="synthetic",
        test_images=1000,
        trainings=trainings,
        pairs=pairs,
    )


def test_the_agreement_matrix_has_means_over_seeds_and_the_files_last(two_seeds):
    np.testing.assert_allclose(agreement_matrix(two_seeds), [[1, 0.6, 0.95], [0.6, 1, 0.95]])


def test_the_table_has_mean_and_standard_deviation_over_the_seeds_the_largest_memory_and_the_worst_file(
    two_seeds, capsys
):
    scores = [score(accuracy) for accuracy in (0.7, 0.7, 0.8, 0.8)]
    trainings = [replace(each, test=score) for each, score in zip(two_seeds.trainings, scores, strict=True)]
    _print_result(replace(two_seeds, trainings=tuple(trainings)))
    jax, torch = capsys.readouterr().out.splitlines()[1:3]
    assert " ".join(jax.split()) == "jax 70.00 ± 0.00% 75.00 ± 7.07% 10.5 unknown 90.00%"
    assert " ".join(torch.split()) == "torch 70.00 ± 0.00% 75.00 ± 7.07% 10.5 0 MB 90.00%"


def test_the_figure_accepts_accuracies_of_0_and_1(two_seeds, tmp_path):
    trainings = tuple(replace(each, validation=score(0.0), test=score(1.0)) for each in two_seeds.trainings)
    draw_comparison(replace(two_seeds, trainings=trainings), tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as picture:
        assert picture.format == "PNG"


def test_a_plan_without_epochs_trains_for_the_epochs_of_the_recipe(tmp_path):
    dataset = load_dataset("synthetic")
    (tmp_path / "mine.json").write_text('{"recipe": "fast", "settings": {"epochs": 7, "batch_size": 400}}')
    mine = replace(PLAN, epochs=None, recipe=str(tmp_path / "mine.json")).settings(dataset, 1)
    assert (mine.name, mine.train.epochs, mine.train.batch_size, mine.train.seed) == ("fast", 7, 400, 1)
    assert replace(PLAN, epochs=None).settings(dataset, 1).train.epochs == 1000
    short = replace(PLAN, recipe="fast").settings(dataset, 1).train
    adapted = RECIPES["fast"].adapted_to(len(hold_out(dataset.train, 0.1, 1, 10).train)).train
    assert adapted != RECIPES["fast"].train
    assert short == replace(adapted, epochs=2, schedule_epochs=adapted.epochs, seed=1)


def test_of_two_comparisons_in_one_folder_the_second_is_refused(tmp_path):
    _create(tmp_path / "comparison")
    with pytest.raises(UsageError, match="holds runs already; expected a new or an empty folder"):
        _create(tmp_path / "comparison")
