"""An engine takes the same steps as stock Keras layers and optimizers."""

import importlib
import logging
import os
import platform
import subprocess
import sys
from functools import partial

import keras
import numpy as np
import pytest

from cifarnet.backends import Plan, Steps, adapter
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.errors import BackendError
from cifarnet.model.layers import ConvolutionAndPooling
from cifarnet.model.network import build_model, logits_of
from cifarnet.model.weights import get_weights, set_weights
from cifarnet.system import usable_cores
from cifarnet.training.optimizer import OPTIMIZERS, Adam, Muon, build_optimizer, objective

RNG = np.random.default_rng(5)
MODEL = ModelConfig(filters=(8,), dense_units=(16,), dropout=0.25, padding="valid")
STEP_SIZE = 2.0**20
"""Learning rate of gradient descent at which the change of the weights is the gradient, within rounding."""
TOLERANCE = 5e-6
"""Tolerance of a gradient, relative to the largest element of its array; at most 1.3e-6 was measured."""
NORMALISED_TOLERANCE = 5e-5
"""The same behind batch normalisations, which subtract means and divide by deviations: 1.6e-5 was measured."""
ALIKE = 1e-3
"""Distance of two gradients of rounded products over the length of one: 9e-5 is the most that was measured."""

GATHERING = {
    "none": keras.layers.Flatten,
    "average": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
}
NOISE = RNG.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
STRIPES = np.repeat(np.repeat(RNG.integers(0, 2, (12, 8, 8, 3), dtype=np.uint8) * 200, 4, axis=1), 4, axis=2)
MIXED = np.concatenate([NOISE[:6], STRIPES[:6]])
"""Noise, and images whose pixels tie for the maximum of a window."""


def stock_network(model):
    """The logits of ``model``'s network from layers as Keras brings them, dropout left out."""
    images = keras.Input(model.image_shape, dtype="uint8")
    features = keras.layers.Rescaling(2 / 255, -1.0)(images)
    normalised = model.ghost_batch > 0
    pooled = 1 if model.pooling == "first" else model.convolutions_per_block
    for block, filters in enumerate(model.filters, start=1):
        for repeat in range(1, model.convolutions_per_block + 1):
            name = f"{block}" if model.convolutions_per_block == 1 else f"{block}_{repeat}"
            activation = "linear" if normalised else "relu"
            features = keras.layers.Conv2D(
                filters,
                model.kernel_size,
                padding=model.padding,
                activation=activation,
                use_bias=not normalised,
                name=f"conv_{name}",
            )(features)
            if repeat == pooled:
                features = keras.layers.MaxPooling2D(2)(features)
            if normalised:
                features = keras.layers.BatchNormalization(
                    scale=False, momentum=0.9, epsilon=1e-5, name=f"norm_{name}"
                )(features)
                features = keras.layers.ReLU()(features)
    features = GATHERING[model.global_pooling]()(features)
    for index, units in enumerate(model.dense_units, start=1):
        features = keras.layers.Dense(units, activation="relu", name=f"dense_{index}")(features)
    return keras.Model(images, keras.layers.Dense(model.classes, name="logits")(features))


def batch_of(images, weights=None):
    labels = np.arange(len(images), dtype=np.int32) % 10
    weights = np.ones(len(images), np.float32) if weights is None else weights
    return images, labels, weights


def steps_of(batches, rates):
    rates = np.broadcast_to(np.array(rates, np.float32), len(batches))
    return Steps(*(np.stack(column) for column in zip(*batches, strict=True)), rates)


def gradients(network, *batches, ghost_batch=0, precision="float32"):
    """The gradient of each weight, the mean over the batches; of a moving average, what it moved by."""
    optimizer = keras.optimizers.SGD(STEP_SIZE)
    optimizer.build(network.trainable_variables)
    engine = adapter().compile(network, optimizer, objective, Plan(ghost_batch, precision))
    before, state, found = get_weights(network), engine.state(), []
    for batch in batches:
        engine.restore(state)
        engine.train(steps_of([batch], STEP_SIZE))
        after = {path.removeprefix("model/"): array for path, array in engine.state().items()}
        found.append({path: (before[path] - after[path]) / np.float32(STEP_SIZE) for path in before})
    engine.restore(state)
    engine.state()  # writes the state back to the network's own variables
    return {path: np.mean([each[path] for each in found], axis=0) for path in before}


