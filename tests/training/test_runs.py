"""A run stops for the right reason, resumes exactly, refuses what does not fit, and leaves a complete folder."""

import errno
import fcntl
import hashlib
import os
import re
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from cifarnet.data import hold_out, synthetic
from cifarnet.dataset import Dataset, Split
from cifarnet.errors import CheckpointError, ConfigError, ModelError, RunError
from cifarnet.evaluation.calibration import calibrate
from cifarnet.evaluation.reproduce import reproduce
from cifarnet.evaluation.scoring import predict
from cifarnet.export.export_run import export_run
from cifarnet.model.network import predictor
from cifarnet.model.weights import get_weights
from cifarnet.run.find import find_run
from cifarnet.run.folder import Run
from cifarnet.run.record import RunRecord
from cifarnet.run.typed_json import members
from cifarnet.training import loop, optimizer
from cifarnet.training.begin import begin
from cifarnet.training.best_weights import calibration_of, load_best_and_epoch
from cifarnet.training.checkpoint import Checkpoint, Position, save_checkpoint
from cifarnet.training.early_stopping import EarlyStopping
from cifarnet.training.observer import Observer
from cifarnet.training.optimizer import objective
from cifarnet.training.train import resume
from cifarnet.training.warm_start import WarmStart, warm_start_from
from tests.records import document, put
from tests.small_runs import (
    NORMALISED_JOB,
    SMALL_JOB,
    SMALL_TRAINING,
    assert_same_results,
    finished,
    stop_after,
    with_training,
)


def test_the_record_tells_all_that_is_needed_to_do_it_again(whole, job):
    record = whole.record
    assert (record["status"], record["why_stopped"], record["epochs"]) == ("finished", "epochs", 3)
    assert record == document(whole.run)
    assert [row.epoch for row in whole.run.read_history()] == [1, 2, 3]
    assert {"versions", "machine", "hold_out", "data", "model", "train", "started", "elapsed_s"} <= set(record)
    assert RunRecord.from_json(record).settings == job
    assert find_run(whole.run.path.parent).path.name == whole.run.path.name


def test_the_calibration_rests_on_the_held_out_images_alone(whole, job, dataset):
    parts = hold_out(dataset.train, job.train.validation_fraction, job.train.seed, 10)
    logits = predict(predictor(whole.run.load_model()), dataset.train.images[parts.validation])
    expected = members(calibrate(logits, dataset.train.labels[parts.validation]))
    assert whole.record["calibration"] == expected
    assert whole.record["calibration"]["images"] == len(parts.validation)


def test_a_run_without_a_calibration_gets_the_one_that_training_would_have_given(whole, dataset, tmp_path):
    run = Run(shutil.copytree(whole.run.path, tmp_path / "older"))
    older = {key: value for key, value in whole.record.items() if key != "calibration"}
    model = run.load_model()
    put(run, older | {"status": "running"})
    assert members(calibration_of(run, model, dataset)) == whole.record["calibration"]
    assert document(run) == older | {"status": "running"}  # which its training may be writing
    put(run, older)
    assert members(calibration_of(run, model, dataset)) == whole.record["calibration"]
    assert document(run)["calibration"] == whole.record["calibration"]
    put(run, whole.record | {"calibration": {"temperature": -1}})
    with pytest.raises(RunError, match=r"calibration\.temperature is -1; expected"):
        calibration_of(run, model, dataset)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"best_epoch": 1}, "run.json of .* has best_epoch 1; expected"),
        ({"train": SMALL_TRAINING.to_json() | {"learning_rate": 1.0}}, "the learning rate 1.0; expected 0.003"),
    ],
)
def test_a_finished_run_whose_record_was_edited_is_not_evaluated(whole, tmp_path, edit, message):
    run = Run(shutil.copytree(whole.run.path, tmp_path / "edited"))
    assert whole.record["best_epoch"] > 1
    assert load_best_and_epoch(run).epoch == whole.record["best_epoch"]
    put(run, whole.record | edit)
    with pytest.raises(RunError, match=message):
        load_best_and_epoch(run)


def test_every_image_counts_once_in_an_epoch_with_a_ragged_last_batch(job, dataset, runs, monkeypatch):
    """220 images in batches of 30 leave 10 for the last: same shape, weight 0 for the rest."""
    seen = []
    monkeypatch.setattr(loop, "CALLS_PER_EPOCH", 3)
    original = loop.filled_steps

    def spy(split, indices, count, *others):
        steps = original(split, indices, count, *others)
        seen.append((indices[:count], steps))
        fill = indices[count:]
        assert len(set(fill) | set(indices[:count])) == len(indices)  # others than those that count
        return steps

    monkeypatch.setattr(loop, "filled_steps", spy)
    finished(with_training(job, epochs=1), dataset, runs)
    parts = hold_out(dataset.train, 0.3, 0, 10)
    np.testing.assert_array_equal(np.sort(np.concatenate([chosen for chosen, _ in seen])), parts.train)
    assert {steps.images.shape[1] for _, steps in seen} == {30}
    assert [counted for _, steps in seen for counted in steps.weights.sum(axis=1)] == [30] * 7 + [10]
    assert len(seen) == 4  # of two steps each


