"""What TensorBoard and MLflow are shown is what the run records, once each, and no failure of theirs hurts the run."""

import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from cifarnet.errors import TrackingError, UsageError
from cifarnet.run import EpochRecord, Run
from cifarnet.tracking import NAMES, open_tracking, require_trackers

ROWS = [EpochRecord(epoch, 1e-3 / epoch, 2.0 / epoch, 0.4, 1.9 / epoch, 0.45) for epoch in (1, 2, 3)]
RECORD = {
    "status": "running",
    "recipe": "seed",
    "backend": "jax",
    "model": {"filters": [32, 64]},
    "train": {"learning_rate": 0.002, "seed": 0},
    "data": {"name": "cifar10", "fingerprint": "5dbb"},
}
INTERRUPTED = RECORD | {"status": "interrupted", "epochs": 2, "best_epoch": 2, "metrics": {"test": {"loss": 9.0}}}
FINISHED = RECORD | {
    "status": "finished",
    "epochs": 3,
    "best_epoch": 3,
    "metrics": {"test": {"loss": 0.7, "accuracy": 0.75, "images": 100}},
}


class Watcher:
    """The observer that is passed everything on."""

    def __init__(self):
        self.seen = []

    def on_progress(self, progress):
        self.seen.append(progress)

    def on_epoch(self, record, progress):
        self.seen.append((record, progress))


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "runs" / "20261124-000000-seed-jax"
    path.mkdir(parents=True)
    Run(path).write_record(RECORD)
    return Run(path)


@pytest.fixture
def watcher():
    return Watcher()


def session(run, names, rows, record, history=None):
    """Track one session: the epochs ``rows``, at the end of which the run holds ``history``."""
    said, watcher = [], Watcher()
    tracking = open_tracking(names, run, watcher, said.append)
    for row in rows:
        tracking.on_epoch(row, "progress")
    run.write_history(history or rows)
    tracking.finish(record)
    assert watcher.seen == [(row, "progress") for row in rows]
    return said


def events(run):
    """Read TensorBoard's files back with nothing of ours: length, checksum, event, checksum, and again."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.record_writer import masked_crc32c

    found = []
    for path in sorted((run.path / "tensorboard").glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (length,) = struct.unpack("<Q", content[at : at + 8])
            event = content[at + 12 : at + 12 + length]
            checksums = struct.unpack("<I", content[at + 8 : at + 12]) + struct.unpack(
                "<I", content[at + 12 + length : at + 16 + length]
            )
            assert checksums == (masked_crc32c(content[at : at + 8]), masked_crc32c(event))
            found.append(Event.FromString(event))
            at += 16 + length
    return found


def curve(run, name):
    """Return step and value of every point of a curve in TensorBoard's files, duplicates included."""
    values = [(event.step, value) for event in events(run) for value in event.summary.value if value.tag == name]
    return [(step, value.simple_value) for step, value in values]


def stored(run):
    """Return MLflow's one run, read back through its own client, and a function that reads a curve."""
    from cifarnet.tracking.mlflow import open_client

    client = open_client(run.path.parent / "mlruns")
    (found,) = client.search_runs([client.get_experiment_by_name("cifarnet").experiment_id])
    return found, lambda key: [(each.step, each.value) for each in client.get_metric_history(found.info.run_id, key)]


CURVES = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "learning_rate": "learning_rate",
}


def assert_shown(run, rows, final):
    """The check itself: every curve in both places holds exactly these rows."""
    _, read = stored(run)
    for name, column in CURVES.items():
        expected = [(row.epoch, getattr(row, column)) for row in rows]
        assert read(name) == expected
        np.testing.assert_array_equal(curve(run, name), [(step, np.float32(value)) for step, value in expected])
    for name, value in final.items():
        assert read(name) == [(len(rows), value)]
        np.testing.assert_array_equal(curve(run, name), [(len(rows), np.float32(value))])


def test_both_places_are_shown_every_epoch_the_settings_and_the_test_metrics(run):
    assert session(run, NAMES, ROWS, FINISHED) == []
    assert_shown(run, ROWS, {"test/loss": 0.7, "test/accuracy": 0.75})
    found, _ = stored(run)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == run.path.name
    assert found.data.params == {
        "recipe": "seed",
        "backend": "jax",
        "data_name": "cifar10",
        "data_fingerprint": "5dbb",
        "filters": "[32, 64]",
        "learning_rate": "0.002",
        "seed": "0",
    }
    assert events(run)[0].file_version == "brain.Event:2"
    (text,) = (value for event in events(run) for value in event.summary.value if value.tag == "settings/text_summary")
    assert "| learning_rate | 0.002 |" in text.tensor.string_val[0].decode()


def test_a_resumed_run_goes_on_in_the_same_places_without_a_duplicate(run):
    session(run, NAMES, ROWS[:2], INTERRUPTED)
    found, read = stored(run)
    assert found.info.status == "KILLED"
    assert (read("test/loss"), curve(run, "test/loss")) == ([], [])  # the weights are not the final ones
    session(run, NAMES, ROWS[1:], FINISHED, history=ROWS)  # epoch 2 again: a kill came before its checkpoint
    assert stored(run)[0].info.run_id == found.info.run_id
    assert_shown(run, ROWS, {"test/loss": 0.7, "test/accuracy": 0.75})
    assert len(list((run.path / "tensorboard").iterdir())) == 2


def test_a_duplicate_is_refused_by_the_same_check(run):
    session(run, NAMES, ROWS, FINISHED)
    with pytest.raises(AssertionError):
        assert_shown(run, ROWS[:2], {})
    (path,) = (run.path / "tensorboard").iterdir()
    path.with_name(path.name + "-again").write_bytes(path.read_bytes())
    with pytest.raises(AssertionError):
        assert_shown(run, ROWS, {})


