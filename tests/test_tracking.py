"""TensorBoard gets every recorded value once, and its failures do not stop the training."""

import struct
from dataclasses import replace

import numpy as np
import pytest

from cifarnet.errors import TrackingError, UsageError
from cifarnet.run.folder import EpochRecord, Run
from cifarnet.run.record import RunRecord
from cifarnet.training.tracking import Tracking, require_trackers
from tests import records
from tests.records import RUNNING, put

ROWS = [EpochRecord(epoch, 1e-3 / epoch, 2.0 / epoch, 0.4, 1.9 / epoch, 0.45) for epoch in (1, 2, 3)]
FINISHED = RunRecord.from_json(records.FINISHED)
INTERRUPTED = replace(FINISHED, status="interrupted")


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
    put(Run(path), RUNNING)
    return Run(path)


def session(run, rows, record, history=None):
    """Track one session: the epochs ``rows``, at the end of which the run holds ``history``."""
    stdout, watcher = [], Watcher()
    tracking = Tracking(["tensorboard"], run, watcher, stdout.append)
    for row in rows:
        tracking.on_epoch(row, "progress")
    run.write_history(history or rows)
    tracking.finish(record)
    assert watcher.seen == [(row, "progress") for row in rows]
    return stdout


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


CURVES = {
    "loss/train": "train_loss",
    "loss/validation": "validation_loss",
    "accuracy/train": "train_accuracy",
    "accuracy/validation": "validation_accuracy",
    "learning_rate": "learning_rate",
}


def assert_shown(run, rows, final):
    """The check itself: every curve holds exactly these rows."""
    for name, column in CURVES.items():
        expected = [(row.epoch, getattr(row, column)) for row in rows]
        np.testing.assert_array_equal(curve(run, name), [(step, np.float32(value)) for step, value in expected])
    for name, value in final.items():
        np.testing.assert_array_equal(curve(run, name), [(len(rows), np.float32(value))])


def test_every_epoch_the_settings_and_the_test_metrics_are_shown(run):
    put(run, RUNNING | {"data": RUNNING["data"] | {"name": "a|b\n`c`"}})
    assert session(run, ROWS, FINISHED) == []
    assert_shown(run, ROWS, {"test/loss": 0.7, "test/accuracy": 0.75})
    assert events(run)[0].file_version == "brain.Event:2"
    (text,) = (value for event in events(run) for value in event.summary.value if value.tag == "settings/text_summary")
    rows = text.tensor.string_val[0].decode().splitlines()[2:]
    assert rows[:4] == [
        "| recipe | seed |",
        "| backend | torch |",
        r"| data_name | a\|b \`c\` |",
        f"| data_fingerprint | {'0' * 64} |",
    ]
    assert rows[-1] == "| seed | 0 |"
    assert {r"| filters | \[32, 64, 128\] |", "| learning_rate | 0.002 |"} < set(rows)


def test_a_resumed_run_has_no_duplicates(run):
    session(run, ROWS[:2], INTERRUPTED)
    assert curve(run, "test/loss") == []  # the weights are not the final ones
    session(run, ROWS[1:], FINISHED, history=ROWS)  # epoch 2 again: a kill came before its checkpoint
    assert_shown(run, ROWS, {"test/loss": 0.7, "test/accuracy": 0.75})
    assert len(list((run.path / "tensorboard").iterdir())) == 2


def test_a_duplicate_fails_the_check(run):
    session(run, ROWS, FINISHED)
    with pytest.raises(AssertionError):
        assert_shown(run, ROWS[:2], {})
    (path,) = (run.path / "tensorboard").iterdir()
    path.with_name(path.name + "-again").write_bytes(path.read_bytes())
    with pytest.raises(AssertionError):
        assert_shown(run, ROWS, {})


@pytest.mark.parametrize("is_known_before", [True, False])
def test_epochs_before_tracking_are_added_also_those_that_only_the_checkpoint_knows(run, is_known_before):
    if is_known_before:
        run.write_history(ROWS[:2])
    session(run, ROWS[2:], FINISHED, history=ROWS)
    assert sorted(curve(run, "loss/train")) == [(1, 2.0), (2, 1.0), (3, np.float32(2 / 3))]
    if is_known_before:
        assert_shown(run, ROWS, {"test/loss": 0.7})


def test_a_truncated_file_is_read_up_to_its_end(run):
    session(run, ROWS[:2], INTERRUPTED)
    (path,) = (run.path / "tensorboard").iterdir()
    path.write_bytes(path.read_bytes()[:-5])  # within the last event: the learning rate of epoch 2
    session(run, ROWS[2:], FINISHED, history=ROWS)
    path.unlink()
    assert curve(run, "learning_rate") == [(2, np.float32(5e-4)), (3, np.float32(1e-3 / 3))]
    assert curve(run, "loss/train") == [(3, np.float32(2 / 3))]


def test_a_failed_tracker_is_reported_and_training_continues(run):
    stdout, watcher = [], Watcher()
    tracking = Tracking(["tensorboard"], run, watcher, stdout.append)
    tracking.on_epoch(ROWS[0], "progress")
    tracking._files._writer.close()  # as if the disk had gone
    for row in ROWS[1:]:
        tracking.on_epoch(row, "progress")
    assert stdout == ["TensorBoard is left out from here on (write to closed file); training continues"]
    assert len(watcher.seen) == 3
    run.write_history(ROWS)
    with pytest.raises(
        TrackingError, match=r"^the run is complete in .*, but .* a part of it \(write to closed file\);"
    ):
        tracking.finish(FINISHED)


def test_without_a_tracker_nothing_is_written_and_a_folder_that_cannot_be_opened_is_reported(run):
    watcher = Watcher()
    tracking = Tracking([], run, watcher, print)
    tracking.on_progress("progress")
    tracking.finish(FINISHED)
    assert watcher.seen == ["progress"]
    assert [path.name for path in run.path.iterdir()] == ["run.json"]
    (run.path / "tensorboard").write_text("a file")
    message = r"^TensorBoard's files in .* could not be opened .*File exists.*; expected a place"
    with pytest.raises(TrackingError, match=message):
        Tracking(["tensorboard"], run, watcher, print)


def test_unknown_trackers_and_a_missing_package_are_refused(monkeypatch):
    with pytest.raises(UsageError, match="tracked in 'wandb'; expected tensorboard"):
        require_trackers(["wandb"])
    with pytest.raises(UsageError, match="--track mlflow is no longer supported; expected --track tensorboard: use"):
        require_trackers(["mlflow"])
    require_trackers(["tensorboard", "tensorboard"])
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(TrackingError) as caught:
        require_trackers(["tensorboard"])
    assert str(caught.value) == (
        'tensorboardX is not installed; expected for --track tensorboard: pip install ".[tensorboard]" in your '
        "clone of cifarnet"
    )
