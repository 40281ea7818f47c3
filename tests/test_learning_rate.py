"""The learning rate follows the schedule of the settings, and weight decay skips biases."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from cifarnet.backends import choose
from cifarnet.config import OptimizerName, TrainConfig

choose()

import keras  # noqa: E402  # now that its framework is chosen

from cifarnet.training.optimizer import OPTIMIZERS, build_optimizer, learning_rate_at  # noqa: E402  # as above

COSINE = TrainConfig(learning_rate=0.8, schedule_epochs=8, floor_fraction=0.25, warmup_epochs=0)
CONSTANT = replace(COSINE, schedule="constant")


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (COSINE, {0: 0.8, 2: 0.2 + 0.6 * (1 + 0.5**0.5) / 2, 4: 0.5, 8: 0.2, 8.5: 0.2, 1000: 0.2}),
        (replace(COSINE, schedule="linear"), {0: 0.8, 2: 0.65, 4: 0.5, 8: 0.2, 8.5: 0.2, 1000: 0.2}),
        (replace(COSINE, schedule_epochs=0, epochs=8), {0: 0.8, 4: 0.5, 8: 0.2}),  # all epochs
        (CONSTANT, {0: 0.8, 1e-3: 0.8, 8: 0.8, 1000: 0.8}),
        (replace(CONSTANT, warmup_epochs=0.5), {0: 0, 0.125: 0.2, 0.25: 0.4, 0.5: 0.8, 3: 0.8}),
    ],
    ids=["cosine", "linear", "whole", "constant", "warm-up"],
)
def test_the_learning_rate_follows_the_schedule(config, expected):
    for progress, rate in expected.items():
        found = learning_rate_at(config, progress)
        assert found == pytest.approx(rate, rel=1e-12), progress  # a handful of float64 roundings


@pytest.mark.parametrize("config", [COSINE, CONSTANT], ids=["cosine", "constant"])
def test_after_the_warm_up_the_schedule_is_as_without_one(config):
    warm = replace(config, warmup_epochs=2.5)
    for progress in (2.5, 2.6, 7, 8, 99):
        assert learning_rate_at(warm, progress) == learning_rate_at(config, progress)
    assert learning_rate_at(warm, 2.4) < learning_rate_at(config, 2.4)


@pytest.mark.parametrize("config", [replace(COSINE, warmup_epochs=2.5), TrainConfig()], ids=["made up", "default"])
def test_the_learning_rate_never_jumps(config):
    for joint in (0, config.warmup_epochs, config.schedule_epochs):
        before, after = (learning_rate_at(config, max(joint + step, 0)) for step in (-1e-9, 1e-9))
        assert abs(before - after) < config.learning_rate * 1e-7


def test_the_learning_rate_never_leaves_zero_to_peak():
    config = replace(COSINE, warmup_epochs=0.25)
    rates = [learning_rate_at(config, progress) for progress in np.linspace(0, 30, 3001)]
    assert min(rates) == rates[0] == 0
    assert 0.79 < max(rates) <= 0.8  # the cosine falls a little during the warm-up


def after_one_step_without_gradients(config: TrainConfig) -> dict[str, np.ndarray]:
    """Return the weights of two dense layers, all of them 1 before."""
    network = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    optimizer = build_optimizer(config, network)
    own = {id(variable) for variable in optimizer.variables}
    assert not own & {id(variable) for variable in network.variables}
    for variable in network.trainable_variables:
        variable.assign(np.ones(variable.shape, np.float32))
    nothing = [keras.ops.zeros(variable.shape) for variable in network.trainable_variables]
    optimizer.apply(nothing, network.trainable_variables)
    return {variable.path: np.asarray(variable) for variable in network.trainable_variables}


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_weight_decay_shrinks_kernels_by_learning_rate_times_decay_and_spares_biases(name):
    config = TrainConfig(optimizer=name, learning_rate=0.01, weight_decay=0.3)
    weights = after_one_step_without_gradients(config)
    assert len(weights) == 4
    for values in after_one_step_without_gradients(replace(config, weight_decay=0)).values():
        np.testing.assert_array_equal(values, 1)
    for path, values in weights.items():
        expected = 1 if path.endswith("/bias") else 1 - 0.01 * 0.3
        np.testing.assert_allclose(values, expected, rtol=1e-6)  # float32 rounds to 6e-8; the decay is 3e-3


def test_every_admitted_optimizer_is_the_keras_class_of_that_name():
    assert tuple(OPTIMIZERS) == get_args(OptimizerName)
    assert OPTIMIZERS["adamw"] is OPTIMIZERS["adam"]  # it decays its weights already
    for name, kind in OPTIMIZERS.items():
        assert name == "adamw" or kind.__name__.lower() == name
