"""`cifarnet train --track` shows a real training in both places, and trains as if nobody watched."""

import csv

from cifarnet.tracking.mlflow import open_client


def test_a_tracked_training_is_the_one_that_nobody_watched(story):
    code, _, stderr = story.trained
    assert code == 0, stderr
    assert "left out" not in stderr
    (repeated, *_) = sorted((story.folder / "reproductions").glob("2*"))  # without --track
    assert not (repeated / "tensorboard").exists()
    assert (repeated / "history.csv").read_bytes() == (story.run / "history.csv").read_bytes()


def test_what_is_shown_is_what_the_run_recorded(story):
    with (story.run / "history.csv").open(newline="") as file:
        recorded = [(int(row["epoch"]), float(row["validation_loss"])) for row in csv.DictReader(file)]
    client = open_client(story.folder / "runs" / "mlruns")
    (found,) = client.search_runs([client.get_experiment_by_name("cifarnet").experiment_id])
    shown = client.get_metric_history(found.info.run_id, "loss/validation")
    assert [(each.step, each.value) for each in shown] == recorded
    assert (found.info.run_name, found.info.status) == (story.run.name, "FINISHED")
    assert {"test/loss", "test/accuracy"} <= set(found.data.metrics)
    assert len(list((story.run / "tensorboard").glob("events.out.tfevents.*"))) == 1