def assert_same_gradients(found, expected, tolerance=TOLERANCE):
    for path, array in expected.items():
        np.testing.assert_allclose(found[path], array, rtol=0, atol=tolerance * np.abs(array).max(), err_msg=path)


def pair_of_networks(**changes):
    """Ours and the stock one, with the same weights.

    Every fourth filter of a convolution gives its bias everywhere: there all of a window ties, whatever the pixels are,
    and which of them is taken for the maximum decides on the gradient. With batch normalisation, where every value is
    the mean there is no scale: one filter hardly varies instead, and its scale comes from epsilon.
    """
    model = ModelConfig(**{"filters": (8, 8, 8), "dense_units": (16,), "dropout": 0.0} | changes)
    ours, stock = logits_of(build_model(model)), stock_network(model)
    weights = {path: (array + 0.1 * (array.ndim == 1)).astype(np.float32) for path, array in get_weights(ours).items()}
    for path, array in weights.items():
        if array.ndim == 4 and not changes.get("ghost_batch"):
            weights[path][..., ::4] = 0
    if changes.get("ghost_batch"):
        weights["conv_1_1/kernel"][..., 0] *= 1e-3
    for network in (ours, stock):
        set_weights(network, weights)
    return ours, stock


NORMALISED = {"ghost_batch": 12, "convolutions_per_block": 2, "pooling": "first", "filters": (8, 8), "dense_units": ()}


@pytest.fixture
def stock_normalisation(monkeypatch):
    """Let torch's engine record what stock layers do there: they write, but to intermediate results alone."""
    if keras.config.backend() == "torch":
        from cifarnet.backends.torch import engine

        monkeypatch.setattr(engine, "_require_repeatable", lambda _: None)


NETWORKS = {
    "plain": {"padding": "same"},
    "valid padding": {"padding": "valid"},
    "two convolutions of kernel 5": {"convolutions_per_block": 2, "kernel_size": 5, "filters": (8, 8)},
    "kernel 1, odd size": {"kernel_size": 1, "image_shape": (19, 18, 3)},
    "normalised": {**NORMALISED, "global_pooling": "average"},
}


@pytest.mark.usefixtures("stock_normalisation")
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_stock_layers(name):
    ours, stock = pair_of_networks(**NETWORKS[name])
    height, width, _ = ours.input_shape[1:]
    batch, ghost_batch = batch_of(MIXED[:, :height, :width]), NETWORKS[name].get("ghost_batch", 0)
    found, expected = (gradients(each, batch, ghost_batch=ghost_batch) for each in (ours, stock))
    assert_same_gradients(found, expected, NORMALISED_TOLERANCE if ghost_batch else TOLERANCE)


@pytest.mark.usefixtures("stock_normalisation")
def test_ghost_batches_do_not_see_each_other_and_their_averages_move_by_the_mean():
    ours, stock = pair_of_networks(**NORMALISED, global_pooling="max")
    parts = [tuple(array[first : first + 4] for array in batch_of(NOISE)) for first in (0, 4, 8)]
    expected = gradients(stock, *parts, ghost_batch=4)
    assert_same_gradients(gradients(ours, batch_of(NOISE), ghost_batch=4), expected, NORMALISED_TOLERANCE)
    with pytest.raises(AssertionError):
        assert_same_gradients(gradients(ours, batch_of(NOISE), ghost_batch=6), expected, NORMALISED_TOLERANCE)


