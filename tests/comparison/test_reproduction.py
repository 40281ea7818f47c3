"""A run is repeated from its record: bit-equal, within rounding noise, or with the first difference."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from tests.records import FINISHED, put

from cifarnet.cli.reproduce import _sentence
from cifarnet.dataset import CIFAR10_FINGERPRINT
from cifarnet.errors import RunError
from cifarnet.evaluation.reproduce import (
    MEASURED_NOISE,
    NOISE_FACTOR,
    changes,
    compare_runs,
    noise_of,
    planned_epochs,
)
from cifarnet.recipes import Recipe, recipe
from cifarnet.run.folder import EpochRecord, Run
from cifarnet.run.record import STOP_REASONS, RunRecord

SETTINGS = recipe("seed")
PATIENCE, LAST = STOP_REASONS["patience"], STOP_REASONS["epochs"]


def test_a_run_is_repeated_bit_for_bit_on_the_same_machine(story):
    code, stdout, stderr = story.repeated
    assert code == 0, stderr
    found = json.loads(stdout)
    assert (found["outcome"], found["epochs"], found["weights_equal"]) == ("bit-equal", 2, True)
    assert (found["first"], found["changes"]) == (None, [])
    repeated = story.folder / found["run"]
    assert repeated.parent == story.folder / "reproductions"
    assert (repeated / "history.csv").read_bytes() == (story.run / "history.csv").read_bytes()
    assert json.loads((repeated / "reproduction.json").read_text()) == found
    assert (story.folder / "runs" / "latest").resolve() == story.run  # a repetition is not the newest training


def test_one_epoch_of_two_is_repeated_and_a_billionth_more_than_was_recorded_is_refused_with_its_place(story):
    code, stdout, _ = story.changed
    assert code == 1
    assert stdout.startswith("diverged: 1 of 2 epochs; first difference: epoch 1, train_loss: ")
    assert ", difference 1.0e-09; rounding noise is only known for the recipe seed on CIFAR-10" in stdout


def test_other_images_are_refused_before_anything_is_made(story):
    code, stdout, stderr = story.refused
    assert (code, stdout) == (1, "")
    assert "as when the run began: restore " in stderr.splitlines()[-1]
    assert not (story.folder / "refused").exists()


# What is concluded


ROWS = tuple(EpochRecord(epoch, 1e-3 / epoch, 2.0 / epoch, 0.4, 1.9 / epoch, 0.45) for epoch in (1, 2, 3))


@pytest.fixture
def record():
    """The record of a run of the recipe on CIFAR-10, as far as a comparison reads it."""
    return FINISHED | {
        "backend": "jax",
        "model": SETTINGS.model.to_json(),
        "train": replace(SETTINGS.train, seed=7, epochs=3).to_json(),
        "data": FINISHED["data"] | {"source": "cifar10", "fingerprint": CIFAR10_FINGERPRINT},
        "versions": {"keras": "3.15.1", "jax": "0.10.2"},
    }


@pytest.fixture
def judged(tmp_path, record):
    """Return a function that compares a stored run with one of other rows, and of another record."""

    def judged(rows, epochs=3, **changed):
        original, repeated = Run(tmp_path / "original"), Run(tmp_path / "repeated")
        for run, content, history in ((original, record, ROWS), (repeated, record | changed, rows)):
            run.path.mkdir(exist_ok=True)
            put(run, content)
            run.write_history(history)
        return compare_runs(original, repeated, epochs)

    return judged


def changed(at, **differences):
    """Return the rows with one of them moved by so much in some columns."""
    row = ROWS[at]
    moved = replace(row, **{column: getattr(row, column) + size for column, size in differences.items()})
    return [*ROWS[:at], moved, *ROWS[at + 1 :]]


@pytest.mark.parametrize("column", MEASURED_NOISE)
def test_what_rounding_explains_is_noise_and_a_little_more_is_not(judged, column):
    bound = NOISE_FACTOR * MEASURED_NOISE[column]
    within = judged(changed(1, **{column: 0.99 * bound}), best_epoch=2)
    assert (within.outcome, within.unexplained) == ("within noise", None)
    assert (within.first.epoch, within.first.column) == (2, column)
    beyond = judged(changed(1, **{column: 1.01 * bound}), best_epoch=2)
    assert beyond.outcome == "diverged"
    assert (beyond.unexplained.epoch, beyond.unexplained.column, beyond.unexplained.noise) == (2, column, bound)


def test_the_first_difference_and_the_first_unexplained_one_are_both_told(judged):
    rows = [*changed(0, train_loss=1e-6)[:2], replace(ROWS[2], validation_accuracy=0.9)]
    found = judged(rows, best_epoch=2)
    assert (found.first.epoch, found.first.column) == (1, "train_loss")
    assert (found.unexplained.epoch, found.unexplained.column) == (3, "validation_accuracy")


def test_the_learning_rate_has_no_noise_but_in_its_last_bits(judged):
    assert judged(changed(0, learning_rate=4e-19), best_epoch=2).outcome == "within noise"
    assert judged(changed(0, learning_rate=1e-12), best_epoch=2).outcome == "diverged"


def test_rows_beyond_those_asked_for_are_not_looked_at(judged):
    found = judged(changed(2, train_loss=1.0), epochs=2, best_epoch=2)
    assert (found.outcome, found.epochs, found.recorded_epochs) == ("bit-equal", 2, 3)


def test_a_loss_of_nan_is_infinitely_far_from_a_number(judged):
    assert judged([*ROWS[:2], replace(ROWS[2], train_loss=math.nan)], best_epoch=2).first.size == math.inf


@pytest.mark.parametrize(
    ("rows", "why_stopped", "ending"),
    [
        (ROWS[:2], "patience", f"ended after 2 epochs ({PATIENCE}) instead of 3 epochs ({LAST})"),
        ([*ROWS, replace(ROWS[2], epoch=4)], "epochs", f"ended after 4 epochs ({LAST}) instead of 3 epochs ({LAST})"),
        (ROWS, "patience", f"ended after 3 epochs ({PATIENCE}) instead of 3 epochs ({LAST})"),
    ],
)
def test_a_repetition_that_ended_otherwise_has_diverged_even_with_equal_rows(judged, rows, why_stopped, ending):
    found = judged(rows, epochs=None, best_epoch=2, why_stopped=why_stopped)
    assert (found.outcome, found.first, found.ending) == ("diverged", None, ending)
    assert f"epochs are identical, then the repetition {ending}" in _sentence(found, "original")


def test_where_a_part_was_asked_for_its_rows_count_and_what_comes_after_does_not(judged):
    assert (
        judged([*ROWS[:2], replace(ROWS[2], train_loss=9.0)], 2, best_epoch=2, why_stopped="interrupted").ending is None
    )
    assert judged(ROWS[:2], 2, best_epoch=2, why_stopped="interrupted").outcome == "bit-equal"
    assert judged(ROWS[:1], 2, best_epoch=1, why_stopped="patience").outcome == "diverged"


def test_rows_within_noise_that_end_otherwise_have_diverged_and_both_is_said(judged):
    found = judged(changed(0, train_loss=1e-6)[:2], epochs=None, best_epoch=2, why_stopped="patience")
    assert found.outcome == "diverged"
    assert _sentence(found, "original").startswith(
        "diverged: 2 of 3 epochs agree within noise, then the repetition ended"
    )


def test_rounding_may_move_the_epoch_at_which_patience_runs_out(judged, record):
    record["why_stopped"] = "patience"
    for size, outcome in ((1e-6, "within noise"), (1.0, "diverged"), (0.0, "diverged")):
        assert judged(changed(0, train_loss=size)[:2], epochs=None, best_epoch=2).outcome == outcome


def test_noise_is_known_for_the_measured_settings_and_images_alone():
    train = replace(SETTINGS.train, seed=3, epochs=5, patience=7)
    job = Recipe(name="seed", model=SETTINGS.model, train=train)
    known = noise_of(job, CIFAR10_FINGERPRINT)
    assert {name: known[name] for name in MEASURED_NOISE} == {name: 2 * size for name, size in MEASURED_NOISE.items()}
    assert noise_of(job, "0" * 64) is None
    assert noise_of(replace(job, train=replace(train, learning_rate=1e-3)), CIFAR10_FINGERPRINT) is None
    assert noise_of(replace(job, model=replace(job.model, dropout=0.1)), CIFAR10_FINGERPRINT) is None


def test_no_noise_is_known_of_a_training_that_began_from_the_weights_of_another(judged, record):
    record["warm_start"] = {"run": "earlier", "weights_sha256": "0" * 64, "seen": []}
    found = judged(changed(1, train_loss=1e-9), best_epoch=2)
    assert (found.outcome, found.noise_known) == ("diverged", False)


def test_the_noise_is_what_was_measured_and_refuses_two_of_three_pairs_of_seeds():
    measured = json.loads((Path(__file__).parents[2] / "benchmarks/results/noise.json").read_text())
    assert measured["data"] == CIFAR10_FINGERPRINT
    for column, bound in MEASURED_NOISE.items():
        largest = max(pair[column] for pair in measured["backends"].values())
        assert largest <= bound <= 1.02 * largest  # the same but for rounding up
    assert len(measured["backends"]) == len(measured["seeds"]) == 3
    refused = [
        pair
        for pair in measured["seeds"].values()
        if any(pair[column] > NOISE_FACTOR * bound for column, bound in MEASURED_NOISE.items())
    ]
    assert len(refused) == 2


def test_what_changed_around_a_run_is_told(record):
    again = record | {"backend": "torch", "versions": {"keras": "3.16.0", "torch": "2.13"}}
    again["machine"] = record["machine"] | {"threads": 1}  # earlier versions did not record it
    before, after = (RunRecord.from_json(each) for each in (record, again))
    assert changes(before, after) == [
        "backend: jax then, torch now",
        "keras: 3.15.1 then, 3.16.0 now",
        "jax: 0.10.2 then, none now",
        "torch: none then, 2.13 now",
        "threads: unknown then, 1 now",
    ]
    assert changes(before, RunRecord.from_json(json.loads(json.dumps(record)))) == []


@pytest.mark.parametrize(
    ("status", "wanted", "expected"),
    [
        ("finished", None, (3, False)),
        ("finished", 3, (3, False)),
        ("finished", 2, (2, True)),
        ("interrupted", None, (3, True)),  # its settings would go on for longer
        ("interrupted", 3, (3, True)),
    ],
)
def test_a_run_is_repeated_as_far_as_it_went(judged, tmp_path, record, status, wanted, expected):
    judged(ROWS, best_epoch=2)
    run = Run(tmp_path / "original")
    put(run, record | {"status": status})
    assert planned_epochs(run, wanted) == expected
    for others in (0, 4):
        with pytest.raises(RunError, match=rf"to compare with, of which the first {others} were asked for; expected 1"):
            planned_epochs(run, others)


def test_a_run_without_a_finished_epoch_is_refused(tmp_path, record):
    put(Run(tmp_path), record)
    with pytest.raises(RunError, match=r"has 0 finished epoch\(s\) to compare with; expected 1"):
        planned_epochs(Run(tmp_path), None)


def test_the_run_that_may_have_been_changed_is_the_original(judged):
    found = replace(judged(ROWS, best_epoch=2), outcome="diverged", weights_equal=False)
    assert _sentence(found, "runs/original").endswith("the best weights differ: was runs/original changed since?")
