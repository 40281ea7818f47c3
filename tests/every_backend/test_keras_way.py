"""Keras' own ``compile`` and ``fit``, and the export of what they train."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest

import cifarnet
from cifarnet.data import synthetic
from cifarnet.model.network import get_weights
from tests.lively import NORMALISED
from tests.small_runs import SMALL_MODEL

EXAMPLE = Path(__file__).parents[2] / "examples" / "keras_fit.py"


def test_the_example_trains_and_exports(tmp_path):
    command = [sys.executable, str(EXAMPLE), "--data", "synthetic", "--epochs", "1", "--output", "model.onnx"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "model.onnx: test accuracy" in done.stdout
    assert {each.name for each in tmp_path.iterdir()} >= {"model.onnx", "model.json", "model.parity.json"}


@pytest.mark.parametrize("changes", [{}, {**NORMALISED, "whitening": 3}], ids=["plain", "normalized and whitened"])
def test_a_network_is_fitted_saved_loaded_and_exported(changes, tmp_path):
    dataset = synthetic(train=60, test=20)
    config = replace(SMALL_MODEL, **changes)
    model = cifarnet.build_model(config, seed=1)
    before = get_weights(model)
    model.compile(keras.optimizers.Lion(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        dataset.train.images,
        dataset.train.labels,
        validation_split=0.3,
        batch_size=20,
        epochs=2,
        callbacks=[cifarnet.early_stopping(patience=1)],
        verbose=0,
    )
    assert np.isfinite(history.history["val_loss"]).all()
    trained = {path for path, array in get_weights(model).items() if not np.array_equal(array, before[path])}
    assert trained == {path for path in before if not path.startswith("whiten/")}
    model.save_weights(tmp_path / "model.weights.h5")
    again = cifarnet.build_model(config, seed=2)
    again.load_weights(tmp_path / "model.weights.h5")
    files = {}
    for name, each in (("trained", model), ("loaded", again)):
        path, test = tmp_path / f"{name}.onnx", dataset.test
        files[name] = cifarnet.export_model(each, path, test.images, test.labels, class_names=dataset.labels).sha256
    assert files["trained"] == files["loaded"]
