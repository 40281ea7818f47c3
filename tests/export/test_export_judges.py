"""The file is the same on every backend, and independent tools accept it."""

import os
import subprocess
import sys

import keras
import numpy as np
import onnxruntime
import pytest

import cifarnet
from cifarnet.backends import NAMES
from cifarnet.export.describe import describe_interface
from cifarnet.export.export_run import export_run
from cifarnet.export.parity import extreme_images
from cifarnet.export.writer import serialize, write_graph

VIEWS = (1, 2, 6)
EXPORT = f"""
import sys
import cifarnet
cifarnet.choose_backend()
from cifarnet.data import synthetic
run, dataset = cifarnet.Run(sys.argv[1]), synthetic(train=1000, test=200)
for views in {VIEWS}:
    output = f"{{sys.argv[2]}}.{{views}}.onnx"
    print(cifarnet.export_run(run, dataset, output=output, views=views).sha256)
"""


def test_the_same_run_gives_the_same_bytes_on_every_framework(run, dataset, tmp_path):
    expected = [export_run(run, dataset, output=tmp_path / f"{views}.onnx", views=views).sha256 for views in VIEWS]
    assert len(set(expected)) == len(VIEWS)
    for backend in set(NAMES) - {keras.config.backend()}:
        command = [sys.executable, "-c", EXPORT, run.path, tmp_path / backend]
        environment = os.environ | {"KERAS_BACKEND": backend}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == expected, backend


@pytest.mark.skipif(keras.config.backend() != "torch", reason="each framework takes another converter")
@pytest.mark.filterwarnings("ignore")  # those of the converter
def test_what_keras_itself_exports_says_the_same(tmp_path):
    model = cifarnet.build_model(cifarnet.ModelConfig(filters=(4, 6), dense_units=(8, 8)), seed=0)
    images = extreme_images((32, 32, 3))
    for variable in model.trainable_variables:
        if variable.path.endswith("bias"):
            variable.assign(np.random.default_rng(0).uniform(-0.1, 0.1, variable.shape))
    model(images, training=False)
    model.export(str(tmp_path / "judge.onnx"), format="onnx", verbose=False)
    contract = describe_interface((32, 32, 3), [f"class {index}" for index in range(10)])
    judge, ours = (
        onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        for content in (str(tmp_path / "judge.onnx"), serialize(write_graph(model), contract))
    )
    (expected,) = judge.run(None, {judge.get_inputs()[0].name: images})
    found, wrong = (ours.run(["probabilities"], {"images": each})[0] for each in (images, images[..., ::-1]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)  # measured: 6e-8
    assert np.abs(wrong - expected).max() > 1e-3  # blue and red swapped: the comparison can fail
