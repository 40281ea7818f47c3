"""A graph computes what the network computes on this backend, and other weights are refused."""

import json
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest

from cifarnet.config import ModelConfig
from cifarnet.errors import ParityError
from cifarnet.evaluation.scoring import predict
from cifarnet.export import export_run as exporting
from cifarnet.export.describe import describe_interface
from cifarnet.export.export_run import export_run
from cifarnet.export.parity import extreme_images, keras_outputs, onnx_outputs
from cifarnet.export.tolerances import Tolerances
from cifarnet.export.writer import serialize, write_graph
from cifarnet.model.network import build_model
from cifarnet.run.folder import Run
from tests.lively import NORMALISED, with_lively_moments
from tests.small_runs import SMALL_MODEL

MODEL = ModelConfig(filters=(8, 8), dense_units=(32,), dropout=0.1, initializer="glorot_normal")


def test_a_run_is_exported_and_what_another_network_says_is_not(whole, dataset, tmp_path, monkeypatch):
    run = Run(shutil.copytree(whole.run.path, tmp_path / "run"))
    exported = export_run(run, dataset, views=6)
    assert exported.parity.images == len(dataset.test)
    assert json.loads((run.path / "model.parity.json").read_text())["backend"] == keras.config.backend()
    other = build_model(SMALL_MODEL, seed=5)
    monkeypatch.setattr(exporting, "write_graph", lambda _, *rest, **settings: write_graph(other, *rest, **settings))
    with pytest.raises(ParityError, match="no file was written"):
        export_run(run, dataset, views=6)


@pytest.mark.parametrize(
    ("changes", "views"),
    [
        ({"padding": "valid", "kernel_size": 5, "pixel_range": "unit"}, 1),
        ({"convolutions_per_block": 2, "filters": (4, 6), "dense_units": (8, 8), "image_shape": (31, 17, 3)}, 6),
        ({"image_shape": (96, 96, 3), "filters": (4, 4, 4, 4)}, 2),
        ({"classes": 3, "kernel_size": 1, "global_pooling": "max", "dense_units": ()}, 2),
        ({**NORMALISED}, 1),
        ({**NORMALISED, "pooling": "last", "global_pooling": "none", "whitening": 3}, 6),
    ],
)
def test_whatever_build_model_makes_can_be_proven(changes, views):
    config = replace(MODEL, **changes)
    model = with_lively_moments(build_model(config, seed=1))
    described = describe_interface(config.image_shape, [f"class {index}" for index in range(config.classes)])
    content = serialize(write_graph(model, views=views), described.changed(calibration={"temperature": 1.0}))
    images = extreme_images(config.image_shape)
    exported = predict(onnx_outputs(content, optimized=True), images)
    trained, otherwise = (predict(keras_outputs(model, each), images) for each in (views, 6 if views == 2 else 2))
    np.testing.assert_allclose(exported[:, :2], trained, rtol=0, atol=Tolerances().probability)
    assert np.abs(exported[:, 1] - otherwise[:, 1]).max() > 1e-3
