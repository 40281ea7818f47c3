"""Which optimizers and losses are accepted, how a run records them, and how the record is read."""

import copy
import json
import os
import re

import keras
import pytest
from keras import ops

import cifarnet
from cifarnet.errors import ConfigError, RunError
from cifarnet.evaluation.reproduce import reproduce
from cifarnet.training.keras_objects import loss_record, optimizer_record
from cifarnet.training.observer import Observer
from tests.records import document, put
from tests.small_runs import SMALL_JOB, assert_same_results, stop_after, with_training

KERAS = keras.optimizers
COSINE = KERAS.schedules.CosineDecay(3e-3, 100)


class Halved(KERAS.SGD):
    """Takes half of the steps' length."""

    def __init__(self, learning_rate=0.1, part=0.5, **options):
        super().__init__(learning_rate=learning_rate, **options)
        self.part = part

    def update_step(self, gradient, variable, learning_rate):
        super().update_step(gradient * self.part, variable, learning_rate)

    def get_config(self):
        return super().get_config() | {"part": self.part}


class Untold(Halved):
    get_config = KERAS.SGD.get_config


def confident(y_true, y_pred):
    return 1 - ops.max(y_pred * ops.one_hot(ops.cast(y_true, "int32"), 10), axis=-1)


def excluding(*names):
    optimizer = KERAS.AdamW(1e-3)
    optimizer.exclude_from_weight_decay(var_names=list(names))
    return optimizer


def trained(job, dataset, runs, **options):
    return cifarnet.train(dataset, "seed", runs=runs, model_config=job.model, train_config=job.train, **options)


@pytest.fixture(scope="module")
def interrupted(dataset, tmp_path_factory):
    """The record of a run with an optimizer and a loss of Keras', stopped in its first epoch, and its folder."""
    options = {"optimizer": KERAS.Lion(COSINE, weight_decay=0.01)}
    options["loss"] = keras.losses.SparseCategoricalCrossentropy(reduction="mean")
    run = trained(SMALL_JOB, dataset, tmp_path_factory.mktemp("custom"), **options, stop=stop_after(10))
    return run, document(run)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "lion"}, "optimizer is 'lion'; expected an instance"),
        ({"optimizer": KERAS.Lion}, "optimizer is the class Lion; expected an instance"),
        ({"optimizer": KERAS.SGD(0.1, use_ema=True)}, "optimizer has use_ema=True; expected none"),
        ({"optimizer": KERAS.SGD(0.1, loss_scale_factor=2.0)}, r"optimizer has loss_scale_factor=2\.0; expected none"),
        (
            {"optimizer": KERAS.SGD(lambda: 0.1)},
            "optimizer has a learning rate that is a function; expected a number or a keras schedule",
        ),
        (
            {"optimizer": KERAS.LossScaleOptimizer(KERAS.SGD(0.1))},
            "LossScaleOptimizer has inner_optimizer=.*; expected",
        ),
        ({"optimizer": KERAS.ScheduleFreeAdamW()}, "optimizer is ScheduleFreeAdamW; expected another"),
        ({"optimizer": KERAS.Optimizer(0.1)}, "optimizer could not take a step"),
        ({"optimizer": KERAS.SGD(float("nan"))}, "optimizer has the learning rate nan; expected a finite number, 0 or"),
        ({"optimizer": KERAS.SGD(float("inf"))}, "optimizer has the learning rate inf; expected a finite number, 0 or"),
        ({"optimizer": KERAS.Lion(-0.5)}, r"optimizer has the learning rate -0\.5; expected a finite number, 0 or"),
        (
            {"optimizer": KERAS.Lion(keras.optimizers.schedules.PiecewiseConstantDecay([50], [0.5, -0.5]))},
            r"optimizer has the learning rate -0\.5 after 100 steps; expected a finite number, 0 or",
        ),
        ({"optimizer": excluding("bias")}, "optimizer excludes variables from weight decay"),
        ({"optimizer": Untold()}, r"Untold.get_config\(\) lacks part; expected every argument"),
        ({"loss": "crossentropy"}, "loss is 'crossentropy'; expected the name of a loss"),
        ({"loss": keras.losses.CategoricalHinge}, "loss is the class CategoricalHinge; expected a keras.losses.Loss"),
        ({"loss": "categorical_crossentropy"}, r"loss failed on labels of shape \(11,\)"),
        ({"loss": "mean_squared_error"}, r"loss failed on labels of shape \(11,\)"),
        ({"loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}, "loss has from_logits=True"),
        ({"loss": keras.losses.SparseCategoricalCrossentropy(reduction="sum")}, "loss has reduction 'sum'"),
        (
            {"loss": keras.losses.SparseCategoricalCrossentropy(ignore_class=3)},
            "loss has ignore_class=3; expected None",
        ),
        ({"loss": lambda _, y_pred: ops.mean(y_pred)}, r"loss returned the shape \(\) for 11 images"),
        ({"loss": lambda _, y_pred: y_pred[:, 0] - ops.mean(y_pred[:, 0])}, "changes with the other images"),
        ({"loss": lambda _, y_pred: ops.log(y_pred[:, 0] - 1)}, "loss is infinite or NaN for probabilities above 0"),
        ({"loss": lambda _, y_pred: 1 / (0 * y_pred[:, 0])}, "loss is infinite or NaN for probabilities above 0"),
        ({"loss": lambda y_true, _: y_true}, "loss does not change with the probabilities"),
    ],
)
def test_what_would_not_do_the_same_here_is_refused_before_a_run_is_made(job, dataset, runs, options, message):
    with pytest.raises(ConfigError, match=message) as refused:
        trained(job, dataset, runs, **options)
    assert "\n" not in str(refused.value)
    assert not runs.exists()