def test_a_batch_larger_than_the_data_is_as_large_as_the_data(job, dataset, runs, monkeypatch):
    sizes, original = set(), loop.filled_steps
    monkeypatch.setattr(loop, "filled_steps", lambda *given: sizes.add(len(given[1])) or original(*given))
    finished(with_training(job, batch_size=5000, epochs=1), dataset, runs)
    assert sizes == {220}


def test_patience_ends_a_training_that_no_longer_improves(job, dataset, runs):
    stubborn = with_training(job, epochs=50, patience=2, min_delta=100.0)
    _, record = finished(stubborn, dataset, runs)
    # Only the first epoch, which has nothing before it, can fall by 100 nats: from infinity.
    assert (record["why_stopped"], record["best_epoch"], record["epochs"]) == ("patience", 1, 3)


def test_out_of_time_and_resumed_is_as_never_stopped(whole, job, dataset, runs):
    run, record = finished(job, dataset, runs, max_minutes=1e-9)
    assert (record["status"], record["why_stopped"]) == ("interrupted", "time limit")
    resume(run, dataset)
    assert_same_results(whole.run, run)


def test_an_interruption_before_the_first_epoch_ended_leaves_no_best_weights(job, dataset, runs):
    run, record = finished(job, dataset, runs, stop=stop_after(2))
    assert record["best_epoch"] is None
    with pytest.raises(RunError, match="no best weights yet"):
        run.load_model()


@pytest.fixture(scope="module")
def two_epochs(dataset, tmp_path_factory):
    """A run that was interrupted in its third epoch. Not to be altered."""
    return finished(SMALL_JOB, dataset, tmp_path_factory.mktemp("two"), stop=stop_after(20)).run


@pytest.fixture
def interrupted(two_epochs, tmp_path):
    """A copy of that run, and its record."""
    run = Run(shutil.copytree(two_epochs.path, tmp_path / "interrupted"))
    return run, document(run)


def test_an_interrupted_run_is_complete(interrupted):
    run, record = interrupted
    assert (record["status"], record["epochs"]) == ("interrupted", 2)
    assert set(record["metrics"]) == {"validation", "test"}
    assert record["weights_sha256"] == hashlib.sha256(run.best_weights.read_bytes()).hexdigest()
    assert len(run.read_history()) == 2


def test_a_run_whose_training_ended_knows_its_best_weights(whole, tmp_path):
    run = Run(shutil.copytree(whole.run.path, tmp_path / "changed"))
    run.load_model()
    run.best_weights.write_bytes(run.best_weights.read_bytes() + b"others")
    with pytest.raises(RunError, match="as when its training ended"):
        run.load_model()


def test_a_finished_run_is_not_trained_further(whole, dataset):
    before = (whole.run.path / "run.json").read_bytes()
    with pytest.raises(RunError, match="has finished"):
        resume(whole.run, dataset)
    assert (whole.run.path / "run.json").read_bytes() == before


def test_other_images_are_refused_on_resume(interrupted, dataset):
    run, _ = interrupted
    images = dataset.train.images.copy()
    images[0, 0, 0, 0] ^= 1
    altered = Dataset(dataset.name, Split(images, dataset.train.labels), dataset.test, dataset.labels)
    with pytest.raises(RunError, match="fingerprint"):
        resume(run, altered)


KEPT = ", with which the checkpoints in"


@pytest.mark.parametrize(
    ("part", "name", "value", "message"),
    [
        ("train", "seed", 7, "as when the run began: restore run.json"),
        ("train", "validation_fraction", 0.2, "as when the run began: restore run.json"),
        ("train", "learning_rate", 0.5, f"run.json has the learning rate 0.5; expected 0.003{KEPT}"),
        ("train", "batch_size", 5, f"run.json has the batch size 5; expected 30{KEPT}"),
        ("train", "epochs", 9, f"run.json has the epochs 9; expected 3{KEPT}"),
        ("model", "dropout", 0.5, f"run.json has the dropout 0.5; expected 0.25{KEPT}"),
    ],
)
def test_a_setting_edited_between_two_sessions_is_refused_and_the_results_so_far_stay(
    interrupted, dataset, part, name, value, message
):
    run, record = interrupted
    edited = record | {part: record[part] | {name: value}}
    put(run, edited)
    with pytest.raises(RunError, match=re.escape(message)):
        resume(run, dataset)
    assert document(run) == edited


