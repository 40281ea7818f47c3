"""Keras' own ``compile`` and ``fit``, and the export of what they train."""

from dataclasses import replace

import keras
import numpy as np

import cifarnet
from cifarnet.data import synthetic
from cifarnet.model.weights import get_weights
from tests.lively import NORMALISED
from tests.small_runs import SMALL_MODEL


def test_a_network_is_fitted_saved_loaded_and_exported(tmp_path):
    dataset = synthetic(train=60, test=20)
    config = replace(SMALL_MODEL, **NORMALISED | {"whitening": 3, "dense_units": SMALL_MODEL.dense_units})
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
    for path, array in get_weights(model).items():
        np.testing.assert_array_equal(get_weights(again)[path], array)
    test = dataset.test
    exported = cifarnet.export_model(
        again, tmp_path / "model.onnx", test.images, test.labels, class_names=dataset.labels
    )
    assert exported.parity.images == len(test)