def test_the_record_names_class_and_settings_and_a_plain_run_has_none(interrupted, whole):
    assert interrupted[1]["custom"]["optimizer"]["name"] == "keras.optimizers.Lion"
    assert interrupted[1]["custom"]["optimizer"]["config"]["learning_rate"] == {
        "name": "keras.optimizers.schedules.CosineDecay",
        "config": {"initial_learning_rate": 0.003, "decay_steps": 100, "alpha": 0.0, "warmup_target": None}
        | {"warmup_steps": 0},
    }
    assert interrupted[1]["custom"]["loss"]["config"]["reduction"] == "mean"
    assert "custom" not in document(whole.run)


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (loss_record(keras.losses.SparseCategoricalCrossentropy()), "from_logits=False"),
        (optimizer_record(KERAS.Adam(beta_1=0.0)), "beta_1=0.0"),
        (optimizer_record(KERAS.Adafactor(relative_step=False)), "relative_step=False"),
    ],
)
def test_a_setting_of_zero_or_false_is_shown_and_an_unused_one_is_not(record, shown):
    assert shown in str(record)
    assert "None" not in str(record)
    assert "ema" not in str(record)


def test_a_class_of_ones_own_is_passed_again_with_the_same_settings(job, dataset, runs):
    straight = trained(job, dataset, runs, optimizer=Halved(), loss=confident)
    run = trained(job, dataset, runs, optimizer=Halved(), loss=confident, stop=stop_after(10))
    for options, message in [
        ({}, r"the optimizer Halved, whose code is not in run.json; .*: pass it again"),
        ({"optimizer": Halved()}, r"the loss confident, whose code is not in run.json; .*resume\(run, dataset, loss="),
    ]:
        with pytest.raises(RunError, match=message):
            cifarnet.resume(run, dataset, **options)
    for options in ({"optimizer": Halved(part=0.25)}, {"optimizer": KERAS.SGD(0.1)}, {"loss": "mean_absolute_error"}):
        with pytest.raises(ConfigError, match=r"(is .*; expected .* as when the run began|loss failed)"):
            cifarnet.resume(run, dataset, **{"optimizer": Halved(), "loss": confident} | options)
    cifarnet.resume(run, dataset, optimizer=Halved(), loss=confident)
    assert_same_results(run, straight)


def test_an_optimizer_is_not_given_to_a_run_that_began_without(job, dataset, runs):
    run = trained(job, dataset, runs, stop=lambda: True)
    with pytest.raises(ConfigError, match=r"optimizer is .*; expected that of the recipe as when the run began"):
        cifarnet.resume(run, dataset, optimizer=KERAS.Lion(1e-3))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("optimizer", "name"), "keras.optimizers.deserialize"),
        (("optimizer", "name"), "keras.optimizers.legacy"),
        (("optimizer", "name"), "keras.optimizers.schedules.CosineDecay"),
        (("optimizer", "name"), "keras.optimizers.LossScaleOptimizer"),
        (("optimizer", "name"), "os.system"),
        (("optimizer", "name"), 5),
        (("optimizer", "config"), None),
        (("optimizer", "config"), []),
        (("optimizer", "config", "beta_1"), "much"),
        (("optimizer", "config", "clipnorm"), "much"),
        (("optimizer", "config", "weight_decay"), {"module": "os", "class_name": "system", "config": ["true"]}),
        (("optimizer", "config", "learning_rate"), {"module": "os", "class_name": "system", "config": {}}),
        (("optimizer", "config", "learning_rate"), {"name": "os.system", "config": {}}),
        (("optimizer", "config", "learning_rate", "config", "decay_steps"), None),
        (("optimizer", "config", "surprise"), 1),
        (("loss", "name"), "keras.losses.get"),
        (("loss", "name"), "keras.losses.Dice"),
        (("loss",), {"name": "keras.losses.deserialize"}),
        (("loss",), {"name": "keras.losses.CategoricalHinge"}),
        (("loss", "config", "from_logits"), True),
        (("loss", "config", "fn"), {"class_name": "function", "config": "system"}),
    ],
)
def test_a_damaged_or_hostile_record_runs_nothing(interrupted, dataset, tmp_path, monkeypatch, place, value):
    ran = []
    monkeypatch.setattr(os, "system", ran.append)
    record = copy.deepcopy(interrupted[1])
    *before, last = place
    part = record["custom"]
    for name in before:
        part = part[name]
    part[last] = value
    run = cifarnet.Run(tmp_path)
    put(run, record)
    refused = r"run\.json is damaged|whose code is not in run\.json"
    with pytest.raises(RunError, match="is no loss function of Keras" if place == ("loss",) else refused):
        cifarnet.resume(run, dataset)
    assert ran == []


