"""Settings that Keras and the frameworks read from a file, the environment or the program change no result."""

import hashlib
import json
import os
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import cache, partial

import keras
import numpy as np
import pytest

import cifarnet
from cifarnet.backends import Plan, Steps, adapter, default_settings
from cifarnet.config import ModelConfig, TrainConfig
from cifarnet.model.network import build_model, logits_of, predictor
from cifarnet.training.optimizer import OPTIMIZERS, build_optimizer, objective

RNG = np.random.default_rng(7)
IMAGES = RNG.integers(0, 256, (2, 8, 32, 32, 3), np.uint8)
LABELS = RNG.integers(0, 10, (2, 8), np.int32)
PLAIN = ModelConfig(filters=(4,), dense_units=(8,), dropout=0.25)
NORMALISED = ModelConfig(
    filters=(4,), dense_units=(), dropout=0.0, ghost_batch=4, pooling="first", global_pooling="max", whitening=2
)


def trained(model, optimizer):
    """A digest of all that two steps leave, and of logits."""
    config = TrainConfig(optimizer=optimizer, weight_decay=0.01, label_smoothing=0.1)
    whole = build_model(model, seed=3)
    network = logits_of(whole)
    smoothed = partial(objective, label_smoothing=config.label_smoothing)
    engine = adapter().compile(network, build_optimizer(config, network), smoothed, Plan(model.ghost_batch))
    engine.train(Steps(IMAGES, LABELS, np.ones(LABELS.shape, np.float32), np.full(2, 1e-2, np.float32)))
    state = engine.state()
    assert all(np.isfinite(array).all() for array in state.values())
    answers = (engine.logits(IMAGES[0]), predictor(whole)(IMAGES[0]))
    return hashlib.sha256(b"".join(array.tobytes() for array in (*state.values(), *answers))).hexdigest()


trained_by_default = cache(trained)
"""The same where nothing was set; to be asked for before something is."""


SETTINGS_OF_KERAS = ("dtype_policy", "floatx", "image_data_format", "epsilon")


@pytest.fixture
def restored():
    """Give Keras its own settings back."""
    before = {name: getattr(keras.config, name)() for name in SETTINGS_OF_KERAS}
    yield
    for name, value in before.items():
        getattr(keras.config, f"set_{name}")(value)


@pytest.mark.usefixtures("restored")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_takes_finite_steps_and_what_keras_is_set_to_changes_none_and_stays_so(optimizer):
    model = NORMALISED if optimizer == "muon" else PLAIN
    expected, other = trained_by_default(model, optimizer), trained_by_default(PLAIN, "sgd")
    keras.config.set_image_data_format("channels_first")
    keras.config.set_epsilon(0.1)
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert trained(model, optimizer) == expected
    assert (keras.config.floatx(), keras.config.dtype_policy().name) == ("float64", "mixed_bfloat16")
    assert (keras.config.image_data_format(), keras.config.epsilon()) == ("channels_first", 0.1)
    assert (expected == other) == (optimizer == "sgd")


def test_settings_come_back_after_an_error_too():
    with pytest.raises(ValueError, match="of the person"), default_settings():
        raise ValueError("of the person")
    assert keras.config.floatx() == "float32"


def settings_of_the_program():
    """Contexts that would change what the current framework computes."""
    policy = restoring(keras.config.set_dtype_policy, "mixed_float16", "float32")
    if keras.config.backend() == "torch":
        import torch

        return [
            policy,
            torch.autocast("cpu", dtype=torch.bfloat16),
            torch.inference_mode(),
            torch.no_grad(),
            restoring(torch.set_default_dtype, torch.float64, torch.get_default_dtype()),
            restoring(torch.set_float32_matmul_precision, "medium", "highest"),
            restoring(partial(setattr, torch.backends.cuda.matmul, "fp32_precision"), "tf32", "none"),
        ]
    if keras.config.backend() == "jax":
        import jax

        return [policy, jax.default_matmul_precision("bfloat16"), jax.enable_x64(True), jax.disable_jit()]
    import tensorflow as tf

    return [policy, restoring(tf.config.run_functions_eagerly, True, False)]


@contextmanager
def restoring(change, value, before):
    change(value)
    try:
        yield
    finally:
        change(before)


def loses_digits():
    """Whether float32 products on a GPU may be TF32, which has 10 of their 23 bits."""
    if keras.config.backend() == "torch":
        import torch

        kinds = torch.backends.cudnn.conv, torch.backends.cuda.matmul
        return any(kind.fp32_precision != "ieee" for kind in kinds)
    if keras.config.backend() == "jax":
        import jax

        return jax.config.jax_default_matmul_precision != "float32"
    import tensorflow as tf

    return tf.config.experimental.tensor_float_32_execution_enabled()