@pytest.mark.parametrize("ghost_batch", [0, 4])
def test_gradients_of_bfloat16_are_those_of_rounded_products_also_without_instructions(ghost_batch, monkeypatch):
    network = logits_of(build_model(ModelConfig(**NORMALISED | {"ghost_batch": ghost_batch}, global_pooling="average")))
    batch, rounding = batch_of(NOISE), {"ghost_batch": ghost_batch, "precision": "bfloat16"}
    exact = gradients(network, batch, ghost_batch=ghost_batch)
    running = sys.modules[adapter().conv2d.__module__]
    found = gradients(network, batch, **rounding)
    if keras.config.backend() == "jax":  # which only rounds, but convolves in two ways
        monkeypatch.setattr(running, "PATCH_BYTES", 0)
    elif running.CAN_MULTIPLY_BFLOAT16:
        monkeypatch.setattr(running, "CAN_MULTIPLY_BFLOAT16", False)
    else:
        pytest.skip("this processor lacks the instructions")
    rounded = gradients(network, batch, **rounding)
    assert_alike(found, rounded)
    with pytest.raises(AssertionError):
        assert_alike(exact, rounded)


def assert_alike(found, expected):
    for path, array in expected.items():
        assert np.linalg.norm(found[path] - array) <= ALIKE * np.linalg.norm(array), path


def test_logits_are_those_of_float32_whatever_steps_multiply():
    network = logits_of(build_model(MODEL))
    logits = []
    for precision in ("float32", "bfloat16"):
        engine = adapter().compile(
            network, build_optimizer(TrainConfig(), network), objective, Plan(precision=precision)
        )
        engine.train(steps_of([batch_of(NOISE)], 0.0))
        logits.append(engine.logits(NOISE))
    np.testing.assert_array_equal(*logits)


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX alone has two ways to convolve")
@pytest.mark.parametrize(("count", "size"), [(5, 3), (16, 2), (37, 5), (37, 1)])
def test_a_convolution_by_rows_and_its_gradients_are_those_of_jax(count, size, monkeypatch):
    import jax

    from cifarnet.backends.jax import operations

    monkeypatch.setattr(operations, "PATCH_BYTES", 0)
    rng = np.random.default_rng(size)
    images, kernel = (rng.standard_normal(shape, np.float32) for shape in ((count, 9, 7, 4), (size, size, 4, 6)))
    for padding in ("valid", "same")[: 1 + size % 2]:
        expected, exact = jax.vjp(lambda *inputs, padding=padding: operations._conv2d(*inputs, padding), images, kernel)
        found, ours = jax.vjp(lambda *inputs, padding=padding: operations.conv2d(*inputs, padding), images, kernel)
        arriving = rng.standard_normal(found.shape, np.float32)
        for one, other in zip((found, *ours(arriving)), (expected, *exact(arriving)), strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=2e-6 * np.abs(other).max())
        with pytest.raises(AssertionError):
            np.testing.assert_allclose(ours(-arriving)[1], exact(arriving)[1], rtol=0.1)


def test_every_pooling_is_taken_together_with_the_convolution_before_it():
    ours, _ = pair_of_networks()
    assert sum(isinstance(layer, ConvolutionAndPooling) for layer in ours.layers) == 3


def test_the_gradients_of_one_changed_weight_are_refused_by_the_same_check():
    ours, stock = pair_of_networks(filters=(8, 8))
    expected, weights = gradients(stock, batch_of(NOISE)), get_weights(ours)
    weights["conv_2/bias"] += np.float32(1e-3)
    set_weights(ours, weights)
    with pytest.raises(AssertionError, match="conv_"):
        assert_same_gradients(gradients(ours, batch_of(NOISE)), expected)


@pytest.fixture
def parts_of_four(monkeypatch):
    """Let the adapter divide batches into parts of about four images."""
    module = importlib.import_module(f"cifarnet.backends.{keras.config.backend()}")
    if not (hasattr(module, "parallel_operations") or hasattr(module, "IMAGES_PER_CORE")):
        pytest.skip("this backend takes whole batches")
    monkeypatch.setattr(module, "parallel_operations", lambda: 3, raising=False)
    monkeypatch.setattr(module, "IMAGES_PER_CORE", 2, raising=False)
    monkeypatch.setattr(module, "usable_cores", lambda: 2)