def test_another_validation_split_than_that_of_the_record_is_refused(whole, dataset, tmp_path):
    """Its images may have been trained on, so that their loss would say nothing."""
    run = Run(shutil.copytree(whole.run.path, tmp_path / "ended"))
    put(run, whole.record | {"train": whole.record["train"] | {"seed": 7}, "calibration": None})
    for use in (
        lambda: calibration_of(run, run.load_model(), dataset),
        lambda: export_run(run, dataset, precision="int8"),
        lambda: reproduce(run, dataset, tmp_path / "again", Observer()),
    ):
        with pytest.raises(RunError, match="a validation split with the fingerprint"):
            use()


def test_another_framework_is_refused_on_resume(interrupted, dataset):
    run, record = interrupted
    put(run, record | {"backend": "numpy"})
    with pytest.raises(RunError, match="expected numpy, on which"):
        resume(run, dataset)


def test_a_run_keeps_its_division_of_a_batch_on_any_machine(job, dataset, runs, monkeypatch):
    traced, original = set(), optimizer.objective
    monkeypatch.setattr(
        optimizer, "objective", lambda *batch, **rest: traced.add(tuple(batch[0].shape)) or original(*batch, **rest)
    )
    run = begin(with_training(job, epochs=1), dataset, runs, parts=3)
    record = document(run)
    put(run, record | {"machine": record["machine"] | {"cores": 1000}})
    assert resume(run, dataset).record.machine.parts == 3
    assert traced == {(10, 10)}


def test_other_threads_are_refused_on_resume_where_the_cores_are_the_same(interrupted, dataset):
    run, record = interrupted
    count = record["machine"]["threads"]
    put(run, record | {"machine": record["machine"] | {"threads": count + 1}})
    message = (
        rf"computes with {count} thread\(s\) per operation; expected {count + 1}, as when .* began: set \w+={count + 1}"
    )
    with pytest.raises(RunError, match=message):
        resume(run, dataset)
    put(run, record | {"machine": record["machine"] | {"threads": count + 1, "cores": 1000}})
    assert resume(run, dataset).record.status == "finished"


def test_data_with_another_number_of_classes_is_refused_before_anything_is_made(job, runs):
    with pytest.raises(ConfigError, match=r"has 3 classes .* expected 10"):
        begin(job, synthetic(train=90, test=30, classes=3), runs)
    assert not runs.exists()


def test_the_record_of_a_resumed_run_says_running_while_it_runs(interrupted, dataset):
    run, _ = interrupted
    seen = []
    resume(run, dataset, stop=lambda: seen.append(document(run)) or False)
    assert seen[0]["status"] == "running"
    assert "metrics" not in seen[0]


@pytest.mark.parametrize("state", [{}, {"model/conv_1/kernel": np.zeros((1, 1, 1, 1), np.float32)}])
def test_a_checkpoint_of_another_network_is_refused(job, dataset, runs, state):
    run = begin(job, dataset, runs)
    stopping = asdict(EarlyStopping(0.1, 2))
    save_checkpoint(run.checkpoints, Checkpoint(Position(), stopping, state, {}))
    with pytest.raises(CheckpointError, match="holds the state of another network; expected one of this run: start"):
        resume(run, dataset)


def test_a_run_that_has_lost_its_checkpoints_is_not_begun_again_over_its_results(interrupted, dataset):
    run, record = interrupted
    before = run.best_weights.read_bytes()
    shutil.rmtree(run.checkpoints)
    with pytest.raises(
        CheckpointError, match="has lost its checkpoints: its history has 2 epochs; expected the newest"
    ):
        resume(run, dataset)
    assert (run.best_weights.read_bytes(), document(run)) == (before, record)


def test_an_epoch_with_an_overflowed_batch_is_never_best(job, dataset, runs, monkeypatch):
    def overflowed(logits, labels, weights, **settings):
        sums = objective(logits, labels, weights, **settings)
        return sums._replace(loss=sums.loss * float("inf"))

    monkeypatch.setattr(optimizer, "objective", overflowed)
    _, record = finished(job, dataset, runs)
    assert (record["why_stopped"], record["best_epoch"]) == ("nan", None)


def test_a_run_in_use_is_refused(job, dataset, runs):
    run = begin(job, dataset, runs)
    with run.locked(), pytest.raises(RunError, match="in use"):
        resume(run, dataset)


