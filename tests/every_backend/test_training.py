"""Training learns, stops for the right reason, and leaves complete files."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
from keras import ops

from cifarnet.backends import Steps, adapter
from cifarnet.config import TrainConfig
from cifarnet.data import hold_out
from cifarnet.dataset import Split
from cifarnet.evaluation.scoring import evaluate
from cifarnet.model.network import build_model, logits_of, predictor
from cifarnet.model.weights import load_weights
from cifarnet.training import loop, optimizer
from cifarnet.training.optimizer import build_optimizer, objective
from cifarnet.training.train import resume
from tests.small_runs import SMALL_MODEL, assert_same_results, finished, stop_after, with_training


def test_it_learns(whole):
    first, *_, last = [row.train_loss for row in whole.run.read_history()]
    assert last < first - 0.05


def test_the_best_weights_on_disk_give_the_recorded_figures(whole, job, dataset):
    again = evaluate(predictor(whole.run.load_model()), dataset.test)
    assert asdict(again) == whole.record["metrics"]["test"]
    model = build_model(job.model, seed=99)
    load_weights(model, whole.run.best_weights)
    parts = hold_out(dataset.train, job.train.validation_fraction, job.train.seed, 10)
    held_out = Split(dataset.train.images[parts.validation], dataset.train.labels[parts.validation])
    best = whole.run.read_history()[whole.record["best_epoch"] - 1]
    # predict and the training engine compile apart: the last bit of a mean may differ.
    assert evaluate(predictor(model), held_out).loss == pytest.approx(best.validation_loss, rel=1e-6)


def test_a_ragged_last_batch_compiles_nothing_new(job, dataset, runs, monkeypatch):
    """The objective runs once per compilation, or recording, and part of a batch."""
    traced, original = [], optimizer.objective
    monkeypatch.setattr(
        optimizer, "objective", lambda *batch, **settings: traced.append(batch[0].shape) or original(*batch, **settings)
    )
    finished(with_training(job, epochs=2), dataset, runs)
    parts = len(adapter().micro_batches(30))
    assert len(traced) == parts
    assert {tuple(shape) for shape in traced} == {(30 // parts, 10)}


def test_images_of_weight_zero_change_nothing(dataset):
    network = logits_of(build_model(SMALL_MODEL))
    engine = adapter().compile(network, build_optimizer(TrainConfig(), network), objective)
    start = engine.state()

    def weights_after(filling):
        images = np.concatenate([dataset.train.images[:20], np.full((10, 32, 32, 3), filling, np.uint8)])
        labels = np.concatenate([dataset.train.labels[:20], np.zeros(10, np.int32)])
        weights = np.repeat(np.array([1, 0], np.float32), [20, 10])
        rates = np.array([1e-3], np.float32)
        engine.restore(start)
        (sums,) = engine.train(Steps(images[None], labels[None], weights[None], rates))
        return engine.state(), float(sums.loss)

    (black, black_loss), (white, white_loss) = weights_after(0), weights_after(255)
    assert black_loss == white_loss
    for path, array in black.items():
        np.testing.assert_array_equal(array, white[path])


def test_a_loss_that_is_not_a_number_ends_training_and_is_never_best(job, dataset, runs):
    exploding = with_training(job, learning_rate=1e30, optimizer="sgd", warmup_epochs=0.0)
    run, record = finished(exploding, dataset, runs)
    assert (record["status"], record["why_stopped"]) == ("finished", "nan")
    assert record["best_epoch"] is None
    json.loads((run.path / "run.json").read_text(), parse_constant=pytest.fail)  # NaN is no JSON


@pytest.mark.parametrize(("batches", "before", "after"), [(8, 8, 8), (5, 8, 3), (5, 2, 8)])
def test_interrupted_and_resumed_is_as_never_interrupted_however_many_steps_a_call_takes(
    whole, job, dataset, runs, monkeypatch, batches, before, after
):
    """Of eight steps per epoch, four go into one call for 2, two for 3; `whole` took them one by one."""
    monkeypatch.setattr(loop, "CALLS_PER_EPOCH", before)
    run, record = finished(job, dataset, runs, stop=stop_after(batches))
    assert (record["status"], record["why_stopped"]) == ("interrupted", "interrupted")
    monkeypatch.setattr(loop, "CALLS_PER_EPOCH", after)
    record = resume(run, dataset).record
    assert record.metrics.to_json() == whole.record["metrics"]
    assert_same_results(whole.run, run)


def test_a_normalised_network_with_augmentation_resumes_to_the_same_bits(normalised, dataset, runs):
    normalised = with_training(normalised, class_weights="balanced")
    straight, _ = finished(normalised, dataset, runs)
    run, record = finished(normalised, dataset, runs, stop=stop_after(11))
    assert record["status"] == "interrupted"
    resume(run, dataset)
    assert_same_results(straight, run)


@pytest.mark.parametrize("weighed", [True, False], ids=["each once", "fillers too"])
def test_the_ragged_last_batch_of_a_normalised_network_counts_each_image_once(
    normalised, dataset, runs, monkeypatch, weighed
):
    def all_right(logits, labels, weights, **smoothing):
        found = objective(logits, labels, weights, **smoothing)
        return found._replace(correct=ops.sum(weights if weighed else ops.ones_like(weights)))

    monkeypatch.setattr(optimizer, "objective", all_right)
    ragged = with_training(normalised, batch_size=64, epochs=1, optimizer="adam", precision="float32")
    run, record = finished(ragged, dataset, runs)
    assert record["machine"]["parts"] == 4
    count = record["hold_out"]["train"]
    filled = math.ceil(count / 64) * 64
    assert filled > count
    assert run.read_history()[0].train_accuracy == pytest.approx(1.0 if weighed else filled / count)