def test_a_batch_in_parts_is_trained_on_as_a_whole_one_dropout_included(parts_of_four, monkeypatch):
    weights = np.where(np.arange(12) < 10, np.float32(1), np.float32(0))
    batches = [batch_of(NOISE, weights), batch_of(STRIPES)]

    def trained():
        network = logits_of(build_model(MODEL, seed=3))
        engine = adapter().compile(network, build_optimizer(TrainConfig(optimizer="sgd"), network), objective)
        sums = engine.train(steps_of(batches, 1e-2))
        return engine.state(), sums, engine.logits(NOISE)

    divided = trained()
    monkeypatch.undo()
    whole = trained()
    for path, array in whole[0].items():
        np.testing.assert_allclose(divided[0][path], array, atol=1e-6, rtol=1e-5, err_msg=path)
    np.testing.assert_allclose(divided[1], whole[1], rtol=1e-5)
    np.testing.assert_allclose(divided[2], whole[2], atol=1e-4)


def stepped(optimizer, values, gradients):
    """The values after a step for each list of their gradients."""
    variables = [keras.Variable(value, name=f"variable_{value.ndim}") for value in values]
    optimizer.exclude_from_weight_decay(var_names=["variable_1"])
    optimizer.build(variables)
    for each in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient) for gradient in each], variables)
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


VALUES = [RNG.standard_normal(shape).astype(np.float32) for shape in ((5, 4), (4,))]
GRADIENTS = [[RNG.standard_normal(value.shape).astype(np.float32) for value in VALUES] for _ in range(5)]


def adam_of_muon(rate):
    return keras.optimizers.Adam(rate, beta_1=Muon.BETA_1, beta_2=Muon.BETA_2, epsilon=Muon.EPSILON)


@pytest.mark.parametrize(
    ("ours", "keras_adam"),
    [
        (lambda: Adam(0.01, weight_decay=0.1, name="optimizer"), partial(keras.optimizers.Adam, weight_decay=0.1)),
        (lambda: Muon(0.01 / Muon.ADAM_RATIO, name="optimizer"), adam_of_muon),  # all but convolutions
    ],
    ids=["adam", "muon"],
)
def test_adam_and_muon_take_the_steps_of_keras_adam(ours, keras_adam):
    found = stepped(ours(), VALUES, GRADIENTS)
    for one, other, twin in zip(
        found, *(stepped(keras_adam(rate), VALUES, GRADIENTS) for rate in (0.01, 0.02)), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)
        assert not np.allclose(one, twin, rtol=0, atol=1e-6)


def test_adam_reads_gradients_that_lie_transposed_in_memory():
    gradient = GRADIENTS[0][0]
    turned = keras.ops.transpose(keras.ops.convert_to_tensor(np.ascontiguousarray(gradient.T)))
    found = [stepped(Adam(0.01, weight_decay=None, name="adam"), VALUES[:1], [[each]]) for each in (gradient, turned)]
    np.testing.assert_array_equal(*found)


def test_muon_steps_a_convolution_by_its_orthogonal_momentum_at_a_scale_of_one_per_filter():
    kernel = RNG.standard_normal((3, 3, 4, 8)).astype(np.float32)
    first, second = (RNG.standard_normal(kernel.shape).astype(np.float32) for _ in range(2))
    variable = keras.Variable(kernel, name="kernel")
    optimizer = build_optimizer(TrainConfig(optimizer="muon", weight_decay=0), FakeNetwork([variable]))
    optimizer.learning_rate.assign(0.1)
    expected, momentum = kernel, 0
    for gradient in (first, second):
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        momentum = Muon.MOMENTUM * momentum + gradient
        left, _, right = np.linalg.svd((gradient + Muon.MOMENTUM * momentum).reshape(36, 8), full_matrices=False)
        scaled = expected * np.sqrt(8) / np.linalg.norm(expected)
        found = keras.ops.convert_to_numpy(variable)
        step = (scaled - found).reshape(36, 8) / 0.1
        # The iteration takes singular values near to 1, and keeps the directions.
        strengths = np.diag(left.T @ step @ right.T)
        assert strengths.min() > 0.6
        assert strengths.max() < 1.3
        np.testing.assert_allclose(left * strengths @ right, step, rtol=0, atol=1e-4)
        expected = found


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_decay_shrinks_kernels_and_nothing_else(name):
    values = {
        "kernel": np.full((3, 3, 2, 4), 0.5),
        "dense": np.full((4, 5), 0.5),
        "bias": np.ones(4),
        "beta": np.ones(4),
    }
    for decay in (0.0, 0.5):
        variables = [keras.Variable(value.astype(np.float32), name=each) for each, value in values.items()]
        optimizer = build_optimizer(TrainConfig(optimizer=name, weight_decay=decay), FakeNetwork(variables))
        optimizer.learning_rate.assign(0.1)
        optimizer.apply([keras.ops.zeros_like(each.value) for each in variables], variables)
        kernel, dense, bias, beta = map(keras.ops.convert_to_numpy, variables)
        assert dense.max() == pytest.approx(0.5 * (1 - 0.1 * decay))
        # Muon sets the scale of a convolution itself: of 72 equal values whose squares add up to 4 here.
        assert kernel.max() == pytest.approx((4 / 72) ** 0.5 if name == "muon" else dense.max())
        assert (bias.min(), beta.min()) == (1, 1)