def test_float32_has_all_its_digits_on_a_gpu(monkeypatch):
    if keras.config.backend() == "jax":
        monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    assert loses_digits()
    with default_settings():
        assert not loses_digits()
    assert loses_digits()


def test_no_context_around_the_calls_changes_what_is_trained_evaluated_and_exported(dataset, job, whole, tmp_path):
    expected_model = whole.run.load_model()
    expected = (
        cifarnet.export_run(whole.run, dataset, output=tmp_path / "expected.onnx").sha256,
        exported_model(expected_model, tmp_path / "expected_model.onnx", dataset),
        cifarnet.evaluate(expected_model, dataset.test),
    )
    with ExitStack() as contexts:
        for each in settings_of_the_program():
            contexts.enter_context(each)
        run = cifarnet.train(
            dataset, job.name, runs=tmp_path, model_config=job.model, train_config=job.train, max_minutes=0
        )
        cifarnet.resume(run, dataset)
        exported, model = cifarnet.export_run(run, dataset).sha256, run.load_model()
        as_keras = exported_model(model, tmp_path / "model.onnx", dataset)
        score = cifarnet.evaluate(model, dataset.test)
    assert run.record.weights_sha256 == whole.record["weights_sha256"]
    assert (exported, as_keras, score) == expected
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert np.isfinite(model.train_on_batch(dataset.test.images[:8], dataset.test.labels[:8]))


def test_floating_point_errors_that_the_program_lets_numpy_raise_change_nothing(dataset, job, whole, tmp_path):
    steep = replace(job.train, optimizer="sgd", learning_rate=1e38, warmup_epochs=0.0)

    def results(folder):
        run = cifarnet.train(dataset, job.name, runs=folder, model_config=job.model, train_config=steep)
        half = cifarnet.export_run(whole.run, dataset, precision="float16", output=folder / "half.onnx", max_drop=0.9)
        with np.errstate(under="ignore"):
            wide = 1e3 * np.eye(10)[dataset.test.labels[::-1]] + 1e-60
        return run.record.why_stopped, half.sha256, cifarnet.evaluate(lambda _: wide, dataset.test)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        expected = results(tmp_path / "expected")
        with np.errstate(all="raise"):
            assert results(tmp_path / "found") == expected
    assert expected[0] == "nan"


def exported_model(model, path, dataset):
    test = dataset.test
    return cifarnet.export_model(model, path, test.images, test.labels, class_names=dataset.labels).sha256


def test_threads_that_train_at_once_train_the_same(dataset, job, whole, tmp_path):
    def train(thread):
        run = cifarnet.train(
            dataset, job.name, runs=tmp_path / str(thread), model_config=job.model, train_config=job.train
        )
        return run.record.weights_sha256, cifarnet.export_run(run, dataset).sha256

    with ThreadPoolExecutor(2) as pool:
        ((weights, _),) = set(pool.map(train, range(2)))
    assert weights == whole.record["weights_sha256"]


CHILD = """
from tests.every_backend import test_other_settings as here
print(here.trained(here.PLAIN, "adam"), here.trained(here.NORMALISED, "muon"))
"""
IN_TORCH = "import torch; torch.set_default_dtype(torch.float64)"
SETTINGS = {
    "jax": {"JAX_ENABLE_X64": "1", "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16"},
    "torch": {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
    "tensorflow": {"NVIDIA_TF32_OVERRIDE": "1"},
}


def test_the_threads_of_an_operation_are_known_where_the_environment_sets_them():
    changed = os.environ | {"KERAS_BACKEND": keras.config.backend(), adapter().THREAD_VARIABLES[0]: "1"}
    child = "from cifarnet.backends import adapter; print(adapter().threads())"
    done = subprocess.run([sys.executable, "-c", child], env=changed, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]  # without the variable one per core, and torch takes no more than those


def test_a_keras_json_and_the_environment_change_nothing(tmp_path):
    (tmp_path / "keras.json").write_text(
        json.dumps({"floatx": "float16", "image_data_format": "channels_first", "epsilon": 0.1})
    )
    backend = keras.config.backend()
    changed = os.environ | {"KERAS_HOME": str(tmp_path), "KERAS_MAX_EPOCHS": "1"} | SETTINGS[backend]
    first = IN_TORCH if backend == "torch" else ""
    done = subprocess.run(
        [sys.executable, "-c", first + CHILD], env=changed, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [trained_by_default(PLAIN, "adam"), trained_by_default(NORMALISED, "muon")]
