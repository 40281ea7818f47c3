"""A Keras optimizer and loss behave as in Keras, and a run with them is resumed to the same bits."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

import cifarnet
from cifarnet.backends import Steps
from cifarnet.data import hold_out
from cifarnet.model.network import build_model, logits_of
from cifarnet.model.weights import get_weights
from cifarnet.recipes import RECIPES
from cifarnet.training.custom import Custom, build_custom
from cifarnet.training.optimizer import compile_engine
from tests.small_runs import SMALL_MODEL, assert_same_results, stop_after

SCHEDULE = keras.optimizers.schedules.ExponentialDecay(1e-2, decay_steps=2, decay_rate=0.5)
OPTIMIZERS = {
    # One of its variables has no name of its own.
    "Nadam, schedule": lambda: keras.optimizers.Nadam(SCHEDULE),
    "AdamW, clipnorm": lambda: keras.optimizers.AdamW(1e-2, clipnorm=0.1),
    "SGD, accumulation": lambda: keras.optimizers.SGD(1e-2, momentum=0.9, gradient_accumulation_steps=2),
}


def focal(y_true, y_pred):
    likely = ops.sum(y_pred * ops.one_hot(ops.cast(y_true, "int32"), ops.shape(y_pred)[-1]), axis=-1)
    return -ops.square(1 - likely) * ops.log(likely + 1e-7)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_the_steps_that_it_takes_in_keras(dataset, name):
    config = replace(SMALL_MODEL, dropout=0.0)
    batches = [(dataset.train.images[at : at + 20], dataset.train.labels[at : at + 20]) for at in range(0, 100, 20)]
    reference = build_model(config)
    reference.compile(OPTIMIZERS[name](), "sparse_categorical_crossentropy")
    for images, labels in batches:
        reference.train_on_batch(images, labels)
    model = build_model(config)
    network, optimizer = logits_of(model), OPTIMIZERS[name]()
    custom = Custom(optimizer, keras.losses.sparse_categorical_crossentropy)
    engine = compile_engine(
        network, build_custom(optimizer, network), RECIPES["seed"], dataset.train.labels, custom=custom
    )
    unused = np.full(len(batches), np.nan, np.float32)
    images, labels = (np.stack(column) for column in zip(*batches, strict=True))
    engine.train(Steps(images, labels, np.ones(labels.shape, np.float32), unused))
    engine.state()  # writes the state back to the model's own variables
    expected = get_weights(reference)
    for path, array in get_weights(model).items():
        np.testing.assert_allclose(array, expected[path], rtol=0, atol=1e-5, err_msg=path)


def test_a_run_is_resumed_to_the_same_bits_and_its_loss_decides_the_best_epoch(job, dataset, runs):
    """The optimizer comes from the record; the function that is the loss is passed again."""

    def trained(**options):
        settings = {"model_config": job.model, "train_config": job.train, "optimizer": OPTIMIZERS["Nadam, schedule"]()}
        return cifarnet.train(dataset, "seed", runs=runs, loss=focal, **settings, **options)

    straight, run = trained(), trained(stop=stop_after(11))
    assert (run.record.status, run.record.custom) == ("interrupted", straight.record.custom)
    cifarnet.resume(run, dataset, loss=focal)
    assert_same_results(run, straight)
    steps = 8  # 224 images in batches of 30
    rates = [row.learning_rate for row in run.read_history()]
    np.testing.assert_allclose(rates, [1e-2 * 0.5 ** ((epoch * steps - 1) / 2) for epoch in (1, 2, 3)], rtol=1e-5)
    chosen = hold_out(dataset.train, job.train.validation_fraction, job.train.seed, 10).validation
    probabilities = run.load_model().predict(dataset.train.images[chosen], verbose=0)
    likely = probabilities[np.arange(len(chosen)), dataset.train.labels[chosen]]
    best = run.record.metrics.validation
    assert best.loss == pytest.approx(np.mean(-np.square(1 - likely) * np.log(likely)), rel=1e-4)
    assert best.loss_function == "focal"