def test_where_a_run_cannot_be_locked_none_is_made_and_latest_stays(job, dataset, runs, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    run = begin(job, dataset, runs)
    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(
        RunError, match=r"\.lock could not be locked \(No locks available\); expected .* \(--runs, in Python runs=\)"
    ):
        begin(job, dataset, runs)
    assert find_run(runs).path == run.path
    assert {path.name for path in runs.iterdir()} == {"latest", run.path.name}


def test_a_folder_that_cannot_be_written_to_is_not_left_half_made(job, dataset, runs, whole, monkeypatch):
    def full(run, record):
        assert run.start_weights.is_file()
        raise RunError("no space is left")

    monkeypatch.setattr(Run, "write_record", full)
    with pytest.raises(RunError, match="no space is left"):
        begin(job, dataset, runs, warm_start=WarmStart("other", whole.run.best_weights))
    assert list(runs.iterdir()) == []


@pytest.mark.parametrize("name", ["translation", "cutout"])
def test_a_view_without_anything_of_the_image_is_refused_before_anything_is_made(job, dataset, runs, name):
    with pytest.raises(ConfigError, match=f"{name} is 32 pixels, the images are 32x32; expected less"):
        begin(with_training(job, **{name: 32}), dataset, runs)
    assert not runs.exists()


def test_a_warm_start_keeps_the_convolutions_and_trains_other_classes(normalised, dataset, runs):
    origin, _ = finished(with_training(normalised, epochs=1), dataset, runs)
    three = synthetic(train=90, test=30, classes=3)
    own = replace(normalised, model=replace(normalised.model, classes=3))
    own = with_training(own, epochs=1, optimizer="adam", learning_rate=1e-9)  # which moves nothing that is looked at
    before = get_weights(origin.load_model())
    warm = begin(own, three, runs, warm_start=warm_start_from(origin))
    cold = begin(own, three, runs)
    origin.best_weights.unlink()  # the run has a copy
    for run in (warm, cold):
        resume(run, three)
    after, anew = get_weights(warm.load_model()), get_weights(cold.load_model())
    for name in ("whiten/kernel", "conv_1_1/kernel"):
        np.testing.assert_allclose(after[name], before[name], rtol=0, atol=1e-6)
        assert np.abs(anew[name] - before[name]).max() > 1e-3
    assert after["logits/kernel"].shape[1] == 3
    again = reproduce(warm, three, runs / "again", Observer())
    assert again.outcome == "bit-equal"
    assert document(Run(Path(again.run)))["warm_start"] == document(warm)["warm_start"]


def test_changed_start_weights_are_refused(job, dataset, runs, whole):
    run, before = finished(
        job, dataset, runs, stop=stop_after(10), warm_start=WarmStart("other", whole.run.best_weights)
    )
    known = sorted(runs.iterdir())

    def require_refused(message):
        for use in (lambda: resume(run, dataset), lambda: reproduce(run, dataset, runs, Observer())):
            with pytest.raises(RunError, match=message):
                use()
        assert sorted(runs.iterdir()) == known

    run.start_weights.write_bytes(b"other")
    require_refused(r"start.weights.h5 has the SHA-256 .*; expected .* as when the run began")
    run.start_weights.unlink()
    require_refused(r"start.weights.h5 could not be read .*; expected what the run began with")
    assert document(run) == before
    put(run, before | {"warm_start": {"run": "other"}})
    require_refused(r"run\.json is damaged")


def test_start_weights_that_do_not_fit_are_refused_before_anything_is_made(job, dataset, runs, tmp_path, whole):
    (tmp_path / "damaged.weights.h5").write_bytes(b"other")
    wider = replace(job, model=replace(job.model, filters=(5, 6)))
    for name, trained in (("damaged.weights.h5", job), ("none.weights.h5", job), (whole.run.best_weights, wider)):
        with pytest.raises(ModelError):
            begin(trained, dataset, runs, warm_start=WarmStart("other", tmp_path / name))
    assert not runs.exists()


def test_a_repetition_that_is_stopped_is_no_verdict(whole, dataset, runs):
    with pytest.raises(RunError, match=r"was stopped after 0 epochs; expected 3 to compare"):
        reproduce(whole.run, dataset, runs, Observer(), stop=lambda: True)


@pytest.fixture(scope="module")
def one_normalised_epoch(dataset, tmp_path_factory):
    job = with_training(NORMALISED_JOB, epochs=1)
    return finished(job, dataset, tmp_path_factory.mktemp("normalised")).run


@pytest.mark.parametrize(
    "changes",
    [
        {"flip": "none"},
        {"translation": 1},
        {"cutout": 5},
        {"precision": "float32"},
        {"label_smoothing": 0.0},
        {"optimizer": "sgd"},
    ],
    ids=str,
)
def test_every_setting_of_a_normalised_training_counts(one_normalised_epoch, normalised, dataset, runs, changes):
    other, _ = finished(with_training(normalised, epochs=1, **changes), dataset, runs)
    assert other.read_history() != one_normalised_epoch.read_history()