class FakeNetwork:
    """Variables to be trained, and nothing else."""

    def __init__(self, variables):
        self.trainable_variables = variables


@pytest.mark.skipif(keras.config.backend() != "torch", reason="torch alone replays what it recorded")
def test_a_step_that_draws_random_numbers_is_refused():
    network = logits_of(build_model(MODEL))
    engine = adapter().compile(
        network,
        build_optimizer(TrainConfig(), network),
        lambda logits, labels, weights: objective(logits, labels, (weights * 0.5).bernoulli(0.5)),
    )
    with pytest.raises(BackendError, match=r"torch traced aten.bernoulli.*; expected operations that neither"):
        engine.train(steps_of([batch_of(NOISE)], 1e-3))


WATCHED = """
import ctypes, os
asked = []
class Library(ctypes.CDLL):
    def __getattr__(self, name):
        asked.append(name)
        return super().__getattr__(name)
ctypes.CDLL = Library
import cifarnet
{prepared}
from cifarnet.config import ModelConfig; cifarnet.build_model(ModelConfig())
from cifarnet.backends import adapter
print("mallopt" in asked, os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "2", len(adapter().micro_batches(64)))
"""


@pytest.mark.parametrize(("prepared", "threads"), [(True, {}), (True, {"TF_NUM_INTRAOP_THREADS": "2"}), (False, {})])
def test_memory_messages_and_threads_are_set_in_a_process_of_ours_alone(prepared, threads):
    """And halves of a batch are for two cores, unless a person chose the threads of TensorFlow."""
    backend = keras.config.backend()
    if threads and backend != "tensorflow":
        pytest.skip("TensorFlow alone has threads to share out")
    code = WATCHED.format(prepared="import cifarnet.system; cifarnet.system.prepare_process()" if prepared else "")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment | threads, check=True, capture_output=True, text=True
    )
    *found, parts = done.stdout.split()
    keeps_memory = prepared and backend == "torch" and platform.libc_ver()[0] == "glibc"
    assert found == [str(keeps_memory), str(prepared)]
    if backend == "tensorflow" and usable_cores() == 2:
        assert int(parts) == (2 if prepared and not threads else 1)


@pytest.mark.skipif(keras.config.backend() != "tensorflow", reason="TensorFlow alone warns")
def test_several_models_in_one_process_are_no_retracing(caplog):
    """As in `cifarnet tune`. TensorFlow warns from the fifth on."""
    logging.getLogger("tensorflow").addHandler(caplog.handler)
    for _ in range(6):
        network = logits_of(build_model(ModelConfig(filters=(3,), dense_units=())))
        engine = adapter().compile(network, build_optimizer(TrainConfig(), network), objective)
        engine.train(steps_of([batch_of(NOISE)], 0.1))
        engine.logits(NOISE)
    logging.getLogger("tensorflow").removeHandler(caplog.handler)
    assert caplog.messages == []