def test_epochs_from_before_tracking_are_made_up_for(run):
    run.write_history(ROWS[:2])
    session(run, NAMES, ROWS[2:], FINISHED, history=ROWS)
    assert_shown(run, ROWS, {"test/loss": 0.7})


def test_an_epoch_that_only_the_checkpoint_knew_when_tracking_began_is_made_up_for_at_the_end(run):
    session(run, NAMES, ROWS[2:], FINISHED, history=ROWS)
    assert sorted(stored(run)[1]("loss/train")) == [(1, 2.0), (2, 1.0), (3, 2.0 / 3)]
    assert len(curve(run, "loss/train")) == 3


def test_a_file_that_a_killed_process_left_half_written_is_read_up_to_there(run):
    session(run, ["tensorboard"], ROWS[:2], INTERRUPTED)
    (path,) = (run.path / "tensorboard").iterdir()
    path.write_bytes(path.read_bytes()[:-5])  # within the last event: the learning rate of epoch 2
    session(run, ["tensorboard"], ROWS[2:], FINISHED, history=ROWS)
    path.unlink()
    assert curve(run, "learning_rate") == [(2, np.float32(5e-4)), (3, np.float32(1e-3 / 3))]
    assert curve(run, "loss/train") == [(3, np.float32(2 / 3))]


@pytest.mark.parametrize("name", ["it's", 'a "name"', 'it\'s a "name"', "`two`\nlines | %_"])
def test_a_renamed_run_goes_on_in_the_same_places_whatever_its_name_is(run, name):
    renamed = Run(run.path.rename(run.path.with_name(name)))
    session(renamed, NAMES, ROWS[:2], INTERRUPTED)
    session(renamed, NAMES, ROWS[2:], FINISHED, history=ROWS)
    assert_shown(renamed, ROWS, {"test/loss": 0.7})


def test_settings_make_one_row_each_whatever_they_are_called(run):
    run.write_record(RECORD | {"data": RECORD["data"] | {"name": "a|b\n`c`"}})
    session(run, ["tensorboard"], ROWS, FINISHED)
    (text,) = (value for event in events(run) for value in event.summary.value if value.tag == "settings/text_summary")
    assert r"| data_name | a\|b \`c\` |" in text.tensor.string_val[0].decode().splitlines()


def test_runs_in_one_folder_share_mlflows_table(run):
    other = Run(run.path.with_name("20261124-000001-seed-torch"))
    other.path.mkdir()
    other.write_record(RECORD)
    for each in (run, other):
        session(each, ["mlflow"], ROWS, FINISHED)
    with pytest.raises(ValueError, match="too many values to unpack"):
        stored(run)


def test_a_tracker_that_fails_is_told_at_once_and_at_the_end_and_the_training_goes_on(run, watcher):
    said = []
    tracking = open_tracking(["tensorboard"], run, watcher, said.append)
    tracking.on_epoch(ROWS[0], "progress")
    tracking._trackers["tensorboard"]._writer.close()  # as if the disk had gone
    for row in ROWS[1:]:
        tracking.on_epoch(row, "progress")
    assert said == ["tensorboard is left out from here on (write to closed file); the training goes on"]
    assert len(watcher.seen) == 3
    run.write_history(ROWS)
    with pytest.raises(
        TrackingError, match=r"^the run is complete in .*, but not .* \(tensorboard: write to closed file"
    ):
        tracking.finish(FINISHED)


def test_a_place_that_cannot_be_opened_is_told_before_training(run, watcher):
    (run.path / "tensorboard").write_text("a file")
    with pytest.raises(TrackingError, match=r"^tensorboard could not be opened for .*File exists.*; expected a place"):
        open_tracking(["tensorboard"], run, watcher, print)


def test_without_a_place_everything_is_passed_on_and_nothing_is_written(run, watcher):
    tracking = open_tracking([], run, watcher, print)
    tracking.on_progress("progress")
    tracking.finish(FINISHED)
    assert watcher.seen == ["progress"]
    assert [path.name for path in run.path.iterdir()] == ["run.json"]


def test_unknown_places_and_missing_packages_are_refused_with_the_way_out(monkeypatch):
    with pytest.raises(UsageError, match="tracked in 'wandb'; expected one of tensorboard, mlflow"):
        require_trackers(["wandb"])
    require_trackers(NAMES)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for name, package in (("tensorboard", "tensorboardX"), ("mlflow", "mlflow")):
        with pytest.raises(TrackingError) as caught:
            require_trackers([name])
        assert str(caught.value) == (
            f'{package} is not installed; expected for --track {name}: pip install "cifarnet[{name}]", or in a clone '
            f'pip install --editable ".[{name}]"'
        )


def test_mlflow_is_told_to_tell_nobody_when_it_is_used(tmp_path):
    program = """
import os, sys
from pathlib import Path
from cifarnet.tracking.mlflow import open_client
assert "mlflow" not in sys.modules and not any("MLFLOW" in name for name in os.environ)
open_client(Path.cwd() / "mlruns")
from mlflow.telemetry import get_telemetry_client
from mlflow.telemetry.utils import is_telemetry_disabled
assert is_telemetry_disabled()
assert get_telemetry_client() is None
"""
    # MLflow is silent on a test machine anyway: the process must not look like one.
    kept = [name for name in os.environ if name != "CI" and "PYTEST" not in name and "MLFLOW" not in name]
    environment = {name: os.environ[name] for name in kept}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