def test_commands_name_what_a_run_was_trained_with(job, runs, typed, tmp_path):
    dataset = cifarnet.load_dataset("synthetic")
    lion = KERAS.Lion(COSINE)
    run = trained(job, dataset, runs, optimizer=lion, loss="sparse_categorical_crossentropy", stop=stop_after(10))
    code, _, talk = typed("train", "--resume", run, "--optimizer", "adam")
    assert (code, "optimizer is adam; expected keras.optimizers.Lion(learning_rate=" in talk) == (1, True), talk
    assert typed("train", "--resume", run)[0] == 0
    for command in (["evaluate"], ["export", "--onnx"], ["report"]):
        code, _, talk = typed(command[0], run, *command[1:])
        assert code == 0, talk
    card = (run.path / "MODELCARD.md").read_text().replace("\\", "")
    schedule = "keras.optimizers.schedules.CosineDecay(initial_learning_rate=0.003, decay_steps=100"
    for page in (card, (run.path / "report.html").read_text()):
        assert (
            f", optimizer=keras.optimizers.Lion(learning_rate={schedule}"
            in page.partition("Not set by this command: ")[2]
        )
        assert "loss=keras.losses.sparse_categorical_crossentropy" in page
        assert "Both losses are keras.losses.sparse_categorical_crossentropy, not the cross-entropy" in page
    assert "| schedule |" not in card
    assert "| label smoothing |" not in card
    shown = typed("inspect", run.model)[1]
    assert "keras.optimizers.Lion(" in shown
    assert not re.search("warmup[ _]epochs", shown)  # the schedule of Keras has warmup_steps
    assert (
        json.loads(typed("inspect", run.model, "--json")[1])["contract"]["training"]["custom"]
        == document(run)["custom"]
    )
    code, out, talk = typed("reproduce", run, "--output", tmp_path / "again")
    assert (code, out.startswith("bit-equal")) == (0, True), out + talk


def test_a_run_with_a_loss_of_ones_own_is_not_repeated(job, dataset, runs, tmp_path):
    run = trained(job, dataset, runs, loss=confident)
    with pytest.raises(RunError, match=r"the loss confident, .*: train it again from Python, with cifarnet.train"):
        reproduce(run, dataset, tmp_path / "again", Observer())
    assert not (tmp_path / "again").exists()


def test_fine_tuning_has_the_optimizer_of_the_recipe_unless_another_is_passed(job, dataset, runs):
    origin = trained(job, dataset, runs, optimizer=KERAS.Lion(1e-3))
    assert "custom" not in document(cifarnet.train(dataset, "seed", runs=runs, warm_start=origin, max_minutes=0))
    tuned = cifarnet.train(dataset, "seed", runs=runs, warm_start=origin, max_minutes=0, optimizer=KERAS.SGD(0.01))
    assert tuned.record.custom.optimizer.name == "keras.optimizers.SGD"


def test_the_cross_entropy_of_keras_is_that_of_the_recipe_in_micro_batches_and_ragged_ones(normalised, dataset, runs):
    """It replaces label smoothing."""

    def train_loss(loss, label_smoothing):
        changes = {"batch_size": 64, "epochs": 1, "optimizer": "adam", "label_smoothing": label_smoothing}
        run = trained(with_training(normalised, **changes), dataset, runs, loss=loss)
        return run.read_history()[0].train_loss

    expected = train_loss(None, 0.0)
    assert train_loss("sparse_categorical_crossentropy", 0.8) == pytest.approx(expected, rel=1e-3)
    assert train_loss(None, 0.8) != pytest.approx(expected, rel=1e-3)
